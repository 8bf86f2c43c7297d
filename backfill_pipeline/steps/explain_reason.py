"""Why a bar is as it is, or why there is none, and what to type next: pure words over the evidence of explain."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from backfill_pipeline.domain.places import Nowhere, Place
from backfill_pipeline.domain.windows import to_datetime
from backfill_pipeline.storage.provenance import StoredBar

from .explain import Asked, Evidence


@dataclass(frozen=True)
class Reason:
    """`state`: a word or two for programs. `why`: a sentence. `next_step`: a command, or what happens by itself; empty
    where there is nothing to do.
    """

    state: str
    why: str
    next_step: str = ""


def reason(asked: Asked, place: Place | Nowhere, evidence: Evidence | None, now: datetime) -> Reason:
    """`evidence`: what was gathered around `place`; None where there can be no bar."""
    if isinstance(place, Nowhere) or evidence is None:
        return Reason("closed", place.why if isinstance(place, Nowhere) else "closed")
    words = _Words(asked, place, evidence, now)
    return words.stored(evidence.bar) if evidence.bar is not None else words.absent()


@dataclass(frozen=True)
class _Words:
    asked: Asked
    place: Place
    evidence: Evidence
    now: datetime

    def stored(self, bar: StoredBar) -> Reason:
        e = self.evidence
        derived = self.asked.timeframe != e.base
        if derived:
            of = "" if e.expected is None else f" of {e.expected}"
            source = f"built from {e.parts.stored}{of} {e.base} bars of {bar.provider}"
        else:
            source = f"sent by {bar.provider}"
        if bar.final:
            return Reason("stored", f"{source}; final")
        if e.due > self.now:
            return Reason("not due", f"{source}; not final: its session is settled at {self._time(e.due)}")
        if not e.answers.count:
            return Reason("provisional", f"{source}; not final: no complete answer speaks of it", self._run())
        if derived and any(not status.complete for status in e.statuses.values()):
            return Reason("incomplete", f"{source}; not final: its session lacks bars", self._run())
        return Reason(
            "stored", f"{source}; not final: asked again until two later sessions have closed", "it happens by itself"
        )

    def absent(self) -> Reason:
        """Reasons in the order in which each makes the following ones pointless."""
        return self._impossible() or self._unasked() or self._unanswered() or self._explained()

    def _impossible(self) -> Reason | None:
        of = self.asked.instrument
        if to_datetime(self.place.window.start) > self.now:
            return Reason("not begun", f"it starts at {self._time(to_datetime(self.place.window.start))}")
        if of.first_date is not None and self.place.last < of.first_date:
            return Reason("not listed", f"{of.symbol} was first listed on {of.first_date}")
        if of.last_date is not None and self.place.first > of.last_date:
            return Reason("not listed", f"{of.symbol} was last listed on {of.last_date}")
        return None

    def _unasked(self) -> Reason | None:
        e = self.evidence
        if not e.is_wanted:
            stretch = f"{self.asked.instrument.symbol} {e.base} of {self._days()}"
            return Reason("not wanted", f"nobody has asked for {stretch}; {e.served}", self._run())
        return None if e.wanted else Reason("not served", e.served)

    def _unanswered(self) -> Reason | None:
        e = self.evidence
        if e.due > self.now:
            return Reason("not due", f"its session is settled at {self._time(e.due)}", "it happens by itself")
        if self.asked.timeframe != e.base and e.parts.stored:
            return self._unbuilt()
        status = e.statuses.get(self.place.last)
        if status is None:
            return Reason("missing", "nobody has been asked for it yet", self._run())
        if not e.answers.count and not status.complete:
            why = f"{status.provider} was asked for the session, and no answer speaks of this"
            return Reason("missing", why, self._run())
        return self._gap() if e.gaps else None

    def _unbuilt(self) -> Reason:
        e = self.evidence
        if self.asked.timeframe == "1w" and (e.expected != len(e.wanted) or not self._complete()):
            why = f"a week is built of whole weeks: {e.parts.stored} of its {e.expected} days are stored"
            return Reason("incomplete", why, self._run())
        return Reason("not built", f"{e.parts.stored} of its {e.base} bars are stored, and it is not", self._rebuild())

    def _complete(self) -> bool:
        statuses = self.evidence.statuses
        return all(day in statuses and statuses[day].complete for day in self.evidence.wanted)

    def _gap(self) -> Reason:
        gap = self.evidence.gaps[0]
        tried = f"{gap.attempts} attempts since {self._time(gap.detected_at)}"
        why = f"{gap.verdict}: gap {gap.gap_id}, {gap.expected - gap.found} bars, {tried}"
        return Reason(gap.verdict, why, f"asked again at {self._time(gap.next_attempt_at)}, or at once: {self._run()}")

    def _explained(self) -> Reason:
        status = self.evidence.statuses[self.place.last]
        answer = self.evidence.answers.rows[0] if self.evidence.answers.rows else None
        said = "" if answer is None else f"; {answer.provider} answered at {self._time(answer.fetched_at)} without it"
        exact = [one for one in self.evidence.refused.rows if self._inside(one.ts)]
        if exact:
            return Reason("refused", f"{exact[0].provider}'s row was refused: {exact[0].reason}", self._run())
        if self.place.segment != "regular":
            return Reason("no trade", f"nothing is expected in {self.place.segment}{said}")
        if status.explained:
            counts = ", ".join(f"{verdict} {count}" for verdict, count in sorted(status.explained.items()))
            return Reason("explained", f"the session's {status.expected - status.stored} absent bars: {counts}{said}")
        lacks = f"{status.missing} of the session's {status.expected} bars are missing"
        return Reason("missing", f"{lacks}{said}", self._run())

    def _inside(self, ts: datetime) -> bool:
        return to_datetime(self.place.window.start) <= ts < to_datetime(self.place.window.end)

    def _time(self, at: datetime) -> str:
        return f"{at.astimezone(ZoneInfo(self.asked.zone)):%Y-%m-%d %H:%M}"

    def _days(self) -> str:
        return f"{self.place.first}" + ("" if self.place.first == self.place.last else f" to {self.place.last}")

    def _run(self) -> str:
        return self._command("run")

    def _rebuild(self) -> str:
        return self._command("rebuild")

    def _command(self, verb: str) -> str:
        symbol = shlex.quote(self.asked.instrument.symbol)
        span = f"--start {self.place.first} --end {self.place.last}"
        return f"backfill {verb} --symbols {symbol} --timeframes {self.asked.timeframe} {span}"
