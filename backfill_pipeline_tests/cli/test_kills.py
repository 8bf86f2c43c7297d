"""kill -9 of everything there is, one after the other, each in the middle of a backfill of the UI: it ends complete,
and nobody does more than start the same thing again.

Each takes more than a minute: Dagster's daemon looks for backfills every 30 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.killing import Installation, Moment, Victim, installation, struck
from backfill_pipeline_tests.shell import by_polygon, shell
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.tables import Tables, differences

# Long over whenever the tests run; a weekend in the middle.
DAYS = [str(date(2026, 7, 29) + timedelta(days=n)) for n in range(8)]
# By victim, the symbols of its backfill: a run each, as many as there may be at once.
OF: dict[Victim, tuple[str, ...]] = {
    "daemon": ("DA", "DB", "DC"),
    "webserver": ("WA", "WB", "WC"),
    "code server": ("CA", "CB", "CC"),
    "run": ("RA", "RB", "RC"),
    "database": ("PA", "PB", "PC"),
}
SINCE = {"BACKFILL_INTRADAY_START": "2026-07-01"}
SYMBOLS = [symbol for symbols in OF.values() for symbol in symbols]


@pytest.fixture(scope="module")
def clean(server: EmbeddedServer, standin: StandIn) -> Tables:
    """What one run leaves that nobody disturbs."""
    with shell(server, **by_polygon(standin, **SINCE)) as made:
        assert made.quick("symbols", "add", *SYMBOLS, "--bars", "1m").returncode == 0
        run = made.quick("run", "--timeframes", "1m", "--start", DAYS[0], "--end", DAYS[-1])
        assert run.returncode == 0, run
        return made.tables()


@pytest.fixture(scope="module")
def place(standin: StandIn, clean: Tables) -> Iterator[Installation]:
    with installation(**by_polygon(standin, **SINCE)) as made:
        assert made.shell.quick("symbols", "add", *SYMBOLS, "--bars", "1m").returncode == 0
        assert clean  # made before requests are slow
        standin.set(latency_seconds=3.0)  # one run has stored its bars, others wait for theirs
        made.start()
        yield made


def of_symbols(whole: Tables, symbols: Sequence[str]) -> Tables:
    return {name: [row for row in rows if row.split("\t", 1)[0] in symbols] for name, rows in whole.items()}


@pytest.mark.timeout(900)  # on a machine that does much else
@pytest.mark.parametrize("victim", [pytest.param(victim, id=victim.replace(" ", "-")) for victim in OF])
def test_a_backfill_ends_complete_although_one_was_killed(place: Installation, clean: Tables, victim: Victim) -> None:
    healed = struck(place, victim, Moment(bars=1), OF[victim], DAYS)
    assert healed.killed
    assert healed.status == "COMPLETED_SUCCESS"
    assert healed.colours == {"MATERIALIZED": 12 * len(OF[victim]) * len(DAYS)}
    assert differences(of_symbols(place.tables(), OF[victim]), of_symbols(clean, OF[victim])) == []
    jobs = place.query(
        "SELECT status, progress_pct, error_message FROM backfill_jobs WHERE %s = ANY(symbols)", OF[victim][0]
    )
    assert jobs == [("completed", 100.0, None)]
