"""What Dagster's UI says about the assets: descriptions and column schemas, from the declared columns."""

import dagster as dg

from backfill_pipeline.domain.columns import BARS, FEATURE_ROWS
from backfill_pipeline.domain.table_columns import TableColumn
from backfill_pipeline.domain.timeframe import Timeframe, chain_of

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
