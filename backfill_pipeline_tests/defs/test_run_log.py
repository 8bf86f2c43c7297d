"""What a run's log says while two hundred partitions go by: few lines, in plain words."""

import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

from backfill_pipeline.defs import running
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.providers.polygons import provider
from backfill_pipeline_tests.sites import NOW, Exchange, Site, site
from backfill_pipeline_tests.standin import Market, StandIn

FIRST, LAST = date(2023, 11, 17), date(2024, 6, 3)  # 200 days; the last one has not begun to trade


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        StandIn(Market(symbols=("SPY",)), now=NOW) as standin,
        site(server, tmp_path_factory.mktemp("log"), provider(standin, now=NOW)) as made,
    ):
        yield made.cut(intraday_start=FIRST - timedelta(days=1))


def lines(desk: Site, run_id: str) -> list[tuple[float, str]]:
    """Time and text of what is said to people, Dagster's own events left out."""
    entries = desk.instance.all_logs(run_id)
    return [(entry.timestamp, entry.user_message) for entry in entries if entry.dagster_event is None]


def run(desk: Site, symbol: str, first: date, last: date) -> dg.ExecuteInProcessResult:
    desk.register(symbol, bars=["1m"])
    config = {"symbols": [symbol], "timeframes": ["1m"], "start": str(first), "end": str(last)}
    return desk.run("master_backfill", run_config={"ops": {"master_backfill": {"config": config}}})


def test_two_hundred_partitions_are_a_handful_of_lines(desk: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_NEWS", 0.5)  # a run of some seconds stands for one of minutes
    began = time.monotonic()
    result = run(desk, "SPY", FIRST, LAST)
    took = time.monotonic() - began

    said = lines(desk, result.run_id)
    texts = [text for _, text in said]
    assert texts[0].startswith("progress: backfill status ")
    assert texts.count("SPY 2024-06-03 1m: still in progress; it is settled when its sessions are due") == 1
    assert re.fullmatch(
        r"partitions: 199 complete, 1 in progress; \d+ requests, \d+ bars received, \d+ written, 0 withdrawn;"
        r" \d+ rows of features written",
        texts[-1],
    )
    news = [(at, text) for at, text in said if "so far" in text]
    for _, text in news:
        assert re.fullmatch(r"partitions: \d+ complete(, 1 in progress)? so far, now at SPY \d{4}-\d\d-\d\d.*", text)
    assert all(after - before >= 0.5 for (before, _), (after, _) in pairwise(news))
    assert len(said) <= 4 + took / 0.5


def test_a_hundred_partitions_of_which_nobody_serves_a_session_are_one_line(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    exchange = Exchange()
    exchange.unserved.add("OLD")
    with site(server, tmp_path, exchange) as desk:
        desk.register("OLD", bars=["1m"])
        result = desk.chain("backfill_intraday", "2024-01-02|OLD", "2024-04-10|OLD")
        texts = [text for _, text in lines(desk, result.run_id)]
    about = [text for text in texts if "OLD" in text]
    assert about == ["OLD 2024-01-02 1m: the exchange never had OLD; and 68 more like it"]
    assert any(text.startswith("partitions: 31 complete, 69 not served; 0 requests") for text in texts)


def test_a_chains_run_over_keys_says_nothing_of_its_checks_outputs(desk: Site) -> None:
    desk.register("SPY", bars=["1m"])
    result = desk.chain("backfill_intraday", f"{FIRST}|SPY", f"{FIRST}|SPY")
    said = [text for _, text in lines(desk, result.run_id)]
    assert [text for text in said if "output" in text] == []
    checks = result.get_asset_check_evaluations()
    assert len(checks) == len({check.asset_check_key for check in checks}) == 4
