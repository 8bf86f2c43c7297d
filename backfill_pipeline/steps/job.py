"""A task under way: which of its sessions are still to be asked for, by whom, and which partitions wait for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from backfill_pipeline.domain.grain import day_after_chunk, stretches
from backfill_pipeline.domain.planning import Rows, rows_per_session, spans
from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.domain.windows import to_micros
from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.errors import NotYet, ProviderError, Retryable
from backfill_pipeline.storage.symbols import get_instruments

from .called import Called
from .fetching import Answers, Unit, consecutive
from .identity import look_up
from .ingest import Note
from .lifetimes import is_in_doubt
from .look_again import in_doubt
from .open_sessions import begun_rows, expected_rows, open_rows
from .outcomes import PartitionOutcome, outcomes
from .outlook import Outlook, look_ahead
from .task import Task, note_served
from .waiting import Notes, Waiting
from .warehouse import Warehouse
from .weighing import poorly_answered
from .window import Work, settle

# Months that a window of bars that cost no request spans at most: half a year of minutes with extended hours is some
# 120,000 bars, a century of days 25,000; each costs a wait for the disk. Aligned to the calendar, so that a feature
# block (a month, a year) is computed once.
CHUNK_MONTHS: dict[Base, int] = {"1m": 6, "1d": 1200}
# Bars that a window spans at least, where a request brings fewer.
LEAST_ROWS = 50_000

_NONE: Rows = np.zeros(0, dtype=np.int64)


class Job:
    """One task's way through a run. All of it runs in the thread that has the warehouse's connection."""

    def __init__(self, warehouse: Warehouse, task: Task, place: int) -> None:
        self.task = task
        self.place = place
        self._warehouse = warehouse
        self.subject = warehouse.subject(task.instrument, task.chain)
        self.needed = self.around = self.left = _NONE
        self.chosen = _NONE
        self._waiting = Waiting(task.periods)
        self._asked = self._none()
        self._flying = self._none()
        self._passed_on = self._none()
        self._refused: dict[str, npt.NDArray[np.bool_]] = {}
        self._stopped: set[str] = set()
        self._seen: float | None = None
        self._outlook: Outlook | None = None
        self._notes = Notes()
        self._findings = Notes()
        self.called = Called(warehouse, task.instrument)
        self._is_judged = False

    def begun(self) -> Rows:
        """Its wanted sessions that have begun."""
        with self._warehouse.conn:
            return self._begun()

    def settle(self, work: Work) -> None:
        """What needs no answer. Under the symbol's lock."""
        subject = self.subject
        begun = subject.sessions.session[self.begun()]
        settle(self._warehouse, subject, [day.astype(object) for day in begun], work)

    def refresh(self) -> None:
        """Look again at what is open: others may have been at work. `needed`: the task's own sessions; `around`: with
        them, all that the symbol lacks, for a request brings more than one run asked for. `left`: what only a stopped
        provider could bring.
        """
        warehouse = self._warehouse
        subject = self.subject = warehouse.subject(self.task.instrument, self.task.chain)
        self.called = Called(warehouse, self.task.instrument)
        with warehouse.conn:
            wanted = self._wanted()
            mine = self._mine(wanted)
            around = open_rows(warehouse, subject, wanted, again=False)
            needed = (
                open_rows(warehouse, subject, mine, again=True) if self.task.again else np.intersect1d(around, mine)
            )
            passed_on = expected_rows(warehouse, subject, np.flatnonzero(self._passed_on))
        needed = np.union1d(needed, passed_on)
        around = around[subject.route.due_at()[around] <= to_micros(warehouse.now())]
        stopped = dict.fromkeys(self._stopped, ~self._none())
        self.chosen = subject.route.choose(warehouse.now(), self._refused | stopped)
        free = ~(self._asked | self._flying)
        able = free & (self.chosen >= 0)
        if stopped:
            lost = free & ~able & (subject.route.choose(warehouse.now(), self._refused) >= 0)
            self.left = needed[lost[needed]]
        self.needed = needed[able[needed]]
        self.around = np.union1d(self.needed, around[able[around]])
        self._outlook = None

    def look_up(self, answers: Answers) -> list[str]:
        """Where an answer lacks so many sessions that the instrument may be another, or gone: ask who it is. News, in
        lines; where there is any, the answer is not to be used: the instrument is not what it was asked for.
        """
        unit = answers.unit
        if answers.failure is not None:
            return []
        traded = unit.subject.sessions.row_of(np.concatenate([f.validated.bars.ts for f in answers.fetched]))
        if not is_in_doubt(self._warehouse, unit, traded):
            return []
        news = look_up(self._warehouse.conn, unit.provider, self.task.instrument, self._warehouse.now())
        if news:
            self._flying[unit.rows] = False
            with self._warehouse.conn:
                instrument = get_instruments(self._warehouse.conn, [self.task.instrument.symbol])
            self.task = replace(self.task, instrument=instrument[self.task.instrument.symbol])
        return news

    def _wanted(self) -> Rows:
        """All wanted sessions of the symbol that have begun."""
        return begun_rows(self._warehouse, self.subject)

    def _mine(self, wanted: Rows) -> Rows:
        """Those of them that the task is about."""
        mine = self._none()
        for group in stretches(self.task.periods):
            mine[self.subject.sessions.rows_between(group[0].first, group[-1].last)] = True
        return wanted[mine[wanted]]

    def _begun(self) -> Rows:
        return self._mine(self._wanted())

    def provider(self, row: int) -> Provider:
        place: int = self.chosen[row]
        return self.subject.route.providers[place]

    def needed_of(self, provider: Provider) -> Rows:
        """The needed sessions that are to be asked of the provider."""
        return self._of(provider, self.needed)

    def around_of(self, provider: Provider) -> Rows:
        return self._of(provider, self.around)

    def _of(self, provider: Provider, rows: Rows) -> Rows:
        providers = self.subject.route.providers
        mine: Rows = rows[self.chosen[rows] == providers.index(provider)] if provider in providers else _NONE
        return mine

    @property
    def outlook(self) -> Outlook:
        """What is before it, while something is needed. Kept until that changes, for a run looks at all of its jobs
        after each answer: of a night of 100 symbols that took a quarter of the processor's time.
        """
        if self._outlook is None:
            self._outlook = look_ahead(self.subject, self.needed, self.chosen, self._seen, self.place)
        return self._outlook

    def unit(self) -> Unit:
        """The next sessions to ask for at once. There must be some that are needed."""
        base, sessions = self.task.chain.base, self.subject.sessions
        provider = self.outlook.provider
        page = provider.page_rows(base)
        if page is None:
            rows = self.needed_of(provider)
            first = sessions.session[rows[0]].astype(object)
            after = np.datetime64(day_after_chunk(first, CHUNK_MONTHS[base]), "D")
            rows = consecutive(rows[sessions.session[rows] < after])[0]
        else:
            newest = int(self.needed[-1])
            mine = self.around_of(provider)
            most = page * max(1, LEAST_ROWS // page)
            cut = spans(mine, rows_per_session(sessions, base, self._seen), most)
            rows = next(span for span in cut if span[0] <= newest)
        return self._unit(rows)

    def _unit(self, rows: Rows) -> Unit:
        self._flying[rows] = True
        self.needed = np.setdiff1d(self.needed, rows)
        self.around = np.setdiff1d(self.around, rows)
        self._outlook = None
        sessions = self.subject.sessions
        provider = self.provider(int(rows[-1]))
        first, last = sessions.session[rows[0]].astype(object), sessions.session[rows[-1]].astype(object)
        return Unit(self.subject, provider, rows, self.called.between(provider, first, last))

    def take(self, answers: Answers, findings: Sequence[Note]) -> None:
        """Note what came of a unit, and what was found when it was stored. Sessions that are due and that its provider
        does not have go to the next one, and what a passing fault kept from being asked at all is asked once more.
        """
        unit, failure = answers.unit, answers.failure
        self._flying[unit.rows] = False
        self._asked[unit.rows] = True
        if unit.provider.name in self._stopped:
            self._asked[answers.unanswered(self._warehouse.now())] = False
        elif isinstance(failure, Retryable):
            for rows in [fetched.rows for fetched in answers.fetched if not fetched.answered][1:]:
                self._asked[rows] = False
        elif not isinstance(failure, NotYet):
            self._refuse(unit, answers.unanswered(self._warehouse.now()))
            self._ask_others(answers)
        self._findings += findings
        for fetched in answers.fetched:
            self._notes += [(int(fetched.rows[0]), int(fetched.rows[-1]), note) for note in fetched.notes]
        stamps = np.concatenate([fetched.validated.bars.ts for fetched in answers.fetched])
        rows = self.subject.sessions.row_of(stamps)
        # A session that is not over says nothing of how many bars a whole one has.
        rows = rows[self.subject.sessions.post_close[rows] <= to_micros(self._warehouse.now())]
        self._seen = len(rows) / len(np.unique(rows)) if len(rows) else None

    def _refuse(self, unit: Unit, rows: Rows) -> None:
        rows = rows[unit.subject.route.due_at()[rows] <= to_micros(self._warehouse.now())]
        self._refused.setdefault(unit.provider.name, self._none())[rows] = True
        self._asked[rows] = False

    def _ask_others(self, answers: Answers) -> None:
        """Sessions that are answered, but poorly, go to the next provider, too, if there is one."""
        if len(self.subject.route.providers) == 1:
            return
        with self._warehouse.conn:
            rows = np.intersect1d(poorly_answered(self._warehouse, answers), self._begun())
        self._refused.setdefault(answers.unit.provider.name, self._none())[rows] = True
        able = (
            self.subject.route.choose(
                self._warehouse.now(), self._refused | dict.fromkeys(self._stopped, ~self._none())
            )
            >= 0
        )
        rows = rows[able[rows]]
        self._asked[rows] = False
        self._passed_on[rows] = True

    def stop(self, provider: Provider) -> None:
        """Nothing more can be asked of the provider: its sessions go to the next one, or are `left`."""
        self._stopped.add(provider.name)

    def _none(self) -> npt.NDArray[np.bool_]:
        return np.zeros(len(self.subject.sessions), dtype=bool)

    def skip(self, rows: Rows) -> None:
        """Sessions that are taken care of otherwise."""
        self._asked[rows] = True

    def give_up(self, rows: Rows, failure: ProviderError) -> None:
        """Sessions that cannot be had now: not asked again by this run, and told with the reason."""
        self.skip(rows)
        self._notes += [(int(row), int(row), str(failure)) for row in rows]

    def pass_on(self, provider: Provider, rows: Rows, failure: ProviderError) -> None:
        """Sessions that the provider does not have: the next one is asked. They are told with the reason."""
        self._refused.setdefault(provider.name, self._none())[rows] = True
        self._notes += [(int(row), int(row), str(failure)) for row in rows]

    def judged(self) -> None:
        """What is in doubt has been judged by all that the run brought."""
        self._is_judged = True

    def finished(self) -> Iterator[PartitionOutcome]:
        """The outcomes of partitions that wait for nothing any more, each once. Those with a due session that is `left`
        are not told: the error that ends the run speaks for them. Those in doubt wait until they are `judged`.
        """
        is_open = self._flying.copy()
        is_open[self.needed] = True
        waiting = self._waiting.periods
        if waiting and not self._is_judged:
            with self._warehouse.conn:
                is_open[in_doubt(self._warehouse, self.subject, waiting[0].first, waiting[-1].last)] = True
        if len(self.left):
            is_open[self.left] = self.subject.route.due_at()[self.left] <= to_micros(self._warehouse.now())
        done = self._waiting.take(self.subject.sessions, is_open)
        if not done:
            return
        self.subject = self._warehouse.subject(self.task.instrument, self.task.chain)
        served = note_served(self._warehouse, self.subject)  # an answer may have told where the plan ends
        for group in done:
            notes, findings = self._notes.of(self.subject, group), self._findings.of(self.subject, group)
            yield from outcomes(self._warehouse, self.subject, group, served, notes, findings)
