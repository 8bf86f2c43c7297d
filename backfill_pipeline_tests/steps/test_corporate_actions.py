"""The market's events as they are asked, kept and judged: a stand-in over a real socket, a real database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from psycopg2 import errors

from backfill_pipeline.domain.adjust import Dividend, Split
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.events import clear_stale, read_dividends, read_splits, stale_since
from backfill_pipeline.storage.symbols import lock
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.steps.happenings import EX, FIRST, LAST, NOW, Office, followed, office


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(now=NOW) as running:
        yield running


@pytest.fixture
def desk(database_url: str, standin: StandIn) -> Iterator[Office]:
    with office(database_url, standin) as made:
        yield made


def test_a_real_split_is_accepted_and_features_from_its_ex_date_are_stale(desk: Office, standin: StandIn) -> None:
    standin.market.split("AAPL", EX, 1, 4)
    standin.market.split("ELSE", EX, 1, 10)  # of a symbol that nobody follows
    followed(desk, "AAPL")

    done = desk.run()

    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", True)]
    assert read_splits(desk.conn, desk.id("AAPL")) == [Split(EX, 4.0)]
    assert done.changed == {desk.id("AAPL"): EX}
    assert desk.stale() == [("AAPL", "1d", "2024-05-14"), ("AAPL", "1m", "2024-05-14")]
    assert "a factor of 0.2" in desk.reason()


@pytest.mark.parametrize("base", ["1d", "1m"])
@pytest.mark.parametrize("moved", [None, date(2024, 5, 16)])
def test_a_split_that_prices_do_not_show_is_kept_and_not_used(
    desk: Office, standin: StandIn, base: Base, moved: date | None
) -> None:
    standin.market.split("AAPL", EX, 1, 4, phantom=True)
    if moved:
        standin.market.split("AAPL", moved, 1, 4, hidden=True)
    followed(desk, "AAPL", base=base)

    done = desk.run()

    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", False)]
    assert read_splits(desk.conn, desk.id("AAPL")) == []
    (line,) = done.judged.refused
    assert line.startswith("AAPL 2024-05-14 splits: close ")
    assert line.endswith(
        "; prices moved so on 2024-05-16 (polygon)" if moved else "; no session near it shows one (polygon)"
    )
    assert done.changed == {}
    assert desk.stale() == []


def test_minutes_show_a_split_where_there_are_no_days(desk: Office, standin: StandIn) -> None:
    standin.market.split("AAPL", EX, 1, 4)
    followed(desk, "AAPL", base="1m")
    desk.run()
    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", True)]


def test_duplicates_are_one_row_and_contradictions_are_two_refused_ones(desk: Office, standin: StandIn) -> None:
    for _ in range(3):
        standin.market.split("AAPL", EX, 1, 4)
    standin.market.split("MSFT", EX, 1, 1)
    standin.market.split("SPY", EX, 1, 2)
    standin.market.split("SPY", EX, 1, 3)
    followed(desk, "AAPL", "MSFT", "SPY")

    done = desk.run()

    assert desk.splits() == [
        ("AAPL", "2024-05-14", "4:1", True),
        ("MSFT", "2024-05-14", "1:1", False),
        ("SPY", "2024-05-14", "2:1", False),
        ("SPY", "2024-05-14", "3:1", False),
    ]
    assert (done.new["splits"], done.judged.accepted["splits"]) == (4, 1)


def test_a_split_is_judged_as_soon_as_there_are_bars(desk: Office, standin: StandIn) -> None:
    standin.market.split("AAPL", EX, 1, 4)
    desk.follow("AAPL")

    done = desk.run()
    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", None)]
    assert done.judged.unverified == [
        "AAPL 2024-05-14 splits: 4:1 cannot be checked: no bar in the 10 days before it (polygon)"
    ]
    assert done.changed == {}

    desk.store("AAPL", FIRST, EX - timedelta(days=1))
    desk.run()
    assert "no bar in the 10 days from it on" in desk.reason()

    desk.store("AAPL", EX, LAST)
    assert desk.run().changed == {desk.id("AAPL"): EX}
    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", True)]


def test_a_split_that_lies_ahead_changes_nothing_until_its_day(desk: Office, standin: StandIn) -> None:
    followed(desk, "AAPL")
    standin.market.split("AAPL", EX, 20, 21)
    standin.market.dividend("AAPL", EX, 0.5)

    desk.run(datetime(2024, 5, 13, 23, tzinfo=UTC))
    assert (read_splits(desk.conn, desk.id("AAPL")), read_dividends(desk.conn, desk.id("AAPL"))) == ([], [])
    assert desk.reason() == "21:20 lies ahead"

    desk.run(datetime(2024, 5, 14, 1, tzinfo=UTC))
    assert read_splits(desk.conn, desk.id("AAPL")) == [Split(EX, 1.05)]
    assert read_dividends(desk.conn, desk.id("AAPL")) == [Dividend(EX, 0.5, "USD")]


def test_dividends_are_kept_and_foreign_money_is_refused(desk: Office, standin: StandIn) -> None:
    market = standin.market
    market.dividend("AAPL", EX, 0.25, declaration_date=None)
    market.dividend("AAPL", EX, 0.25)
    market.dividend("AAPL", EX, 1.0, distribution_type="special")
    market.dividend("MSFT", EX, 0.75, currency="CAD")
    market.dividend("SPY", EX, -0.1)
    followed(desk, "AAPL", "MSFT", "SPY")

    done = desk.run()

    assert read_dividends(desk.conn, desk.id("AAPL")) == [Dividend(EX, 0.25, "USD"), Dividend(EX, 1.0, "USD")]
    assert read_dividends(desk.conn, desk.id("MSFT")) == read_dividends(desk.conn, desk.id("SPY")) == []
    assert done.judged.refused == [
        "MSFT 2024-05-14 dividends: 0.75 CAD is not in USD, which XNYS trades in (polygon)",
        "SPY 2024-05-14 dividends: a payment of -0.1 USD is none (polygon)",
    ]
    assert desk.query("SELECT DISTINCT frequency, pay_date::text FROM dividends") == [(4, "2024-05-28")]


def test_earnings_are_kept_where_the_plan_has_them_and_no_failure_where_not(desk: Office, standin: StandIn) -> None:
    standin.market.earnings("AAPL", EX, estimated_eps=1.4, benzinga_id="b1")
    followed(desk, "AAPL")

    first, second = desk.run(), desk.run()
    assert (first.failures, second.failures) == ([], [])
    assert "not entitled" in first.notes[0]
    assert second.notes == ["polygon: earnings are not in the plan (learned 2024-06-03)"]
    assert (first.requests, second.requests) == (2, 2)

    standin.set(not_entitled=())
    desk.limits._known.clear()
    desk.run()
    standin.market.events.earnings.clear()
    standin.market.earnings("AAPL", EX, estimated_eps=1.4, actual_eps=1.5, benzinga_id="b1")
    done = desk.run()
    assert done.restated["earnings"] == 1
    assert desk.query("SELECT estimated_eps, actual_eps, accepted FROM earnings") == [(1.4, 1.5, True)]


def test_the_same_again_writes_nothing(desk: Office, standin: StandIn) -> None:
    standin.set(not_entitled=())
    standin.market.split("AAPL", EX, 1, 4)
    standin.market.split("MSFT", EX, 1, 4, phantom=True)
    standin.market.dividend("AAPL", EX, 0.25)
    standin.market.earnings("AAPL", EX, benzinga_id="b1")
    followed(desk, "AAPL", "MSFT")
    desk.run()
    before = desk.versions()

    done = desk.run()

    assert desk.versions() == before
    assert (done.new.total(), done.restated.total(), done.withdrawn.total(), done.changed) == (0, 0, 0, {})


def test_a_withdrawn_split_stays_unused_with_the_reason_and_comes_back_when_told_again(
    desk: Office, standin: StandIn
) -> None:
    standin.market.split("AAPL", EX, 1, 4)
    standin.market.split("ELSE", EX, 1, 4)
    followed(desk, "AAPL")
    desk.run()
    desk.clear_stale()

    told = standin.market.events.splits.pop(0)
    done = desk.run()
    assert (done.withdrawn["splits"], done.changed) == (1, {desk.id("AAPL"): EX})
    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", False)]
    assert desk.reason() == "polygon no longer tells it"
    before = desk.versions()
    assert desk.run().withdrawn["splits"] == 0
    assert desk.versions() == before
    desk.clear_stale()

    standin.market.events.splits.append(told)
    assert desk.run().changed == {desk.id("AAPL"): EX}
    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", True)]
    assert stale_since(desk.conn, desk.id("AAPL"), "1d") == EX


def test_an_empty_list_withdraws_nothing(desk: Office, standin: StandIn) -> None:
    standin.market.split("AAPL", EX, 1, 4)
    followed(desk, "AAPL")
    desk.run()
    standin.market.events.splits.clear()
    done = desk.run()
    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", True)]
    assert "polygon told no splits of anybody: the 1 known ones stay" in done.notes


def test_a_corrected_ex_date_moves_the_split(desk: Office, standin: StandIn) -> None:
    wrong = EX - timedelta(days=1)
    standin.market.split("AAPL", EX, 1, 4, hidden=True)
    standin.market.split("AAPL", wrong, 1, 4, phantom=True)
    followed(desk, "AAPL")
    assert desk.run().changed == {}
    assert desk.splits() == [("AAPL", "2024-05-13", "4:1", False)]

    standin.market.events.splits.clear()
    standin.market.split("AAPL", EX, 1, 4)
    assert desk.run().changed == {desk.id("AAPL"): EX}
    assert desk.splits() == [("AAPL", "2024-05-13", "4:1", False), ("AAPL", "2024-05-14", "4:1", True)]


def test_the_mark_is_each_chain_s_own_and_keeps_the_earliest_day(desk: Office, standin: StandIn) -> None:
    standin.market.split("AAPL", EX, 1, 4)
    followed(desk, "AAPL")
    desk.run()
    standin.market.split("AAPL", date(2024, 5, 20), 20, 21)
    desk.run()
    assert desk.stale() == [("AAPL", "1d", "2024-05-14"), ("AAPL", "1m", "2024-05-14")]
    clear_stale(desk.conn, desk.id("AAPL"), "1d")
    assert desk.stale() == [("AAPL", "1m", "2024-05-14")]


def test_splits_do_not_change_while_somebody_computes_with_them(
    desk: Office, standin: StandIn, database_url: str
) -> None:
    standin.market.split("AAPL", EX, 1, 4)
    followed(desk, "AAPL")
    desk.query("SET lock_timeout = '100ms'")
    computing = connect(database_url)
    lock(computing, desk.id("AAPL"), "1d")

    with pytest.raises(errors.LockNotAvailable):
        desk.run()
    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", None)]

    computing.close()
    desk.run()
    assert desk.splits() == [("AAPL", "2024-05-14", "4:1", True)]
