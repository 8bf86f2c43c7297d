"""Polygon's aggregates: bars of one ticker, page by page, and the grouped day of the whole market."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date, timedelta
from threading import Lock

import numpy as np

from backfill_pipeline.domain.bars import Bars, concatenate
from backfill_pipeline.domain.windows import MINUTE, Window

from .asking import Asked, oldest, parse, today_in, within_plan
from .bars import Micros, merged
from .cursors import next_url, page_cursor
from .encoding import grouped_rows_json, object_json, rows_json
from .market import Market
from .replies import Call, RefusedError, Reply, new_request_id, polygon_error, polygon_fault

GROUPED = re.compile(r"/v2/aggs/grouped/locale/us/market/stocks/(?P<day>[^/]+)")
_KEPT_SESSIONS = 1024  # of about 100 kB of text each with 960 minutes
_SPAN_MINUTES = {"minute": 1, "hour": 60}


@dataclass(frozen=True)
class Piece:
    """The base bars of one session that a page holds; `whole` when it holds all of them."""

    row: int
    bars: Bars
    whole: bool


class Aggregates:
    """Keeps the text of whole sessions, so that a page of 50,000 minutes is mostly joining."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._lock = Lock()
        self._texts: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    def answer(self, call: Call) -> Reply:
        asked = within_plan(parse(call, self._market), call, self._market)
        limit = min(asked.limit, call.options.page_limit or asked.limit)
        pieces = self._base(asked, limit)
        base = sum(len(piece.bars) for piece in pieces)
        going_on = None
        if base == limit:
            pieces, edge = self._whole_buckets(asked, pieces)
            base = sum(len(piece.bars) for piece in pieces)
            low, high = (asked.low, str(edge // 1000)) if asked.descending else (str(edge // 1000), asked.high)
            path = f"/v2/aggs/ticker/{asked.path_ticker}/range/{asked.multiplier}/{asked.span}/{low}/{high}"
            going_on = next_url(call, path, page_cursor(asked.limit, descending=asked.descending))
        rows, count = self._rows(asked, pieces)
        head = (("ticker", asked.ticker), ("queryCount", base), ("resultsCount", count), ("adjusted", asked.adjusted))
        return _reply(call, head, rows, count, going_on)

    def _base(self, asked: Asked, limit: int) -> list[Piece]:
        """Base bars in the order asked for, session by session, up to the limit; within a session ascending."""
        pieces: list[Piece] = []
        if asked.end <= asked.start:
            return pieces
        rows = self._market.rows(asked.ticker, Window(asked.start, asked.end))
        for row in reversed(rows) if asked.descending else rows:
            whole = self._session(asked, row)
            bars = whole.between(asked.start, asked.end)
            bars = bars.take(slice(-limit, None) if asked.descending else slice(limit))
            if len(bars):
                pieces.append(Piece(row, bars, len(bars) == len(whole)))
                limit -= len(bars)
            if limit == 0:
                break
        return pieces

    def _session(self, asked: Asked, row: int) -> Bars:
        if asked.of_minutes:
            return self._market.session_minutes(asked.ticker, row, adjusted=asked.adjusted)
        # A day that is not over is known up to now.
        over = int(self._market.sessions(asked.ticker).post_close[row]) <= asked.end
        return self._market.day(asked.ticker, row, adjusted=asked.adjusted, until=None if over else asked.end)

    def _whole_buckets(self, asked: Asked, pieces: list[Piece]) -> tuple[list[Piece], int]:
        """A full page without its last, perhaps cut, bucket; and the time (microseconds) that the next reaches to."""
        last = pieces[-1]
        if asked.multiplier == 1 and asked.span in ("minute", "day"):
            return pieces, self._next_edge(asked, last)
        cut = int(self._buckets(asked, last)[0 if asked.descending else -1])
        kept, newest = [], 0
        for piece in pieces:
            mine = self._buckets(asked, piece) == cut
            if not mine.all():
                kept.append(Piece(piece.row, piece.bars.take(~mine), not mine.any()))
            newest = max(newest, *piece.bars.ts[mine].tolist(), 0)
        if not kept:  # one bucket is more than a page
            return pieces, self._next_edge(asked, last)
        return kept, newest if asked.descending else cut

    def _next_edge(self, asked: Asked, last: Piece) -> int:
        """One base bar on from the last of the page."""
        if asked.descending:
            return int(last.bars.ts[0]) - (MINUTE if asked.of_minutes else 1)
        if asked.of_minutes:
            return int(last.bars.ts[-1]) + MINUTE
        return int(self._market.sessions(asked.ticker).day_end[last.row])

    def _rows(self, asked: Asked, pieces: list[Piece]) -> tuple[bytes, int]:
        if asked.multiplier == 1 and asked.span == "minute" and not asked.descending:
            return b",".join([self._text(asked, piece) for piece in pieces]), sum(len(p.bars) for p in pieces)
        pieces = pieces[::-1] if asked.descending else pieces
        base = concatenate([piece.bars for piece in pieces])
        if not len(base):
            return b"", 0
        bars = merged(base, np.concatenate([self._buckets(asked, piece) for piece in pieces]))
        if asked.multiplier == 1 and asked.span in ("minute", "day"):
            bars = base  # an unknown vwap stays unknown
        return rows_json(bars.take(slice(None, None, -1)) if asked.descending else bars), len(bars)

    def _text(self, asked: Asked, piece: Piece) -> bytes:
        if not piece.whole:
            return rows_json(piece.bars)
        key = (self._market.version, asked.ticker, piece.row, asked.adjusted)
        with self._lock:
            if key in self._texts:
                self._texts.move_to_end(key)
                return self._texts[key]
        text = rows_json(piece.bars)
        with self._lock:
            self._texts[key] = text
            if len(self._texts) > _KEPT_SESSIONS:
                self._texts.popitem(last=False)
        return text

    def _buckets(self, asked: Asked, piece: Piece) -> Micros:
        """The bar each base bar belongs to: from midnight by the clock, weeks from Sunday, months from the first."""
        sessions, row = self._market.sessions(asked.ticker), piece.row
        if asked.of_minutes:
            # Midnight by the clock of the trading hours: on a day the clocks change the real one is an hour off.
            midnight = int(sessions.pre_open[row]) - (4 * 60 * MINUTE if sessions.zone != "UTC" else 0)
            length = asked.multiplier * _SPAN_MINUTES[asked.span] * MINUTE
            return np.asarray(midnight + (piece.bars.ts - midnight) // length * length)
        day = self._market.ticker_day(asked.ticker, row)
        first = _first_day(day, asked.span, asked.multiplier)
        start = int(sessions.midnights(np.array([first], dtype="datetime64[D]"))[0])
        return np.full(len(piece.bars), start, dtype=np.int64)


def _first_day(day: date, span: str, multiplier: int) -> date:
    if span == "day":
        return date.fromordinal(day.toordinal() - day.toordinal() % multiplier) if multiplier > 1 else day
    if span == "week":
        return day - timedelta(days=(day.weekday() + 1) % 7)
    return day.replace(day=1) if span == "month" else day.replace(month=1, day=1)


def grouped(call: Call, market: Market) -> Reply:
    """The whole market's day; every row's `t` is 16:00 New York, a half day's too."""
    match = GROUPED.fullmatch(call.path)
    try:
        day = date.fromisoformat(match["day"] if match else "")
    except ValueError:
        raise RefusedError(polygon_error(400, "Could not parse the time parameter: 'date'. Use YYYY-MM-DD")) from None
    sessions, now = market.sessions("A"), call.options.micros_now()
    today = today_in(sessions, now)
    window = sessions.days_window(day, day)
    if call.options.today != "served" and day >= today:
        raise RefusedError(polygon_fault("403_today"))
    too_old = window.start < oldest(window.start, call, sessions, today)
    adjusted = call.query.get("adjusted", "true").lower() != "false"
    rows = list(market.grouped(day, adjusted=adjusted).items()) if window.end <= now and not too_old else []
    head = (("queryCount", len(rows)), ("resultsCount", len(rows)), ("adjusted", adjusted))
    t = (window.end - 8 * 60 * MINUTE) // 1000
    return _reply(call, head, grouped_rows_json(rows, t), len(rows), None)


def _reply(call: Call, head: tuple[tuple[str, object], ...], rows: bytes, count: int, going_on: str | None) -> Reply:
    members: list[tuple[str, object]] = [*head]
    if count:
        members.append(("results", ...))
    elif call.options.empty != "absent":
        members.append(("results", None if call.options.empty == "null" else []))
    members += [("status", call.options.status), ("request_id", new_request_id()), ("count", count)]
    if going_on is not None:
        members.append(("next_url", going_on))
    return Reply(200, object_json(members, rows))
