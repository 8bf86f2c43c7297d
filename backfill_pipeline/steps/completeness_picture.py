"""Completeness to look at: a heat map of symbols × days as PNG, and a Markdown table of symbols × timeframes.

What to show is passed in. The colours differ in lightness too: readers who see no red or no green tell them apart.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from backfill_pipeline.domain.timeframe import TIMEFRAMES
from backfill_pipeline.storage.session_states import CLOSED, COMPLETE, MISSING, NOT_DUE, NOT_WANTED, SessionStates
from backfill_pipeline.storage.status import Completeness

# Rows of a picture or table; beyond it the least complete symbols are shown.
MOST_SYMBOLS = 100

_LOOK: dict[int, tuple[str, str]] = {
    COMPLETE: ("#52b196", "complete"),
    MISSING: ("#b73c00", "bars missing"),
    NOT_DUE: ("#e8b92e", "not due yet"),
    CLOSED: ("#dcdcdc", "closed"),
    NOT_WANTED: ("#ffffff", "not wanted"),
}
# Inches. Rows shrink from 0.3 to 0.15 as they become many, which 7 points of text still fit in.
_WIDTH, _DPI = 11.0, 100
_TOP, _BOTTOM = 0.75, 0.35
# Characters of a symbol that is shown.
_LONGEST = 24
# More rows than these have their dates above, too.
_TALL = 30


def worst_first(states: SessionStates, most: int = MOST_SYMBOLS) -> SessionStates:
    """All of the symbols, or the `most` with the most days that lack bars; alphabetical as before."""
    if len(states.symbols) <= most:
        return states
    lacking = (states.codes == MISSING).sum(axis=1)
    chosen = np.sort(np.argsort(-lacking, kind="stable")[:most])
    return SessionStates(tuple(states.symbols[i] for i in chosen.tolist()), states.first, states.codes[chosen])


def picture(states: SessionStates, title: str) -> bytes:
    """A PNG: symbols down, days across. `states`: 1 to MOST_SYMBOLS symbols."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    count, days = states.codes.shape
    row = float(np.clip(3.0 / count, 0.15, 0.3))
    top = _TOP + (0.2 if count > _TALL else 0)
    height = top + _BOTTOM + row * count
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI)
    labels = [_label(symbol) for symbol in states.symbols]
    left = 0.25 + 0.085 * max(map(len, labels))
    box = (left / _WIDTH, _BOTTOM / height, (_WIDTH - left - 0.2) / _WIDTH, row * count / height)
    axes = figure.add_axes(box)
    colours = ListedColormap([_LOOK[code][0] for code in range(len(_LOOK))])
    axes.imshow(
        states.codes,
        cmap=colours,
        vmin=-0.5,
        vmax=len(_LOOK) - 0.5,
        aspect="auto",
        interpolation="nearest",
        extent=(0, days, count, 0),
    )
    axes.vlines(np.arange(1, days), 0, count, color="white", linewidth=0.6)
    axes.hlines(np.arange(1, count), 0, days, color="white", linewidth=0.6)
    axes.set_yticks(np.arange(count) + 0.5, labels, fontsize=7 if row < 0.2 else 9, parse_math=False)
    mondays = [i for i in range(days) if (states.first + timedelta(days=i)).weekday() == 0]
    dates = [f"{day:%b} {day.day}" for day in (states.first + timedelta(days=i) for i in mondays)]
    axes.set_xticks(np.array(mondays) + 0.5, dates, fontsize=8)
    axes.tick_params(length=2, color="#888888", top=count > _TALL, labeltop=count > _TALL)
    for spine in axes.spines.values():
        spine.set_color("#888888")
    figure.text(left / _WIDTH, 1 - 0.22 / height, title, fontsize=11, va="center")
    handles = [Patch(facecolor=colour, edgecolor="#888888", label=label) for colour, label in _LOOK.values()]
    figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(left / _WIDTH, 1 - 0.52 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.2,
    )
    FigureCanvasAgg(figure)
    return _small_png(figure)


def _label(symbol: str) -> str:
    """What the font has of it, and not too long."""
    text = symbol.encode("ascii", "replace").decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}.."


def _small_png(figure: object) -> bytes:
    """With a palette: a third of the size, which the event log keeps for each materialization."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")  # type: ignore[attr-defined]  # a matplotlib Figure, imported late
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(128).save(small, format="PNG", optimize=True)
    return small.getvalue()


def as_markdown(png: bytes, text: str) -> str:
    """An image with its data inside, as Dagster's UI shows it."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})"


def table(rows: Sequence[Completeness], most: int = MOST_SYMBOLS) -> str:
    """Markdown: symbols down, timeframes across; stored and complete percent of what is due, and what is missing."""
    by_symbol: dict[str, dict[str, Completeness]] = {}
    for one in rows:
        by_symbol.setdefault(one.symbol, {})[one.timeframe] = one
    lacking = {symbol: sum(cell.missing for cell in cells.values()) for symbol, cells in by_symbol.items()}
    chosen = sorted(sorted(by_symbol, key=lambda symbol: -lacking[symbol])[:most])
    lines = [f"| symbol | {' | '.join(TIMEFRAMES)} |", f"| --- |{' ---: |' * len(TIMEFRAMES)}"]
    lines += [
        f"| `{symbol}` | {' | '.join(_cell(by_symbol[symbol].get(timeframe)) for timeframe in TIMEFRAMES)} |"
        for symbol in chosen
    ]
    if len(chosen) < len(by_symbol):
        lines += [
            "",
            f"{len(chosen)} of {len(by_symbol)} symbols, those that lack most; all of them: `backfill matrix`.",
        ]
    return "\n".join(lines)


def _cell(row: Completeness | None) -> str:
    if row is None:
        return "·"
    if row.complete_pct is None:
        return "not due"
    stored = 100 * row.stored / (row.expected - row.not_due)
    complete = f"{row.complete_pct:.0f}" if not row.missing else f"**{min(row.complete_pct, 99.99):.2f}**"
    explained = f" (stored {min(stored, 99.99):.2f})" if row.explained else ""
    lacking = f" −{row.missing:,}" if row.missing else ""
    return f"{complete}{explained}{lacking}"
