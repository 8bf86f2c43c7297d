"""What the gap sensor remembers from one look to the next."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from backfill_pipeline.domain.grain import Period
from backfill_pipeline.domain.repairing import Place, Stretch
from backfill_pipeline.steps.ranges import as_ranges, parse_ranges, stretched

# What was asked for rests so long, whatever came of it: a provider that is down is not asked every minute.
REST = timedelta(hours=1)

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC).isoformat()


@dataclass
class Cursor:
    """`checked`: sessions judged up to then were compared; without a cursor all are, in some looks. `ended`: runs that
    ended up to then were looked at, seconds since 1970. `later`: ranges to compare another time. `asked`:
    ranges that were asked for, and when.
    """

    ended: float
    checked: str = _BEGINNING
    later: list[dict[str, str]] = field(default_factory=list)
    asked: list[tuple[str, list[dict[str, str]]]] = field(default_factory=list)

    @classmethod
    def read(cls, text: str | None, now: float) -> "Cursor":
        """`now`: seconds since 1970, where nothing is remembered."""
        return cls(**json.loads(text)) if text else cls(now)

    def text(self) -> str:
        return json.dumps(asdict(self))

    def put_off(self, periods: Iterable[tuple[Place, Period]]) -> None:
        """Compare these another time, after what waits already."""
        by_place: dict[Place, list[Period]] = {}
        for place, period in periods:
            by_place.setdefault(place, []).append(period)
        self.later += [one for place, of in by_place.items() for one in as_ranges(stretched(place, of))]

    def note_asked(self, now: datetime, stretches: Iterable[Stretch]) -> None:
        ranges = as_ranges(stretches)
        if ranges:
            self.asked.append((now.isoformat(), ranges))

    def resting(self, now: datetime) -> list[Stretch]:
        """What was asked for within the hour; older ranges are forgotten."""
        self.asked = [(at, ranges) for at, ranges in self.asked if now - datetime.fromisoformat(at) < REST]
        return [stretch for _, ranges in self.asked for stretch in parse_ranges(ranges)]
