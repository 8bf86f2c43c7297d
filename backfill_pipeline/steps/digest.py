"""The morning's message: what a night added, what is missing and when it is asked for again, from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.timeframe import BASES
from backfill_pipeline.storage.nights import (
    Added,
    OpenGaps,
    added_since,
    gaps_of_followed,
    handed_out,
    paused_providers,
    refused_events_since,
)

from .messages import Message, run_command

_WORDS = {"1m": "minutes", "1d": "days"}
# Lines of one sort: a person reads on in `backfill matrix`.
_MOST_LINES = 10


@dataclass(frozen=True)
class Evening:
    """When a night began, and how many requests had been sent by then."""

    began_at: datetime
    handed_out: Mapping[str, int]


def evening(conn: Connection, now: datetime) -> Evening:
    with conn:
        return Evening(now, handed_out(conn))


def digest(
    conn: Connection, since: Evening, now: datetime, run_id: str, failure: Sequence[str], failed: Sequence[str]
) -> Message:
    """`failure`: the lines that the night's run failed with; empty for a good one. `failed`: its partition keys."""
    with conn:
        added = added_since(conn, since.began_at)
        gaps = gaps_of_followed(conn, since.began_at)
        refused = refused_events_since(conn, since.began_at)
        sent, paused = handed_out(conn), paused_providers(conn)
    # A good night may have left gaps alone whose next attempt is yet to come: they are told, not asked for again.
    urgent = [gap for gap in gaps if gap.fresh or failure]
    lines = [
        _added(added),
        *_some(failure, "not complete: {}"),
        *_gap_lines(gaps),
        *_some(refused, "corporate action not believed: {}"),
        *_request_lines(since, sent, now),
        *(f"requests to {name} are paused; `backfill resume` lets them go on" for name in paused),
    ]
    symbols = sorted({gap.symbol for gap in gaps} | {key.partition("|")[2] for key in failed})
    return Message(
        "digest",
        _title(failed, failure, gaps),
        tuple(lines),
        now,
        command=_command(urgent, now.date()) or ("backfill run --days 7" if failure else ""),
        run_id=run_id,
        symbols=tuple(symbols),
        failed=tuple(failed),
    )


def _title(failed: Sequence[str], failure: Sequence[str], gaps: Sequence[OpenGaps]) -> str:
    if failed:
        return f"night: {len(failed):,} partition{'s are' if len(failed) > 1 else ' is'} not complete"
    if failure:
        return "night: it failed"
    bars = sum(gap.bars for gap in gaps)
    return f"night: good; open gaps lack {bars:,} bars" if bars else "night: good, everything due is complete"


def _added(added: Sequence[Added]) -> str:
    told = [f"{one.rows:,} {_WORDS[one.timeframe]} of {_symbols(one.symbols)}" for one in added]
    return f"added or corrected: {', '.join(told)}" if told else "nothing was added: nothing was due, or nobody had it"


def _symbols(count: int) -> str:
    return f"{count:,} symbol{'' if count == 1 else 's'}"


def _gap_lines(gaps: Sequence[OpenGaps]) -> list[str]:
    if not gaps:
        return []
    total = sum(gap.gaps for gap in gaps)
    fresh, bars = sum(gap.fresh for gap in gaps), sum(gap.bars for gap in gaps)
    head = f"open gaps: {total:,}, {fresh:,} of them new; {bars:,} bars of {_symbols(len({g.symbol for g in gaps}))}"
    return [head, *_some([_gap_line(gap) for gap in gaps], "{}")]


def _gap_line(gap: OpenGaps) -> str:
    days = f"{gap.first}" + ("" if gap.first == gap.last else f" to {gap.last}")
    tried = f", asked {gap.attempts + 1} time{'s' * bool(gap.attempts)}"
    bars = f"{gap.bars:,} bar{'' if gap.bars == 1 else 's'} {gap.verdict}"
    return f"{gap.symbol} {gap.timeframe} {days}: {bars}{tried}, again at {gap.next_attempt_at:%Y-%m-%d %H:%M} UTC"


def _some(lines: Sequence[str], form: str) -> list[str]:
    more = [f"and {len(lines) - _MOST_LINES:,} more"] if len(lines) > _MOST_LINES else []
    return [*(form.format(line) for line in lines[:_MOST_LINES]), *more]


def _request_lines(since: Evening, sent: Mapping[str, int], now: datetime) -> list[str]:
    """Nearly all of a night's time is waiting for turns: figures that tell whether the plan still suits."""
    took = timedelta(seconds=round((now - since.began_at).total_seconds()))
    counts = {name: count - since.handed_out.get(name, 0) for name, count in sorted(sent.items())}
    told = [f"{count:,} {name} requests" for name, count in counts.items() if count]
    return [f"{', '.join(told)} took their turns, all processes together, in {took}"] if told else []


def _command(gaps: Sequence[OpenGaps], today: date) -> str:
    if not gaps:
        return ""
    bases = [base for base in BASES if any(gap.timeframe == base for gap in gaps)]
    first, last = min(gap.first for gap in gaps), max(gap.last for gap in gaps)
    return run_command({gap.symbol for gap in gaps}, bases, first, min(last, today))
