"""Providers of other packages: the one of docs/writing-a-provider.md, taken from the page; and packages that fail."""

import json
import re
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.configured import chosen_names, configured_router
from backfill_pipeline.providers.errors import ProviderStopped
from backfill_pipeline.providers.plugins import GROUP
from backfill_pipeline.settings import load_settings
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.cli.secret_scan import tables
from backfill_pipeline_tests.shell import Shell, one_line, shell

PAGE = (Path(__file__).parents[2] / "docs" / "writing-a-provider.md").read_text(encoding="utf-8")
TOML, PROVIDER, TRIAL = (
    [code for kind, code in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.M | re.S) if kind == wanted][number]
    for wanted, number in (("toml", 0), ("python", 0), ("python", 1))
)
TOKEN = "planted-token-0123456789"
MINUTE = 60_000


def install(folder: Path, name: str, code: str, entries: dict[str, str], version: str = "1.0") -> None:
    """What an installer leaves behind: a module, and its metadata beside it."""
    (folder / f"{name.replace('-', '_')}.py").write_text(code, encoding="utf-8")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = [f"{entry} = {value}" for entry, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]), encoding="utf-8")


def rows(symbol: str, start: int, end: int) -> list[list[float]]:
    """AAPL's minutes of 13:30 to 20:00 UTC from Monday to Friday: the regular session in New York's summer."""
    found = []
    for ms in range(-(-start // MINUTE) * MINUTE, end, MINUTE):
        at = datetime.fromtimestamp(ms / 1000, UTC)
        if at.weekday() < 5 and 810 <= at.hour * 60 + at.minute < 1200:
            price = 100 + at.day + at.minute / 100
            found.append([ms, price, price + 1, price - 1, price + 0.5, at.hour])
    return found[:5000]


@contextmanager
def acme_server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            symbol, query = asked.path.removeprefix("/bars/"), parse_qs(asked.query)
            status = 401 if self.headers["Authorization"] != f"Bearer {TOKEN}" else 200 if symbol == "AAPL" else 404
            bars = rows(symbol, int(query["from"][0]), int(query["to"][0])) if status == 200 else []
            body = json.dumps({"bars": bars}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell in which the page's package is installed."""
    folder = tmp_path_factory.mktemp("packages")
    project = tomllib.loads(TOML)["project"]
    install(folder, project["name"], PROVIDER, project["entry-points"][GROUP], project["version"])
    with acme_server() as url:
        variables = {"PYTHONPATH": str(folder), "ACME_TOKEN": TOKEN, "ACME_BASE_URL": url}
        with shell(server, BACKFILL_PROVIDER="acme", **variables) as made:
            assert made.quick("symbols", "add", "AAPL", "--bars", "1m").returncode == 0
            yield made


def test_the_pages_provider_backfills_and_every_bar_says_whose_it_is(desk: Shell) -> None:
    ran = desk.backfill(
        "run", "--symbols", "AAPL", "--timeframes", "1m", "--start", "2026-08-03", "--end", "2026-08-04"
    )
    assert ran.returncode == 0, ran.stderr
    stored = desk.query("SELECT provider, count(*) FILTER (WHERE timeframe = '1m') FROM bars GROUP BY provider")
    assert stored == [("acme", 2 * 390)]
    bar = desk.query("SELECT open, high, low, close, volume FROM bars WHERE timeframe = '1m' ORDER BY ts LIMIT 1")
    assert bar == [(103.3, 104.3, 102.3, 103.8, 13.0)]
    assert desk.query("SELECT provider, handed_out > 0 FROM provider_budget") == [("acme", True)]


def test_the_pages_check_finds_nothing_to_complain_about(desk: Shell) -> None:
    checked = desk.python(TRIAL)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_doctor_lists_it_and_a_wrong_or_missing_token_is_one_line(desk: Shell) -> None:
    listed = {check["check"]: check["detail"] for check in json.loads(desk.quick("doctor", "--json").stdout)}
    assert listed["acme"] == "comes from the package acme-bars 1.0"
    days = ("run", "--symbols", "AAPL", "--timeframes", "1m", "--start", "2026-08-05", "--end", "2026-08-05")
    refused = desk.quick(*days, ACME_TOKEN="planted-mistake-0123456789")
    assert "the token is not accepted; correct ACME_TOKEN" in refused.stderr + refused.stdout
    assert "planted" not in refused.stderr + refused.stdout
    assert "provider acme needs ACME_TOKEN; set it" in one_line(desk.quick(*days, ACME_TOKEN=""))


def test_a_bug_of_its_code_is_one_line_and_other_symbols_go_on(desk: Shell) -> None:
    """It raises a key where it is asked about one symbol."""
    (module,) = (Path(desk.variables["PYTHONPATH"])).glob("acme*.py")
    bug = f"""
class Buggy(AcmeProvider):
    def fetch(self, request, now):
        if request.instrument.symbol == "BUG":
            raise KeyError({TOKEN!r})
        yield from super().fetch(request, now)
"""
    install(module.parent, "buggy", module.read_text(encoding="utf-8") + bug, {"buggy": "buggy:Buggy"})
    variables = {"BACKFILL_PROVIDER": "buggy", "BUGGY_TOKEN": TOKEN, "BUGGY_BASE_URL": desk.variables["ACME_BASE_URL"]}
    assert desk.quick("symbols", "add", "BUG", "--bars", "1m").returncode == 0
    days = ("--timeframes", "1m", "--start", "2026-08-06", "--end", "2026-08-06")

    ran = desk.quick("run", "--symbols", "AAPL,BUG", *days, **variables)

    assert ran.returncode == 1
    line = "provider buggy of the package buggy 1.0: its code failed with KeyError; tell its author"
    assert line in ran.stderr
    assert "Traceback" not in ran.stderr
    stored = desk.query("SELECT count(*) FROM bars WHERE session = '2026-08-06' AND timeframe = '1m'")
    assert stored == [(390,)], "AAPL's"
    assert tables([TOKEN], desk.variables["DATABASE_URL"])[0] == set()
    logged = desk.dagster_query("SELECT event FROM event_logs")
    assert any(line in str(event) for (event,) in logged)
    assert not any(TOKEN in str(event) or "super().fetch" in str(event) for (event,) in logged)


BROKEN = """
import nonexistent_package
"""
LAME = """
class Lame:
    name, live, settle = "lame", False, None
    def fetch(self, request, now): ...
def make(given): return Lame()
def fails(given): raise KeyError("no such thing")
"""


@pytest.mark.parametrize(
    ("packages", "name", "line"),
    [
        pytest.param(
            {"broken": (BROKEN, {"broken": "broken:make"})},
            "broken",
            "provider broken of the package broken 1.0 cannot be used: ModuleNotFoundError:"
            " No module named 'nonexistent_package'",
            id="does not load",
        ),
        pytest.param(
            {"lame": (LAME, {"lame": "lame:make"})},
            "lame",
            "provider lame of the package lame 1.0 cannot be used: lame:make makes no Provider:"
            " it lacks expected_wait, lifetime, page_rows, served",
            id="no provider",
        ),
        pytest.param(
            {"lame": (LAME, {"lame": "lame:fails"})},
            "lame",
            "provider lame of the package lame 1.0 cannot be used: KeyError: 'no such thing'",
            id="fails",
        ),
        pytest.param(
            {"mine": (LAME, {"polygon": "mine:make"})},
            "polygon",
            "the package mine 1.0 offers a provider called polygon, which is built in;"
            " uninstall it, or have it renamed",
            id="takes a name",
        ),
        pytest.param(
            {"one": (LAME, {"lame": "one:make"}), "two": (LAME, {"lame": "two:make"})},
            "lame",
            "the package one 1.0 and the package two 1.0 offer a provider called lame; uninstall all but one",
            id="twice",
        ),
        pytest.param(
            {"mine": (LAME, {"lame": "mine:make"})},
            "lamb",
            "BACKFILL_PROVIDER=lamb is not known; use one of auto, files, polygon, tradier, binance, sample, synthetic,"
            " lame",
            id="unknown",
        ),
    ],
)
def test_a_package_that_fails_is_one_line_that_names_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    packages: dict[str, tuple[str, dict[str, str]]],
    name: str,
    line: str,
) -> None:
    for package, (code, entries) in packages.items():
        install(tmp_path, package, code, entries)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BACKFILL_PROVIDER", name)
    monkeypatch.setenv("POLYGON_API_KEY", "planted-key-0123456789")
    with pytest.raises(ProviderStopped) as caught:
        configured_router(load_settings(), lambda *_: (NoBudget(), OwnMemory()))
    assert str(caught.value) == line


def test_a_package_whose_provider_is_not_chosen_is_never_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "broken", BROKEN, {"broken": "broken:make"})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BACKFILL_PROVIDER", "sample")
    assert chosen_names(load_settings()) == ("sample",)


def test_a_provider_is_given_its_own_variables_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ACME_BARS_TOKEN=of the file\nACME_BARS_URL=of the file\nOTHER_TOKEN=x\n")
    for name, value in {"BACKFILL_PROVIDER": "acme-bars", "ACME_BARS_URL": "of the environment"}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(tmp_path / ".env")
    assert settings.variables_of("acme-bars") == {"TOKEN": "of the file", "URL": "of the environment"}
    assert "of the" not in repr(settings) + settings.model_dump_json()
