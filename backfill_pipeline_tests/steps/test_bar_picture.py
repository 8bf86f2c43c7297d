"""Pictures of bars and features, read back pixel by pixel."""

from __future__ import annotations

import io
import time
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from backfill_pipeline.domain.bars import Bars
from backfill_pipeline.domain.grain import period_of
from backfill_pipeline.domain.sessions import load_sessions
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import MINUTE, to_datetime, to_micros
from backfill_pipeline.steps.bar_picture import DOWN, UP, bar_picture, heading, shown_window
from backfill_pipeline.steps.canvas import HEIGHT, WIDTH, _round
from backfill_pipeline.steps.feature_picture import CLOSE, LONG, OTHER, SHORT, SHOWN, feature_picture

OPEN = to_micros(datetime(2024, 5, 14, 13, 30, tzinfo=UTC))
# The price panel's rows of pixels, away from its frame.
PRICES = slice(31, 235)


def bars(closes: npt.ArrayLike, volume: float = 1000.0) -> Bars:
    """Minutes that open at the close before, without wicks."""
    close = np.asarray(closes, dtype=float)
    opens = np.concatenate([close[:1], close[:-1]])
    n = len(close)
    ts = OPEN + MINUTE * np.arange(n, dtype=np.int64)
    high, low = np.maximum(opens, close), np.minimum(opens, close)
    return Bars(ts, opens, high, low, close, np.full(n, volume), close, np.ones(n, np.int64), np.ones(n, dtype=bool))


def wandering(count: int) -> Bars:
    return bars(100 * np.exp(np.random.default_rng(1).normal(0, 0.001, count).cumsum()))


def pixels(png: bytes) -> npt.NDArray[np.int64]:
    image = Image.open(io.BytesIO(png))
    assert image.size == (WIDTH, HEIGHT)
    return np.array(image.convert("RGB")).astype(np.int64)


def painted(image: npt.NDArray[np.int64], colour: str) -> npt.NDArray[np.bool_]:
    """Where the picture has a colour, as near as its palette comes."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    found: npt.NDArray[np.bool_] = np.abs(image - wanted).max(axis=2) < 24
    return found


def features(of: Bars, **values: float) -> bytes:
    lines = {name: np.full(len(of), values.get(name, np.nan)) for name in SHOWN}
    return feature_picture("AAPL", "1m", of.ts, of.close, lines)


def test_rising_bars_are_green_and_falling_ones_red() -> None:
    rising = pixels(bar_picture("AAPL", "1m", bars(np.arange(100, 150))))
    falling = pixels(bar_picture("AAPL", "1m", bars(np.arange(150, 100, -1))))

    assert painted(rising, UP).sum() > 5000
    assert painted(rising, DOWN).sum() == 0
    # The first one opens where it closes, which is no fall.
    assert painted(falling, DOWN).sum() > 30 * painted(falling, UP)[PRICES].sum() > 0


def test_a_higher_price_stands_higher_and_a_later_one_further_right() -> None:
    image = pixels(bar_picture("AAPL", "1m", bars([100, 101, 100, 100, 103, 100])))

    rows, columns = np.nonzero(painted(image, UP)[PRICES])
    early, late = columns < WIDTH / 2, columns > WIDTH / 2
    assert rows[late].min() < rows[early].min(), "103 above 101"
    # From 100 to 103 is three times as far as from 100 to 101.
    tall, small = np.ptp(rows[late]) + 1, np.ptp(rows[early]) + 1
    assert tall / small == pytest.approx(3, rel=0.05)


def test_volume_is_drawn_from_zero() -> None:
    one = wandering(40)
    half = Bars(*(getattr(one, name) for name in ("ts", "open", "high", "low", "close")), one.volume.copy(), *(
        getattr(one, name) for name in ("vwap", "trades", "final")
    ))  # fmt: skip
    half.volume[20:] /= 2
    image = pixels(bar_picture("AAPL", "1m", half))
    below = (painted(image, UP) | painted(image, DOWN))[252 : HEIGHT - 27]
    heights = below.sum(axis=0)
    middle = 72 + (WIDTH - 84) // 2
    assert heights[:middle].max() == pytest.approx(2 * heights[middle + 3 :].max(), abs=3)


@pytest.mark.parametrize("count", [1, 2, 390, 3000, 8190])
def test_any_number_of_bars_makes_a_small_picture_quickly(count: int) -> None:
    of = wandering(count)
    bar_picture("AAPL", "1m", of)  # fonts are loaded once
    begun = time.process_time()
    png = bar_picture("AAPL", "1m", of)
    lines = dict.fromkeys(SHOWN, of.close + 0.1) | {"rsi_14": np.linspace(0, 100, count)}
    other = feature_picture("AAPL", "1m", of.ts, of.close, lines)
    assert time.process_time() - begun < 0.5
    # As text in an event of Dagster's log both are a third larger.
    assert max(len(png), len(other)) * 4 / 3 < 30_000
    image = pixels(png)
    assert (painted(image, UP) | painted(image, DOWN))[PRICES].any()


def test_candles_of_many_bars_keep_the_extremes() -> None:
    prices = np.full(3000, 100.0)
    prices[1234] = 200.0
    one = pixels(bar_picture("AAPL", "1m", bars(prices)))
    # One column in the middle reaches from 100 up to 200, over most of the panel.
    tall = (painted(one, UP) | painted(one, DOWN))[PRICES].sum(axis=0)
    assert tall.max() > 180
    assert np.argmax(tall) == pytest.approx(72 + (WIDTH - 84) * 1234 / 3000, abs=5)


@pytest.mark.parametrize("price", [1e-8, 1.0, 70_000.0])
def test_a_price_that_never_moves_is_drawn_in_the_middle(price: float) -> None:
    image = pixels(bar_picture("X:BTCUSD", "1m", bars(np.full(50, price), volume=0.0)))
    rows = np.nonzero(painted(image, UP)[PRICES])[0]
    assert rows.mean() == pytest.approx(102, abs=2)


def test_every_feature_has_its_line_and_missing_ones_have_none() -> None:
    of = wandering(60)
    full = pixels(features(of, sma_20=100.5, sma_50=99.5, bollinger_pct_20=0.5, rsi_14=50.0))
    none = pixels(features(of))
    # To the right of the names, which are always there.
    for rows, colour in ((PRICES, SHORT), (PRICES, LONG), (slice(200, 260), SHORT), (slice(275, 330), OTHER)):
        assert painted(full, colour)[rows, 300:].any()
        assert not painted(none, colour)[rows, 300:].any()
    assert painted(none, CLOSE)[PRICES, 300:].any()
    # Beside the name of an empty panel stands why it is empty.
    beside_rsi = (slice(276, 288), slice(130, 300))
    assert painted(none, OTHER)[beside_rsi].any()
    assert not painted(full, OTHER)[beside_rsi].any()


def test_names_that_the_font_does_not_have_do_no_harm() -> None:
    assert bar_picture("株$x_{1}" + "V" * 60, "1m", wandering(3))


@pytest.mark.parametrize(
    ("timeframe", "first", "last", "text"),
    [
        ("1m", "2024-05-14T13:30Z", "2024-05-14T13:30Z", "A 1m  2024-05-14 13:30 UTC"),
        ("1m", "2024-05-14T13:30Z", "2024-05-14T19:59Z", "A 1m  2024-05-14 13:30 to 19:59 UTC"),
        ("4h", "2024-05-14T17:30Z", "2024-05-15T13:30Z", "A 4h  2024-05-14 17:30 to 2024-05-15 13:30 UTC"),
        # Midnights of New York, in winter and in summer, and of Tokyo.
        ("1d", "2024-01-02T05:00Z", "2024-05-14T04:00Z", "A 1d  2024-01-02 to 2024-05-14"),
        ("1d", "2024-01-01T15:00Z", "2024-01-03T15:00Z", "A 1d  2024-01-02 to 2024-01-04"),
    ],
)
def test_the_heading_says_which_bars(timeframe: Timeframe, first: str, last: str, text: str) -> None:
    ts = np.array([to_micros(datetime.fromisoformat(moment)) for moment in (first, last)])
    assert heading("A", timeframe, ts) == text


@pytest.mark.parametrize(
    ("low", "high", "most", "values", "decimals"),
    [
        (179.0, 183.2, 7, [179, 180, 181, 182, 183], 0),
        (0.000011, 0.000019, 5, [1.2e-5, 1.4e-5, 1.6e-5, 1.8e-5], 6),
        (0.0, 95_000.0, 2, [0, 50_000], 0),
    ],
)
def test_ticks_stand_at_round_values(low: float, high: float, most: int, values: list[float], decimals: int) -> None:
    found = _round(low, high, most)
    assert found[0] == pytest.approx(values)
    assert found[1] == decimals


def test_coarse_bars_are_shown_with_days_before_and_minutes_alone() -> None:
    sessions = load_sessions("XNYS", date(2024, 12, 31))
    day = period_of(date(2024, 5, 14), "day")
    starts = {tf: to_datetime(shown_window(sessions, tf, day).start).date() for tf in ("1m", "1h", "4h")}  # type: ignore[arg-type]  # literals
    assert starts == {"1m": date(2024, 5, 14), "1h": date(2024, 4, 17), "4h": date(2024, 2, 14)}
    month = period_of(date(2024, 5, 14), "month")
    assert to_datetime(shown_window(sessions, "1m", month).start).date() == date(2024, 5, 1)
