"""Planted keys appear in no output, event, table, file, URL, process list or repr, whatever becomes of the run."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.configured import configured_router
from backfill_pipeline.settings import Settings
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.cli.secret_scan import files, processes, spellings, tables, watched
from backfill_pipeline_tests.mailbox import mailbox
from backfill_pipeline_tests.shell import Shell, shell
from backfill_pipeline_tests.standin import StandIn

# Of this session alone: other tests' processes hold keys of their own.
KEY, WRONG, TOKEN, HOOK = (f"planted-{kind}-{secrets.token_hex(8)}" for kind in ("key", "mistake", "token", "hook"))
SECRETS = (KEY, WRONG, TOKEN, HOOK)
NOWHERE = "http://127.0.0.1:1"
DAYS = ("--start", "2026-08-03", "--end", "2026-08-07")


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(keys=(KEY, TOKEN)) as started:
        yield started


@pytest.fixture(scope="module")
def site(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    variables = {
        "BACKFILL_PROVIDER": "polygon",
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": standin.url,
        "POLYGON_REQUESTS_PER_MINUTE": "0",
        "TRADIER_TOKEN": TOKEN,
        "TRADIER_BASE_URL": standin.tradier_url,
    }
    with shell(server, **variables) as made:
        assert made.backfill("symbols", "add", "AAPL", "MSFT", "SPY", "IBM").returncode == 0
        yield made


@pytest.fixture(scope="module")
def said(site: Shell, standin: StandIn) -> list[str]:
    """The output of a good run, one with a wrong key, one on a dead network, one of Tradier's, all at once, and then
    of the doctor, who tries addresses that do not take it; while they ran no command line held a secret.
    """

    def start(symbol: str, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        return replace(site, variables={**site.variables, **variables}).start("run", "--symbols", symbol, *arguments)

    with watched(SECRETS) as seen:
        running = [
            start("AAPL", *DAYS),
            start("MSFT", *DAYS, POLYGON_API_KEY=WRONG),
            start("SPY", *DAYS, POLYGON_BASE_URL=NOWHERE),
            start("IBM", "--days", "4", "--timeframes", "1h", BACKFILL_PROVIDER="tradier"),
        ]
        output = ["".join(process.communicate(timeout=120)) for process in running]
        with mailbox(HOOK) as box:
            box.answers = [500]
            told = {
                "BACKFILL_WEBHOOK_URL": f"{NOWHERE}/hook/{HOOK}",
                "BACKFILL_HEARTBEAT_URL": box.url().get_secret_value(),
            }
            doctor = site.backfill("doctor", "--notify", **told)
    assert seen == set()
    assert [process.returncode for process in running[:3]] == [0, 1, 1], output
    assert "Unknown API Key" in output[1]
    assert "connection refused" in output[2]
    notified = (
        "BACKFILL_WEBHOOK_URL took none: connection refused, BACKFILL_HEARTBEAT_URL took none: the server answers 500"
    )
    assert notified in " ".join(doctor.stdout.split())
    assert {one.family for one in standin.requests} == {"polygon", "tradier"}
    return [*output, doctor.stdout + doctor.stderr]


def test_no_output_and_no_url_holds_a_secret(said: list[str], standin: StandIn) -> None:
    assert len([text for text in said if text]) == 5
    assert not [text for text in said for secret in SECRETS if secret in text]
    assert not any("Traceback" in text for text in said)
    assert standin.leaks == []


def test_no_table_of_either_database_holds_a_secret(said: list[str], site: Shell) -> None:
    market, of_market = tables(SECRETS, site.variables["DATABASE_URL"])
    dagster, of_dagster = tables(SECRETS, site.variables["DAGSTER_DATABASE_URL"])
    assert (market, dagster) == (set(), set())
    assert of_market > 4_000  # a week of minutes
    assert of_dagster > 100
    failed = site.dagster_query("SELECT count(*) FROM event_logs WHERE event LIKE '%Unknown API Key%'")
    assert failed[0][0], "the event log tells of the failure"


def test_no_file_of_the_home_or_the_working_folder_holds_a_secret(said: list[str], site: Shell) -> None:
    found, count = files(SECRETS, site.folder)
    assert found == set()
    assert count > 0


def test_no_process_is_left_with_a_secret(said: list[str]) -> None:
    for file in ("cmdline", "environ"):
        assert processes(SECRETS, file) == set()


def test_no_repr_of_what_holds_the_secrets_shows_them(tmp_path: Path, standin: StandIn) -> None:
    settings = Settings.model_construct(
        home=tmp_path,
        provider="polygon,tradier",
        polygon_api_key=SecretStr(KEY),
        polygon_base_url=standin.url,
        tradier_token=SecretStr(TOKEN),
        tradier_base_url=standin.tradier_url,
    )
    router = configured_router(settings, lambda *_: (NoBudget(), OwnMemory()))
    assert [provider.name for provider in router.providers] == ["polygon", "tradier"]
    held = [settings, Pipeline(settings), router, *router.providers, *map(vars, router.providers)]
    shown = [text for thing in held for text in (repr(thing), str(thing))] + [settings.model_dump_json()]
    assert not [text for text in shown for secret in SECRETS if secret in text]


def test_the_scans_would_find_a_secret(site: Shell, tmp_path: Path) -> None:
    """Each scan is worth something: what is planted where it looks, it finds."""
    decoy = f"decoy-{secrets.token_hex(8)}"
    (tmp_path / "a log").write_text(f"Authorization: Bearer {decoy}\n", encoding="utf-8")
    (tmp_path / decoy).touch()
    assert len(files([decoy], tmp_path)[0]) == 2
    sleeper = [sys.executable, "-c", "import time; time.sleep(30)", decoy]
    with watched([decoy]) as seen, subprocess.Popen(sleeper, env={"SECRET": decoy}) as process:
        while process.pid not in seen:
            assert process.poll() is None
        assert process.pid in processes([decoy], "environ")
        process.kill()
    site.query("CREATE TABLE kept (t text, b bytea)")
    for row in ((spellings(decoy)[0], b""), ("", decoy.encode()), (f"x{spellings(decoy)[2]}x", b"")):
        site.query("TRUNCATE kept")
        site.query("INSERT INTO kept VALUES (%s, %s)", *row)
        assert tables([decoy], site.variables["DATABASE_URL"])[0] == {"kept"}, row
    site.query("DROP TABLE kept")
