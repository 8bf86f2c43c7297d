"""Who is told what of runs, by a real server on loopback: once each, with the command that repairs, and no secret."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from backfill_pipeline.defs.intraday import JOB as INTRADAY_JOB
from backfill_pipeline.defs.jobs import register_everywhere
from backfill_pipeline.defs.nightly import JOB as NIGHTLY_JOB
from backfill_pipeline.defs.notify import TOLD_TAG, run_failure_notifier
from backfill_pipeline.providers.errors import ProviderStopped, ServerTrouble
from backfill_pipeline.steps import delivery
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.cli.secret_scan import tables
from backfill_pipeline_tests.mailbox import Mailbox, mailbox
from backfill_pipeline_tests.sites import Exchange, Site, site

NIGHT = datetime(2024, 6, 5, 2, tzinfo=UTC)
DAYS = {"start": "2024-06-03", "end": "2024-06-04"}


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    monkeypatch.setattr(delivery, "WAITS", (0.0, 0.0, 0.0))
    with mailbox() as made:
        yield made


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def desk(
    server: EmbeddedServer, box: Mailbox, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with site(server, tmp_path_factory.mktemp("telling"), exchange, NIGHT) as made:
        yield made.cut(webhook_url=box.url(), heartbeat_url=box.url("beat"))


def follow(desk: Site, *symbols: str) -> None:
    with desk.pipeline.open() as warehouse:
        registration = parse_registration(
            symbols, asset_class=None, calendar=None, bars=("1m",), since="2024-06-03", today=date(2024, 6, 5)
        )
        register_everywhere(desk.instance, warehouse, registration)


def run(desk: Site, *symbols: str, ok: bool = False) -> dg.ExecuteInProcessResult:
    config = {"ops": {"master_backfill": {"config": {"symbols": list(symbols), "timeframes": ["1m"], **DAYS}}}}
    return desk.run("master_backfill", ok=ok, run_config=config)


class Notifier:
    """The sensor, look by look, as the daemon would call it."""

    def __init__(self, desk: Site) -> None:
        self.desk = desk
        self.cursor: str | None = None

    def look(self) -> str:
        context = dg.build_sensor_context(
            instance=self.desk.instance, cursor=self.cursor, resources={"pipeline": self.desk.pipeline}
        )
        found = run_failure_notifier(self.desk.pipeline.settings)(context)
        if isinstance(found, dg.SkipReason):
            return str(found.skip_message)
        assert isinstance(found, dg.SensorResult)
        assert not found.run_requests
        self.cursor = found.cursor
        assert found.skip_reason is not None
        return str(found.skip_reason.skip_message)


def only(box: Mailbox) -> dict[str, Any]:
    (message,) = box.messages
    box.messages.clear()
    return message


def test_a_failed_run_is_told_once_with_what_failed_and_what_repairs_it(
    desk: Site, exchange: Exchange, box: Mailbox
) -> None:
    desk.register("ABC", "DEF")
    exchange.fails["ABC"] = ServerTrouble("exchange: out of order")
    run(desk, "ABC")  # before anybody listens
    notifier = Notifier(desk)
    notifier.look()
    failed = run(desk, "ABC", "DEF")
    run(desk, "DEF", ok=True)
    notifier.look()
    notifier.look()
    message = only(box)
    assert message["kind"] == "run_failure"
    assert message["title"] == "master_backfill failed: 2 partitions not complete"
    assert message["run_id"] == failed.run_id
    assert message["failed"] == ["2024-06-04|ABC", "2024-06-03|ABC"]
    assert message["symbols"] == ["ABC"]
    assert "ABC 2024-06-04 1m: 390 of 390 bars are missing (exchange: out of order)" in message["text"]
    assert message["command"] == "backfill run --symbols ABC --timeframes 1m --start 2024-06-03 --end 2024-06-04"
    assert message["text"].endswith(f"\nrepair: {message['command']}")
    exchange.fails["ABC"] = RuntimeError("a mistake of ours")
    run(desk, "ABC")
    notifier.look()
    assert "\nRuntimeError: a mistake of ours\n" in only(box)["text"]


def test_runs_of_a_backfill_and_runs_that_are_retried_are_told_elsewhere(
    desk: Site, exchange: Exchange, box: Mailbox
) -> None:
    desk.register("ABC")
    exchange.fails["ABC"] = ServerTrouble("exchange: out of order")
    notifier = Notifier(desk)
    notifier.look()
    for tags in ({"dagster/backfill": "abcdefgh"}, {"dagster/will_retry": "true"}, {TOLD_TAG: "digest"}):
        # Afterwards, for Dagster itself says of a run that has failed whether it will be retried.
        desk.instance.add_run_tags(run(desk, "ABC").run_id, tags)
    assert notifier.look() == "0 news"
    assert box.calls == []


def test_many_failures_at_once_are_one_message(desk: Site, box: Mailbox) -> None:
    notifier = Notifier(desk)
    notifier.look()
    config = {"ops": {"register_symbols": {"config": {"symbols": ["A|B"]}}}}
    runs = [desk.run("register_symbols", ok=False, run_config=config) for _ in range(6)]
    notifier.look()
    message = only(box)
    assert message["title"] == "6 runs failed"
    assert all(made.run_id in message["text"] for made in runs)
    assert "which partition keys are cut at" in message["text"]
    assert message["command"] == "backfill doctor"


def test_the_day_s_runs_fail_loudly_once(desk: Site, exchange: Exchange, box: Mailbox) -> None:
    follow(desk, "ABC")
    morning = desk.at(datetime(2024, 6, 4, 15, tzinfo=UTC))
    notifier = Notifier(morning)
    notifier.look()
    exchange.fails["ABC"] = ProviderStopped("exchange: the key is not accepted")
    for minute in (0, 15, 30):
        desk.at(datetime(2024, 6, 4, 15, minute, tzinfo=UTC)).run(INTRADAY_JOB, ok=False)
        notifier.look()
    message = only(box)
    assert message["title"].startswith("intraday_backfill failed")
    assert "exchange: the key is not accepted" in message["text"]
    exchange.fails.clear()
    desk.at(datetime(2024, 6, 4, 15, 45, tzinfo=UTC)).run(INTRADAY_JOB)
    exchange.fails["ABC"] = ProviderStopped("exchange: the key is not accepted")
    desk.at(datetime(2024, 6, 4, 16, tzinfo=UTC)).run(INTRADAY_JOB, ok=False)
    notifier.look()
    assert only(box)["kind"] == "run_failure"


def test_a_good_night_is_a_digest_and_a_heartbeat(desk: Site, box: Mailbox) -> None:
    follow(desk, "ABC", "DEF")
    night = desk.run(NIGHTLY_JOB)
    message = only(box)
    assert (message["kind"], message["title"]) == ("digest", "night: good, everything due is complete")
    assert "added or corrected: 1,560 minutes of 2 symbols" in message["text"]
    assert (message["run_id"], message["command"], message["failed"]) == (night.run_id, "", [])
    assert box.heartbeats() == 1
    desk.at(datetime(2024, 6, 5, 3, tzinfo=UTC)).run(NIGHTLY_JOB)
    assert "nothing was added" in only(box)["text"]
    assert box.heartbeats() == 2


def test_a_bad_night_is_a_digest_and_no_heartbeat_and_is_told_no_second_time(
    desk: Site, exchange: Exchange, box: Mailbox
) -> None:
    follow(desk, "ABC", "DEF")
    notifier = Notifier(desk)
    notifier.look()
    exchange.fails["ABC"] = ServerTrouble("exchange: out of order")
    desk.run(NIGHTLY_JOB, ok=False)
    message = only(box)
    assert message["title"] == "night: 2 partitions are not complete"
    assert message["failed"] == ["2024-06-04|ABC", "2024-06-03|ABC"]
    assert "added or corrected: 780 minutes of 1 symbol" in message["text"]
    assert "not complete: ABC 2024-06-04 1m: 390 of 390 bars are missing (exchange: out of order)" in message["text"]
    assert message["command"] == "backfill run --symbols ABC --timeframes 1m --start 2024-06-03 --end 2024-06-04"
    assert box.heartbeats() == 0
    assert notifier.look() == "0 news"


def test_a_digest_that_nobody_takes_fails_no_night_and_is_made_up_for(
    desk: Site, exchange: Exchange, box: Mailbox
) -> None:
    follow(desk, "ABC")
    notifier = Notifier(desk)
    notifier.look()
    exchange.fails["ABC"] = ServerTrouble("exchange: out of order")
    box.answers = [404]
    desk.run(NIGHTLY_JOB, ok=False)
    assert box.messages == []
    notifier.look()
    assert only(box)["title"].startswith("nightly_backfill failed")
    exchange.fails.clear()
    box.answers = [503] * 8
    desk.at(datetime(2024, 6, 6, 2, tzinfo=UTC)).run(NIGHTLY_JOB)
    assert (box.messages, len(box.answers)) == ([], 0)  # four tries of the digest, four of the heartbeat


def test_what_waits_is_delivered_by_a_later_look_and_the_address_is_nowhere(
    desk: Site, exchange: Exchange, box: Mailbox, capfd: pytest.CaptureFixture[str]
) -> None:
    follow(desk, "ABC")
    notifier = Notifier(desk)
    notifier.look()
    exchange.fails["ABC"] = ServerTrouble("exchange: out of order")
    run(desk, "ABC")
    box.answers = [503]
    assert "1 wait to be taken by BACKFILL_WEBHOOK_URL" in notifier.look()
    assert box.secret not in str(notifier.cursor)
    time.sleep(0.01)
    assert notifier.look() == "0 news"
    assert only(box)["kind"] == "run_failure"
    box.answers = [404, 404]
    desk.run(NIGHTLY_JOB, ok=False)
    run(desk, "ABC")
    notifier.look()
    box.answers = [500] * 4
    desk.run(NIGHTLY_JOB, ok=False)
    spelt = SecretStr(f"http://me:{box.secret}@127.0.0.1:1/hook/{box.secret}?token={box.secret}")
    refused = desk.cut(webhook_url=spelt, heartbeat_url=spelt)
    refused.run(NIGHTLY_JOB, ok=False)
    notifier.desk = refused
    run(refused, "ABC")
    assert "3 wait to be taken by BACKFILL_WEBHOOK_URL" in notifier.look()
    for _ in delivery.WAITS:
        time.sleep(0.01)
        notifier.look()
    exchange.fails.clear()
    refused.at(datetime(2024, 6, 6, 2, tzinfo=UTC)).run(NIGHTLY_JOB)
    told = "".join(capfd.readouterr())
    assert "the digest was not delivered: the server answers 404; tried 1 time" in told
    assert "the digest was not delivered: the server answers 500; tried 4 times" in told
    assert "the digest was not delivered: connection refused; tried 4 times" in told
    assert "the heartbeat was not delivered: connection refused; tried 4 times" in told
    assert box.secret not in told + str(notifier.cursor) + repr(refused.pipeline)
    assert box.secret not in repr(desk.pipeline)
    dagster_url = desk.pipeline.settings.dagster_database_url
    assert dagster_url is not None
    for url in (desk.url, dagster_url):
        found, rows = tables([box.secret], url)
        assert found == set()
        assert rows > 20


def test_nobody_is_told_where_nobody_is_named(desk: Site, exchange: Exchange, box: Mailbox) -> None:
    quiet = desk.cut(webhook_url=None, heartbeat_url=None)
    follow(quiet, "ABC")
    exchange.fails["ABC"] = ServerTrouble("exchange: out of order")
    quiet.run(NIGHTLY_JOB, ok=False)
    assert Notifier(quiet).look() == "BACKFILL_WEBHOOK_URL is not set: nobody to tell"
    assert box.calls == []
    status = dg.DefaultSensorStatus
    assert run_failure_notifier(quiet.pipeline.settings).default_status is status.STOPPED
    assert run_failure_notifier(desk.pipeline.settings).default_status is status.RUNNING
