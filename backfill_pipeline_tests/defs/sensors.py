"""The gap sensor of a site, evaluated as the daemon does, and what there is for it to find."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from backfill_pipeline.defs.gap_sensor import gap_sensor
from backfill_pipeline.defs.jobs import register_everywhere
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.steps.register import parse_registration
from backfill_pipeline_tests.sites import Exchange, Site, keys

NIGHT = datetime(2024, 6, 5, 6, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = [f"2024-05-{day}" for day in range(13, 18)]
CUT = "2024-05-15"


class Sensor:
    """The sensor of a site, which remembers its cursor as the daemon does."""

    def __init__(self, desk: Site) -> None:
        self.desk = desk
        self.cursor: str | None = None
        self.keys: set[str] = set()

    def look(self, now: datetime | None = None) -> list[dg.RunRequest] | str:
        """The runs of one look that Dagster would start, or why there are none."""
        desk = self.desk if now is None else self.desk.at(now)
        context = dg.build_sensor_context(desk.instance, self.cursor, resources={"pipeline": desk.pipeline})
        found = gap_sensor()(context)
        if isinstance(found, dg.SkipReason):
            return str(found.skip_message)
        assert isinstance(found, dg.SensorResult)
        self.cursor = found.cursor
        requests = [request for request in found.run_requests or [] if request.run_key not in self.keys]
        self.keys |= {str(request.run_key) for request in requests}
        assert all(request.tags["backfill/priority"] == "repair" for request in requests)
        return requests or (str(found.skip_reason.skip_message) if found.skip_reason else "started before")

    def act(self, now: datetime | None = None, *, ok: bool = True) -> list[str]:
        """Look, and run what it starts: the ranges of each run, in words."""
        requests = self.look(now)
        if isinstance(requests, str):
            return []
        desk = self.desk if now is None else self.desk.at(now)
        for request in requests:
            desk.run("repair_gaps", ok=ok, run_config=request.run_config, tags=request.tags)
        return [words(request) for request in requests]


def words(request: dg.RunRequest) -> str:
    config = request.run_config["ops"]["repair_gaps"]["config"]
    ranges = [f"{one['symbol']} {one['timeframe']} {one['start']}..{one['end']}" for one in config["ranges"]]
    return " ".join(["verify" if config["verify"] else "repair", ", ".join(ranges)])


def backfill(desk: Site, *symbols: str, timeframe: str = "1m", ok: bool = True) -> None:
    desk.register(*symbols)
    config = {"symbols": list(symbols), "timeframes": [timeframe], "start": WEEK[0], "end": WEEK[-1]}
    desk.run("master_backfill", ok=ok, run_config={"ops": {"master_backfill": {"config": config}}})


def follow(desk: Site, *symbols: str, since: str) -> None:
    with desk.pipeline.open() as warehouse:
        registration = parse_registration(
            symbols, asset_class=None, calendar=None, bars=("1m",), since=since, today=date(2024, 6, 5)
        )
        register_everywhere(desk.instance, warehouse, registration)


def withhold(exchange: Exchange, symbol: str, hours: int = 7) -> None:
    """Of the cut day."""
    opening = datetime(2024, 5, 15, 13, 30, tzinfo=UTC)
    exchange.withheld[symbol] = [Window(to_micros(opening), to_micros(opening + timedelta(hours=hours)))]


def colours(desk: Site, symbol: str, *days: str) -> dict[str, str]:
    return desk.every_colour(INTRADAY, keys(symbol, *days))
