"""Four processes of `backfill run` at once on a plan of five requests a minute, a minute scaled down to 4 s."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, shell
from backfill_pipeline_tests.standin import StandIn

KEY = "planted-key-0123456789"
# Long enough that a busy machine's late wake-ups (4 % of it are allowed for: 0.16 s) provoke no refusal.
MINUTE = 4.0
SYMBOLS = ("AAPL", "MSFT", "SPY", "IBM")
DAYS = ("--start", "2026-08-03", "--end", "2026-08-07")


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    with StandIn(now=now, keys=(KEY,), requests_per_minute=5, window_seconds=MINUTE) as started:
        yield started


@pytest.fixture(scope="module")
def site(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    variables = {
        "BACKFILL_PROVIDER": "polygon",
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": standin.url,
        "POLYGON_REQUESTS_PER_MINUTE": str(round(5 * 60 / MINUTE)),
    }
    with shell(server, **variables) as made:
        assert made.quick("symbols", "add", *SYMBOLS).returncode == 0
        yield made


def test_four_processes_provoke_no_429_and_ask_each_request_once(site: Shell, standin: StandIn) -> None:
    """Two of them are about the same symbol, two share one, and each has one of its own in part."""
    wanted = ["AAPL", "AAPL", "MSFT,SPY", "SPY,IBM"]
    running = [site.start("run", "--symbols", symbols, *DAYS) for symbols in wanted]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in running]

    assert [code for _, _, code in ended] == [0, 0, 0, 0], ended
    assert standin.provoked_429 == 0
    assert [seen.status for seen in standin.requests] == [200] * len(standin.requests)
    asked = Counter(seen.path for seen in standin.requests)
    assert max(asked.values()) == 1, asked.most_common(3)
    assert len(asked) == len(SYMBOLS) * 2  # a page of minutes and a page of days
    times = [seen.time for seen in standin.requests]
    assert max(times) - min(times) > MINUTE  # eight requests are more than one minute's
    for symbol in SYMBOLS:
        for day in range(3, 8):
            session = date(2026, 8, day)
            window = standin.market.sessions(symbol).days_window(session, session)
            stored = site.query(
                "SELECT count(*) FILTER (WHERE timeframe = '1m'), count(*) FILTER (WHERE timeframe = '1d')"
                " FROM bars JOIN symbols USING (symbol_id) WHERE symbol = %s AND session = %s",
                symbol,
                session,
            )
            assert stored == [(len(standin.market.minutes(symbol, window)), 1)], (symbol, session)
