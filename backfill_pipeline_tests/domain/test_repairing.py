"""Which runs are started: nothing twice, nothing in somebody's hands, nothing forgotten, in few ranges."""

from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_pipeline.domain.grain import Period, period_of, periods_between
from backfill_pipeline.domain.repairing import Limits, Observation, Plan, Slot, Stretch, plan_runs
from backfill_pipeline.domain.timeframe import ChainName

FIRST = date(2024, 5, 1)
SYMBOLS = ("AAPL", "IBM", "X:BTCUSD")


def day(number: int) -> Period:
    return period_of(FIRST + timedelta(days=number), "day")


def due(symbol: str, *days: int, attempt: int = 1, chain: ChainName = "intraday") -> list[Slot]:
    return [Slot(symbol, chain, day(number), attempt) for number in days]


def spans(runs: tuple[tuple[Stretch, ...], ...]) -> list[list[tuple[str, int, int, int]]]:
    """Symbol, first and last day, partitions of each stretch, run by run."""
    return [[(s.symbol, (s.first - FIRST).days, (s.last - FIRST).days, s.partitions) for s in run] for run in runs]


def test_neighbours_and_what_lies_apart_are_one_range_of_one_run() -> None:
    plan = plan_runs(Observation(due=[*due("AAPL", 0, 1, 9), *due("IBM", 3)]), Limits())
    assert spans(plan.repairs) == [[("AAPL", 0, 9, 3), ("IBM", 3, 3, 1)]]
    assert plan.left == ()


def test_nothing_to_do_is_no_run() -> None:
    assert plan_runs(Observation(busy={("AAPL", "intraday"): {day(1): "run 1"}}), Limits()) == Plan()


def test_a_partition_in_a_runs_hands_waits_and_parts_the_range() -> None:
    busy = {("AAPL", "intraday"): {day(4): "run 1 is at it", day(20): "run 2 is at it"}}
    plan = plan_runs(Observation(due=[*due("AAPL", 1, 4, 7), *due("IBM", 1, 4, 7)], busy=busy), Limits())
    assert spans(plan.repairs) == [[("AAPL", 7, 7, 1), ("IBM", 1, 7, 3), ("AAPL", 1, 1, 1)]]
    assert [(left.slot.period, left.why) for left in plan.left] == [(day(4), "run 1 is at it")]


def test_a_busy_partition_between_two_that_need_a_run_parts_them_too() -> None:
    busy = {("AAPL", "intraday"): {day(4): "run 1 is at it"}}
    plan = plan_runs(Observation(due=due("AAPL", 3, 5), busy=busy), Limits())
    assert spans(plan.repairs) == [[("AAPL", 5, 5, 1), ("AAPL", 3, 3, 1)]]


def test_the_other_chain_of_a_symbol_in_flight_is_free() -> None:
    month = period_of(FIRST, "month")
    busy = {("AAPL", "intraday"): {day(0): "run 1 is at it"}}
    plan = plan_runs(Observation(due=[Slot("AAPL", "daily", month)], busy=busy), Limits())
    assert [str(stretch) for run in plan.repairs for stretch in run] == ["AAPL daily 2024-05-01..2024-05-31 attempt 1"]


def test_the_attempt_of_a_range_is_its_highest() -> None:
    slots = [*due("AAPL", 0, attempt=3), *due("AAPL", 1), *due("AAPL", 0, attempt=2)]
    plan = plan_runs(Observation(due=slots), Limits())
    assert [(s.attempt, s.partitions) for run in plan.repairs for s in run] == [(3, 2)]


def test_what_is_beyond_the_limits_is_left_for_the_next_time_the_oldest_first() -> None:
    plan = plan_runs(Observation(due=due("AAPL", *range(10))), Limits(runs=2, partitions=4))
    assert spans(plan.repairs) == [[("AAPL", 8, 9, 2)], [("AAPL", 4, 7, 4)]]
    assert {left.slot.period for left in plan.left} == {day(number) for number in range(4)}
    assert {left.why for left in plan.left} == {"no more than 2 runs are started at once"}


def test_a_verification_takes_its_own_partitions_and_no_others_and_none_that_are_repaired_now() -> None:
    stale = [*due("AAPL", 0, 1, 9), *due("IBM", 2, 5)]
    plan = plan_runs(Observation(due=due("IBM", 1, 4), stale=stale), Limits())
    assert spans(plan.repairs) == [[("IBM", 1, 4, 2)]]
    assert spans(plan.verifications) == [[("AAPL", 9, 9, 1), ("IBM", 5, 5, 1), ("AAPL", 0, 1, 2)]]
    assert [(left.slot.period, left.why) for left in plan.left] == [(day(2), "a repair of it starts now")]


def test_what_was_asked_for_a_moment_ago_is_not_asked_for_again_but_may_be_verified() -> None:
    resting = {("AAPL", "intraday"): {day(1): "asked for within the hour"}}
    plan = plan_runs(Observation(due("AAPL", 0, 1, 2), due("AAPL", 1), resting=resting), Limits())
    assert spans(plan.repairs) == [[("AAPL", 2, 2, 1), ("AAPL", 0, 0, 1)]]
    assert spans(plan.verifications) == [[("AAPL", 1, 1, 1)]]
    assert [left.why for left in plan.left] == ["asked for within the hour"]


slots = st.builds(
    Slot,
    st.sampled_from(SYMBOLS),
    st.just("intraday"),
    st.builds(day, st.integers(0, 25)),
    st.integers(1, 4),
)
busy_days = st.dictionaries(
    st.tuples(st.sampled_from(SYMBOLS), st.just("intraday")),
    st.dictionaries(st.builds(day, st.integers(0, 25)), st.just("run 1 is at it"), max_size=8),
)
limits = st.builds(Limits, st.integers(1, 4), st.integers(1, 9))


@given(st.lists(slots), st.lists(slots), busy_days, limits, st.randoms())
def test_laws(wanted, stale, busy, most, random) -> None:  # type: ignore[no-untyped-def]  # as drawn above
    plan = plan_runs(Observation(wanted, stale, busy), most)

    taken: Counter[tuple[str, Period]] = Counter()
    for run in (*plan.repairs, *plan.verifications):
        assert 0 < sum(stretch.partitions for stretch in run) <= most.partitions
        for stretch in run:
            mine = periods_between(stretch.first, stretch.last, "day")
            taken.update((stretch.symbol, period) for period in mine)
            assert not set(mine) & set(busy.get(stretch.place, ()))
    assert set(taken.values()) <= {1}, "no two ranges share a day"
    assert len(plan.repairs) <= most.runs
    assert len(plan.verifications) <= most.runs

    left = {(left.slot.place, left.slot.period) for left in plan.left}
    asked = [stretch for run in plan.repairs for stretch in run]
    told = [stretch for run in plan.verifications for stretch in run]
    for needs, ranges in ((wanted, asked), (stale, told)):
        for slot in needs:
            inside = any(one.place == slot.place and one.holds(slot.period) for one in ranges)
            assert inside or (slot.place, slot.period) in left
            assert not inside or slot.period not in busy.get(slot.place, ())
    for stretch in asked:
        inside = {slot.period for slot in wanted if slot.place == stretch.place and stretch.holds(slot.period)}
        assert stretch.partitions == len(inside)
        assert {stretch.first, stretch.last} == {min(inside).first, max(inside).last}
    assert sum(stretch.partitions for stretch in told) == sum((s.last - s.first).days + 1 for s in told)

    random.shuffle(wanted)
    random.shuffle(stale)
    assert plan_runs(Observation(wanted, stale, dict(reversed(busy.items()))), most) == plan


@pytest.mark.parametrize("grain", ["week", "month"])
def test_any_grain_is_planned_alike(grain) -> None:  # type: ignore[no-untyped-def]  # a Grain
    periods = periods_between(date(2024, 1, 1), date(2024, 6, 30), grain)
    plan = plan_runs(Observation(stale=[Slot("AAPL", "daily", period) for period in periods]), Limits())
    assert [(s.first, s.last, s.partitions) for run in plan.verifications for s in run] == [
        (periods[0].first, periods[-1].last, len(periods))
    ]
