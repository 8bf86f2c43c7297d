"""The page docs/operations.md, typed from top to bottom into one home of its own.

Run: blocks of `console` (lines that start with `$ `, and what they print), `python` and `sql`; `dotenv` goes into
`.env`. A command ends with exit code 0, or with the one in its comment. What a block shows must be printed: its lines
in their order, word by word, where `…` stands for anything, and so do seconds, sizes and ids. `sh` and `ini` blocks
need a real key, root, systemd or a daemon: not run.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.server import EmbeddedServer, reachable_home, stop
from backfill_pipeline.storage.server_places import BINARIES
from backfill_pipeline_tests.databases import database
from backfill_pipeline_tests.shell import Shell, reachable_folder

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
# The databases that the page moves to; the test has empty ones.
TEAM = ("postgresql://me@db.example:5432/market", "postgresql://me@db.example:5432/dagster")
# Where the embedded server's pg_dump is.
PROGRAMS = Path(sysconfig.get_path("purelib")) / BINARIES

_FENCE = re.compile(r"^```(console|python|sql|dotenv)\n(.*?)^```$", re.M | re.S)
_CODE = re.compile(r"\s+# exit code (\d+)$")
# `NAME=value backfill …`, with nothing that only a shell understands.
_PLAIN = re.compile(r"((?:\w+=\w+ )*)backfill [^|&;<>$`]+")
# Not the same twice: ids, seconds, bytes, the width of a table.
_LOOSE = re.compile(r"…|[0-9a-f]{8}(?:-[0-9a-f]{4,12}){4}|[\d.,]+(?= (?:s|min|MB|GB)\b)|─+| +")
_ANYTHING = {" ": r" +", "─": "─+"}


@dataclass(frozen=True)
class Step:
    """One command of the page, the lines that it shows, and its exit code."""

    language: str
    command: str
    shown: tuple[str, ...] = ()
    code: int = 0


def steps(page: str) -> Iterator[Step]:
    for fence in _FENCE.finditer(page):
        language, text = fence[1], fence[2]
        if language != "console":
            yield Step(language, text)
            continue
        assert text.startswith("$ "), f"a console block begins with a command: {text}"
        for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            stated = _CODE.search(command)
            code = int(stated[1]) if stated else 0
            yield Step(language, _CODE.sub("", command), tuple(line for line in shown if line.strip("… ")), code)


def pattern(line: str) -> str:
    """A regular expression for a shown line."""
    found, at = "", 0
    for loose in _LOOSE.finditer(line := line.strip()):
        found += re.escape(line[at : loose.start()]) + _ANYTHING.get(loose[0][0], ".*")
        at = loose.end()
    return found + re.escape(line[at:])


def not_printed(shown: tuple[str, ...], *streams: str) -> str | None:
    """The first shown line that does not come, or not behind those before it on the same stream."""
    left = [[line.strip() for line in stream.splitlines()] for stream in streams]
    for line in shown:
        for lines in left:
            at = next((i for i, other in enumerate(lines) if re.fullmatch(pattern(line), other)), None)
            if at is not None:
                del lines[: at + 1]
                break
        else:
            return line
    return None


@pytest.mark.parametrize(
    ("shown", "printed", "good"),
    [
        pytest.param("8 complete in 1.1 s", "8 complete in 23.9 s", True, id="seconds vary"),
        pytest.param("8 complete in 1.1 s", "7 complete in 1.1 s", False, id="counts do not"),
        pytest.param("free at … GB", "free at /home: 3 GB", True, id="what is left out"),
        pytest.param("AAPL   100  100", "AAPL  100     100", True, id="columns"),
        pytest.param("first\nsecond", "second\nfirst", False, id="order"),
    ],
)
def test_what_is_shown_is_held_against_what_is_printed(shown: str, printed: str, good: bool) -> None:
    assert (not_printed(tuple(shown.splitlines()), printed, "") is None) is good


@pytest.fixture
def elsewhere(server: EmbeddedServer) -> Iterator[dict[str, str]]:
    """URLs of empty databases by those of the page."""
    with ExitStack() as stack:
        yield {url: stack.enter_context(database(server, "empty")) for url in TEAM}


@pytest.fixture
def desk() -> Iterator[Shell]:
    """A shell on an embedded server of its own."""
    with reachable_folder() as folder:
        made = Shell(folder, {"BACKFILL_HOME": str(folder / "home"), "BACKFILL_PROVIDER": "sample"})
        yield made
        made.close()
        home, _ = reachable_home(folder / "home")
        stop(home)


def run(shell: Shell, step: Step, elsewhere: dict[str, str]) -> subprocess.CompletedProcess[str]:
    plain = _PLAIN.fullmatch(step.command)
    command = step.command
    for shown, real in elsewhere.items():
        command = command.replace(shown, shlex.quote(real) if step.language == "console" else real)
    if step.language == "dotenv":
        with (shell.folder / ".env").open("a", encoding="utf-8") as file:
            file.write(command)
        return subprocess.CompletedProcess(".env", 0, "", "")
    if step.language == "sql":
        return query(shell, command)
    if step.language == "python":
        return shell.python(command)
    # A plain command needs no process of its own: starting Python costs a second.
    if plain:
        variables = dict(setting.split("=") for setting in plain[1].split())
        return shell.quick(*shlex.split(command)[1 + len(variables) :], **variables)
    return shell.bash(f'PATH="{PROGRAMS}:$PATH"; {command}')


def query(shell: Shell, statements: str) -> subprocess.CompletedProcess[str]:
    url = shell.quick("db", "url")
    assert url.returncode == 0, url.stderr
    with closing(connect(url.stdout.strip())) as conn, conn, conn.cursor() as cursor:
        cursor.execute(statements)
        return subprocess.CompletedProcess(statements, 0, cursor.statusmessage, "")


def test_every_command_of_the_page_does_what_the_page_says(desk: Shell, elsewhere: dict[str, str]) -> None:
    done = 0
    for step in steps(PAGE.read_text(encoding="utf-8")):
        ran = run(desk, step, elsewhere)
        streams = [ran.stdout, ran.stderr]
        for shown, real in elsewhere.items():
            streams = [stream.replace(real, shown) for stream in streams]
        told = "\n".join([step.command, *streams])
        assert ran.returncode == step.code, told
        assert "Traceback" not in ran.stderr, told
        assert not_printed(step.shown, *streams) is None, told
        done += 1
    assert done > 30
