"""The asset `completeness`: a table and a picture to look at. It reads all partitions, and stands in no lineage."""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg

from backfill_pipeline.domain.timeframe import BASES
from backfill_pipeline.steps.completeness_picture import as_markdown, picture, table, worst_first
from backfill_pipeline.storage.session_states import SessionStates, read_states
from backfill_pipeline.storage.status import Completeness, read_completeness
from backfill_pipeline.storage.symbols import list_symbols

from .descriptions import OWNERS, table_metadata
from .resources import Pipeline
from .running import told_in_one_line

# Days that the picture goes back.
_DAYS = 90
_LEGEND = "Complete, in % of the bars that are due; (stored) where absence is explained; −: missing; ·: not wanted."


@dg.asset(
    group_name="completeness",
    owners=OWNERS,
    kinds={"postgres"},
    metadata=table_metadata("completeness"),
    description=(
        "How complete every followed symbol is: symbols × timeframes as a table, symbols × the last 90 wanted days as a"
        " picture. Materialize it to see the state of now. View `market.completeness`."
    ),
)
def completeness(pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult[None]:
    """Reads only; what is missing does not fail it."""
    with told_in_one_line(), pipeline.open() as warehouse, warehouse.conn as conn:
        followed = [r.instrument.symbol for r in list_symbols(conn) if r.active]
        rows = read_completeness(conn, followed)
        # Of what was asked for once and is not followed up, the last 90 days that are wanted.
        last = min(warehouse.now().date(), max((row.wanted_to for row in rows), default=date.max))
        states = read_states(conn, last - timedelta(days=_DAYS - 1), last)
    return dg.MaterializeResult(metadata=_metadata(states, rows))


def _metadata(states: SessionStates, rows: Sequence[Completeness]) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {"symbols": dg.MetadataValue.int(len(states.symbols))}
    if not states.symbols:
        return metadata | {"note": dg.MetadataValue.text("nothing is wanted yet; next: backfill symbols add AAPL")}
    for base in BASES:
        of_base = [row for row in rows if row.timeframe == base]
        metadata[f"missing_{base}"] = dg.MetadataValue.int(sum(row.missing for row in of_base))
        metadata[f"not_due_{base}"] = dg.MetadataValue.int(sum(row.not_due for row in of_base))
    shown = worst_first(states)
    which = f"{len(shown.symbols)} of {len(states.symbols)} symbols, those that lack most"
    last = states.first + timedelta(days=_DAYS - 1)
    title = f"Sessions of the {_DAYS} days to {last}" + (f": {which}" if shown is not states else "")
    metadata["matrix"] = dg.MetadataValue.md(f"{_LEGEND}\n\n{table(rows)}")
    metadata["sessions"] = dg.MetadataValue.md(as_markdown(picture(shown, title), title))
    return metadata
