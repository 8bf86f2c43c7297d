"""What Dagster's UI says about the assets: descriptions, owners, tables with their columns."""

from collections.abc import Mapping

import dagster as dg

from backfill_pipeline.domain.columns import TABLES
from backfill_pipeline.domain.table_columns import TableColumn
from backfill_pipeline.domain.timeframe import Timeframe, chain_of

# Whom to ask about an asset. Dagster takes an e-mail address or a team.
OWNERS = ["team:market-data"]

_LABEL = {
    "1m": "One bar a minute with a trade, as the provider has it.",
    "1d": "One bar a session, the provider's own: official open and close, volume of all segments.",
    "1w": "Monday to Sunday, labelled by its Monday, from whole weeks of `1d`.",
}


def bars_description(timeframe: Timeframe) -> str:
    """A sentence on how the bars come about, and what they have in common."""
    finer = chain_of(timeframe).timeframes
    derived = f"Built from `{finer[finer.index(timeframe) - 1]}`, anchored to each segment's start, not to the clock."
    return f"{_LABEL.get(timeframe, derived)} Unadjusted; `ts` is the start of the bar, UTC. Table `market.bars`."


def features_description(timeframe: Timeframe) -> str:
    return f"Returns, volatility, trend and oscillators of regular {timeframe} bars. Table `market.features`."


def table_metadata(table: str) -> Mapping[str, str | dg.TableSchema]:
    """Where an asset's rows are, and its columns with their units. KeyError: no such table is declared."""
    columns = {declared.name: declared.columns for declared in TABLES}[table]
    schema = dg.TableSchema([dg.TableColumn(c.name, type=c.type, description=_meaning(c)) for c in columns])
    return {"dagster/table_name": f"market.{table}", "dagster/column_schema": schema}


def _meaning(column: TableColumn) -> str:
    return column.meaning if column.unit == "-" else f"{column.meaning} [{column.unit}]"
