"""`backfill rebuild`: derived rows come back as they were, nobody is asked, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell

TABLES = ("bars", "features", "session_status", "wanted", "served", "coverage", "bar_revisions")


@pytest.fixture(scope="module")
def sample(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server) as made:
        assert made.quick("symbols", "add", "AAPL").returncode == 0
        for timeframe, start, end in (("1m", "2026-08-04", "2026-08-06"), ("1d", "2012-12-17", "2013-02-13")):
            made.quick("run", "--symbols", "AAPL", "--timeframes", timeframe, "--start", start, "--end", end)
        yield made


def values(of: Shell, table: str) -> list[tuple[object, ...]]:
    return of.query(f"SELECT to_jsonb(t) FROM {table} AS t ORDER BY t.timeframe, t.ts")


def versions(of: Shell) -> list[object]:
    return [of.query(f"SELECT md5(string_agg(ctid::text || xmin, ' ' ORDER BY ctid)) FROM {t}")[0][0] for t in TABLES]


def test_what_is_right_is_not_written_again(sample: Shell) -> None:
    before = versions(sample)
    ran = sample.backfill("rebuild")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("rebuilt 6 partitions of 1 symbol in ")
    assert ran.stdout.endswith(": 0 bars and 0 rows of features changed\n")
    assert versions(sample) == before


def test_lost_and_wrong_derived_rows_come_back_and_are_counted(sample: Shell) -> None:
    bars, features = values(sample, "bars"), values(sample, "features")
    sample.query("DELETE FROM bars WHERE timeframe = '5m' AND session = '2026-08-05'")
    sample.query("UPDATE bars SET high = high * 2 WHERE timeframe = '1w'")
    sample.query("UPDATE features SET sma_20 = 0 WHERE timeframe = '1h' AND sma_20 IS NOT NULL")
    (weeks,) = sample.query("SELECT count(*) FROM bars WHERE timeframe = '1w'")[0]
    (hours,) = sample.query("SELECT count(*) FROM features WHERE timeframe = '1h' AND sma_20 IS NOT NULL")[0]

    told = json.loads(sample.quick("rebuild", "--symbols", "AAPL", "--json").stdout)

    assert (told["bars_changed"], told["feature_rows_changed"]) == (78 + int(str(weeks)), hours)
    assert set(told["changed"]) == {"AAPL intraday", "AAPL daily"}
    assert (values(sample, "bars"), values(sample, "features")) == (bars, features)
    again = json.loads(sample.quick("rebuild", "--json").stdout)
    assert (again["bars_changed"], again["feature_rows_changed"], again["changed"]) == (0, 0, {})


def test_only_the_named_chain_and_dates_are_rebuilt(sample: Shell) -> None:
    sample.query("UPDATE bars SET high = high * 2 WHERE timeframe IN ('4h', '1w')")
    told = json.loads(
        sample.quick("rebuild", "--timeframes", "1h", "--start", "2026-08-05", "--end", "2026-08-05", "--json").stdout
    )
    assert (told["partitions"], told["bars_changed"]) == (1, 2)
    assert json.loads(sample.quick("rebuild", "--json").stdout)["bars_changed"] > 2


def test_nothing_becomes_wanted_by_it(sample: Shell) -> None:
    before = versions(sample)
    ran = sample.quick("rebuild", "--start", "2000-01-01", "--end", "2012-12-16")
    assert (ran.returncode, ran.stdout) == (0, "nothing to rebuild: nothing of it is wanted; next: backfill run\n")
    sample.quick("rebuild", "--start", "2012-01-01", "--end", "2026-08-31")
    assert versions(sample) == before


def test_a_wrong_argument_is_one_line(sample: Shell) -> None:
    assert one_line(sample.quick("rebuild", "--symbols", "XX")).startswith("backfill: symbol XX not registered; add:")
    assert one_line(sample.quick("rebuild", "--timeframes", "2h")).startswith("backfill: timeframe '2h' is not known")
    assert one_line(sample.quick("rebuild", "--start", "2026-08-05")).startswith("backfill: give days, or both start")
