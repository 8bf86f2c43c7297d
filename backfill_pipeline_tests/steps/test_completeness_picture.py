"""The picture, read back pixel by pixel; the table, cell by cell."""

from __future__ import annotations

import base64
import io
import itertools
from datetime import date

import numpy as np
import pytest
from PIL import Image

from backfill_pipeline.steps.completeness_picture import _LOOK, MOST_SYMBOLS, as_markdown, picture, table, worst_first
from backfill_pipeline.storage.session_states import COMPLETE, MISSING, NOT_WANTED, SessionStates
from backfill_pipeline.storage.status import Completeness

FIRST = date(2024, 3, 1)
# Machado, Oliveira, Fernandes 2009, severity 1.0: what protanopes and deuteranopes see of linear RGB.
SIGHTS = {
    "all cones": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "grey print": np.tile([0.2126, 0.7152, 0.0722], (3, 1)),
}


def states(count: int, days: int = 90, seed: int = 1) -> SessionStates:
    codes = np.random.default_rng(seed).integers(0, len(_LOOK), (count, days)).astype(np.uint8)
    return SessionStates(tuple(f"S{i:03}" for i in range(count)), FIRST, codes)


def pixels(of: SessionStates) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.array(Image.open(io.BytesIO(picture(of, "a title"))).convert("RGB"))


def rgb(colour: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


@pytest.mark.parametrize("count", [1, 20, 100])
def test_every_cell_has_the_colour_of_its_state(count: int) -> None:
    of = states(count)
    image = pixels(of).astype(int)
    # The frame is the only long run of its grey: its corners are those of the cells.
    frame = np.abs(image - 0x88).sum(axis=2) < 24
    rows, columns = np.flatnonzero(frame.mean(axis=1) > 0.5), np.flatnonzero(frame.mean(axis=0) > 0.15)
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    for i, j in itertools.product(range(count), range(90)):
        y = int(top + (bottom - top) * (i + 0.5) / count)
        x = int(left + (right - left) * (j + 0.5) / 90)
        expected = rgb(_LOOK[int(of.codes[i, j])][0])
        assert np.abs(image[y, x] - expected).max() < 16, (i, j, image[y, x], expected)


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_are_told_apart_by_every_reader(sight: str) -> None:
    linear = {code: ((rgb(colour) / 255) ** 2.2) for code, (colour, _) in _LOOK.items()}
    seen = {code: np.clip(SIGHTS[sight] @ colour, 0, 1) ** (1 / 2.2) for code, colour in linear.items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 0.18, (one, other)


def test_a_hundred_symbols_fit_and_stay_small() -> None:
    png = picture(states(100), "a title")
    assert len(png) < 150_000
    width, height = Image.open(io.BytesIO(png)).size
    assert (width, height) == (1100, height)
    assert 14 * 100 < height < 18 * 100, "rows of 15 pixels, which small text fits in"


def test_names_with_marks_of_formulas_or_strange_letters_are_shown_as_they_are_or_not_at_all() -> None:
    of = SessionStates(("A$B$C", "x_{1}", "株", "V" * 64), FIRST, np.full((4, 90), COMPLETE, dtype=np.uint8))
    assert len(picture(of, "a title")) > 1000


def test_of_more_symbols_those_that_lack_most_are_shown_in_their_order() -> None:
    codes = np.full((MOST_SYMBOLS + 50, 90), NOT_WANTED, dtype=np.uint8)
    codes[40:140, 3] = MISSING
    of = SessionStates(tuple(f"S{i:03}" for i in range(len(codes))), FIRST, codes)
    assert worst_first(of).symbols == of.symbols[40:140]
    few = states(3)
    assert worst_first(few) is few


def test_markdown_holds_the_picture_itself() -> None:
    text = as_markdown(b"png", "sessions")
    assert text == f"![sessions](data:image/png;base64,{base64.b64encode(b'png').decode()})"


def _row(symbol: str, timeframe: str, stored: int, explained: int, missing: int, not_due: int = 0) -> Completeness:
    expected = stored + explained + missing + not_due
    due = expected - not_due
    percent = (due - missing) * 1_000_000 // due / 10_000 if due else None
    return Completeness(symbol, timeframe, FIRST, FIRST, expected, stored, explained, missing, not_due, percent)


def test_the_table_has_a_row_per_symbol_and_says_what_is_stored_and_complete() -> None:
    rows = [
        _row("AAPL", "1m", 780, 0, 0),
        _row("AAPL", "1d", 1, 0, 1),
        _row("THIN", "1m", 48, 342, 0),
        _row("THIN", "5m", 0, 0, 0, 78),
        _row("WIDE", "1m", 9_999_999, 0, 1, 390),
    ]
    assert table(rows).splitlines()[2:] == [
        "| `AAPL` | 100 | · | · | · | · | · | **50.00** −1 | · |",
        "| `THIN` | 100 (stored 12.31) | not due | · | · | · | · | · | · |",
        "| `WIDE` | **99.99** −1 | · | · | · | · | · | · | · |",
    ]


def test_of_a_long_table_those_that_lack_most_are_kept() -> None:
    rows = [_row(f"S{i:03}", "1d", 10, 0, int(i >= 10)) for i in range(MOST_SYMBOLS + 10)]
    lines = table(rows).splitlines()
    assert (lines[2].split()[1], len(lines)) == ("`S010`", 2 + MOST_SYMBOLS + 2)
    assert lines[-1] == "100 of 110 symbols, those that lack most; all of them: `backfill matrix`."
