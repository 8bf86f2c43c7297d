"""The real daemon asks again for what is missing, and turns it green, without anybody doing anything.

Takes half a minute: Dagster starts, looks, and starts a run.
"""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.cli.test_ui_backfill import ui
from backfill_pipeline_tests.shell import Shell, by_polygon, shell
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.tables import Tables, differences

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE")
SYMBOL, START, END = ",".join(SYMBOLS), "2026-07-27", "2026-07-31"
RUN = ("run", "--symbols", SYMBOL, "--timeframes", "1m,1d", "--start", START, "--end", END)
SINCE = {"BACKFILL_INTRADAY_START": "2026-07-01", "BACKFILL_DAILY_START": "2026-07-01"}
OPENING = datetime(2026, 7, 30, 13, 30, tzinfo=UTC)
NIGHT = datetime(2026, 7, 30, 4, tzinfo=UTC)

Stretch = tuple[str, str, datetime, datetime, int]


@pytest.fixture(scope="module")
def clean(server: EmbeddedServer, standin: StandIn) -> Tables:
    """What a run leaves when nothing is withheld."""
    with shell(server, **by_polygon(standin, **SINCE)) as made:
        assert made.quick("symbols", "add", *SYMBOLS, "--bars", "1m,1d").returncode == 0
        assert made.quick(*RUN).returncode == 0
        return made.tables()


@pytest.fixture
def desk(server: EmbeddedServer, standin: StandIn, clean: Tables) -> Iterator[Shell]:
    with shell(server, **by_polygon(standin, **SINCE)) as made:
        assert made.quick("symbols", "add", *SYMBOLS, "--bars", "1m,1d").returncode == 0
        yield made


def withhold(standin: StandIn, seed: int) -> list[Stretch]:
    """Five stretches, one a symbol: runs of minutes, the end of a session, a whole one. The days still count them."""
    chance, stretches = random.Random(seed), []
    for symbol in SYMBOLS[:4]:
        first = chance.randrange(0, 330)
        count = 390 - first if symbol == "DDD" else chance.randrange(20, 60)
        start, end = (OPENING + timedelta(minutes=m) for m in (first, first + count))
        standin.market.withhold(symbol, start, end)
        stretches.append((symbol, "1m", start, end, count))
    standin.market.withhold("EEE", NIGHT, NIGHT + timedelta(days=1))
    stretches.append(("EEE", "1m", OPENING, OPENING + timedelta(minutes=390), 390))
    return sorted(stretches)


def test_five_withheld_stretches_are_found_and_filled_by_the_daemon(
    desk: Shell, standin: StandIn, clean: Tables
) -> None:
    stretches = withhold(standin, 4)
    assert desk.quick(*RUN).returncode == 1
    found = desk.query(
        "SELECT symbol, timeframe::text, lower(time_window), upper(time_window), expected FROM gaps"
        " JOIN symbols USING (symbol_id) WHERE resolved_at IS NULL ORDER BY 1, 2, 3"
    )
    assert found == stretches
    standin.market.withheld.clear()
    standin.market.forget()
    desk.query("UPDATE gaps SET next_attempt_at = now()")

    with ui(desk):
        deadline = time.monotonic() + 200
        while desk.query("SELECT 1 FROM gaps WHERE resolved_at IS NULL") or _unfinished(desk):
            assert ("repair_gaps", "FAILURE") not in desk.runs()
            assert time.monotonic() < deadline, desk.runs()
            time.sleep(1)

    assert desk.query("SELECT DISTINCT resolution FROM gaps") == [("filled",)]
    assert differences(desk.tables(), clean) == []
    made = desk.dagster_query(
        "SELECT count(DISTINCT (asset_key, partition)) FROM event_logs"
        " WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND partition LIKE '2026-07-30|%'"
    )
    assert made == [(12 * len(SYMBOLS),)]


def _unfinished(desk: Shell) -> bool:
    return any(job == "repair_gaps" and status not in ("SUCCESS", "FAILURE") for job, status in desk.runs())
