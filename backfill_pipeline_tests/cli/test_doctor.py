"""`backfill doctor` on installations that are well, and on those that lack something."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from subprocess import CompletedProcess
from zoneinfo import ZoneInfo

import pytest
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from backfill_pipeline.cli.doctor import check_daemon
from backfill_pipeline.steps.diagnosis import Check
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.mailbox import mailbox
from backfill_pipeline_tests.shell import Shell, shell
from backfill_pipeline_tests.standin import StandIn

KEY = "planted-key-0123456789"
CHECKS = ["settings", "notify", "disk", "database", "checksums", "clock", "calendars", "polygon", "dagster", "daemon"]


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    # Two years: what comes of a longer question is small.
    with StandIn(keys=(KEY,), history_years=2.0, too_old="clipped") as started:
        yield started


@pytest.fixture(scope="module")
def site(server: EmbeddedServer, standin: StandIn) -> Iterator[Shell]:
    variables = {
        "BACKFILL_PROVIDER": "polygon",
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": standin.url,
        "POLYGON_REQUESTS_PER_MINUTE": "0",
    }
    with shell(server, **variables) as made:
        yield made


@pytest.fixture(autouse=True)
def anew(standin: StandIn) -> None:
    standin.reset()


def asked(site: Shell, **variables: str) -> tuple[CompletedProcess[str], dict[str, dict[str, str]]]:
    """The command's answer, and its checks by name."""
    ran = site.quick("doctor", "--json", **variables)
    assert "Traceback" not in ran.stderr, ran.stderr
    assert KEY not in ran.stdout + ran.stderr
    return ran, {check["check"]: check for check in json.loads(ran.stdout)}


def problems(checks: dict[str, dict[str, str]]) -> list[str]:
    return [name for name, check in checks.items() if check["status"] == "problem"]


def test_a_good_installation_is_told_in_a_line_a_check_with_one_request(site: Shell, standin: StandIn) -> None:
    ran = site.backfill("doctor")

    assert (ran.returncode, ran.stderr) == (0, "")
    *lines, total = ran.stdout.splitlines()
    assert [line.split()[1] for line in lines] == CHECKS
    assert {line.split()[0] for line in lines[:-1]} == {"ok"}
    # The tests start no daemon.
    assert lines[-1].startswith("warning  daemon     Dagster's daemon does not run: no schedules")
    assert total == "1 warning"
    assert KEY not in ran.stdout
    assert "POLYGON_API_KEY is set, TRADIER_TOKEN is not set; no .env in this folder" in lines[0]
    assert "PostgreSQL 1" in lines[3]
    assert [seen.status for seen in standin.requests] == [200]
    assert standin.leaks == []


def test_json_has_the_same_and_the_span_that_is_served(site: Shell, standin: StandIn) -> None:
    ran, checks = asked(site)
    assert ran.returncode == 0
    assert list(checks) == CHECKS
    for check in checks.values():
        assert list(check) == ["check", "status", "detail", "next_step"]
        assert (check["status"] == "ok") is (check["next_step"] == "")
    today = datetime.now(ZoneInfo("America/New_York")).date()
    first, last = (date.fromisoformat(word) for word in checks["polygon"]["detail"].split() if word[:2] == "20")
    # Plus the days without a session; the newest day is out 15 minutes after midnight in New York.
    assert timedelta(days=730) >= today - first >= timedelta(days=725)
    assert timedelta(days=0) < today - last <= timedelta(days=5)
    assert "no limit of requests" in checks["polygon"]["detail"]
    assert f"2003-09-10/{last}" in standin.requests[0].path


def test_a_mute_server_is_one_line_and_does_not_hold_the_command_up(site: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connects, and never says a word
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        ran, checks = asked(site, POLYGON_BASE_URL=url)  # `asked` itself gives the command a minute
    assert ran.returncode == 1
    assert problems(checks) == ["polygon"]
    assert checks["polygon"]["detail"] == f"days of SPY: {url}: no answer in time"
    assert checks["polygon"]["next_step"] == "check this machine's network and POLYGON_BASE_URL"


def test_a_wrong_key_is_a_problem(site: Shell, standin: StandIn) -> None:
    ran, checks = asked(site, POLYGON_API_KEY="another-key-9876543210")
    assert ran.returncode == 1
    assert problems(checks) == ["polygon"]
    assert "the key is not accepted (401): Unknown API Key" in checks["polygon"]["detail"]
    assert checks["polygon"]["next_step"] == "correct it"
    assert "another-key-9876543210" not in ran.stdout + ran.stderr
    assert [seen.status for seen in standin.requests] == [401]


def test_a_test_message_is_sent_on_request_only_and_shows_no_address(site: Shell) -> None:
    with mailbox() as box:
        addresses = {
            "BACKFILL_WEBHOOK_URL": box.url().get_secret_value(),
            "BACKFILL_HEARTBEAT_URL": box.url("beat").get_secret_value(),
        }
        ran, checks = asked(site, **addresses)
        assert checks["notify"]["detail"].endswith("BACKFILL_HEARTBEAT_URL is set; not tried: backfill doctor --notify")
        assert box.calls == []
        told = [ran]
        for answers in ([], [404]):
            box.answers = answers
            told.append(site.quick("doctor", "--notify", **addresses))
        assert [ran.returncode for ran in told] == [0, 0, 1]
        assert box.messages[0]["kind"] == "test"
        assert box.heartbeats() == 2
        good, bad = (next(line for line in ran.stdout.splitlines() if " notify " in line) for ran in told[1:])
        assert good.endswith("BACKFILL_WEBHOOK_URL took a message, BACKFILL_HEARTBEAT_URL took a message")
        assert "BACKFILL_WEBHOOK_URL took none: the server answers 404" in bad
        assert bad.endswith("next: correct BACKFILL_WEBHOOK_URL, or unset it")
        assert not any(box.secret in ran.stdout + ran.stderr for ran in told)
        assert box.secret not in site.quick("env", **addresses).stdout


def test_a_paused_provider_is_not_asked(site: Shell, standin: StandIn) -> None:
    assert site.quick("pause").returncode == 0
    ran, checks = asked(site)
    assert site.quick("resume").returncode == 0
    assert ran.returncode == 0
    assert checks["polygon"]["status"] == "warning"
    assert "not asked: requests are paused since 20" in checks["polygon"]["detail"]
    assert checks["polygon"]["next_step"] == "backfill resume"
    assert standin.requests == []


@pytest.mark.parametrize(
    ("variables", "check", "detail", "step"),
    [
        ({"POLYGON_REQUESTS_PER_MINUTE": "five"}, "settings", "POLYGON_REQUESTS_PER_MINUTE is 'five'", ""),
        ({"POLYGON_API_KEY": ""}, "settings", "BACKFILL_PROVIDER=polygon needs a key", "set POLYGON_API_KEY"),
        ({"POLYGON_API_KEY": f"{KEY} " * 2}, "providers", "holds a character no key has", "copy it again"),
        ({"BACKFILL_PROVIDER": "bloomberg"}, "settings", "bloomberg", "use one of auto, "),
        ({"DATABASE_URL": "postgresql://trader:hunter2@127.0.0.1:1/market"}, "database", "port 1", "start that server"),
    ],
)
def test_a_wrong_setting_or_a_dead_database_is_told_with_what_to_do(
    site: Shell, standin: StandIn, variables: dict[str, str], check: str, detail: str, step: str
) -> None:
    ran, checks = asked(site, **variables)
    assert ran.returncode == 1
    assert problems(checks) == [check]
    assert detail in checks[check]["detail"]
    assert checks[check]["next_step"].startswith(step)
    assert checks[check]["next_step"]
    assert "hunter2" not in ran.stdout + ran.stderr
    assert standin.requests == []


def test_a_database_that_is_newer_than_the_program_is_a_problem(site: Shell) -> None:
    site.query("INSERT INTO schema_migrations (name, sha256) VALUES ('999_later.sql', '')")
    ran, checks = asked(site)
    site.query("DELETE FROM schema_migrations WHERE name = '999_later.sql'")
    assert ran.returncode == 1
    assert checks["database"]["detail"].startswith("999_later.sql is applied and unknown here")


def test_the_sample_for_want_of_a_key_is_a_warning(site: Shell) -> None:
    ran, checks = asked(site, BACKFILL_PROVIDER="auto", POLYGON_API_KEY="")
    assert ran.returncode == 0
    assert checks["settings"]["status"] == "warning"
    assert checks["settings"]["next_step"] == "set POLYGON_API_KEY for other bars than the sample's"
    assert "polygon" not in checks


def test_a_code_location_that_does_not_load_is_a_problem(site: Shell) -> None:
    site.quick("env")
    file = site.folder / "home" / "dagster" / ".env"  # where Dagster's processes look, and no command
    file.write_text("BACKFILL_NIGHTLY_CRON=nightly\n")
    ran, checks = asked(site)
    file.unlink()
    assert ran.returncode == 1
    assert problems(checks) == ["dagster"]
    assert "does not load: BACKFILL_NIGHTLY_CRON is 'nightly'" in checks["dagster"]["detail"]


def test_the_daemon_is_known_by_its_heartbeat(site: Shell) -> None:
    broken = SerializableErrorInfo("disk quota exceeded\n", [], "OSError")
    with site.instance() as instance:

        def told(at: float, *errors: SerializableErrorInfo) -> Check:
            for daemon in instance.get_required_daemon_types():
                instance.add_daemon_heartbeat(DaemonHeartbeat(at, daemon, "1", list(errors)))
            return check_daemon(instance)

        assert told(time.time()).status == "ok"
        dead = told(datetime(2026, 1, 2, 3, 4, tzinfo=UTC).timestamp())
        assert dead.status == "warning"
        assert "does not run (last seen 2026-01-02 03:04 UTC)" in dead.detail
        ill = told(time.time(), broken)
        assert ill.status == "problem"
        assert "disk quota exceeded" in ill.detail
        instance.add_daemon_heartbeat(DaemonHeartbeat(1e9, "SENSOR", "1"))
        assert "does not run all of its parts (SENSOR missing)" in check_daemon(instance).detail
