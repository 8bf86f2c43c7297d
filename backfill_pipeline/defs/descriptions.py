"""What Dagster's UI says about the assets: descriptions, column schemas from the declared columns, how old is stale."""

from datetime import timedelta

import dagster as dg

from backfill_pipeline.domain.columns import BARS, FEATURE_ROWS
from backfill_pipeline.domain.table_columns import TableColumn
from backfill_pipeline.domain.timeframe import Chain, Timeframe, chain_of
from backfill_pipeline.providers.configured import chosen_names
from backfill_pipeline.providers.errors import ProviderStopped
from backfill_pipeline.settings import Settings

from .resources import grain_of

# Days from one complete partition to the next: what a partition takes to end, and how long a market pauses. From
# Friday's session over a holiday on Monday to Tuesday's, which comes the night after, it is five.
_ENDS_AFTER = {"day": 0, "week": 7, "month": 31}
_PAUSE = 6
_LABEL = {
    "1m": "One bar a minute with a trade, as the provider has it.",
    "1d": "One bar a session, the provider's own: official open and close, volume of all segments.",
    "1w": "Monday to Sunday, labelled by its Monday, from whole weeks of `1d`.",
}


def bars_description(timeframe: Timeframe) -> str:
    """A sentence on how the bars come about, and what they have in common."""
    derived = f"Built from finer bars of the {chain_of(timeframe).name} chain, anchored to each segment's start."
    return f"{_LABEL.get(timeframe, derived)} Unadjusted; `ts` is the start of the bar, UTC. Table `market.bars`."


def features_description(timeframe: Timeframe) -> str:
    return f"Returns, volatility, trend and oscillators of regular {timeframe} bars. Table `market.features`."


def bars_freshness(settings: Settings, chain: Chain) -> dg.FreshnessPolicy | None:
    """When the base bars are stale in the UI: no partition has become complete for as long as any calendar pauses.
    None with the sample, which ends in the past and is kept up to date by nobody.
    """
    try:
        if chosen_names(settings) == ("sample",):
            return None
    except ProviderStopped:  # a run says what is wrong with the setting; loading must not
        return None
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(days=_ENDS_AFTER[grain_of(settings, chain)] + _PAUSE))


def bars_schema() -> dg.TableSchema:
    return _schema(BARS)


def features_schema() -> dg.TableSchema:
    return _schema(FEATURE_ROWS)


def _schema(columns: tuple[TableColumn, ...]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(column.name, type=column.type, description=f"{column.meaning} [{column.unit}]")
            for column in columns
        ]
    )
