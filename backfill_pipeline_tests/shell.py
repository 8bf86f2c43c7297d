"""A shell as a user has it: a working folder, an environment that names the databases, the `backfill` command."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.databases import database
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.tables import Tables, tables

BIN = Path(sys.executable).parent

# Runs one command after the other in one process, each in a fresh environment: starting Python costs a second.
_DRIVER = """
import contextlib, io, json, os, sys, traceback
from backfill_pipeline.cli import main
environment, answers = dict(os.environ), sys.stdout
for line in sys.stdin:
    arguments, variables = json.loads(line)
    os.environ.clear()
    os.environ.update(environment | variables)
    sys.argv, out, err, code = ["backfill", *arguments], io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""


@dataclass
class Shell:
    """`variables`: the environment, beside PATH and HOME. Nothing of this project's is inherited."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    _driver: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", **self.variables}

    def backfill(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self._run([str(BIN / "backfill"), *arguments], variables)

    def quick(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The same as `backfill`, in a process that stays for the next command."""
        if self._driver is None:
            self._driver = subprocess.Popen(
                [sys.executable, "-c", _DRIVER],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        driver = self._driver
        assert driver.stdin is not None
        assert driver.stdout is not None
        print(json.dumps([arguments, variables]), file=driver.stdin, flush=True)
        return subprocess.CompletedProcess(arguments, *json.loads(driver.stdout.readline()))

    def close(self) -> None:
        if self._driver is not None:
            self._driver.communicate(timeout=30)

    def bash(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self._run(["bash", "-c", script], variables)

    def python(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-c", code], variables)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command in the background, in a process group of its own."""
        return subprocess.Popen(
            [str(BIN / "backfill"), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _run(self, command: list[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | dict(variables),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def query(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(connect(self.variables["DATABASE_URL"])) as conn, conn, conn.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def dagster_query(self, statement: str) -> list[tuple[object, ...]]:
        with closing(psycopg2.connect(self.variables["DAGSTER_DATABASE_URL"])) as conn, conn.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def runs(self) -> list[tuple[object, ...]]:
        """Job and status of every run that Dagster knows, oldest first."""
        return self.dagster_query("SELECT pipeline_name, status FROM runs ORDER BY id")

    def tables(self) -> Tables:
        with closing(connect(self.variables["DATABASE_URL"])) as conn:
            return tables(conn)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The Dagster instance of the shell; a command must have laid it out."""
        lines = self.quick("env").stdout.splitlines()
        variables = dict(line.removeprefix("export ").replace("'", "").split("=", 1) for line in lines)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("DAGSTER_DATABASE_URL", variables["DAGSTER_DATABASE_URL"])
            with dg.DagsterInstance.from_config(variables["DAGSTER_HOME"]) as instance:
                yield instance


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that the user of root's PostgreSQL can pass through, which pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="backfill-shell-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def shell(server: EmbeddedServer, **variables: str) -> Iterator[Shell]:
    """A shell on fresh databases of the test session's server, dropped in the end."""
    with database(server) as market, database(server, "dagster") as dagster, reachable_folder() as folder:
        made = Shell(
            folder,
            {
                "BACKFILL_HOME": str(folder / "home"),
                "BACKFILL_PROVIDER": "sample",
                "DATABASE_URL": market,
                "DAGSTER_DATABASE_URL": dagster,
                **variables,
            },
        )
        try:
            yield made
        finally:
            made.close()


def by_polygon(standin: StandIn, **variables: str) -> dict[str, str]:
    """The variables of a shell that asks a stand-in of Polygon, as fast as it can."""
    return {
        "BACKFILL_PROVIDER": "polygon",
        "POLYGON_API_KEY": standin.key,
        "POLYGON_BASE_URL": standin.url,
        "POLYGON_REQUESTS_PER_MINUTE": "0",
        **variables,
    }


def one_line(ran: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr of a command that failed; whatever else it printed is shown."""
    assert ran.returncode != 0, ran
    assert "Traceback" not in ran.stderr, ran.stderr
    lines = ran.stderr.splitlines()
    assert len(lines) == 1, ran.stderr
    return lines[0]
