"""Every reason why a bar is as it is, or absent, in warehouses where it is so; read by a person, and by the state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.places import Nowhere
from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window
from backfill_pipeline.steps.explain import Evidence, find_place, gather, parse_asked
from backfill_pipeline.steps.explain_reason import Reason, reason
from backfill_pipeline.steps.rename import Alias, state_alias
from backfill_pipeline.steps.requests import RequestError
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.symbols import UnknownSymbolError
from backfill_pipeline_tests.steps.warehouses import (
    Exchange,
    at,
    backfill,
    both_chains,
    listed,
    micros,
    ny,
    opened,
    query,
    row_of,
)
from backfill_pipeline_tests.steps.week import FRI, MON, NEXT_MON, THU, TRADED, TUE, WED

LATER = datetime(2024, 6, 20, tzinfo=UTC)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange().trade(TRADED)


@pytest.fixture
def warehouse(database_url: str, exchange: Exchange) -> Iterator[Warehouse]:
    with opened(database_url, exchange, LATER) as made:
        yield made


@pytest.fixture
def abc(warehouse: Warehouse) -> Instrument:
    return listed(warehouse)


def explained(warehouse: Warehouse, time: str, timeframe: str | None = None) -> tuple[Reason, Evidence | None]:
    asked = parse_asked(warehouse, "ABC", time, timeframe)
    place = find_place(warehouse, asked)
    evidence = None if isinstance(place, Nowhere) else gather(warehouse, asked, place)
    return reason(asked, place, evidence, warehouse.now()), evidence


def why(warehouse: Warehouse, time: str, timeframe: str | None = None) -> Reason:
    return explained(warehouse, time, timeframe)[0]


def run_of(first: date, last: date | None = None, timeframe: str = "1m", verb: str = "run") -> str:
    return f"backfill {verb} --symbols ABC --timeframes {timeframe} --start {first} --end {last or first}"


def test_a_stored_minute_and_the_hour_built_from_it(warehouse: Warehouse, abc: Instrument, exchange: Exchange) -> None:
    backfill(warehouse, abc, INTRADAY, MON, TUE)

    told, evidence = explained(warehouse, f"{MON} 10:31")

    assert told == Reason("stored", "sent by exchange; final")
    assert evidence is not None
    assert evidence.bar is not None
    expected = exchange.minutes[micros(MON, 10, 31)]
    of = evidence.bar
    assert (of.open, of.high, of.low, of.close, of.volume, of.vwap, of.trades) == expected
    assert [a.provider for a in evidence.answers.rows] == ["exchange"]
    assert evidence.answers.rows[0].valid_until is None
    assert evidence.names == {"exchange": "ABC"}
    told, evidence = explained(warehouse, f"{MON} 15:45", "1h")
    assert told == Reason("stored", "built from 30 of 30 1m bars of exchange; final")
    assert evidence is not None
    assert (evidence.parts.first, evidence.parts.last) == (ny(MON, 15, 30), ny(MON, 15, 59))


def test_a_time_is_the_calendars_own_unless_it_has_an_offset(warehouse: Warehouse, abc: Instrument) -> None:
    own, utc = (parse_asked(warehouse, "ABC", text, None) for text in (f"{MON} 10:31", f"{MON}T14:31Z"))
    assert own.at == utc.at == ny(MON, 10, 31)
    assert own.zone == "America/New_York"
    assert parse_asked(warehouse, "ABC", str(MON), None).timeframe == "1d", "a date alone"


def test_days_and_weeks(warehouse: Warehouse, abc: Instrument) -> None:
    backfill(warehouse, abc, DAILY, MON, FRI)
    assert why(warehouse, str(WED)) == Reason("stored", "sent by exchange; final")
    assert why(warehouse, str(WED), "1w") == Reason("stored", "built from 5 of 5 1d bars of exchange; final")


@pytest.mark.parametrize(
    ("time", "timeframe", "state", "words"),
    [
        pytest.param("2024-05-11 10:00", "1m", "closed", "2024-05-11 is no session of XNYS (weekend)", id="weekend"),
        pytest.param("2024-05-06 21:00", "1m", "closed", "XNYS trades pre 04:00-09:30", id="night"),
        pytest.param("2024-07-08 10:00", "1m", "not begun", "it starts at 2024-07-08 10:00", id="future"),
        pytest.param(
            "2024-05-08 10:00", "1m", "not wanted", "nobody has asked for ABC 1m of 2024-05-08", id="not wanted"
        ),
        pytest.param("2024-05-06 17:00", "1m", "no trade", "nothing is expected in post; exchange answered", id="post"),
    ],
)
def test_there_is_no_bar_because(
    warehouse: Warehouse, abc: Instrument, time: str, timeframe: str, state: str, words: str
) -> None:
    backfill(warehouse, abc, INTRADAY, MON, TUE)
    told = why(warehouse, time, timeframe)
    assert (told.state, told.why[: len(words)]) == (state, words)


def test_outside_the_lifetime_it_was_not_listed(warehouse: Warehouse) -> None:
    listed(warehouse, lifetime=(TUE, THU))
    assert why(warehouse, f"{MON} 10:00") == Reason("not listed", f"ABC was first listed on {TUE}")
    assert why(warehouse, f"{FRI} 10:00") == Reason("not listed", f"ABC was last listed on {THU}")


def test_what_is_not_served_says_what_is(warehouse: Warehouse, abc: Instrument, exchange: Exchange) -> None:
    exchange.serves = (TUE, FRI)
    backfill(warehouse, abc, INTRADAY, MON, TUE)
    assert why(warehouse, f"{MON} 10:00") == Reason("not served", f"the exchange serves {TUE} to {FRI}")


def test_before_it_is_due_nothing_is_to_be_done(warehouse: Warehouse, abc: Instrument) -> None:
    noon = at(warehouse, ny(WED, 12))
    backfill(noon, abc, INTRADAY, WED, WED)
    told = why(noon, f"{WED} 10:00")
    assert (told.state, told.why) == (
        "not due",
        f"sent by exchange; not final: its session is settled at {WED} 20:15",
    )
    assert why(noon, f"{WED} 12:00").state == "not due"
    assert why(noon, f"{WED} 12:00", "1d").state == "not wanted"


def test_within_the_correction_window_a_bar_is_not_final(warehouse: Warehouse, abc: Instrument) -> None:
    evening = at(warehouse, ny(WED, 21))
    backfill(evening, abc, INTRADAY, WED, WED)
    told = why(evening, f"{WED} 10:00")
    assert told.why == "sent by exchange; not final: asked again until two later sessions have closed"
    assert told.next_step == "it happens by itself"


def test_a_provisional_bar_and_what_no_answer_speaks_of(
    warehouse: Warehouse, abc: Instrument, exchange: Exchange
) -> None:
    exchange.silent = [Window(micros(TUE, 15), micros(TUE, 16))]
    exchange.provisional = {micros(TUE, 15, 0): row_of(micros(TUE, 15, 0))}
    backfill(warehouse, abc, INTRADAY, TUE, TUE)
    told = why(warehouse, f"{TUE} 15:00")
    assert told == Reason("provisional", "sent by exchange; not final: no complete answer speaks of it", run_of(TUE))
    told = why(warehouse, f"{TUE} 15:01")
    assert told.why == "exchange was asked for the session, and no answer speaks of this"


def test_a_missing_minute_says_who_answered_without_it(
    warehouse: Warehouse, abc: Instrument, exchange: Exchange
) -> None:
    del exchange.minutes[micros(TUE, 11)]
    backfill(warehouse, abc, INTRADAY, TUE, TUE)
    query(warehouse, "TRUNCATE gaps")
    query(warehouse, "UPDATE session_status SET missing = 1, stored = 389, explained = '{}'")
    told = why(warehouse, f"{TUE} 11:00")
    assert told == Reason(
        "missing",
        "1 of the session's 390 bars are missing; exchange answered at 2024-06-19 20:00 without it",
        run_of(TUE),
    )
    query(warehouse, "UPDATE session_status SET missing = 0, explained = '{\"no_trade\": 1}'")
    told = why(warehouse, f"{TUE} 11:00")
    assert (told.state, told.next_step) == ("explained", "")
    assert told.why.startswith("the session's 1 absent bars: no_trade 1; exchange answered at ")


def test_an_open_gap_says_when_it_is_asked_for_again(warehouse: Warehouse, abc: Instrument, exchange: Exchange) -> None:
    del exchange.minutes[micros(TUE, 11)]
    backfill(warehouse, abc, INTRADAY, TUE, TUE)
    query(warehouse, "TRUNCATE gaps RESTART IDENTITY")
    query(
        warehouse,
        "INSERT INTO gaps (symbol_id, timeframe, time_window, expected, found, verdict, evidence, attempts,"
        " next_attempt_at, detected_at) VALUES (%s, '1m', tstzrange(%s, %s), 1, 0, 'outage', '{}', 2, %s, %s)",
        abc.symbol_id,
        ny(TUE, 11),
        ny(TUE, 11, 1),
        ny(date(2024, 6, 27), 20),
        ny(date(2024, 6, 19), 20),
    )
    told, evidence = explained(warehouse, f"{TUE} 11:00")
    assert told.state == "outage"
    assert told.why == "outage: gap 1, 1 bars, 2 attempts since 2024-06-19 20:00"
    assert told.next_step == f"asked again at 2024-06-27 20:00, or at once: {run_of(TUE)}"
    assert evidence is not None
    assert [gap.gap_id for gap in evidence.gaps] == [1]
    assert why(warehouse, f"{TUE} 11:01").state == "stored"


def test_a_refused_row_is_shown_with_the_reason(warehouse: Warehouse, abc: Instrument, exchange: Exchange) -> None:
    opening, _, low, closing, *rest = exchange.minutes[micros(TUE, 11)]
    exchange.minutes[micros(TUE, 11)] = (opening, 1.0, low, closing, *rest)  # type: ignore[assignment]  # a Row
    backfill(warehouse, abc, INTRADAY, TUE, TUE)
    query(warehouse, "TRUNCATE gaps")
    told, evidence = explained(warehouse, f"{TUE} 11:00")
    assert told.state == "refused"
    assert told.why.startswith("exchange's row was refused: high is below open or close")
    assert evidence is not None
    assert evidence.refused.count == 1
    near, far = (explained(warehouse, f"{TUE} {time}")[1] for time in ("11:15", "11:16"))
    assert near is not None
    assert far is not None
    assert (near.refused.count, far.refused.count) == (1, 0), "a quarter of an hour around it"


def test_a_restated_bar_shows_what_it_was(warehouse: Warehouse, abc: Instrument, exchange: Exchange) -> None:
    before = exchange.minutes[micros(WED, 10)]
    backfill(at(warehouse, ny(WED, 21)), abc, INTRADAY, WED, WED)
    exchange.minutes[micros(WED, 10)] = (*before[:4], before[4] + 7, *before[5:])
    backfill(at(warehouse, ny(THU, 21)), abc, INTRADAY, WED, WED)
    _, evidence = explained(warehouse, f"{WED} 10:00")
    assert evidence is not None
    (old,) = evidence.revisions.rows
    assert (old.volume, old.kind, old.provider, old.revised_at) == (before[4], "restated", "exchange", ny(THU, 21))
    assert evidence.answers.count == 2
    hour = explained(warehouse, f"{WED} 09:45", "1h")[1]
    assert hour is not None
    assert hour.revisions.count == 1


def test_a_derived_bar_that_was_lost_is_rebuilt_and_a_broken_week_is_not(warehouse: Warehouse, abc: Instrument) -> None:
    both_chains(warehouse, abc, MON, THU)
    query(warehouse, "DELETE FROM bars WHERE timeframe = '5m'")
    told = why(warehouse, f"{MON} 10:02", "5m")
    assert told == Reason("not built", "5 of its 1m bars are stored, and it is not", run_of(MON, None, "5m", "rebuild"))
    told = why(warehouse, f"{MON} 10:02", "1w")
    assert told == Reason(
        "incomplete", "a week is built of whole weeks: 4 of its 5 days are stored", run_of(MON, FRI, "1w")
    )


def test_a_provider_may_call_it_otherwise(warehouse: Warehouse, abc: Instrument) -> None:
    with warehouse.conn:
        state_alias(warehouse.conn, Alias("ABC", "exchange", "A.BC", last=TUE))
    assert [explained(warehouse, f"{day} 10:00")[1].names for day in (TUE, WED)] == [  # type: ignore[union-attr]  # sessions
        {"exchange": "A.BC"},
        {"exchange": "ABC"},
    ]


def test_a_day_closed_by_hand_says_why(warehouse: Warehouse, abc: Instrument) -> None:
    query(
        warehouse,
        "INSERT INTO calendar_overrides VALUES ('XNYS', '2024-05-18', 'closed', 'a day of mourning', now())",
    )
    assert why(warehouse, "2024-05-18 10:00") == Reason("closed", "2024-05-18 was closed by hand: a day of mourning")


def test_nothing_is_asked_and_nothing_is_written(warehouse: Warehouse, abc: Instrument, exchange: Exchange) -> None:
    backfill(warehouse, abc, INTRADAY, MON, TUE)
    exchange.requests.clear()
    query(warehouse, "SET default_transaction_read_only = on")
    for time in (f"{MON} 10:00", f"{NEXT_MON} 10:00", f"{MON} 21:00"):
        why(warehouse, time)
    assert exchange.requests == []


@pytest.mark.parametrize(
    ("symbol", "time", "timeframe", "words"),
    [
        ("ABC", "yesterday", None, "time 'yesterday' is not known; write it as 2026-08-05 10:31, or with an offset"),
        ("ABC", "2024-05-06 10:31", "2m", "timeframe '2m' is not known; use one of 1m 5m"),
        ("ABC", "1980-05-06", None, "time '1980-05-06' is not between 1990-01-01 and 2025-12-31, the days of XNYS"),
        ("abc", "2024-05-06", None, "symbol abc not registered; add: backfill symbols add abc"),
    ],
)
def test_a_wrong_argument_is_one_line(
    warehouse: Warehouse, abc: Instrument, symbol: str, time: str, timeframe: str | None, words: str
) -> None:
    with pytest.raises((RequestError, UnknownSymbolError)) as error:
        parse_asked(warehouse, symbol, time, timeframe)
    assert str(error.value).startswith(words)
