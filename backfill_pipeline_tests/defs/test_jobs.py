"""`master_backfill` and `register_symbols` in process, and the two shell lines that users are promised."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from backfill_pipeline.domain.timeframe import DAILY, INTRADAY
from backfill_pipeline.domain.windows import Window, to_micros
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline.storage.symbols import remove_symbol
from backfill_pipeline_tests.shell import Shell, shell
from backfill_pipeline_tests.sites import Exchange, Site, failure, green, keys, metadata, red, site

WEEK = [f"2024-05-{day}" for day in range(13, 18)]


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer, exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(server, tmp_path_factory.mktemp("jobs"), exchange) as made:
        yield made


def master(desk: Site, *, ok: bool = True, **config: object) -> str:
    """A run of master_backfill; its failure, in the words a person reads."""
    return failure(desk.run("master_backfill", ok=ok, run_config={"ops": {"master_backfill": {"config": config}}}))


GOOD = {"symbols": ["GOOD"], "timeframes": ["1h"], "start": "2024-05-13", "end": "2024-05-17"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param({"symbols": []}, "0 symbols given; give 1 to 100", id="no symbols"),
        pytest.param({"symbols": [f"S{i}" for i in range(101)]}, "101 symbols given; give 1 to 100", id="101 symbols"),
        pytest.param({"timeframes": ["2h"]}, "timeframe '2h' is not known; use one of 1m 5m", id="unknown timeframe"),
        pytest.param({"timeframes": []}, "no timeframes given", id="no timeframes"),
        pytest.param({"start": "2024-05-18"}, "start 2024-05-18 is after end 2024-05-17; swap them", id="reversed"),
        pytest.param({"end": "2024-06-04"}, "end 2024-06-04 is in the future; today is 2024-06-03 (UTC)", id="future"),
        pytest.param({"start": "yesterday"}, "start 'yesterday' is not a date; write it as 2024-03-01", id="no date"),
        pytest.param({"days": 3}, "give either days or start and end, not both", id="days and dates"),
        pytest.param({"start": None, "end": None, "days": 0}, "days is 0; give 1 or more", id="no days"),
        pytest.param({"end": None}, "give days, or both start and end", id="no end"),
        pytest.param(
            {"symbols": ["GOOD", "TSLA"]}, "symbol TSLA not registered; add: backfill symbols add TSLA", id="unknown"
        ),
        pytest.param({"symbols": [False]}, "in YAML write it in quotes: 'NO'", id="NO without quotes"),
        pytest.param({"symbols": [100000.0]}, "symbol 100000.0 is a float, not text", id="1e+5 without quotes"),
        pytest.param(
            {"start": "2023-12-29"}, "start 2023-12-29 is before BACKFILL_INTRADAY_START=2024-01-01", id="too early"
        ),
    ],
)
def test_a_wrong_request_is_one_line_and_stores_nothing(
    desk: Site, exchange: Exchange, change: dict[str, object], line: str
) -> None:
    desk.register("GOOD")
    before, asked = desk.versions(), len(exchange.requests)
    config = {name: value for name, value in (GOOD | change).items() if value is not None}

    text = master(desk, ok=False, **config)

    assert line in text
    assert "\n" not in text
    assert desk.versions() == before
    assert len(exchange.requests) == asked


def test_both_chains_are_completed_and_recorded_for_every_asset(desk: Site, exchange: Exchange) -> None:
    desk.register("BOTH")

    master(desk, symbols=["BOTH"], timeframes=["4h", "1w"], start="2024-05-13", end="2024-05-17")

    assert desk.every_colour(INTRADAY, keys("BOTH", *WEEK)) == green(*keys("BOTH", *WEEK))
    assert desk.every_colour(DAILY, keys("BOTH", "2024-05")) == green("2024-05|BOTH")
    days = desk.query(
        "SELECT session::text FROM bars JOIN symbols USING (symbol_id)"
        " WHERE symbol = 'BOTH' AND timeframe = '1d' ORDER BY session"
    )
    assert [row[0] for row in days] == WEEK, "of the month, only what was asked for"


def test_days_counts_back_from_today(desk: Site) -> None:
    desk.register("RECENT")

    master(desk, symbols=["RECENT"], timeframes=["1m"], days=4)

    # Today is Monday 3 June, noon UTC: Friday, the weekend, and a day that is not over.
    recent = keys("RECENT", "2024-05-30", "2024-05-31", "2024-06-01", "2024-06-02", "2024-06-03")
    assert desk.colours(INTRADAY, "features_1m", recent) == green(*recent[1:4])


def test_a_missing_hour_is_red_and_the_rest_of_the_request_green(desk: Site, exchange: Exchange) -> None:
    desk.register("GAPPY", "FULL")
    at = datetime(2024, 5, 15, 15, tzinfo=UTC)
    exchange.withheld["GAPPY"] = [Window(to_micros(at), to_micros(at + timedelta(hours=1)))]

    text = master(desk, ok=False, symbols=["GAPPY", "FULL"], timeframes=["1h"], start=WEEK[0], end=WEEK[-1])

    assert text == "1 of 10 partitions are not complete: GAPPY 2024-05-15 1m: 60 of 390 bars are missing"
    expected = green(*keys("GAPPY", *WEEK)) | red("2024-05-15|GAPPY")
    assert desk.every_colour(INTRADAY, keys("GAPPY", *WEEK)) == expected
    assert desk.colours(INTRADAY, "features_4h", keys("FULL", *WEEK)) == green(*keys("FULL", *WEEK))


def test_what_is_green_is_neither_asked_nor_recorded_again(desk: Site, exchange: Exchange) -> None:
    desk.register("ONCE")
    config = {"symbols": ["ONCE"], "timeframes": ["1m"], "end": WEEK[-1]}
    master(desk, start=WEEK[1], **config)
    asked = len(exchange.requests)

    result = desk.run(
        "master_backfill", run_config={"ops": {"master_backfill": {"config": config | {"start": WEEK[0]}}}}
    )

    assert sorted(metadata(result, desk.instance, "bars_1m")) == ["2024-05-13|ONCE"]
    assert [request.window for request in exchange.requests[asked:]] == [
        Window(to_micros(datetime(2024, 5, 13, 4, tzinfo=UTC)), to_micros(datetime(2024, 5, 14, 4, tzinfo=UTC)))
    ], "the one New York day that is new"


def test_bars_without_a_record_are_recorded_without_asking_again(desk: Site, exchange: Exchange) -> None:
    """A killed run may have stored bars that Dagster has not heard of."""
    desk.register("HEARD")
    desk.chain("backfill_intraday", f"{WEEK[0]}|HEARD", f"{WEEK[-1]}|HEARD", ["bars_1m"])
    assert desk.colours(INTRADAY, "features_4h", keys("HEARD", *WEEK)) == {}
    asked = len(exchange.requests)

    master(desk, symbols=["HEARD"], timeframes=["1m"], start=WEEK[0], end=WEEK[-1])

    assert desk.colours(INTRADAY, "features_4h", keys("HEARD", *WEEK)) == green(*keys("HEARD", *WEEK))
    assert len(exchange.requests) == asked


def test_a_removed_symbol_is_refused_until_it_is_added_again(desk: Site) -> None:
    desk.register("GONE")
    with desk.pipeline.open() as warehouse, warehouse.conn:
        remove_symbol(warehouse.conn, "GONE", with_bars=False)
    config = {"symbols": ["GONE"], "timeframes": ["1d"], "start": WEEK[0], "end": WEEK[-1]}

    assert "GONE: removed, and so no longer followed; add again: backfill symbols add GONE" in master(
        desk, ok=False, **config
    )

    desk.register("GONE")
    master(desk, **config)


def test_register_symbols_adds_to_the_registry_and_to_the_partitions_of_its_chains(desk: Site) -> None:
    config = {"symbols": ["BRK/B", "X:BTCUSD", "NA"], "bars": ["1d"], "since": "2024-01-01"}

    desk.run("register_symbols", run_config={"ops": {"register_symbols": {"config": config}}})

    rows = desk.query(
        "SELECT symbol, asset_class::text, calendar FROM symbols WHERE symbol = ANY(%s) ORDER BY symbol",
        config["symbols"],
    )
    assert rows == [("BRK/B", "stock", "XNYS"), ("NA", "stock", "XNYS"), ("X:BTCUSD", "crypto", "24/7")]
    assert set(config["symbols"]) <= set(desk.instance.get_dynamic_partitions("daily_symbol"))
    assert not set(config["symbols"]) & set(desk.instance.get_dynamic_partitions("intraday_symbol"))


@pytest.mark.parametrize("symbol", ["'; drop table bars; --", "A|B", "A,B", "A...B", "", "A B", 7])
def test_register_symbols_refuses_what_cannot_be_a_key(desk: Site, symbol: object) -> None:
    before = desk.versions()

    result = desk.run(
        "register_symbols",
        ok=False,
        run_config={"ops": {"register_symbols": {"config": {"symbols": ["FINE", symbol]}}}},
    )

    assert f"symbol {symbol!r}" in failure(result)
    assert desk.versions() == before


@pytest.fixture(scope="module")
def bash(server: EmbeddedServer) -> Iterator[Shell]:
    """A shell with the sample provider and AAPL registered."""
    with shell(server) as made:
        assert made.backfill("symbols", "add", "AAPL").returncode == 0
        yield made


def dagster(bash: Shell, arguments: str) -> subprocess.CompletedProcess[str]:
    return bash.bash(f'eval "$(backfill env)"; dagster job execute -m backfill_pipeline.definitions {arguments}')


def test_the_shell_line_of_master_backfill_works_as_it_is_written(bash: Shell) -> None:
    (bash.folder / "run.yaml").write_text(
        "ops: {master_backfill: {config: {symbols: [AAPL], timeframes: [1h, 1d],"
        ' start: "2026-07-29", end: "2026-08-05"}}}'
    )

    ran = dagster(bash, "-j master_backfill -c run.yaml")

    assert ran.returncode == 0, ran.stderr
    assert "AAPL 1d 2026-07 to 2026-08: not served: the sample has days of 2000-03-01 to 2013-03-01" in ran.stderr
    assert bash.query("SELECT count(*) FROM bars WHERE timeframe = '1m' AND final") == [(6 * 390,)]


def test_the_shell_line_of_a_chain_works_as_it_is_written(bash: Shell) -> None:
    tags = {
        "dagster/asset_partition_range_start": "2026-08-04|AAPL",
        "dagster/asset_partition_range_end": "2026-08-05|AAPL",
    }

    ran = dagster(bash, f"-j backfill_intraday --tags '{json.dumps(tags)}'")

    assert ran.returncode == 0, ran.stderr
    assert "2 complete" in ran.stderr


def test_a_symbol_without_quotes_that_yaml_misreads_is_named(bash: Shell) -> None:
    text = "ops: {master_backfill: {config: {symbols: [NO], timeframes: [1h], days: 3}}}"
    assert yaml.safe_load(text)["ops"]["master_backfill"]["config"]["symbols"] == [False]
    (bash.folder / "no.yaml").write_text(text)

    ran = dagster(bash, "-j master_backfill -c no.yaml")

    assert ran.returncode == 1
    errors = [line for line in ran.stderr.splitlines() if "Failure: " in line]
    assert errors[-1].endswith("symbol False is a bool, not text; in YAML write it in quotes: 'NO', '1e5'")
