"""Messages to a real server that takes, refuses, hangs or is not there; and what is in them, whatever symbols hold."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import partial

import pytest
from pydantic import SecretStr

from backfill_pipeline.steps import delivery
from backfill_pipeline.steps.delivery import WAITS, Letter, Refusal, deliver, post, send
from backfill_pipeline.steps.messages import Message, run_command
from backfill_pipeline_tests.mailbox import Mailbox, mailbox

AT = datetime(2024, 6, 5, 2, 30, tzinfo=UTC)
SOON = (0.0, 0.0, 0.0)


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


def message(*lines: str, **more: object) -> dict[str, object]:
    return json.loads(Message("run_failure", "it failed", lines, AT, **more).body())  # type: ignore[arg-type, no-any-return]  # as given


def test_a_message_that_is_not_taken_at_first_is_sent_again(box: Mailbox) -> None:
    box.answers = [503, 429]
    assert deliver(box.url(), b'{"text": "x"}', SOON) is None
    assert box.messages == [{"text": "x"}]
    assert len(box.calls) == 3


def test_after_four_tries_it_is_given_up_and_the_address_is_not_told(box: Mailbox) -> None:
    box.answers = [500] * 9
    assert deliver(box.url(), b"{}", SOON) == "the server answers 500; tried 4 times"
    assert len(box.calls) == 4
    assert sum(WAITS) < 60


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (400, 1), (301, 1), (408, 4)])
def test_what_would_not_help_is_not_tried_again_and_no_redirection_is_followed(
    box: Mailbox, status: int, tries: int
) -> None:
    box.answers = [status] * 9
    why_not = deliver(box.url(), b"{}", SOON)
    assert why_not is not None
    assert f"the server answers {status}; tried {tries} time" in why_not
    assert {path for _, path in box.calls} == {f"/hook/{box.secret}"}
    assert len(box.calls) == tries


def test_a_heartbeat_is_a_get_without_a_body(box: Mailbox) -> None:
    assert deliver(box.url("beat"), None, ()) is None
    assert box.calls == [("GET", f"/beat/{box.secret}")]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/planted-secret", "connection refused"),
        ("http://no-such-host.invalid/planted-secret", "its name is not known"),
        ("http://[planted-secret/x", "it is no usable address"),
        ("http://127.0.0.1:99999/planted-secret", "it is no usable address"),
        (f"http://{'a' * 70}.example/planted-secret", "it is no usable address"),
    ],
)
def test_a_dead_or_wrong_address_is_a_few_words_that_do_not_hold_it(
    url: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    refusal = send(SecretStr(url), b"{}")
    assert refusal is not None
    assert refusal.why == why
    assert "planted-secret" not in str(refusal)


def test_a_server_that_never_answers_is_waited_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        found = send(SecretStr(f"http://127.0.0.1:{mute.getsockname()[1]}/x"), b"{}")
    assert found == Refusal("no answer in time")


def test_a_letter_is_tried_four_times_and_then_dropped_with_a_line(box: Mailbox) -> None:
    box.answers = [503] * 9
    letters, now, told = [Letter("night: good", "{}")], 1000.0, []
    for _ in range(9):
        letters, lines = post(letters, partial(send, box.url()), now)
        told += lines
        now += 15
    assert len(box.calls) == 4
    assert told == ["'night: good' was not delivered: the server answers 503; tried 4 times"]
    assert letters == []


def test_a_dead_server_costs_one_try_a_look_and_the_rest_is_delivered_in_order_later(box: Mailbox) -> None:
    letters = [Letter(str(n), json.dumps({"n": n})) for n in range(3)]
    box.answers = [503]
    letters, lines = post(letters, partial(send, box.url()), 1000.0)
    assert (len(box.calls), len(letters), lines) == (1, 3, [])
    letters, lines = post(letters, partial(send, box.url()), 1000.0 + WAITS[0])
    assert (letters, lines) == ([], [])
    assert [taken["n"] for taken in box.messages] == [0, 1, 2]


def test_no_more_than_twenty_letters_wait(box: Mailbox) -> None:
    box.answers = [503]
    left, lines = post([Letter(str(n), "{}") for n in range(30)], partial(send, box.url()), 1000.0)
    assert [letter.title for letter in left] == [str(n) for n in range(10, 30)]
    assert len(lines) == 10


def test_a_message_has_the_fields_of_both_its_readers() -> None:
    found = message("AAPL is late", command="backfill run", run_id="r", symbols=("AAPL",), failed=("2024-06-04|AAPL",))
    assert found == {
        "kind": "run_failure",
        "title": "it failed",
        "text": "it failed\nAAPL is late\nrepair: backfill run",
        "mrkdwn": False,
        "at": "2024-06-05T02:30:00+00:00",
        "run_id": "r",
        "backfill_id": None,
        "symbols": ["AAPL"],
        "symbols_count": 1,
        "failed": ["2024-06-04|AAPL"],
        "failed_count": 1,
        "command": "backfill run",
    }


def test_symbols_are_data_to_the_chat() -> None:
    hostile = "<!channel>&<https://x.example|AAPL>"
    found = message(f"{hostile}\u202e\nand\x1b[31m more", symbols=(hostile,))
    assert found["text"] == ("it failed\n&lt;!channel&gt;&amp;&lt;https://x.example|AAPL&gt; and [31m more")
    assert found["symbols"] == [hostile]  # a program gets it as it is


def test_however_much_there_is_to_say_a_message_stays_small_and_names_the_command() -> None:
    keys = tuple(f"2024-06-04|{'&' * 60}{n}" for n in range(100_000))
    command = run_command([f"{'&' * 60}{n}" for n in range(20)], ["1m"], date(2024, 6, 3), date(2024, 6, 4))
    made = Message("digest", "&" * 9999, ("&" * 9999,) * 9999, AT, command, symbols=keys, failed=keys).body()
    found = json.loads(made)
    assert len(made.encode()) < 32_000
    assert (len(found["failed"]), found["failed_count"]) == (50, 100_000)
    assert "more lines\nrepair: backfill run" in found["text"]
    assert found["command"] == command


def test_the_command_quotes_symbols_and_names_no_more_than_twenty() -> None:
    span = date(2024, 6, 3), date(2024, 6, 4)
    assert run_command(["NA", "$(rm)"], ["1m", "1d"], *span) == (
        "backfill run --symbols '$(rm),NA' --timeframes 1m,1d --start 2024-06-03 --end 2024-06-04"
    )
    assert "--symbols" not in run_command([f"S{n}" for n in range(21)], ["1d"], *span)
