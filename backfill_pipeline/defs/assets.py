"""The two chains: one subsettable step each, so that a run takes good partitions all the way to features and leaves
exactly the bad ones red.
"""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.storage.tags import BACKFILL_ID_TAG

from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.timeframe import CHAINS, Base, Chain, Timeframe
from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.requests import RequestError
from backfill_pipeline.steps.task import Task, prepare
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.symbols import UnknownSymbolError, get_instruments

from .checks import check_specs, checked
from .descriptions import OWNERS, bars_description, features_description, table_metadata
from .freshness import bars_freshness
from .partitions import chain_partitions, split_key
from .resources import Pipeline
from .running import asset_names, bars_asset, features_asset, priority_of, run_tasks, told_in_one_line


def chain_assets(settings: Settings, chain: Chain, followed: frozenset[Base] = frozenset()) -> dg.AssetsDefinition:
    """`intraday_bars` or `daily_bars`: every asset of the chain in one step, any set of keys in one run. `followed`:
    base timeframes in which new bars are awaited.
    """

    @dg.multi_asset(
        name=f"{chain.name}_bars",
        specs=_specs(settings, chain, followed),
        can_subset=True,
        partitions_def=chain_partitions(settings, chain),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=check_specs(chain),
    )
    def step(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Iterator[dg.Output[None]]:
        selected = [name for name in asset_names(chain) if dg.AssetKey(name) in context.selected_asset_keys]
        with (
            told_in_one_line(),
            pipeline.open(priority_of(context)) as warehouse,
            checked(context, warehouse, context.selected_asset_check_keys),
        ):
            if selected:  # else the run is for checks alone, and has no partitions
                tasks, refused = _tasks(warehouse, chain, _keys(context), ask=bars_asset(chain.base) in selected)
                whole = [task for of in CHAINS for task in _tasks(warehouse, of, *_backfill_keys(context, of))[0]]
                for task in [*tasks, *whole]:
                    if task.ask:
                        prepare(warehouse, task)
                run_tasks(context, pipeline, warehouse, tasks, lambda _: selected, refused, whole)
        # What they found is stored; Dagster would say of each of these outputs, in a long line, that it misses it.
        for spec in check_specs(chain):
            if spec.key in context.selected_asset_check_keys:
                yield dg.Output(None, spec.get_python_identifier())

    return step


def _specs(settings: Settings, chain: Chain, followed: frozenset[Base]) -> list[dg.AssetSpec]:
    specs = []
    finer: Timeframe | None = None
    for timeframe in chain.timeframes:
        bars = dg.AssetSpec(
            bars_asset(timeframe),
            deps=[bars_asset(finer)] if finer else [],
            skippable=True,
            description=bars_description(timeframe),
            group_name=chain.name,
            owners=OWNERS,
            kinds={"postgres", "bars"},
            metadata=table_metadata("bars"),
            freshness_policy=bars_freshness(settings, chain, followed) if timeframe == chain.base else None,
        )
        features = dg.AssetSpec(
            features_asset(timeframe),
            deps=[bars_asset(timeframe)],
            skippable=True,
            description=features_description(timeframe),
            group_name=chain.name,
            owners=OWNERS,
            kinds={"postgres", "features"},
            metadata=table_metadata("features"),
        )
        specs += [bars, features]
        finer = timeframe
    return specs


def _keys(context: dg.AssetExecutionContext) -> list[str]:
    """The run's partition keys. Raises RequestError for a run without any."""
    partitioned = context.has_partition_key or context.has_partition_key_range
    keys = list(context.partition_keys) if partitioned else []
    if keys:
        return keys
    why = "its range is reversed" if partitioned else "it has no tags dagster/asset_partition_range_start and …_end"
    raise RequestError(f"this run has no partitions: {why}; a key is a date and a symbol, as in 2024-03-08|AAPL")


def _backfill_keys(context: dg.AssetExecutionContext, chain: Chain) -> tuple[list[str], bool]:
    """All keys of a chain in the backfill that this run is a part of, and whether it asks for bars. Dagster cuts 20
    symbols over 10 days into 10 runs of a date each: what the first of them asks for should bring what the others want,
    too. And the progress is that of the whole backfill, both chains of it.
    """
    backfill_id = context.run.tags.get(BACKFILL_ID_TAG)
    backfill = context.instance.get_backfill(backfill_id) if backfill_id is not None else None
    if backfill is None or backfill.asset_backfill_data is None:
        return [], False
    target = backfill.asset_backfill_data.target_subset
    assets = [key for name in asset_names(chain) if (key := dg.AssetKey(name)) in target.asset_keys]
    if not assets:
        return [], False
    keys = target.get_partitions_subset(assets[0]).get_partition_keys()
    return list(keys), assets[0] == dg.AssetKey(bars_asset(chain.base))


def _tasks(warehouse: Warehouse, chain: Chain, keys: Sequence[str], ask: bool) -> tuple[list[Task], list[str]]:
    """One task per symbol of the keys, and a line for each symbol that is not registered: it stops no other."""
    periods: dict[str, list[Period]] = {}
    for key in keys:
        symbol, period = split_key(str(key), warehouse.grain(chain))
        periods.setdefault(symbol, []).append(period)
    tasks, refused = [], []
    for symbol, of_symbol in periods.items():
        try:
            with warehouse.conn:
                instrument = get_instruments(warehouse.conn, [symbol])[symbol]
        except UnknownSymbolError as error:
            refused.append(str(error))
        else:
            tasks.append(Task(instrument, chain, tuple(sorted(of_symbol)), ask=ask))
    return tasks, refused
