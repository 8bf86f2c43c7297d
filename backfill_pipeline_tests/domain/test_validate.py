"""Every reason for which a row is refused, what is dropped and what is collapsed, and a plain classifier as oracle."""

import json
import math
from collections import defaultdict
from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_pipeline.domain.bars import Bars, make_bars, no_bars
from backfill_pipeline.domain.sessions import POST, PRE, REGULAR, load_sessions
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.validate import Validated, validate
from backfill_pipeline.domain.windows import MINUTE, Window, to_micros

XNYS = load_sessions("XNYS", date(2027, 12, 31))
DAY = XNYS.days_window(date(2024, 3, 11), date(2024, 3, 11))
GOOD = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 100.0, "vwap": 10.5, "trades": 7}
OPEN = to_micros(datetime(2024, 3, 11, 13, 30, tzinfo=UTC))
NAN, INF = math.nan, math.inf


def answer(*rows: dict[str, float]) -> Bars:
    """Rows of GOOD with what is said otherwise; `ts` is the open and a minute later for every row unless said."""
    full = [{**GOOD, "ts": OPEN + i * MINUTE, **row} for i, row in enumerate(rows)]
    order = ("ts", "open", "high", "low", "close", "volume", "vwap", "trades")
    return make_bars(*([row[name] for row in full] for name in order))


def checked(*rows: dict[str, float], timeframe: Base = "1m", asked: Window = DAY) -> Validated:
    return validate(answer(*rows), timeframe, asked, XNYS)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        pytest.param({"high": 10.9}, "high is below open or close", id="high below close"),
        pytest.param({"high": 10.5, "close": 9.5, "open": 10.6}, "high is below open or close", id="high below open"),
        pytest.param({"low": 10.1}, "low is above open or close", id="low above open"),
        pytest.param({"low": 9.6, "close": 9.5}, "low is above open or close", id="low above close"),
        *(pytest.param({name: 0.0}, "price is not positive", id=f"{name} 0") for name in ("open", "low", "close")),
        *(pytest.param({name: -1.0}, "price is not positive", id=f"{name} -1") for name in ("high", "low")),
        pytest.param({"volume": -0.5}, "volume is negative", id="volume"),
        *(
            pytest.param({name: value}, "not a number", id=f"{name} {value}")
            for name in ("open", "high", "low", "close", "volume")
            for value in (NAN, INF, -INF)
        ),
        *(pytest.param({"vwap": value}, "not a number", id=f"vwap {value}") for value in (INF, -INF)),
        pytest.param({"vwap": -0.01}, "vwap is negative", id="vwap negative"),
        pytest.param({"trades": -2}, "trades is negative", id="trades negative"),
        pytest.param({"ts": OPEN + 1}, "ts is not at the start of a minute", id="off the grid by a microsecond"),
        pytest.param({"ts": OPEN + 30_000_000}, "ts is not at the start of a minute", id="off the grid by half"),
        pytest.param(
            {"ts": DAY.end},
            "ts is outside the asked window [2024-03-11 04:00Z, 2024-03-12 04:00Z)",
            id="at the window's end",
        ),
        pytest.param(
            {"ts": DAY.start - MINUTE},
            "ts is outside the asked window [2024-03-11 04:00Z, 2024-03-12 04:00Z)",
            id="before the window",
        ),
    ],
)
def test_a_wrong_row_is_refused_with_its_reason_and_the_others_stay(wrong: dict[str, float], reason: str) -> None:
    result = checked({}, wrong, {})
    (refusal,) = result.refused
    sent = {**GOOD, "ts": OPEN + MINUTE, **wrong}
    assert (refusal.reason, refusal.ts) == (reason, sent.pop("ts"))
    # Quarantine rows are jsonb, which knows neither NaN nor infinity.
    stored = json.loads(json.dumps(refusal.row, allow_nan=False))
    assert stored == {name: value if math.isfinite(value) else str(value) for name, value in sent.items()}
    assert result.bars.ts.tolist() == [OPEN, OPEN + 2 * MINUTE]
    assert (result.outside, result.fillers) == (0, 0)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"vwap": 5.0}, id="vwap below low"),
        pytest.param({"vwap": 50.0}, id="vwap above high"),
        pytest.param({"vwap": NAN}, id="vwap unknown"),
        pytest.param({"trades": -1}, id="trades unknown"),
        pytest.param({"volume": 0.0, "trades": -1}, id="no volume, trades unknown"),
        pytest.param({"volume": 0.0, "trades": 3}, id="no volume, but trades"),
        pytest.param({"volume": 0.25}, id="fractional volume"),
        pytest.param({"high": 10.0, "low": 10.0, "close": 10.0}, id="one price"),
    ],
)
def test_an_odd_but_possible_row_is_kept_as_it_is(odd: dict[str, float]) -> None:
    result = checked(odd)
    assert result.refused == ()
    kept = {name: getattr(result.bars, name)[0] for name in GOOD}
    assert kept == pytest.approx({**GOOD, **odd}, nan_ok=True, abs=0, rel=0)


def test_an_unknown_value_is_null_in_a_refused_row() -> None:
    (refusal,) = checked({"vwap": NAN, "trades": -1, "volume": -1.0}).refused
    assert (refusal.row["vwap"], refusal.row["trades"], refusal.row["volume"]) == (None, None, -1.0)


def test_the_asked_window_holds_its_start_and_not_its_end() -> None:
    asked = Window(OPEN, OPEN + 2 * MINUTE)
    result = checked({"ts": OPEN - MINUTE}, {"ts": OPEN}, {"ts": OPEN + MINUTE}, {"ts": OPEN + 2 * MINUTE}, asked=asked)
    assert result.bars.ts.tolist() == [OPEN, OPEN + MINUTE]
    assert [refusal.ts for refusal in result.refused] == [OPEN - MINUTE, OPEN + 2 * MINUTE]


def test_a_filler_is_no_bar_and_no_refusal() -> None:
    result = checked({}, {"volume": 0.0, "trades": 0}, {"volume": 0.0, "trades": 0})
    assert (len(result.bars), result.fillers, result.refused, result.outside) == (1, 2, (), 0)


def test_bars_of_the_night_are_counted_and_dropped() -> None:
    night = [DAY.start, DAY.start + 239 * MINUTE]  # 00:00 and 03:59 New York
    trading = [DAY.start + 240 * MINUTE, DAY.end - 241 * MINUTE]  # 04:00 and 19:59
    result = checked(*({"ts": ts} for ts in [*night, *trading, DAY.end - 240 * MINUTE]))
    assert result.bars.ts.tolist() == trading
    assert (result.outside, result.refused) == (3, ())
    assert XNYS.parts.segment[result.part].tolist() == [PRE, POST]


def test_bars_of_a_closed_day_are_counted_and_dropped() -> None:
    holiday = XNYS.days_window(date(2025, 1, 9), date(2025, 1, 9))
    noon = holiday.start + 720 * MINUTE
    assert checked({"ts": noon}, asked=holiday).outside == 1
    assert checked({"ts": holiday.start}, timeframe="1d", asked=holiday).outside == 1


def test_equal_duplicates_collapse_even_where_a_value_is_unknown() -> None:
    unknown = {"ts": OPEN, "vwap": NAN, "trades": -1}
    result = checked({"ts": OPEN + MINUTE}, unknown, unknown, unknown, {"ts": OPEN + MINUTE})
    assert (result.bars.ts.tolist(), result.refused) == ([OPEN, OPEN + MINUTE], ())


@pytest.mark.parametrize(
    "other",
    [
        *(
            {"open": 10.1},
            {"high": 12.1},
            {"low": 9.1},
            {"close": 11.1},
            {"volume": 101.0},
            {"volume": 0.0, "trades": 0},
        ),
        *({"vwap": 10.6}, {"vwap": NAN}, {"trades": 8}, {"trades": -1}),
    ],
    ids=str,
)
def test_conflicting_duplicates_are_refused_all_of_them(other: dict[str, float]) -> None:
    result = checked({"ts": OPEN}, {"ts": OPEN + MINUTE}, {"ts": OPEN, **other}, {"ts": OPEN})
    assert result.bars.ts.tolist() == [OPEN + MINUTE]
    assert result.fillers == 0
    assert [refusal.ts for refusal in result.refused] == [OPEN] * 3
    assert {refusal.reason for refusal in result.refused} == {"3 rows of the same ts disagree"}
    (name, value) = next(iter(other.items()))
    rows = [refusal.row[name] for refusal in result.refused]
    unknown = (isinstance(value, float) and math.isnan(value)) or (name == "trades" and value == -1)
    assert rows == [GOOD[name], None if unknown else value, GOOD[name]]


def test_a_nonsensical_double_does_not_take_the_good_row_with_it() -> None:
    result = checked({"ts": OPEN}, {"ts": OPEN, "high": 1.0})
    assert (result.bars.ts.tolist(), [refusal.row["high"] for refusal in result.refused]) == ([OPEN], [1.0])


def test_bars_come_out_sorted_with_their_part_whatever_the_order() -> None:
    result = checked({"ts": OPEN + 390 * MINUTE}, {"ts": OPEN}, {"ts": OPEN - MINUTE})
    assert result.bars.ts.tolist() == [OPEN - MINUTE, OPEN, OPEN + 390 * MINUTE]
    assert XNYS.parts.segment[result.part].tolist() == [PRE, REGULAR, POST]


def test_a_day_is_labelled_by_its_local_midnight() -> None:
    week = XNYS.days_window(date(2024, 3, 8), date(2024, 3, 12))
    starts = XNYS.day_start[XNYS.rows_between(date(2024, 3, 8), date(2024, 3, 12))].tolist()
    result = checked(*({"ts": ts} for ts in starts), {"ts": OPEN}, timeframe="1d", asked=week)
    assert result.bars.ts.tolist() == starts
    assert XNYS.session[result.part].astype(str).tolist() == ["2024-03-08", "2024-03-11", "2024-03-12"]
    assert [refusal.reason for refusal in result.refused] == ["ts is not the start of a day in America/New_York"]


@pytest.mark.parametrize("hour", [4, 6], ids=["an hour early", "an hour late"])
def test_a_day_labelled_by_the_other_seasons_midnight_is_not_accepted(hour: int) -> None:
    friday = to_micros(datetime(2024, 3, 8, hour, tzinfo=UTC))  # midnight is 05:00Z until Sunday
    window = XNYS.days_window(date(2024, 3, 7), date(2024, 3, 8))
    assert len(checked({"ts": friday}, timeframe="1d", asked=window).bars) == 0


def test_an_empty_answer_is_valid() -> None:
    result = validate(no_bars(), "1m", DAY, XNYS)
    assert (len(result.bars), len(result.part), result.refused, result.outside, result.fillers) == (0, 0, (), 0, 0)


any_number = st.floats(allow_nan=True, allow_infinity=True)
sane_number = st.sampled_from([9.0, 10.0, 11.0, 12.0])
whole = st.integers(-(2**63), 2**63 - 1)
near = st.integers(-500, 2000).map(lambda minute: DAY.start + minute * MINUTE)
garbage = st.fixed_dictionaries(
    {
        "ts": st.one_of(near, st.sampled_from([OPEN, OPEN, OPEN + MINUTE, DAY.start, DAY.start]), near, whole),
        **{name: st.one_of(sane_number, sane_number, any_number) for name in ("open", "high", "low", "close")},
        "volume": st.one_of(st.sampled_from([0.0, 5.0]), any_number),
        "vwap": st.one_of(sane_number, any_number),
        "trades": st.one_of(st.sampled_from([0, 3, -1]), whole),
    }
)


def is_refused(row: dict[str, float], timeframe: Base, asked: Window) -> bool:
    """The rules once more, row by row and in plain words."""
    prices = [row[name] for name in ("open", "high", "low", "close")]
    if not all(math.isfinite(value) for value in [*prices, row["volume"]]) or math.isinf(row["vwap"]):
        return True
    if min(prices) <= 0 or row["volume"] < 0 or row["vwap"] < 0 or not -1 <= row["trades"] < 2**31:
        return True
    if row["high"] < max(row["open"], row["close"]) or row["low"] > min(row["open"], row["close"]):
        return True
    if not asked.start <= row["ts"] < asked.end:
        return True
    return row["ts"] % MINUTE != 0 if timeframe == "1m" else row["ts"] != DAY.start


@settings(deadline=None, max_examples=300)
@given(st.lists(garbage, max_size=12), st.sampled_from(["1m", "1d"]))
def test_no_garbage_raises_and_every_row_is_accounted_for(rows: list[dict[str, float]], timeframe: Base) -> None:
    result = checked(*rows, timeframe=timeframe)
    refused = 0
    by_ts: dict[float, list[list[float | None]]] = defaultdict(list)
    for row in rows:
        if is_refused(row, timeframe, DAY):
            refused += 1
        else:
            values = [None if math.isnan(row[name]) else row[name] for name in GOOD]
            by_ts[row["ts"]].append(values)
    kept, outside, fillers = [], 0, 0
    for ts, same in sorted(by_ts.items()):
        if any(values != same[0] for values in same):
            refused += len(same)
        elif timeframe == "1m" and not DAY.start + 240 * MINUTE <= ts < DAY.end - 240 * MINUTE:
            outside += 1
        elif same[0][4] == 0 and same[0][6] == 0:
            fillers += 1
        else:
            kept.append(ts)
    assert result.bars.ts.tolist() == kept
    assert (len(result.refused), result.outside, result.fillers) == (refused, outside, fillers)
    json.dumps([refusal.row for refusal in result.refused], allow_nan=False)
    assert bool(np.all(result.part >= 0))
