"""How long Dagster's pages take when 25 symbols × 3 years of days are materialized in every intraday asset: an asset's
page and the lineage of all, asked as the browser asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

from backfill_pipeline.defs.bookkeeping import keep_statuses
from backfill_pipeline.defs.partitions import chain_partitions
from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import CHAINS, INTRADAY
from backfill_pipeline.settings import Settings
from backfill_pipeline_tests.shell import Shell

from .desk import ask, cpu_seconds, desk, machine, server_pid, ui
from .figures import Figure
from .filled_instance import change, fill

SYMBOLS, FIRST, LAST = 25, date(2023, 11, 1), date(2026, 10, 31)
ASSET_LIMIT, LINEAGE_LIMIT = 2.0, 5.0

# What the pages of Dagster 1.13 ask for that costs anything, recorded in a browser, less the fragments' names.
_LIVE = """query AssetGraphLiveQuery($assetKeys: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $assetKeys, loadMaterializations: true) {
    id opNames repository {id} assetKey {path}
    assetMaterializations(limit: 1) {timestamp runId stepKey} assetObservations(limit: 1) {timestamp runId stepKey}
    assetChecksOrError {... on AssetChecks {checks {name canExecuteIndividually executionForLatestMaterialization {
      id runId status timestamp stepKey evaluation {severity}}}}}
    partitionStats {numMaterialized numMaterializing numPartitions numFailed}}
  assetsLatestInfo(assetKeys: $assetKeys) {
    id assetKey {path} unstartedRunIds inProgressRunIds latestRun {id status startTime endTime}}}"""
_STALE = """query AssetStaleStatusDataQuery($assetKeys: [AssetKeyInput!]!) {assetNodes(assetKeys: $assetKeys) {
  id assetKey {path} staleStatus staleCauses {key {path} reason category dependency {path}}}}"""
_FRESH = """query AssetsFreshnessInfoQuery($assetKeys: [AssetKeyInput!]!) {assetNodes(assetKeys: $assetKeys) {
  id assetKey {path} freshnessInfo {currentMinutesLate}}}"""
_OVERVIEW = """query AssetOverviewMetadataEventsQuery($assetKey: AssetKeyInput!) {assetOrError(assetKey: $assetKey) {
  ... on Asset {id assetMaterializations(limit: 1) {timestamp runId partition metadataEntries {label description
    ... on TextMetadataEntry {text} ... on MarkdownMetadataEntry {mdStr} ... on IntMetadataEntry {intValue}}}
    assetObservations(limit: 1) {timestamp runId partition metadataEntries {label}}}}}"""
_RANGES = "ranges {status startTime endTime startKey endKey}"
_KEYS = "materializedPartitions materializingPartitions failedPartitions"
_HEALTH = f"""query PartitionHealthQuery($assetKey: AssetKeyInput!) {{assetNodeOrError(assetKey: $assetKey) {{
  ... on AssetNode {{id partitionKeysByDimension {{name type partitionKeys}} assetPartitionStatuses {{
    ... on TimePartitionStatuses {{{_RANGES}}} ... on DefaultPartitionStatuses {{{_KEYS}}}
    ... on MultiPartitionStatuses {{primaryDimensionName ranges {{
      primaryDimStartKey primaryDimEndKey primaryDimStartTime primaryDimEndTime secondaryDim {{
        ... on TimePartitionStatuses {{{_RANGES}}} ... on DefaultPartitionStatuses {{{_KEYS}}}}}}}}}}}}}}}}}"""
_Question = tuple[str, dict[str, Any]]  # and its variables

_BATCH = 10  # assets that a page asks for at once


def run(symbols: int = SYMBOLS, first: date = FIRST, last: date = LAST) -> list[Figure]:
    """Seconds until every question of a page is answered. `counted`: the first look after runs, which count what they
    have made. `anew`: nothing was counted yet, as after a change of the first day or the grain.
    """
    with desk(BACKFILL_INTRADAY_START=str(first)) as made:
        fill(made, symbols, first, last)
        _count(made, first)
        pairs = symbols * (last - first + timedelta(days=1)).days
        with ui(made) as (port, pid):
            pages = _Pages(made, port, pid)
            of = f"{pairs} partitions an asset"
            figures = [
                pages.figure("asset page, partitions counted, s", pages.asset, ASSET_LIMIT),
                pages.figure("asset page, second time, s", pages.asset, ASSET_LIMIT),
                pages.figure("lineage, partitions counted, s", pages.lineage, LINEAGE_LIMIT),
                pages.figure("lineage, second time, s", pages.lineage, LINEAGE_LIMIT),
            ]
            change(made, "UPDATE asset_keys SET cached_status_data = NULL")
            figures.append(pages.figure("asset page, anew, s", pages.asset, None))
            figures.append(pages.figure("lineage, anew, s", pages.lineage, None))
            assert pages.materialized() == dict.fromkeys(asset_names(INTRADAY), pairs)
    return [*(figure for pair in figures for figure in pair), Figure(f"  {of}, on {machine()}", 0, None)]


class _Pages:
    """What a browser asks the webserver, all questions of a page at once."""

    def __init__(self, made: Shell, port: int, pid: int) -> None:
        self._port, self._pids = port, (pid, server_pid(made))

    def materialized(self) -> dict[str, int]:
        keys = [{"path": [name]} for name in asset_names(INTRADAY)]
        nodes = ask(self._port, _LIVE, {"assetKeys": keys})["assetNodes"]
        return {node["assetKey"]["path"][0]: node["partitionStats"]["numMaterialized"] for node in nodes}

    def figure(self, name: str, page: Callable[[], None], limit: float | None) -> tuple[Figure, Figure]:
        busy, began = sum(map(cpu_seconds, self._pids)), time.perf_counter()
        page()
        took = time.perf_counter() - began
        return Figure(name, took, limit), Figure("  CPU s", sum(map(cpu_seconds, self._pids)) - busy, None)

    def asset(self) -> None:
        key = {"path": ["bars_1m"]}
        one: list[_Question] = [(query, {"assetKey": key}) for query in (_HEALTH, _OVERVIEW)]
        several: list[_Question] = [(query, {"assetKeys": [key]}) for query in (_LIVE, _STALE, _FRESH)]
        self._ask([*one, *several])

    def lineage(self) -> None:
        names = [name for chain in CHAINS for name in asset_names(chain)]
        batches = [names[start : start + _BATCH] for start in range(0, len(names), _BATCH)]
        for batch in batches:  # one after the other, as the browser does
            keys = [{"path": [name]} for name in batch]
            self._ask([(query, {"assetKeys": keys}) for query in (_LIVE, _STALE, _FRESH)])

    def _ask(self, questions: Sequence[_Question]) -> None:
        with ThreadPoolExecutor(len(questions)) as pool:
            list(pool.map(lambda question: ask(self._port, *question), questions))


def _count(made: Shell, first: date) -> None:
    """What the last of the runs did."""
    settings = Settings().model_copy(update={"intraday_start": first})
    with made.instance() as instance:
        keep_statuses(instance, asset_names(INTRADAY), chain_partitions(settings, INTRADAY))
