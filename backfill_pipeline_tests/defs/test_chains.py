"""The two chains through real runs: what turns green, what turns red, and what is in the tables then."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.providers.errors import Retryable
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.sites import Exchange, Site, failure, green, keys, metadata, red, site

# Monday to Friday without a holiday, New York in summer time: 13:30 to 20:00 UTC.
WEEK = ("2024-05-13", "2024-05-14", "2024-05-15", "2024-05-16", "2024-05-17")


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all tests of this module; each has symbols of its own."""
    with site(server, tmp_path_factory.mktemp("desk"), exchange) as made:
        yield made


def hour(day: int, hour: int) -> Window:
    return Window(
        to_micros(datetime(2024, 5, day, hour, tzinfo=UTC)), to_micros(datetime(2024, 5, day, hour + 1, tzinfo=UTC))
    )


def week(desk: Site, symbol: str, *, ok: bool = True) -> dg.ExecuteInProcessResult:
    return desk.chain("backfill_intraday", f"{WEEK[0]}|{symbol}", f"{WEEK[-1]}|{symbol}", ok=ok)


def test_a_range_turns_green_in_every_asset_and_says_what_is_stored(desk: Site) -> None:
    desk.register("WHOLE")

    result = week(desk, "WHOLE")

    assert desk.every_colour(INTRADAY, keys("WHOLE", *WEEK)) == green(*keys("WHOLE", *WEEK))
    # A full session of New York in bars of each length, the last of them cut at the close.
    counts = {"1m": 390, "5m": 78, "15m": 26, "30m": 13, "1h": 7, "4h": 2}
    last = {"1m": "19:59", "5m": "19:55", "15m": "19:45", "30m": "19:30", "1h": "19:30", "4h": "17:30"}
    for timeframe, count in counts.items():
        for kind in ("bars", "features"):
            recorded = metadata(result, desk.instance, f"{kind}_{timeframe}")
            assert sorted(recorded) == keys("WHOLE", *WEEK)
            provider = {"provider": "synthetic"} if kind == "bars" else {}
            assert recorded["2024-05-14|WHOLE"] == provider | {
                "dagster/partition_row_count": count,
                "rows": count,
                "first_ts": "2024-05-14 13:30Z",
                "last_ts": f"2024-05-14 {last[timeframe]}Z",
                "segments": f"regular={count}",
            }
        rows = desk.query(
            "SELECT count(*) FROM bars JOIN symbols USING (symbol_id) WHERE symbol = 'WHOLE' AND timeframe = %s",
            timeframe,
        )
        assert rows == [(5 * count,)]


def test_extended_hours_are_stored_and_counted_beside_the_regular_ones(
    desk: Site, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.register("EARLY")
    monkeypatch.setattr(exchange, "_extended", True)

    result = desk.chain("backfill_intraday", "2024-05-14|EARLY", "2024-05-14|EARLY")

    bars = metadata(result, desk.instance, "bars_1h")["2024-05-14|EARLY"]
    assert bars["segments"] == "post=4 pre=6 regular=7"
    assert metadata(result, desk.instance, "features_1h")["2024-05-14|EARLY"]["rows"] == 7


def test_a_day_with_missing_bars_is_red_in_every_asset_and_stops_no_other(desk: Site, exchange: Exchange) -> None:
    desk.register("HOLED")
    exchange.withheld["HOLED"] = [hour(15, 15)]

    result = week(desk, "HOLED", ok=False)

    good = [day for day in WEEK if day != "2024-05-15"]
    assert desk.every_colour(INTRADAY, keys("HOLED", *WEEK)) == green(*keys("HOLED", *good)) | red("2024-05-15|HOLED")
    text = failure(result)
    assert "1 of 5 partitions are not complete" in text
    assert "HOLED 2024-05-15 1m: 60 of 390 bars are missing" in text
    assert sorted(metadata(result, desk.instance, "features_4h")) == keys("HOLED", *good)
    # A coarse bar over the hole, 15:00 to 16:00, is not final; those beside it are.
    hours = desk.query(
        "SELECT to_char(ts, 'HH24:MI'), final FROM bars JOIN symbols USING (symbol_id) WHERE symbol = 'HOLED'"
        " AND timeframe = '1h' AND session = '2024-05-15' ORDER BY ts"
    )
    assert [time for time, final in hours if final] == ["13:30", "16:30", "17:30", "18:30", "19:30"]

    exchange.withheld["HOLED"] = []
    healed = week(desk, "HOLED")
    assert desk.every_colour(INTRADAY, keys("HOLED", *WEEK)) == green(*keys("HOLED", *WEEK))
    assert "2024-05-15|HOLED" in metadata(healed, desk.instance, "features_4h")


def test_days_that_are_not_due_are_neither_green_nor_red_even_when_the_run_fails(
    desk: Site, exchange: Exchange
) -> None:
    desk.register("TODAY")
    exchange.withheld["TODAY"] = [hour(14, 15)]

    # Wednesday 15:00 UTC: an hour and a half into its session; Thursday and Friday have not begun.
    result = week(desk.at(datetime(2024, 5, 15, 15, tzinfo=UTC)), "TODAY", ok=False)

    assert desk.every_colour(INTRADAY, keys("TODAY", *WEEK)) == green("2024-05-13|TODAY") | red("2024-05-14|TODAY")
    assert "1 of 5 partitions" in failure(result)
    assert "2024-05-15" not in failure(result)
    stored = desk.query(
        "SELECT session, count(*), bool_or(final) FROM bars JOIN symbols USING (symbol_id)"
        " WHERE symbol = 'TODAY' AND timeframe = '1m' AND session >= '2024-05-15' GROUP BY session"
    )
    assert stored == [(date(2024, 5, 15), 90, False)], "today is worked on"


def test_days_that_are_not_due_stay_grey_when_another_symbol_breaks_the_run(desk: Site, exchange: Exchange) -> None:
    desk.register("CALM", "CRASH")
    exchange.fails["CRASH"] = RuntimeError("a bug in the provider")

    site_then = desk.at(datetime(2024, 5, 15, 15, tzinfo=UTC))
    result = site_then.chain("backfill_intraday", "2024-05-14|CALM", "2024-05-15|CRASH", ok=False)

    assert "a bug in the provider" in failure(result)
    assert desk.colours(INTRADAY, "features_1h", keys("CALM", "2024-05-14", "2024-05-15")) == green("2024-05-14|CALM")
    assert desk.colours(INTRADAY, "bars_1m", keys("CRASH", "2024-05-14")) == red("2024-05-14|CRASH")


def test_a_symbol_the_provider_fails_for_stops_no_other(desk: Site, exchange: Exchange) -> None:
    desk.register("BEFORE", "LIMITED", "AFTER")
    exchange.fails["LIMITED"] = Retryable("synthetic: too many requests; the next run asks again")

    result = desk.chain("backfill_intraday", "2024-05-14|BEFORE", "2024-05-14|AFTER", ok=False)

    for symbol in ("BEFORE", "AFTER"):
        assert desk.colours(INTRADAY, "features_4h", keys(symbol, "2024-05-14")) == green(f"2024-05-14|{symbol}")
    assert desk.colours(INTRADAY, "bars_1m", keys("LIMITED", "2024-05-14")) == red("2024-05-14|LIMITED")
    assert "too many requests" in failure(result)
    assert "1 of 3 partitions" in failure(result)


def test_what_the_provider_does_not_serve_is_neither_green_nor_red(desk: Site, exchange: Exchange) -> None:
    desk.register("UNKNOWN")
    exchange.unserved.add("UNKNOWN")

    result = week(desk, "UNKNOWN")

    assert desk.every_colour(INTRADAY, keys("UNKNOWN", *WEEK)) == {}
    assert metadata(result, desk.instance, "bars_1m") == {}


def test_a_subset_derives_anew_from_stored_bars_and_asks_nobody(desk: Site, exchange: Exchange) -> None:
    desk.register("PART")
    week(desk, "PART")
    before = desk.stored("PART")
    of = "timeframe = '5m' AND symbol_id = (SELECT symbol_id FROM symbols WHERE symbol = 'PART')"
    desk.query(f"DELETE FROM bars WHERE {of}")
    desk.query(f"DELETE FROM features WHERE {of}")
    assert desk.stored("PART") != before
    asked = len(exchange.requests)

    result = desk.chain("backfill_intraday", "2024-05-14|PART", "2024-05-17|PART", ["bars_5m", "features_5m"])
    whole = desk.chain("backfill_intraday", "2024-05-13|PART", "2024-05-13|PART", ["bars_5m", "features_5m"])

    assert len(exchange.requests) == asked
    assert sorted(metadata(result, desk.instance, "bars_5m")) == keys("PART", *WEEK[1:])
    assert metadata(whole, desk.instance, "features_5m")["2024-05-13|PART"]["rows"] == 78
    assert metadata(result, desk.instance, "bars_1m") == {}
    assert desk.stored("PART") == before


def test_base_bars_alone_can_be_asked_for(desk: Site, exchange: Exchange) -> None:
    desk.register("BASE")
    result = desk.chain("backfill_intraday", "2024-05-14|BASE", "2024-05-14|BASE", ["bars_1m"])

    assert metadata(result, desk.instance, "bars_1m")["2024-05-14|BASE"]["rows"] == 390
    assert desk.colours(INTRADAY, "bars_5m", keys("BASE", "2024-05-14")) == {}


def test_a_symbol_that_is_not_registered_fails_itself_alone(desk: Site) -> None:
    desk.register("KNOWN")
    desk.instance.add_dynamic_partitions("intraday_symbol", ["STRANGER"])

    result = desk.chain("backfill_intraday", "2024-05-14|KNOWN", "2024-05-15|STRANGER", ok=False)

    assert failure(result) == "symbol STRANGER not registered; add: backfill symbols add STRANGER"
    assert desk.colours(INTRADAY, "features_1m", keys("KNOWN", "2024-05-14")) == green("2024-05-14|KNOWN")
    assert desk.colours(INTRADAY, "bars_1m", keys("STRANGER", "2024-05-14")) == red("2024-05-14|STRANGER")
    desk.instance.delete_dynamic_partition("intraday_symbol", "STRANGER")


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        pytest.param(
            {
                "dagster/asset_partition_range_start": "2024-05-17|BACK",
                "dagster/asset_partition_range_end": "2024-05-13|BACK",
            },
            "its range is reversed",
            id="reversed",
        ),
        pytest.param({}, "it has no tags dagster/asset_partition_range_start", id="no tags"),
    ],
)
def test_a_run_without_partitions_is_an_error_in_one_line(desk: Site, tags: dict[str, str], reason: str) -> None:
    desk.register("BACK")

    result = desk.run("backfill_intraday", ok=False, tags=tags)

    assert f"this run has no partitions: {reason}" in failure(result)
    assert "\n" not in failure(result)


def test_closed_days_are_green_with_no_rows_and_say_why(desk: Site) -> None:
    desk.register("EASTER")

    # Thursday to Monday over Good Friday of 2024, 29 March.
    result = desk.chain("backfill_intraday", "2024-03-28|EASTER", "2024-04-01|EASTER")

    recorded = metadata(result, desk.instance, "features_1h")
    assert {key[:10]: (of["rows"], of.get("note")) for key, of in recorded.items()} == {
        "2024-03-28": (7, None),
        "2024-03-29": (0, "Good Friday"),
        "2024-03-30": (0, "weekend"),
        "2024-03-31": (0, "weekend"),
        "2024-04-01": (7, None),
    }


def test_the_same_run_again_asks_nothing_and_writes_nothing(desk: Site, exchange: Exchange) -> None:
    desk.register("AGAIN")
    week(desk, "AGAIN")
    asked, before = len(exchange.requests), desk.versions()

    again = week(desk, "AGAIN")

    assert len(exchange.requests) == asked
    assert desk.versions() == before
    assert sorted(metadata(again, desk.instance, "bars_4h")) == keys("AGAIN", *WEEK), "recorded again, as planned"
