"""`backfill export` and `import`: out of one database and into another, and what is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell
from backfill_pipeline_tests.tables import Tables, differences, tables

MINUTES = ("2026-08-03", "2026-08-05")
DAYS = ("2012-12-17", "2013-02-28")


@pytest.fixture(scope="module")
def source(server: EmbeddedServer) -> Iterator[Shell]:
    """Three sessions of minutes and some weeks of days of AAPL, from the sample."""
    with shell(server) as made:
        assert made.quick("symbols", "add", "AAPL").returncode == 0
        for timeframe, (start, end) in (("1m", MINUTES), ("1d", DAYS)):
            ran = made.quick("run", "--symbols", "AAPL", "--timeframes", timeframe, "--start", start, "--end", end)
            assert ran.returncode == 0, ran
        yield made


@pytest.fixture(scope="module")
def folder(source: Shell) -> Path:
    ran = source.quick("export", "out", "--symbols", "AAPL", "--timeframe", "1m,1h,1d", "--json")
    assert ran.returncode == 0, ran
    assert json.loads(ran.stdout)["files"] == 4
    return source.folder / "out"


@pytest.fixture(scope="module")
def target(server: EmbeddedServer, folder: Path) -> Iterator[Shell]:
    """A second warehouse, filled from the first one's files."""
    with shell(server) as made:
        assert made.quick("symbols", "add", "AAPL").returncode == 0
        minutes, days = (sorted(folder.glob(f"timeframe={base}/symbol=AAPL/*.parquet")) for base in ("1m", "1d"))
        for base, files in (("1m", minutes), ("1d", days)):
            options = ("--timeframe", base, "--adjusted", "none", "--name", "first")
            ran = made.quick("import", *map(str, files), *options)
            assert (ran.returncode, ran.stderr) == (0, ""), ran
        yield made


def dumped(of: Shell) -> Tables:
    """With one name for all providers: an import says who it is."""
    with closing(connect(of.variables["DATABASE_URL"])) as conn:
        found = tables(conn)
    return {
        name: [row.replace("import:first", "sample") for row in rows] for name, rows in found.items() if name != "gaps"
    } | {"gaps": found["gaps"]}


def test_an_export_imported_elsewhere_gives_the_same_tables_bit_for_bit(source: Shell, target: Shell) -> None:
    left, right = dumped(source), dumped(target)
    assert len(left["bars"]) > 1170 * 1.3
    assert len(left["features"]) > 1170
    # The lifetime that the sample tells when a symbol is added, and what was wanted to the day, are not of the file.
    assert differences(left, right) == []
    assert target.query("SELECT DISTINCT provider FROM bars") == [("import:first",)]


def test_imported_sessions_are_green_and_nobody_is_asked_for_them(target: Shell) -> None:
    before = target.query("SELECT count(*), max(fetched_at) FROM coverage")
    for timeframe, (start, end) in (("1m", MINUTES), ("1d", ("2013-01-01", "2013-01-31"))):
        ran = target.quick("run", "--symbols", "AAPL", "--timeframes", timeframe, "--start", start, "--end", end)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "complete already: nothing was started" in ran.stdout
    assert target.query("SELECT count(*), max(fetched_at) FROM coverage") == before
    matrix = {row["timeframe"]: row for row in json.loads(target.quick("matrix", "--json").stdout)}
    assert [matrix[name]["complete_pct"] for name in ("1m", "4h", "1d")] == [100, 100, 100]


def test_a_second_import_writes_nothing(target: Shell, folder: Path) -> None:
    before = target.query("SELECT md5(string_agg(ctid::text || xmin, ' ' ORDER BY ctid)) FROM bars")
    files = map(str, folder.glob("timeframe=1m/symbol=AAPL/*.parquet"))
    ran = target.quick("import", *files, "--timeframe", "1m", "--adjusted", "none", "--name", "first")
    assert ran.returncode == 0
    assert "0 bars and 0 rows of features written, 0 partitions recorded" in ran.stdout
    assert target.query("SELECT md5(string_agg(ctid::text || xmin, ' ' ORDER BY ctid)) FROM bars") == before


def test_an_import_of_which_rows_are_refused_stores_the_others_and_ends_with_exit_code_1(
    target: Shell, folder: Path, tmp_path: Path
) -> None:
    (file,) = folder.glob("timeframe=1m/symbol=AAPL/*.parquet")
    day = pd.read_parquet(file).query("session == session.min()").drop(columns=["symbol", "session", "provider"])
    day.iloc[5, day.columns.get_loc("high")] = 0.01
    day.to_parquet(tmp_path / "day.parquet")
    assert target.quick("symbols", "add", "IBM").returncode == 0
    options = ("--timeframe", "1m", "--adjusted", "none", "--symbol", "IBM")
    ran = target.quick("import", str(tmp_path / "day.parquet"), *options)
    assert (ran.returncode, "1 row: high is below" in ran.stderr) == (1, True), ran
    stored = target.query("SELECT count(*) FROM market_data_all WHERE symbol = 'IBM' AND timeframe = '1m'")
    assert stored == [(len(day) - 1,)]


def test_files_have_the_columns_of_the_view_with_units(source: Shell, folder: Path) -> None:
    (file,) = folder.glob("timeframe=1m/symbol=AAPL/2026.parquet")
    schema = pq.read_schema(file)
    columns = source.query(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'market_data_all'"
        " AND table_schema = 'market' ORDER BY ordinal_position"
    )
    assert schema.names == [name for (name,) in columns]
    assert str(schema.field("ts").type) == "timestamp[us, tz=UTC]"
    assert schema.field("close").metadata[b"unit"] == b"price, unadjusted"
    frame = pd.read_parquet(folder)
    stored = source.query(
        "SELECT timeframe::text, ts, segment::text, open, volume, vwap, trades, final FROM market_data_all"
        " WHERE timeframe IN ('1m', '1h', '1d') ORDER BY timeframe::text, ts"
    )
    mine = frame.sort_values(["timeframe", "ts"], key=lambda c: c.astype(str) if c.name == "timeframe" else c)
    theirs = pd.DataFrame(stored, columns=["timeframe", "ts", "segment", "open", "volume", "vwap", "trades", "final"])
    for name in ("open", "volume", "final"):
        assert mine[name].tolist() == theirs[name].tolist(), name
    assert mine["ts"].tolist() == [pd.Timestamp(ts) for ts in theirs["ts"]]
    assert mine["trades"].isna().tolist() == theirs["trades"].isna().tolist()


def test_a_file_is_written_again_only_where_the_tables_differ(source: Shell) -> None:
    command = ("export", "again", "--symbols", "AAPL", "--timeframe", "1m,1d", "--features", "--json")
    assert json.loads(source.quick(*command).stdout)["written"] == 3
    files = {file: file.stat().st_mtime_ns for file in (source.folder / "again").rglob("*.parquet")}
    assert json.loads(source.quick(*command).stdout)["written"] == 0
    torn = next(file for file in files if "1d" in str(file))
    torn.write_bytes(torn.read_bytes()[:-20])
    source.query("UPDATE features SET sma_20 = sma_20 + 1 WHERE timeframe = '1m' AND sma_20 IS NOT NULL")
    assert json.loads(source.quick(*command).stdout)["written"] == 2
    source.query("UPDATE features SET sma_20 = sma_20 - 1 WHERE timeframe = '1m' AND sma_20 IS NOT NULL")
    assert {file for file in (source.folder / "again").rglob("*") if file.is_file()} == set(files)
    kept = [file for file, was in files.items() if file.stat().st_mtime_ns == was]
    assert len(kept) == 1
    (minutes,) = (file for file in files if "1m" in str(file))
    stored = source.query("SELECT sma_20 FROM features WHERE timeframe = '1m' ORDER BY ts")
    exported = pd.read_parquet(minutes)
    regular = exported[exported["segment"] == "regular"]["sma_20"]
    assert regular.dropna().tolist() == [value + 1 for (value,) in stored if value is not None]  # type: ignore[operator]  # a float


def test_a_part_can_be_exported_and_nothing_says_so(source: Shell) -> None:
    ran = source.quick("export", "part", "--timeframe", "1d", "--start", "2013-01-02", "--end", "2013-01-04", "--json")
    assert (json.loads(ran.stdout)["files"], json.loads(ran.stdout)["bars"]) == (1, 3)
    ran = source.quick("export", "none", "--timeframe", "1d", "--start", "2019-01-02")
    assert (ran.returncode, ran.stdout) == (0, "nothing to export: no bar of it is stored; next: backfill matrix\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("export", "x", "--timeframe", "45m"), "timeframe '45m' is not known; use one of 1m", id="frame"),
        pytest.param(("export", "x", "--timeframe", "1m", "--symbols", "TSLA"), "symbol TSLA not registered", id="who"),
        pytest.param(("export", "x", "--timeframe", "1m", "--start", "soon"), "start 'soon' is not a date", id="date"),
        pytest.param(("export", "/dev/null/x", "--timeframe", "1d"), "cannot be written: Not a directory", id="folder"),
        pytest.param(("import", "none.csv", "--timeframe", "1m", "--adjusted", "none"), "No such file", id="no file"),
        pytest.param(
            ("import", "a.csv", "--timeframe", "5m", "--adjusted", "none"), "timeframe '5m': only 1m", id="5m"
        ),
        pytest.param(("import", "a.csv", "--timeframe", "1m", "--adjusted", "all"), "is adjusted (all)", id="adjusted"),
        pytest.param(
            ("import", "a.csv", "--timeframe", "1m", "--adjusted", "none", "--tz", "Mars"), "tz 'Mars' is not", id="tz"
        ),
    ],
)
def test_a_wrong_argument_is_one_line(source: Shell, arguments: tuple[str, ...], words: str) -> None:
    ran = source.quick(*arguments)
    assert one_line(ran).startswith("backfill: ")
    assert words in one_line(ran)
