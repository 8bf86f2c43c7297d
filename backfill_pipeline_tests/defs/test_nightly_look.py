"""A night finds what another hand has changed in sessions that nobody would ask for again, and makes it good."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline.defs.jobs import register_everywhere
from backfill_pipeline.defs.nightly import JOB
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, green, keys, site

NIGHT, NEXT_NIGHT = datetime(2024, 6, 18, 2, tzinfo=UTC), datetime(2024, 6, 19, 2, tzinfo=UTC)
OLD = date(2024, 6, 10)


@pytest.fixture
def desk(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(server, tmp_path_factory.mktemp("look"), Exchange(), NIGHT) as made:
        yield made


def test_a_night_finds_an_edit_and_repairs_it(desk: Site) -> None:
    with desk.pipeline.open() as warehouse:
        registration = parse_registration(
            ["ABC"], asset_class=None, calendar=None, bars=("1m",), since="2024-06-07", today=date(2024, 6, 18)
        )
        register_everywhere(desk.instance, warehouse, registration)
    desk.run(JOB)
    stored = "SELECT ts, open, close, volume FROM bars WHERE session = %s ORDER BY timeframe, ts"
    before = desk.query(stored, OLD)
    desk.query("UPDATE bars SET close = close + 1 WHERE timeframe = '1m' AND ts = '2024-06-10 15:00Z'")
    desk.at(NEXT_NIGHT).run(JOB)
    assert desk.query(stored, OLD) == before
    assert desk.query("SELECT found FROM looks ORDER BY looked_at") == [({},), ({"changed": 1},)]
    assert desk.query("SELECT sum(missing) FROM session_status") == [(0,)]
    assert desk.query("SELECT kind, session, count(*) FROM bar_revisions GROUP BY 1, 2") == [("restated", OLD, 1)]
    assert desk.every_colour(INTRADAY, keys("ABC", "2024-06-10")) == green(*keys("ABC", "2024-06-10"))
