"""What the doctor makes of a provider's one answer: real sockets, a real budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from backfill_pipeline.settings import Settings
from backfill_pipeline.steps.budgets import SharedBudget
from backfill_pipeline.steps.diagnosis import Check
from backfill_pipeline.steps.provider_checks import check_files, check_providers
from backfill_pipeline.storage.budget import OwnConnection, PostgresBudget, PostgresLimits, ProviderKey
from backfill_pipeline.storage.migrations import migrate
from backfill_pipeline_tests.standin import StandIn

# A Monday, 10:00 in New York: the newest session that is due is Friday's.
NOW = datetime(2026, 8, 10, 14, tzinfo=UTC)
KEY = "planted-key-0123456789"


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn(keys=(KEY,), now=NOW, history_years=2.0, too_old="clipped") as started:
        yield started


@pytest.fixture
def own(database_url: str, standin: StandIn) -> Iterator[OwnConnection]:
    standin.reset()
    migrate(database_url)
    with closing(OwnConnection(database_url)) as connection:
        yield connection


def shared(own: OwnConnection, standin: StandIn, name: str, per_minute: int = 0) -> SharedBudget:
    url = standin.tradier_url if name == "tradier" else standin.url
    key = ProviderKey(name, url, "0123456789abcdef")
    return SharedBudget(name, url, per_minute, PostgresBudget(own, key, per_minute), PostgresLimits(own, key))


def told(own: OwnConnection, standin: StandIn, name: str, key: str = KEY, per_minute: int = 0) -> Check:
    settings = Settings.model_construct(polygon_api_key=SecretStr(key), tradier_token=SecretStr(key))
    (check,) = check_providers(settings, {name: shared(own, standin, name, per_minute)}, NOW)()
    assert key not in repr(check)
    assert standin.leaks == []
    return check


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        (
            "polygon",
            "/v2/aggs/ticker/SPY/range/1/day/2003-09-10/2026-08-07?",
            "the key is accepted, 600 requests a minute; stocks from 2024-08-12 to 2026-08-07",
        ),
        (
            "tradier",
            "/v1/markets/timesales?symbol=SPY&interval=1min&start=2026-08-07",
            "the token is accepted, 600 requests a minute; from 2026-07-31 (tradier keeps 10 days of",
        ),
        (
            "binance",
            "/api/v3/klines?symbol=BTCUSDT&interval=1d&",
            "no key needed, 600 requests a minute; binance serves 1d bars from 2017-07-14 on",
        ),
    ],
)
def test_a_good_answer_tells_from_when_to_when(
    own: OwnConnection, standin: StandIn, name: str, path: str, words: str
) -> None:
    check = told(own, standin, name, per_minute=600)
    host = standin.url.removeprefix("http://")
    newest = {
        "polygon": "",
        "tradier": " minutes of all hours); newest session 2026-08-07",
        "binance": "; newest session 2026-08-09",
    }
    assert check == Check(name, "ok", f"{host} answers, {words}{newest[name]}")
    assert [seen.path.startswith(path) for seen in standin.requests] == [True]


def test_a_plan_that_refuses_the_archive_is_no_problem(own: OwnConnection, standin: StandIn) -> None:
    standin.set(too_old="refused")
    check = told(own, standin, "polygon")
    standin.set(too_old="clipped")
    assert check.status == "ok"
    assert check.detail.endswith(
        "no limit of requests; how far back the plan reaches is found out by the first backfill"
    )
    assert len(standin.requests) == 1


def test_what_was_learned_of_the_plan_is_not_asked_again(own: OwnConnection, standin: StandIn) -> None:
    shared(own, standin, "polygon").limits.remember("stocks earliest", date(2024, 6, 3), NOW)
    assert told(own, standin, "polygon").detail.endswith("; stocks from 2024-06-03 (plan) to 2026-08-07")
    assert [seen.path.split("?")[0][-21:] for seen in standin.requests] == ["2026-07-31/2026-08-07"]


def test_answers_that_end_too_early_are_a_warning(own: OwnConnection, standin: StandIn) -> None:
    standin.set(now=datetime(2026, 8, 6, 14, tzinfo=UTC))
    check = told(own, standin, "polygon")
    standin.set(now=NOW)
    assert check.status == "warning"
    assert "bars of 2026-08-07 are due and its newest session is 2026-08-06" in check.detail


@pytest.mark.parametrize(
    ("name", "fault", "status", "detail", "step"),
    [
        ("polygon", "403_entitled", "problem", "not in the plan: ", "see what the account's plan includes"),
        ("polygon", "429", "warning", "too many requests (429)", "ask again in some minutes"),
        ("polygon", "503", "problem", "the server has trouble (503)", "ask again later"),
        ("polygon", "html_200", "problem", "the server sent no JSON but", "ask again later"),
        ("polygon", "connection_reset", "problem", "the connection broke", "check this machine's network and POLYGON"),
        ("polygon", "empty_absent", "warning", "bars of 2026-08-07 are due and it sent none", "ask again later"),
        ("tradier", "401", "problem", "the token is not accepted: Invalid Access Token", "correct TRADIER_TOKEN"),
        ("tradier", "tradier_null", "warning", "bars of 2026-08-07 are due and it sent none", "ask again later"),
        ("tradier", "tradier_quota", "warning", "too many requests", "ask again in some minutes"),
        ("binance", "503", "problem", "the server has trouble (503)", "ask again later"),
        ("binance", "connection_reset", "problem", "the connection broke", "check this machine's network and BINANCE"),
    ],
)
def test_any_other_answer_is_one_line_and_was_one_request(
    own: OwnConnection, standin: StandIn, name: str, fault: str, status: str, detail: str, step: str
) -> None:
    standin.fault(fault, times=None)
    check = told(own, standin, name)
    assert check.status == status, check
    assert detail in check.detail
    assert "tried" not in check.detail
    assert "\n" not in check.detail
    assert check.next_step.startswith(step)
    assert len(standin.requests) == 1


def test_a_dead_port_is_a_problem(own: OwnConnection) -> None:
    key = ProviderKey("polygon", "http://127.0.0.1:1", "0123456789abcdef")
    dead = SharedBudget("polygon", key.base_url, 0, PostgresBudget(own, key, 0), PostgresLimits(own, key))
    settings = Settings.model_construct(polygon_api_key=SecretStr(KEY))
    (check,) = check_providers(settings, {"polygon": dead}, NOW)()
    assert check.status == "problem"
    assert check.detail == "days of SPY: http://127.0.0.1:1: connection refused"


@pytest.mark.parametrize("name", ["polygon", "tradier"])
def test_a_wrong_key_is_a_problem(own: OwnConnection, standin: StandIn, name: str) -> None:
    check = told(own, standin, name, key="another-key-9876543210")
    assert (check.status, check.next_step[:7]) == ("problem", "correct")


def test_nobody_is_asked_while_a_server_wants_to_be_left_alone(own: OwnConnection, standin: StandIn) -> None:
    shared(own, standin, "polygon").budget.hold(300)
    check = told(own, standin, "polygon")
    assert check.status == "warning"
    assert check.detail == "not asked: the next request may go out in 300 s"
    assert standin.requests == []


def test_the_first_and_last_day_of_flat_files_show(tmp_path: Path) -> None:
    for day in ("2024-03-08", "2023-12-29", "2024-01-02"):
        file = tmp_path / "us_stocks_sip" / "minute_aggs_v1" / day[:4] / day[5:7] / f"{day}.csv.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    check = check_files(tmp_path, NOW)
    assert check.status == "ok"
    assert "2023-12-29 to 2024-03-08 in us_stocks_sip/minute_aggs_v1" in check.detail
    assert "no day file in us_stocks_sip/day_aggs_v1" in check.detail


def test_a_folder_without_flat_files_or_none_at_all_is_a_problem(tmp_path: Path) -> None:
    empty, none = check_files(tmp_path, NOW), check_files(tmp_path / "none", NOW)
    assert (empty.status, none.status) == ("problem", "problem")
    assert empty.next_step.startswith("put files there as us_stocks_sip/")
    assert (none.detail, none.next_step) == (f"{tmp_path}/none is no folder that can be read", "correct BACKFILL_FILES")
