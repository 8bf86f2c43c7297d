"""The asset `corporate_actions`: nobody's upstream, for with its partitions features would wait for a later run."""

from collections.abc import Sequence

import dagster as dg

from backfill_pipeline.domain.actions import KINDS
from backfill_pipeline.providers.base import HasEvents
from backfill_pipeline.steps.corporate_actions import Refreshed, refresh_events
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.names import resolver

from .descriptions import OWNERS, table_metadata
from .resources import Pipeline
from .running import told_in_one_line

_MOST_LINES = 100


@dg.asset(
    group_name="events",
    owners=OWNERS,
    kinds={"postgres"},
    metadata=table_metadata("splits"),
    description=(
        "Splits, dividends and earnings of the followed symbols, asked market-wide; each judged, suspicious ones kept"
        " with the reason. Tables `market.splits` (its columns are shown here), `market.dividends`, `market.earnings`;"
        " view `market.bars_adjusted`."
    ),
)
def corporate_actions(
    context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.MaterializeResult[None]:
    """Fails at the end, everything else stored and judged, where a kind of event could not be asked."""
    with told_in_one_line(), pipeline.open() as warehouse:
        source = next((p.events for p in warehouse.router.providers if isinstance(p, HasEvents)), None)
        if source is None:
            note = f"provider {_names(warehouse)} has no corporate actions"
            context.log.info(note)
            return dg.MaterializeResult(metadata={"note": note})
        conn = warehouse.conn
        with conn:
            resolve = resolver(conn, source.name)
        done = refresh_events(conn, source, resolve, warehouse.now())
    for line in done.notes:
        context.log.info(line)
    if done.failures:
        raise dg.Failure("; ".join(done.failures), metadata=_metadata(done), allow_retries=False)
    return dg.MaterializeResult(metadata=_metadata(done))


def corporate_actions_job() -> object:
    return dg.define_asset_job(
        "refresh_corporate_actions",
        selection=dg.AssetSelection.assets(corporate_actions),
        description="Ask for new splits, dividends and earnings, and judge all that are known against the prices.",
    )


def _names(warehouse: Warehouse) -> str:
    return ", ".join(provider.name for provider in warehouse.router.providers)


def _metadata(done: Refreshed) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {"requests": dg.MetadataValue.int(done.requests)}
    for kind in KINDS:
        counts = (("accepted", done.judged.accepted), ("new", done.new), ("restated", done.restated))
        for word, counter in (*counts, ("withdrawn", done.withdrawn)):
            metadata[f"{kind}_{word}"] = dg.MetadataValue.int(counter[kind])
    metadata["symbols_changed"] = dg.MetadataValue.int(len(done.changed))
    lists = (("suspicious", done.judged.refused), ("unverified", done.judged.unverified), ("notes", done.notes))
    for name, lines in lists:
        if lines:
            metadata[name] = dg.MetadataValue.md(_listed(lines))
    return metadata


def _listed(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return "\n".join(f"- {line}" for line in [*lines[:_MOST_LINES], *more])
