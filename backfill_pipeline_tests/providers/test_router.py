"""Which provider is asked for which session: order, what each serves, running sessions, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from backfill_pipeline.domain.instruments import Instrument
from backfill_pipeline.domain.sessions import Sessions, load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.providers.base import Answer, Lifetime, Request, Served, Settle
from backfill_pipeline.providers.router import Route, Router

# Monday to Friday in New York's summer: sessions from 04:00 to 20:00, 08:00 to 24:00 UTC; a day ends at 04:00 UTC.
MON, TUE, WED, THU, FRI = WEEK = [date(2024, 5, day) for day in range(6, 11)]
XNYS = load_sessions("XNYS", date(2025, 1, 1))
ABC = Instrument(1, "ABC", "stock", "XNYS")
LATER = datetime(2024, 6, 1, tzinfo=UTC)
QUARTER_PAST = Settle("day", timedelta(minutes=15))


@dataclass
class Source:
    """A provider that serves the days `first` to `last`, or nothing."""

    name: str
    first: date | None = MON
    last: date = FRI
    settle: Settle = QUARTER_PAST
    live: bool = False
    known: Lifetime | None = None

    def page_rows(self, timeframe: Base) -> int | None:
        return None

    def expected_wait(self, requests: int) -> float:
        return 0.0

    def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
        window = None if self.first is None else sessions.days_window(self.first, self.last)
        return Served(window, f"{self.name} says so")

    def lifetime(self, symbol: str) -> Lifetime | None:
        return self.known

    def fetch(self, request: Request, now: datetime) -> Iterator[Answer]:
        raise AssertionError("a router asks nobody")


FILES = Source("files", settle=Settle("day", timedelta(hours=11)))
POLYGON = Source("polygon")
TRADIER = Source("tradier", settle=Settle("close", timedelta(minutes=15)), live=True)


def route(*sources: Source) -> Route:
    return Router(sources).route(ABC, "1m", XNYS)


def chosen(of: Route, now: datetime = LATER, **refused: list[date]) -> dict[date, str]:
    """Session → provider, of the sessions of two weeks that have one."""
    masks = {name: np.isin(XNYS.session, np.array(days, dtype="datetime64[D]")) for name, days in refused.items()}
    rows = XNYS.rows_between(MON - timedelta(days=7), FRI + timedelta(days=7))
    places = of.choose(now, masks)[rows].tolist()
    days = XNYS.session[rows].astype(object)
    return {day: of.providers[place].name for day, place in zip(days, places, strict=True) if place != -1}


def days_of(name: str, *days: date) -> dict[date, str]:
    return dict.fromkeys(days, name)


def test_the_first_of_the_order_that_serves_a_session_is_asked_for_it() -> None:
    early, late = Source("early", MON, WED), Source("late", TUE, FRI)
    assert chosen(route(early, late)) == days_of("early", MON, TUE, WED) | days_of("late", THU, FRI)
    assert chosen(route(late, early)) == days_of("early", MON) | days_of("late", TUE, WED, THU, FRI)


def test_a_session_that_nobody_serves_has_no_provider() -> None:
    assert chosen(route(Source("first", MON, MON), Source("last", FRI, FRI))) == {MON: "first", FRI: "last"}


def test_those_that_serve_nothing_of_an_instrument_are_left_out_of_its_route() -> None:
    of = route(Source("nothing", None), POLYGON, Source("also nothing", None))
    assert [provider.name for provider in of.providers] == ["polygon"]
    assert of.reason == "polygon says so"


def test_where_nobody_serves_anything_the_first_says_why() -> None:
    of = route(Source("one", None), Source("two", None))
    assert chosen(of) == {}
    assert of.reason == "one says so"


@pytest.mark.parametrize(
    ("now", "today"),
    [
        pytest.param(datetime(2024, 5, 9, 15, tzinfo=UTC), "tradier", id="in the session"),
        pytest.param(datetime(2024, 5, 10, 0, 30, tzinfo=UTC), "tradier", id="over, and not due at polygon"),
        pytest.param(datetime(2024, 5, 10, 4, 14, tzinfo=UTC), "tradier", id="a minute before it is due"),
        pytest.param(datetime(2024, 5, 10, 4, 15, tzinfo=UTC), "polygon", id="due"),
    ],
)
def test_a_session_goes_to_the_live_provider_until_the_preferred_ones_answer_is_due(now: datetime, today: str) -> None:
    found = chosen(route(POLYGON, TRADIER), now)
    assert found[THU] == today
    assert {day: found[day] for day in (MON, TUE, WED)} == days_of("polygon", MON, TUE, WED)


def test_a_running_session_that_the_live_provider_does_not_serve_goes_by_the_order() -> None:
    now = datetime(2024, 5, 9, 15, tzinfo=UTC)
    assert chosen(route(POLYGON, Source("tradier", MON, WED, live=True)), now)[THU] == "polygon"


def test_a_refused_session_goes_to_the_next_that_serves_it() -> None:
    of = route(Source("files", MON, WED), POLYGON, Source("third", WED, FRI))
    usual = days_of("files", MON, TUE, WED) | days_of("polygon", THU, FRI)
    assert chosen(of) == usual
    assert chosen(of, files=[TUE]) == usual | {TUE: "polygon"}
    assert chosen(of, files=[WED], polygon=[WED, FRI]) == usual | {WED: "third", FRI: "third"}


def test_a_session_that_all_have_refused_has_no_provider() -> None:
    assert chosen(route(FILES, POLYGON), files=WEEK, polygon=[MON, FRI]) == days_of("polygon", TUE, WED, THU)


def test_a_running_session_refused_by_the_live_provider_goes_by_the_order() -> None:
    now = datetime(2024, 5, 9, 15, tzinfo=UTC)
    assert chosen(route(POLYGON, TRADIER), now, tradier=[THU])[THU] == "polygon"
    assert THU not in chosen(route(POLYGON, TRADIER), now, tradier=[THU], polygon=[THU])


def test_a_session_that_is_due_may_come_from_the_live_provider_where_the_others_refused_it() -> None:
    assert chosen(route(POLYGON, TRADIER), polygon=[WED])[WED] == "tradier"


def test_a_session_is_due_as_the_first_that_serves_it_says() -> None:
    of = route(Source("files", MON, TUE, Settle("day", timedelta(hours=11))), POLYGON, TRADIER)
    rows = XNYS.rows_between(MON, FRI)
    # A day of New York ends at 04:00 UTC of the next.
    expected = [datetime(2024, 5, 7, 15, tzinfo=UTC), datetime(2024, 5, 8, 15, tzinfo=UTC)]
    expected += [datetime(2024, 5, day, 4, 15, tzinfo=UTC) for day in (9, 10, 11)]
    assert of.due_at()[rows].tolist() == [to_micros(moment) for moment in expected]
    alone = route(TRADIER).due_at()[rows].tolist()
    assert alone == [to_micros(datetime(2024, 5, day, 0, 15, tzinfo=UTC)) for day in range(7, 12)]


def test_what_is_refused_does_not_change_when_a_session_is_due() -> None:
    """Else a session would be due earlier because the provider that settles later has failed."""
    of = route(FILES, TRADIER)
    now = datetime(2024, 5, 10, 4, 30, tzinfo=UTC)  # Tradier's Thursday is settled, the files' is not
    assert chosen(of, now, files=[THU])[THU] == "tradier"
    row = XNYS.rows_between(THU, THU).start
    assert int(of.due_at()[row]) == to_micros(datetime(2024, 5, 10, 15, tzinfo=UTC))


def test_a_session_counts_as_served_where_its_day_begins_inside_of_the_window() -> None:
    start = XNYS.days_window(WED, WED).start

    class Cut(Source):
        def served(self, instrument: Instrument, timeframe: Base, sessions: Sessions) -> Served:
            return Served(Window(XNYS.days_window(MON, MON).start + 1, start + 1), "from a microsecond into Monday on")

    assert chosen(route(Cut("cut"))) == days_of("cut", TUE, WED)


def test_the_lifetime_is_the_first_that_is_known() -> None:
    known = Lifetime(date(1980, 12, 12), None)
    router = Router([Source("silent"), Source("knows", known=known), Source("too", known=Lifetime(None, MON))])
    assert router.lifetime("ABC") == (known, "knows")
    assert Router([Source("silent")]).lifetime("ABC") is None
