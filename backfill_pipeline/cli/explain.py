"""`backfill explain`: where one bar came from, or why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.table import Table

from backfill_pipeline.defs.resources import Pipeline
from backfill_pipeline.domain.places import Nowhere, Place
from backfill_pipeline.domain.timeframe import Timeframe
from backfill_pipeline.domain.windows import to_datetime
from backfill_pipeline.steps.explain import Asked, Evidence, find_place, gather, parse_asked
from backfill_pipeline.steps.explain_reason import Reason, reason

from .common import Json, counted, out, prepare_environment, print_json, settings_of_folder

# Rows of each kind that are printed; --json has up to ten.
_MOST_LINES = 4

Line = tuple[str, str]


def explain(
    symbol: Annotated[str, typer.Argument(help="A symbol that is followed.")],
    time: Annotated[
        list[str],
        typer.Argument(
            help="2026-08-05 10:31, in the zone of the symbol's calendar; or with an offset, as 14:31+00:00."
        ),
    ],
    timeframe: Annotated[
        str | None, typer.Option(help="1m 5m 15m 30m 1h 4h 1d 1w; default 1m, or 1d for a date without a time.")
    ] = None,
    json: Json = False,
) -> None:
    """Where the bar that holds a time came from: its values, parts, answers, revisions, gaps; or why there is none."""
    environment = prepare_environment(settings_of_folder())
    with Pipeline(environment.settings).open() as warehouse:
        asked = parse_asked(warehouse, symbol, " ".join(time), timeframe)
        place = find_place(warehouse, asked)
        evidence = None if isinstance(place, Nowhere) else gather(warehouse, asked, place)
        why = reason(asked, place, evidence, warehouse.now())
    if json:
        print_json(_json(asked, place, evidence, why))
    else:
        _show(asked, place, evidence, why)


def _json(asked: Asked, place: Place | Nowhere, evidence: Evidence | None, why: Reason) -> dict[str, Any]:
    head = {"symbol": asked.instrument.symbol, "timeframe": asked.timeframe, "at": asked.at, "zone": asked.zone}
    found: dict[str, Any] = {"interval": None, "session": None, "segment": None}
    if isinstance(place, Place):
        window = {"start": to_datetime(place.window.start), "end": to_datetime(place.window.end)}
        found = {"interval": window, "session": {"first": place.first, "last": place.last}, "segment": place.segment}
    told = {"state": why.state, "why": why.why, "next": why.next_step}
    stored = {} if evidence is None else asdict(evidence)
    if evidence is not None:
        stored["statuses"] = [asdict(status) for status in evidence.statuses.values()]
    return {**head, **found, **told, **stored}


def _show(asked: Asked, place: Place | Nowhere, evidence: Evidence | None, why: Reason) -> None:
    zone = ZoneInfo(asked.zone)
    at = asked.at.astimezone(zone)
    out.print(f"{asked.instrument.symbol} {asked.timeframe} at {at:%a %Y-%m-%d %H:%M} {asked.zone}")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, line in _lines(asked, place, evidence, why, zone):
        grid.add_row(name, line)
    out.print(grid)


def _lines(
    asked: Asked, place: Place | Nowhere, evidence: Evidence | None, why: Reason, zone: ZoneInfo
) -> Iterator[Line]:
    if isinstance(place, Place) and evidence is not None:
        yield "bar", _interval(asked.timeframe, place, zone)
        yield from _values(evidence)
        yield "why" if evidence.bar else "no bar", f"{why.state}: {why.why}"
    else:
        yield "no bar", f"{why.state}: {why.why}"
    if why.next_step:
        yield "next", why.next_step
    if evidence is not None:
        yield from _surroundings(asked, evidence, zone)


def _interval(timeframe: Timeframe, place: Place, zone: ZoneInfo) -> str:
    if timeframe == "1w":
        return f"week of {to_datetime(place.window.start).astimezone(zone):%Y-%m-%d}, sessions {_days(place)}"
    if timeframe == "1d":
        return f"session {place.first}"
    utc = [to_datetime(edge) for edge in (place.window.start, place.window.end)]
    start, end = (at.astimezone(zone) for at in utc)
    in_utc = "" if start.tzname() == "UTC" else f" ({utc[0]:%H:%M} to {utc[1]:%H:%M} UTC)"
    return f"{start:%H:%M} to {end:%H:%M}{in_utc}, session {place.first}, {place.segment}"


def _days(place: Place) -> str:
    return f"{place.first} to {place.last}"


def _values(evidence: Evidence) -> Iterator[Line]:
    bar = evidence.bar
    if bar is None:
        return
    vwap, trades = ("unknown" if value is None else f"{value:,}" for value in (bar.vwap, bar.trades))
    prices = f"open {bar.open:,}  high {bar.high:,}  low {bar.low:,}  close {bar.close:,}"
    yield "", f"{prices}  volume {bar.volume:,.10g}  vwap {vwap}  trades {trades}"


def _surroundings(asked: Asked, evidence: Evidence, zone: ZoneInfo) -> Iterator[Line]:
    parts, bar = evidence.parts, evidence.bar
    if asked.timeframe != evidence.base:
        of = "" if evidence.expected is None else f" of {evidence.expected}"
        ends = [_time(at, zone) for at in (parts.first, parts.last) if at is not None and parts.stored > 1]
        yield "parts", f"{parts.stored}{of} {evidence.base} bars{', ' if ends else ''}{' to '.join(ends)}"
    for status in list(evidence.statuses.values())[:7]:
        explained = "".join(f", {verdict} {count}" for verdict, count in status.explained.items())
        missing = f", {status.missing} missing" if status.missing else ""
        yield f"session {status.session}", f"{status.stored} of {status.expected} bars{explained}{missing}"
    if bar is None or not bar.final:
        yield "due", _time(evidence.due, zone)
    yield from _history(evidence, zone)
    for provider, ticker in evidence.names.items():
        yield f"at {provider}", ticker or "no ticker on that day"


def _history(evidence: Evidence, zone: ZoneInfo) -> Iterator[Line]:
    """Gaps, answers, revisions and refused rows, some of each."""
    for gap in evidence.gaps[:_MOST_LINES]:
        lacks = f"{gap.expected - gap.found} bars from {_time(to_datetime(gap.window.start), zone)}"
        yield f"gap {gap.gap_id}", f"{gap.verdict}: {lacks}; asked again at {_time(gap.next_attempt_at, zone)}"
    for answer in evidence.answers.rows[:_MOST_LINES]:
        early = "" if answer.settled else ", before it was settled"
        until = answer.valid_until
        believed = "believed for ever" if until is None else f"believed until {_time(until, zone)}"
        yield "answered", f"by {answer.provider} at {_time(answer.fetched_at, zone)}{early}; {believed}"
    for old in evidence.revisions.rows[:_MOST_LINES]:
        values = f"open {old.open} high {old.high} low {old.low} close {old.close} volume {old.volume:,.10g}"
        when = f"{old.kind} at {_time(old.revised_at, zone)}"
        yield "revised", f"{when}; {_time(old.ts, zone)} was {values} ({old.provider})"
    for row in evidence.refused.rows[:_MOST_LINES]:
        yield "refused", f"{_time(row.ts, zone)} of {row.provider} at {_time(row.seen_at, zone)}: {row.reason}"
    yield from _more(evidence)


def _more(evidence: Evidence) -> Iterator[Line]:
    kinds = (
        (evidence.answers.count, "answer"),
        (evidence.revisions.count, "revision"),
        (evidence.refused.count, "refused row"),
    )
    for count, name in kinds:
        if count > _MOST_LINES:
            yield "", f"{counted(count, name)} in all; more of them: --json"


def _time(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"
