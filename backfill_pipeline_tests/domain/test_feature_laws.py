"""What holds for the features of any bars: cutting, splits, restatements, looking back only."""

import dataclasses
from datetime import date

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backfill_pipeline.domain.adjust import Split, apply_factors, split_basis, split_factors
from backfill_pipeline.domain.features import FEATURES, WARM_UP, FeatureInput, compute_blocks, compute_features
from backfill_pipeline_tests.domain.feature_bars import bars, flat_bars, same_bits

N = 2600
BLOCK = 300
BLOCKS = np.arange(N) // BLOCK + 7  # numbers need not start at 0
SESSIONS = np.datetime64("2001-01-01") + np.arange(N)
PRICE_UNIT = {feature.name for feature in FEATURES if feature.price_unit}

# The worst that rsi_14 can meet: half the price up and down and up, then nothing but one move of 1.1e-9 of the
# price in the warm-up of the block at bar 2400, then 399 bars without any, which end in that block.
LAST_TICK = np.full(N, 40.0)
LAST_TICK[: 2400 - WARM_UP : 2] = 80.0
LAST_TICK[2010:] += 40 * 1.1e-9

seeds = st.integers(0, 2**32 - 1)
ratios = st.sampled_from([2.0, 3.0, 4.0, 1.5, 0.1, 1 / 3, 7 / 3, 1.0023, 0.05, 20.0])
law = settings(deadline=None, max_examples=25)


@st.composite
def histories(draw: st.DrawFn) -> FeatureInput:
    x = bars(N, draw(seeds), intraday=draw(st.booleans()), missing=draw(st.sampled_from([0.0, 0.02, 0.4])))
    days = draw(st.lists(st.integers(1, N - 1), max_size=4, unique=True))
    splits = [Split(SESSIONS[day].astype(date), draw(ratios)) for day in days]
    return on_own_basis(x, splits)


def on_own_basis(x: FeatureInput, splits: list[Split]) -> FeatureInput:
    """The same shares with these splits: unadjusted bars as stored."""
    basis = split_basis(SESSIONS[: x.close.size], splits)
    prices = {name: getattr(x, name) / basis for name in ("high", "low", "close", "vwap")}
    return dataclasses.replace(x, **prices, volume=x.volume * basis, basis=basis if splits else None)


def cut(x: FeatureInput, start: int, stop: int, basis: NDArray[np.float64] | None) -> FeatureInput:
    fields = ("high", "low", "close", "volume", "vwap", "adjacent", "session_first")
    return dataclasses.replace(x, **{name: getattr(x, name)[start:stop] for name in fields}, basis=basis)


@law
@given(histories(), st.data())
def test_any_cutting_of_history_gives_the_same_bits(x: FeatureInput, data: st.DataObject) -> None:
    whole = compute_blocks(x, BLOCKS, 0)
    first = data.draw(st.integers(0, N // BLOCK), label="first block")
    last = data.draw(st.integers(first, N // BLOCK), label="last block")
    begin, stop = first * BLOCK, min(N, (last + 1) * BLOCK)
    start = data.draw(st.integers(0, max(0, begin - WARM_UP)), label="first bar read")
    basis = None
    if x.basis is not None:  # what another reader makes of the splits it sees: counted from its own first bar
        steps = x.basis[1:] / x.basis[:-1]
        basis = np.cumprod(np.concatenate(([1.0], steps[start : stop - 1])))
    part = compute_blocks(cut(x, start, stop, basis), BLOCKS[start:stop], first + 7)
    assert same_bits(part, {name: values[begin:stop] for name, values in whole.items()})


@law
@given(histories())
@example(dataclasses.replace(bars(N), close=np.r_[bars(1700).close, np.full(900, 40.0)]))
@example(flat_bars(np.r_[bars(300).close, np.full(N - 300, 40.0)], bars(N).volume))
@example(flat_bars(LAST_TICK, bars(N).volume))
def test_one_pass_over_everything_agrees_with_blocks_to_ten_digits(x: FeatureInput) -> None:
    blocks, whole = compute_blocks(x, BLOCKS, 0), compute_features(x)
    for name, values in blocks.items():
        scale = x.close if name in PRICE_UNIT else np.maximum(np.abs(whole[name]), 1e-3)
        assert np.array_equal(np.isnan(values), np.isnan(whole[name])), name
        assert np.nanmax(np.abs(values - whole[name]) / scale) < 1e-10, name


@law
@given(seeds, st.lists(st.integers(1, 699), min_size=1, max_size=3, unique=True), st.data())
def test_features_of_adjusted_bars_are_adjusted_features(seed: int, days: list[int], data: st.DataObject) -> None:
    sessions = SESSIONS[:700]
    splits = [Split(SESSIONS[day].astype(date), data.draw(ratios)) for day in days]
    stored = on_own_basis(bars(700, seed), splits)
    factors = split_factors(sessions, splits)
    prices = {name: getattr(stored, name) for name in ("high", "low", "close", "vwap", "volume")}
    adjusted = dataclasses.replace(stored, **apply_factors(prices, factors), basis=None)
    left, right = compute_features(adjusted), apply_factors(compute_features(stored), factors)
    for name in left:
        scale = adjusted.close if name in PRICE_UNIT else np.maximum(np.abs(left[name]), 1e-3)
        assert np.array_equal(np.isnan(left[name]), np.isnan(right[name])), name
        assert np.nanmax(np.abs(left[name] - right[name]) / scale) < 1e-9, name


@pytest.mark.parametrize(("price", "ratio"), [(1.21, 7 / 3), (1.36, 1 / 3)])
def test_a_split_of_a_price_that_stands_still_is_no_move_for_rsi(price: float, ratio: float) -> None:
    assert price / ratio * ratio != price  # so on one basis the price moves by a rounding error
    stored = on_own_basis(flat_bars(np.full(900, price)), [Split(SESSIONS[30].astype(date), ratio)])
    assert np.all(compute_features(stored)["rsi_14"][14:] == 0)


@law
@given(histories(), st.integers(1, N - 1), ratios)
def test_a_new_split_changes_nothing_before_its_ex_date(x: FeatureInput, day: int, ratio: float) -> None:
    basis = np.ones(N) if x.basis is None else x.basis.copy()
    basis[day:] *= ratio
    before, after = compute_blocks(x, BLOCKS, 0), compute_blocks(dataclasses.replace(x, basis=basis), BLOCKS, 0)
    assert same_bits({k: v[:day] for k, v in before.items()}, {k: v[:day] for k, v in after.items()})
    assert after["return_pct"][day] != before["return_pct"][day] or not x.adjacent[day]


@law
@given(histories(), st.integers(0, N - 1))
def test_a_restated_bar_changes_nothing_before_it(x: FeatureInput, place: int) -> None:
    changed = {name: getattr(x, name).copy() for name in ("high", "low", "close", "volume", "vwap")}
    for values in changed.values():
        values[place] *= 1.25
    before, after = compute_blocks(x, BLOCKS, 0), compute_blocks(dataclasses.replace(x, **changed), BLOCKS, 0)
    assert same_bits({k: v[:place] for k, v in before.items()}, {k: v[:place] for k, v in after.items()})
    assert after["ema_12"][place:].tolist() != before["ema_12"][place:].tolist() or place < 11


@law
@given(histories(), st.integers(1, N))
def test_later_bars_are_never_seen(x: FeatureInput, n: int) -> None:
    short = cut(x, 0, n, None if x.basis is None else x.basis[:n])
    whole = compute_blocks(x, BLOCKS, 0)
    assert same_bits(compute_blocks(short, BLOCKS[:n], 0), {name: values[:n] for name, values in whole.items()})


def test_a_split_leaves_no_jump_in_returns_and_scales_averages() -> None:
    plain = bars(200)
    stored = on_own_basis(plain, [Split(SESSIONS[100].astype(date), 4.0)])
    ours, unsplit = compute_features(stored), compute_features(plain)
    np.testing.assert_allclose(ours["return_pct"], unsplit["return_pct"], rtol=1e-12, atol=1e-15)
    for name in PRICE_UNIT:
        np.testing.assert_allclose(ours[name][:100], unsplit[name][:100], rtol=1e-12)
        np.testing.assert_allclose(ours[name][100:], unsplit[name][100:] / 4, rtol=1e-9, atol=1e-12)
