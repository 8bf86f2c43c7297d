"""Why a gap is one, in plain words made from its evidence, and what became or becomes of it. Pure.

What the evidence is: domain/verdicts.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from backfill_pipeline.storage.gaps import StoredGap

# By its habits a symbol trades through these minutes: rarer than this (log10) is as good as never.
_NEVER = -30


def why(gap: StoredGap) -> str:
    """One clause, without the verdict."""
    evidence = gap.evidence
    if "detail" in evidence:
        return str(evidence["detail"])
    if gap.timeframe == "1d":
        return "the session has no daily bar"
    words = _WORDS.get(str(evidence.get("by")))
    return f"judged by {evidence.get('by', 'nothing')}" if words is None else words(evidence)


def _whole_session(_: Mapping[str, Any]) -> str:
    return "not one minute of the session"


def _unanswered(_: Mapping[str, Any]) -> str:
    return "no complete answer speaks of it yet"


def _refused(_: Mapping[str, Any]) -> str:
    return "rows were sent and refused; backfill explain tells why"


def _few(evidence: Mapping[str, Any]) -> str:
    return f"only {evidence.get('sessions', 0)} sessions around it are known, too few for a habit"


def _volume(evidence: Mapping[str, Any]) -> str:
    if "ratio" not in evidence or "median" not in evidence:
        return "the day's volume says that it traded"
    return f"minutes hold {_percent(evidence['ratio'])} of the day's volume, usually {_percent(evidence['median'])}"


def _habit(evidence: Mapping[str, Any]) -> str:
    log = evidence.get("log10_habit", 0.0)
    odds = "it always trades then" if log <= _NEVER else f"it trades then; silence is 1 in 10^{-log:.0f}"
    beside = {
        "none": "no daily bar to compare",
        "unclear": "too short to show in the day's volume",
        "surplus": "the minutes' volume is above the day's",
    }.get(str(evidence.get("volume")))
    return odds if beside is None else f"{odds}; {beside}"


def _others(evidence: Mapping[str, Any]) -> str:
    others = evidence.get("others", {})
    of = f"{others.get('lack', '?')} of {others.get('usually', '?')} other symbols lack it, too"
    return f"{of}, {others.get('short', '?')} of them against their day's volume"


_WORDS = {
    "whole session": _whole_session,
    "unanswered": _unanswered,
    "refused row": _refused,
    "too few sessions": _few,
    "volume": _volume,
    "habit": _habit,
    "other symbols": _others,
}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def fate(gap: StoredGap, now: datetime, zone: ZoneInfo) -> str:
    """What happens to it next and when, or what became of it."""
    if gap.resolved_at is not None:
        because = f": {gap.evidence['because']}" if "because" in gap.evidence else ""
        return f"{gap.resolution}{because}, {_at(gap.resolved_at, zone)}"
    tried = {0: "", 1: ", tried once"}.get(gap.attempts, f", tried {gap.attempts} times")
    if gap.next_attempt_at <= now:
        return f"asked again by the next run{tried}"
    return f"asked again {_at(gap.next_attempt_at, zone)}{tried}"


def _at(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"
