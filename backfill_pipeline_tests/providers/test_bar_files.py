"""Files of bars as people have them: names, times, and what cannot be read as bars at all."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backfill_pipeline.domain.windows import to_datetime
from backfill_pipeline.providers.bar_file_times import Clock, Unit
from backfill_pipeline.providers.bar_files import BarFile, BarFileError

HEAD = "ts,open,high,low,close,volume"
ROW = "10,11,9,10.5,100"
OPENING = datetime(2024, 3, 8, 14, 30, tzinfo=UTC)


def csv(folder: Path, *lines: str, name: str = "bars.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def times(
    path: Path, *, tz: str | None = None, unit: Unit | None = None, days: bool = False
) -> tuple[list[datetime], bool]:
    (batch,) = BarFile(path, {}).batches()
    read = Clock(str(path), tz, unit, days).read(batch.stamps)
    return [to_datetime(ts) for ts in read.micros.tolist()], read.is_date


@pytest.mark.parametrize(
    ("text", "tz"),
    [
        pytest.param("2024-03-08T14:30:00Z", None, id="UTC"),
        pytest.param("2024-03-08 09:30:00-05:00", None, id="an offset"),
        pytest.param("2024-03-08 09:30", "America/New_York", id="no zone"),
        pytest.param("2024-03-08T09:30:00.000", "America/New_York", id="no zone, with a fraction"),
        pytest.param("1709908200", None, id="seconds"),
        pytest.param("1709908200.0", None, id="seconds as a float"),
        pytest.param("1709908200000", None, id="milliseconds"),
        pytest.param("1709908200000000", None, id="microseconds"),
        pytest.param("1709908200000000000", None, id="nanoseconds"),
    ],
)
def test_a_time_is_read_however_it_is_written(tmp_path: Path, text: str, tz: str | None) -> None:
    assert times(csv(tmp_path, HEAD, f"{text},{ROW}"), tz=tz) == ([OPENING], False)
    assert times(csv(tmp_path, HEAD, *[f"{text},{ROW}"] * 3), tz=tz)[0] == [OPENING] * 3


def test_local_times_follow_the_clocks(tmp_path: Path) -> None:
    path = csv(tmp_path, HEAD, *(f"2024-03-{day} 09:30,{ROW}" for day in ("08", "11")))
    assert [ts.hour for ts in times(path, tz="America/New_York")[0]] == [14, 13]


def test_an_epoch_that_may_be_anything_needs_its_unit(tmp_path: Path) -> None:
    path = csv(tmp_path, HEAD, f"86400,{ROW}")
    with pytest.raises(BarFileError, match=r"times from 86400 to 86400 are no epochs of 1990 to 2099.*--unit s\|ms"):
        times(path)
    assert times(path, unit="s") == ([datetime(1970, 1, 2, tzinfo=UTC)], False)


def test_dates_of_days_need_no_zone_and_those_of_minutes_do(tmp_path: Path) -> None:
    path = csv(tmp_path, HEAD.replace("ts", "Date"), f"2024-03-08,{ROW}")
    assert times(path, days=True) == ([datetime(2024, 3, 8, tzinfo=UTC)], True)
    with pytest.raises(BarFileError, match="its times have no zone; say which: --tz America/New_York"):
        times(path)


@pytest.mark.parametrize(
    ("stamps", "words"),
    [
        pytest.param(
            ["2024-03-08 09:30Z", "2024-03-08 09:31"], "some times have a zone and some have none", id="mixed"
        ),
        pytest.param(["2024-11-03 01:30", "2024-11-03 01:31"], "the clocks change there", id="twice"),
        pytest.param(["2024-03-10 02:30", "2024-03-10 02:31"], "the clocks change there", id="never"),
        pytest.param(["09:30", "09:31"], "write times as 2024-03-01 09:30:00", id="no date"),
        pytest.param(["2024-03-08 09:30", ""], "has rows without a time", id="an empty one"),
    ],
)
def test_a_time_that_is_none_is_one_line(tmp_path: Path, stamps: list[str], words: str) -> None:
    with pytest.raises(BarFileError, match=r"bars\.csv") as raised:
        times(csv(tmp_path, HEAD, *(f"{stamp},{ROW}" for stamp in stamps)), tz="America/New_York")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "semicolons", "parquet"])
def test_names_are_recognised_and_symbols_stay_text(tmp_path: Path, kind: str) -> None:
    """`NA`, `TRUE` and `1e5` are symbols, an adjusted close is no close, and what is empty is unknown."""
    head = ["Ticker", "Timestamp", "O", "H", "L", "C", "Adj Close", "V", "vw", "n"]
    rows = [[name, 1709908200, 10, 11, 9, 10.5, 1.0, 100, vwap, trades] for name, vwap, trades in ROWS]
    path = tmp_path / ("bars.parquet" if kind == "parquet" else "bars.csv.gz" if kind == "csv.gz" else "bars.csv")
    frame = pd.DataFrame(rows, columns=head)
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep=";" if kind == "semicolons" else ",")
    (batch,) = BarFile(path, {}).batches()
    assert batch.symbols is not None
    assert batch.symbols.to_pylist() == ["NA", "TRUE", "1e5"]
    assert batch.values["close"].tolist() == [10.5] * 3
    np.testing.assert_array_equal(batch.values["vwap"], [10.2, np.nan, 10.3])
    assert batch.trades.tolist() == [7, 8, -1]


ROWS = [("NA", 10.2, 7), ("TRUE", None, 8), ("1e5", 10.3, None)]


def test_a_column_map_says_what_names_do_not(tmp_path: Path) -> None:
    path = csv(tmp_path, "when,first,high,low,last,close,volume", f"1709908200,{ROW},3")
    file = BarFile(path, {"ts": "when", "open": "first", "close": "last", "volume": "volume"})
    (batch,) = file.batches()
    assert {name: values.tolist() for name, values in batch.values.items() if name in ("open", "close")} == {
        "open": [10.0],
        "close": [10.5],
    }


@pytest.mark.parametrize(
    ("lines", "given", "words"),
    [
        pytest.param(
            ["a,b", "1,2"], {}, "has no column for ts, open, high, low, close, volume; it has a, b", id="none"
        ),
        pytest.param(
            ["date,time,open,high,low,close,volume", "1,1," + ROW],
            {},
            "date and time may each be ts; say which",
            id="two",
        ),
        pytest.param([HEAD, "1709908200," + ROW], {"ts": "t"}, "has no column 't' for ts; it has ts, open", id="map"),
        pytest.param([HEAD, "1709908200,10,11,x,10,1"], {}, "cannot be read as bars: In CSV column #3", id="no number"),
        pytest.param([HEAD, "1709908200," + ROW, "1709908260,10,11"], {}, "Expected 6 columns, got 3", id="cut"),
    ],
)
def test_a_file_that_is_not_as_said_is_one_line(
    tmp_path: Path, lines: list[str], given: dict[str, str], words: str
) -> None:
    with pytest.raises(BarFileError, match=r"bars\.csv") as raised:
        list(BarFile(csv(tmp_path, *lines), given).batches())
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_a_truncated_file_is_one_line(tmp_path: Path, kind: str) -> None:
    rows = [[1709908200 + 60 * n, 10, 11, 9, 10.5, 100] for n in range(3000)]
    frame, path = pd.DataFrame(rows, columns=HEAD.split(",")), tmp_path / f"bars.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    whole = path.read_bytes()
    assert sum(len(batch.trades) for batch in BarFile(path, {}).batches()) == 3000
    for cut in (len(whole) - 2, len(whole) // 2, 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(BarFileError, match=f"bars.{kind}") as raised:
            list(BarFile(path, {}).batches())
        assert "\n" not in str(raised.value)


def test_what_is_no_file_of_bars_is_one_line(tmp_path: Path) -> None:
    for name, data in (
        ("empty.csv", b""),
        ("noise.csv", bytes(range(256)) * 20 + b"\n"),
        ("zip.csv.gz", b"PK\3\4" * 9),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BarFileError, match=name) as raised:
            list(BarFile(tmp_path / name, {}).batches())
        assert "\n" not in str(raised.value)
    with pytest.raises(BarFileError, match="cannot be read as bars: Is a directory"):
        BarFile(tmp_path, {})
    with gzip.open(tmp_path / "fine.csv.gz", "wt") as file:
        file.write(f"{HEAD}\n1709908200,{ROW}\n")
    assert len(list(BarFile(tmp_path / "fine.csv.gz", {}).batches())) == 1
