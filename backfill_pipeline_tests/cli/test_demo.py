"""`backfill demo` in a folder of its own, with an environment and a `.env` that say otherwise."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from backfill_pipeline_tests.shell import Shell, reachable_folder

OTHERWISE = {
    "BACKFILL_HOME": "/nonexistent/home",
    "BACKFILL_PROVIDER": "synthetic",
    "DATABASE_URL": "postgresql://trader:hunter2@127.0.0.1:1/market",
    "DAGSTER_DATABASE_URL": "postgresql://trader:hunter2@127.0.0.1:1/dagster",
    "BACKFILL_DAILY_GRAIN": "quarter",
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with reachable_folder() as made:
        (made / ".env").write_text("BACKFILL_INTRADAY_START=never\nDATABASE_URL=nonsense\n", encoding="utf-8")
        yield made
        assert outside(made).backfill("db", "stop").stdout == "stopped\n"


def outside(folder: Path) -> Shell:
    """A shell on the demonstration's home, out of reach of the folder's .env file."""
    return Shell(folder / ".backfill", {"BACKFILL_HOME": str(folder / ".backfill" / "demo")})


def test_the_demonstration_is_complete_whatever_the_environment_says(folder: Path) -> None:
    first = Shell(folder, OTHERWISE).backfill("demo")

    assert first.returncode == 0, first.stderr
    assert "hunter2" not in first.stdout + first.stderr
    assert "partitions: 8 complete; 1 request, 3,096 bars and 3,096 rows of features written" in first.stdout
    assert "AAPL, FB, GOOG, IBM, MSFT days of 2000-03-01 to 2013-03-01 …" in first.stdout
    assert "next: make ui" in first.stdout
    for symbol in ("AAPL", "FB", "GOOG", "IBM", "MSFT"):
        line = next(line for line in first.stdout.splitlines() if line.split()[:1] == [symbol] and "100" in line)
        assert line.split()[1:9] == (["100"] * 8 if symbol == "AAPL" else ["·"] * 6 + ["100"] * 2)

    url = outside(folder).backfill("db", "url").stdout.strip()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT timeframe::text, count(*) FROM market.bars GROUP BY 1")
        stored = dict(cursor.fetchall())
        cursor.execute("SELECT DISTINCT provider FROM market.bars")
        assert cursor.fetchall() == [("sample",)]
    connection.close()
    # Six sessions of New York; the rows of the five symbols' daily files.
    assert {t: stored[t] for t in ("1m", "5m", "1h", "4h")} == {"1m": 2340, "5m": 468, "1h": 42, "4h": 12}
    assert stored["1d"] == 3270 * 3 + 2147 + 197


def test_a_second_demonstration_starts_no_run(folder: Path) -> None:
    again = Shell(folder, OTHERWISE).backfill("demo")

    assert again.returncode == 0, again.stderr
    assert again.stdout.count("everything asked for is complete already: nothing was started") == 2
    shell = outside(folder)
    listed = json.loads(shell.backfill("symbols", "list", "--json").stdout)
    assert [row["symbol"] for row in listed] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    url = shell.backfill("db", "url").stdout.strip()
    with psycopg2.connect(url.replace("/market?", "/dagster?")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT status, count(*) FROM runs GROUP BY 1")
        assert cursor.fetchall() == [("SUCCESS", 2)]
    connection.close()


def test_nothing_of_the_environment_reaches_what_the_demonstration_starts(folder: Path) -> None:
    """Its UI inherits this environment; a DATABASE_URL left in it would point the assets at a foreign database."""
    code = (
        "import os\n"
        "from backfill_pipeline.cli.common import prepare_environment\n"
        "from backfill_pipeline.cli.demo import demo_settings\n"
        "prepare_environment(demo_settings())\n"
        "names = ('DATABASE_URL', 'BACKFILL_PROVIDER', 'BACKFILL_DAILY_GRAIN', 'BACKFILL_HOME')\n"
        "print(*[os.environ.get(name) for name in names])"
    )

    ran = Shell(folder, OTHERWISE).python(code)

    assert ran.stdout.split() == ["None", "sample", "month", str(folder / ".backfill" / "demo")], ran.stderr
