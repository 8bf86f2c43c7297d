"""What a run does for its jobs as a whole: it must not grow with their square."""

from __future__ import annotations

from datetime import UTC, date, datetime

from backfill_pipeline.domain.timeframe import Base
from backfill_pipeline.providers.synthetic import SyntheticProvider
from backfill_pipeline_tests.steps.nights import follow, night
from backfill_pipeline_tests.steps.warehouses import opened

NOW = datetime(2026, 6, 3, 6, tzinfo=UTC)


class Counted(SyntheticProvider):
    """Counts how often it is asked what a request brings, as planning does."""

    def __init__(self) -> None:
        super().__init__()
        self.planned = 0

    def page_rows(self, timeframe: Base) -> int | None:
        self.planned += 1
        return super().page_rows(timeframe)


def test_the_planning_of_a_night_grows_with_its_symbols_and_not_with_their_square(database_url: str) -> None:
    provider, planned = Counted(), []
    with opened(database_url, provider, NOW) as warehouse:
        for letter, count in (("A", 4), ("B", 16)):
            follow(warehouse, [f"{letter}{number}" for number in range(count)], date(2026, 6, 1), ["1d"])
            provider.planned = 0
            night(warehouse, NOW)  # the first four are done by the second
            planned.append(provider.planned)
    assert 0 < planned[1] < 5 * planned[0], planned
