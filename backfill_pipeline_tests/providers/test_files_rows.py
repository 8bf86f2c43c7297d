"""Reading a day file in pieces: any size of piece and any order of lines gives what a plain CSV reader sees."""

from __future__ import annotations

import csv
import gzip
import random
import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from backfill_pipeline.domain.windows import MINUTE
from backfill_pipeline.providers import flat_file_rows
from backfill_pipeline.providers.flat_file_rows import HEADER, read_rows
from backfill_pipeline_tests.providers.flat_folders import FIRST
from backfill_pipeline_tests.providers.polygons import XNYS

DAY = XNYS.days_window(FIRST, FIRST)
TICKERS = ("1e5", "A", "AA", "AAPL", "B", "NA", "TRUE")


def lines_of(seed: int, count: int = 150) -> list[str]:
    """Rows of a day as different programs write numbers: 1, 1.5, 1e+06, 0.1 + 0.2; now and then without a count."""
    rng = random.Random(seed)
    lines = []
    for n in range(count):
        ticker = rng.choice(TICKERS)
        volume = rng.choice(["1", "1.5", "1.12117471e+08", "2E6", "0.30000000000000004", "100."])
        prices = ",".join(repr(round(rng.uniform(0.0001, 9000), rng.randrange(1, 12))) for _ in range(4))
        start = (DAY.start + n * MINUTE) * 1000
        lines.append(f"{ticker},{volume},{prices},{start},{rng.choice(['', '1', '12345'])}")
    return lines


def write(path: Path, lines: list[str], *, end: str = "\n", newline: str = "\n") -> Path:
    path.write_bytes(gzip.compress((newline.join([HEADER, *lines]) + end).encode()))
    return path


@pytest.mark.parametrize("order", ["sorted", "as they come"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("end", ["\n", ""], ids=["with", "without"])
@pytest.mark.parametrize("piece", [17, 1000, 4 << 20])
def test_any_piece_and_any_order_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, end: str, newline: str, order: str
) -> None:
    monkeypatch.setattr(flat_file_rows, "_CHUNK", piece)
    lines = lines_of(7)
    if order == "sorted":
        lines.sort(key=lambda line: line.split(",")[0])
    path = write(tmp_path / "day.csv.gz", lines, end=end, newline=newline)
    expected = defaultdict(list)
    for ticker, *cells in csv.reader(lines):
        expected[ticker].append([float(cell or -1) for cell in cells])
    found = read_rows(path, "day", TICKERS[:-1], DAY)
    assert set(found) == set(TICKERS[:-1])
    for ticker, bars in found.items():
        columns = (bars.volume, bars.open, bars.close, bars.high, bars.low, bars.ts * 1000.0, bars.trades)
        assert np.array_equal(np.array(columns).T, np.array(expected[ticker]))
        assert np.isnan(bars.vwap).all()


def test_times_keep_their_last_digit(tmp_path: Path) -> None:
    """As a float64, a time in nanoseconds is rounded to 256 of them: the last ones to the next microsecond."""
    starts = [(DAY.start + n) * 1000 + 999 for n in range(300)]
    path = write(tmp_path / "day.csv.gz", [f"A,1,1,1,1,1,{start},1" for start in starts])
    assert read_rows(path, "day", ["A"], DAY)["A"].ts.tolist() == [DAY.start + n for n in range(300)]


def test_a_day_of_a_million_rows_takes_a_few_pieces_of_memory(tmp_path: Path) -> None:
    block = "".join(f"{ticker},1,2,2,2,2,{DAY.start * 1000},1\n" for ticker in ["AAA"] * 500 + ["ZZZ"] * 500)
    path = tmp_path / "day.csv.gz"
    path.write_bytes(gzip.compress(f"{HEADER}\n{block * 1000}A,1,2,2,2,2,{DAY.start * 1000},1\n".encode(), 1))
    read_rows(path, "day", ["A"], DAY)  # what is imported on the way is not counted
    tracemalloc.start()
    found = read_rows(path, "day", ["A"], DAY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found["A"]) == 1
    assert len(block) * 1000 > 30 << 20
    assert peak < 16 << 20
