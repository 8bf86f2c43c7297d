"""`backfill import`, killed in the middle: whole half years stay, and the same command goes on."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psycopg2

from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, shell
from backfill_pipeline_tests.tables import Tables, differences, tables

DAYS = ("2024-06-27", "2024-06-28", "2024-07-01", "2024-07-02")
COMMAND = (
    *("import", "mine.csv", "--symbol", "MINE", "--timeframe", "1m"),
    *("--adjusted", "none", "--tz", "America/New_York"),
)
GATE = 4242
# What is written of the second half year waits, within its transaction, until the gate opens.
HELD_UP = f"""
CREATE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NEW; END$$;
CREATE TRIGGER gate BEFORE INSERT ON coverage FOR EACH ROW
    WHEN (lower(NEW.time_window) >= '2024-07-01Z') EXECUTE FUNCTION wait_at_the_gate();
"""


def write(file: Path) -> None:
    """Whole regular sessions, by New York's clock."""
    lines = ["time,open,high,low,close,volume"]
    for day in DAYS:
        for minute in range(390):
            at = datetime.fromisoformat(f"{day}T09:30:00") + timedelta(minutes=minute)
            price = 100 + minute / 100
            lines.append(f"{at},{price},{price + 1},{price - 1},{price + 0.5},{minute + 1}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextmanager
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server) as made:
        assert made.quick("symbols", "add", "MINE", "--bars", "1m").returncode == 0
        write(made.folder / "mine.csv")
        yield made


def dumped(of: Shell) -> Tables:
    with closing(connect(of.variables["DATABASE_URL"])) as conn:
        return tables(conn)


def kill_in_the_second_half_year(killed: Shell) -> None:
    killed.query(HELD_UP)
    waits = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {GATE} AND NOT granted"
    with closing(psycopg2.connect(killed.variables["DATABASE_URL"])) as gate, gate.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (GATE,))
        with killed.start(*COMMAND) as running:
            deadline = time.monotonic() + 120
            while killed.query(waits) == [(0,)]:
                assert running.poll() is None, running.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            running.kill()
    killed.query("DROP TRIGGER gate ON coverage")  # which waits for what is left of the import


def test_an_import_that_is_killed_leaves_whole_half_years_and_the_same_command_goes_on(server: EmbeddedServer) -> None:
    with desk(server) as killed, desk(server) as clean:
        assert clean.quick(*COMMAND).returncode == 0
        kill_in_the_second_half_year(killed)
        counts = "SELECT session::text, count(*) FROM bars WHERE timeframe = '1m' GROUP BY 1 ORDER BY 1"
        assert killed.query(counts) == [(DAYS[0], 390), (DAYS[1], 390)]
        assert killed.query("SELECT count(*) FROM features WHERE timeframe = '1h'") == [(14,)], "with all that follows"

        again = killed.quick(*COMMAND)

        assert (again.returncode, again.stderr) == (0, ""), again
        assert differences(dumped(clean), dumped(killed)) == []
        assert killed.query("SELECT count(*) FROM bar_revisions") == [(0,)], "what was stored is not stored again"
