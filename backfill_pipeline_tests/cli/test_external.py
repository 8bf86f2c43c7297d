"""A team's own PostgreSQL: TLS as its URL asks, passwords that show nowhere, few connections, loopback only."""

import contextlib
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import psycopg2
import pytest

from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline_tests.cli.secret_scan import files, processes, tables, watched
from backfill_pipeline_tests.cli.test_ui import ask, family, listening
from backfill_pipeline_tests.cli.test_ui_backfill import ui
from backfill_pipeline_tests.second_server import SecondServer, TlsFront, make_certificates, second_server
from backfill_pipeline_tests.shell import Shell, one_line, reachable_folder

PASSWORD, HOOK, BEAT = (f"planted-{kind}-{secrets.token_hex(8)}" for kind in ("password", "hook", "beat"))
SECRETS = (PASSWORD, HOOK, BEAT)
SYMBOLS = ("A0", "A1")
_CONNECTED = "SELECT datname, application_name FROM pg_stat_activity WHERE usename = 'backfill_writer'"
LAUNCHED = "... on LaunchRunSuccess {run {runId}} ... on PythonError {message}"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: no certificate")


@dataclass
class Held:
    """Connections that were open at once, at most, by database and what they call themselves."""

    at_once: int = 0
    most: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(frozen=True)
class Team:
    server: SecondServer
    front: TlsFront
    shell: Shell

    def url(self, database: str, *, user: str = "backfill_writer", **parameters: str) -> str:
        """Over TLS, with the certificate beside the working folder's other files, named as a person would."""
        tls = {"sslmode": "verify-full", "sslrootcert": "mine.crt", **parameters}
        return replace(self.server, port=self.front.port).url(database, user, PASSWORD, **tls)

    @contextmanager
    def counted(self) -> Iterator[Held]:
        """Looks five times a second who is connected as the writer."""
        held, over = Held(), threading.Event()

        def look() -> None:
            with closing(psycopg2.connect(self.server.url("postgres"))) as connection:
                connection.autocommit = True
                while not over.wait(0.2):
                    with connection.cursor() as cursor:
                        cursor.execute(_CONNECTED)
                        seen = Counter((str(database), str(name)) for database, name in cursor.fetchall())
                    held.at_once = max(held.at_once, seen.total())
                    held.most |= seen

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield held
        finally:
            over.set()
            thread.join()


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    with second_server() as server, reachable_folder() as folder:
        mine, _ = make_certificates(folder)
        front = TlsFront(server.port, mine)
        home = {"BACKFILL_HOME": str(folder / "home")}
        urls = {"DATABASE_URL": server.url("market"), "DAGSTER_DATABASE_URL": server.url("dagster")}
        admin = Shell(folder, {**home, **urls})
        assert admin.quick("db", "roles", "--apply").returncode == 0
        admin.close()
        server.query(server.url("postgres"), f"ALTER ROLE backfill_writer PASSWORD '{PASSWORD}'")
        server.query(server.url("postgres"), f"CREATE ROLE crowded LOGIN PASSWORD '{PASSWORD}' IN ROLE backfill_writer")
        made = Team(server, front, Shell(folder))
        variables = {
            **home,
            "BACKFILL_PROVIDER": "synthetic",
            "BACKFILL_INTRADAY_START": "2026-07-01",
            "BACKFILL_WEBHOOK_URL": f"http://127.0.0.1:1/{HOOK}",
            "BACKFILL_HEARTBEAT_URL": f"http://127.0.0.1:1/{BEAT}",
            "DATABASE_URL": made.url("market"),
            "DAGSTER_DATABASE_URL": made.url("dagster"),
        }
        shell = Shell(folder, variables)
        assert shell.quick("symbols", "add", *SYMBOLS, "--bars", "1m").returncode == 0
        yield replace(made, shell=shell)
        shell.close()
        front.close()


def launch(port: int, symbol: str) -> None:
    tags = [
        {"key": "dagster/asset_partition_range_start", "value": f"2026-08-03|{symbol}"},
        {"key": "dagster/asset_partition_range_end", "value": f"2026-08-07|{symbol}"},
    ]
    words = ", ".join(f'{{key: "{tag["key"]}", value: "{tag["value"]}"}}' for tag in tags)
    at = 'repositoryLocationName: "backfill_pipeline.definitions", repositoryName: "__repository__"'
    assets = ", ".join(f'{{path: ["{name}"]}}' for name in asset_names(INTRADAY))
    selector = f'{{{at}, jobName: "backfill_intraday", assetSelection: [{assets}]}}'
    params = f"{{selector: {selector}, runConfigData: {{}}, executionMetadata: {{tags: [{words}]}}}}"
    told = ask(port, f"mutation {{launchRun(executionParams: {params}) {{{LAUNCHED}}}}}")
    assert "run" in told["launchRun"], told


def unix_sockets(of: list[psutil.Process]) -> set[Path]:
    """Files that processes were, or are, waiting at for connections."""
    places = {str(connection.laddr) for process in of for connection in process.net_connections("unix")}
    return {Path(place) for place in places if place.startswith("/")}


def is_open_to_others(path: Path) -> bool:
    """Whether any user may connect: who does needs to write to the file, and to pass through its folders."""
    return bool(path.exists() and path.stat().st_mode & 0o002) and all(
        place.stat().st_mode & 0o001 for place in path.parents
    )


def statuses(team: Team) -> list[str]:
    found = team.server.query(team.server.url("dagster"), "SELECT status FROM runs")
    return [str(status) for (status,) in found]


def test_runs_of_the_daemon_go_over_tls_hold_few_connections_and_show_nothing(team: Team) -> None:
    addresses: set[tuple[str, int]] = set()
    sockets: set[Path] = set()
    with watched(SECRETS) as seen, team.counted() as held, ui(team.shell) as port:
        launch(port, SYMBOLS[0])
        days = ("--start", "2026-08-03", "--end", "2026-08-07", "--timeframes", "1m")
        by_hand = team.shell.start("run", "--symbols", SYMBOLS[1], *days)
        while statuses(team) != ["SUCCESS"] * len(SYMBOLS):
            assert not {"FAILURE", "CANCELED"} & set(statuses(team))
            with contextlib.suppress(psutil.NoSuchProcess):
                addresses |= listening(family(os.getpid()))
                sockets |= {path for path in unix_sockets(family(os.getpid())) if is_open_to_others(path)}
            time.sleep(0.5)
        said = by_hand.communicate(timeout=120)
        assert by_hand.returncode == 0, said
    assert {address for address, _ in addresses} <= {"127.0.0.1", "::1"}
    assert port in {number for _, number in addresses}
    assert sockets == set()
    counted = team.server.query(team.server.url("market"), "SELECT count(*) FROM market.bars WHERE timeframe = '1m'")
    assert counted == [(len(SYMBOLS) * 5 * 390,)]
    assert team.front.encrypted > 100  # and the front refuses whoever asks for no TLS
    assert seen == set()
    # A run holds two (three where requests are shared out), Dagster's processes a handful: docs/security.md.
    assert held.most["market", "backfill"] <= len(SYMBOLS) + 1, held
    assert 2 <= held.at_once <= 15, held


def test_what_was_stored_and_logged_meanwhile_holds_no_password_and_no_address_of_a_hook(team: Team) -> None:
    for database in ("market", "dagster"):
        found, rows = tables(SECRETS, team.server.url(database))
        assert (found, rows > 100) == (set(), True), database
    found_files, count = files(SECRETS, team.shell.folder / "home")
    assert (found_files, count > 0) == (set(), True)
    assert processes(SECRETS, "cmdline") == set()


def test_no_command_shows_a_password_but_the_two_that_are_asked_for_it(team: Team) -> None:
    said = [
        team.shell.quick(*words)
        for words in (
            ["db", "status"],
            ["db", "roles"],
            ["db", "roles", "--apply"],
            ["db", "size"],
            ["db", "move-to", team.url("nowhere")],
            ["jobs"],
            ["gaps"],
        )
    ]
    assert all(one.stdout or one.stderr for one in said)
    assert not [one for one in said for secret in SECRETS if secret in one.stdout + one.stderr]
    for asked_for in (["env"], ["db", "url"]):
        assert PASSWORD in team.shell.quick(*asked_for).stdout


def test_a_certificate_that_another_signed_is_one_line_without_the_password(team: Team) -> None:
    for variable, database in (("DATABASE_URL", "market"), ("DAGSTER_DATABASE_URL", "dagster")):
        for wrong in ("other.crt", "gone.crt"):
            line = one_line(team.shell.quick("matrix", **{variable: team.url(database, sslrootcert=wrong)}))
            assert f"database {database}: " in line
            assert "certificate" in line
            assert line.endswith(f"correct sslmode, sslrootcert, sslcert or sslkey in {variable}")
            assert PASSWORD not in line
    encrypted = team.front.encrypted
    assert team.shell.quick("symbols", "list", DATABASE_URL=team.url("market", sslmode="require")).returncode == 0
    assert team.front.encrypted > encrypted
    assert "server closed the connection" in one_line(
        team.shell.quick("symbols", "list", DATABASE_URL=team.url("market", sslmode="disable"))
    )


def test_no_place_for_another_connection_is_one_line(team: Team) -> None:
    def crowded(database: str, most: int) -> subprocess.CompletedProcess[str]:
        team.server.query(team.server.url("postgres"), f"ALTER ROLE crowded CONNECTION LIMIT {most}")
        variable = {"market": "DATABASE_URL", "dagster": "DAGSTER_DATABASE_URL"}[database]
        days = ("--days", "2", "--timeframes", "1m")
        return team.shell.quick("run", "--symbols", "A0", *days, **{variable: team.url(database, user="crowded")})

    for database in ("market", "dagster"):
        line = one_line(crowded(database, 0))
        assert f"database {database}: too many connections for role" in line
        assert "wait until some end, or give that server or role more" in line
    # With one, the bars are stored, and it is told that the progress is not.
    ran = crowded("market", 1)
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False), ran.stderr
    assert ran.stderr.startswith("the progress of this run is not written: ")
