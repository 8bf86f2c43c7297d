"""Flat files that are broken: nothing of them is believed, and one line says which and why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from backfill_pipeline.domain.windows import union
from backfill_pipeline.providers.errors import NotBelieved, ProviderError
from backfill_pipeline.providers.files import FilesProvider
from backfill_pipeline_tests.providers.flat_folders import (
    FIRST,
    LAST,
    SESSIONS,
    file_of,
    known,
    rewrite,
    whole_market,
    write_odd,
)
from backfill_pipeline_tests.providers.polygons import NOW, XNYS, asking, hear, same


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_odd(tmp_path_factory.mktemp("flat_files"))


@pytest.fixture
def folder(tmp_path: Path, written: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "flat_files"))


def cell(place: int, value: str) -> Callable[[str], str]:
    """Rewrites a cell of AAPL's hundredth row."""

    def change(text: str) -> str:
        lines = text.splitlines()
        at = [i for i, line in enumerate(lines) if line.startswith("AAPL,")][99]
        cells = lines[at].split(",")
        cells[place : place + 1] = [value] if value != "(gone)" else []
        lines[at] = ",".join(cells)
        return "\n".join([*lines, ""])

    return change


BROKEN = [
    pytest.param(cell(1, "lots"), NotBelieved, "is no row of numbers", id="a word for a volume"),
    pytest.param(cell(2, ""), NotBelieved, "is no row of numbers", id="no open"),
    pytest.param(cell(3, "NaN"), NotBelieved, "is no row of numbers", id="NaN for a close"),
    pytest.param(cell(4, "True"), NotBelieved, "is no row of numbers", id="a truth for a high"),
    pytest.param(cell(5, "1_0"), NotBelieved, "is no row of numbers", id="Python's number for a low"),
    pytest.param(cell(6, "1.7e18"), NotBelieved, "is no row of numbers", id="a rounded time"),
    pytest.param(cell(6, "9" * 19), NotBelieved, "is no row of numbers", id="a time beyond an int64"),
    pytest.param(cell(7, "2.5"), NotBelieved, "is no row of numbers", id="half a transaction"),
    pytest.param(cell(7, "1,2"), NotBelieved, "is no row of numbers", id="a cell too many"),
    pytest.param(cell(7, "(gone)"), NotBelieved, "is no row of numbers", id="a cell too few"),
    pytest.param(cell(6, "1"), NotBelieved, "its bar of 1970-01-01 00:00Z is of another day", id="other day"),
    pytest.param(lambda text: text.replace("ticker,", "symbol,"), NotBelieved, "it begins with", id="another header"),
    pytest.param(
        lambda text: text.replace("open,close", "close,open", 1), NotBelieved, "not with 'ticker,volume", id="swapped"
    ),
    pytest.param(lambda text: text.partition("\n")[2], NotBelieved, "it begins with '1e5,", id="no header"),
    pytest.param(lambda _: "", NotBelieved, "it begins with ''", id="nothing"),
    pytest.param(lambda text: text.partition("\n")[0] + "\n", NotBelieved, "the file has no rows", id="a header alone"),
    pytest.param(
        lambda text: text.replace("\nBRK.B,", "\n<html>\nBRK.B,", 1),
        NotBelieved,
        "'<html>' is no row",
        id="a stray line",
    ),
]


@pytest.mark.parametrize(("change", "kind", "line"), BROKEN)
def test_a_broken_file_gives_nothing_and_one_clear_line(
    folder: Path, change: Callable[[str], str], kind: type[ProviderError], line: str
) -> None:
    path = file_of(folder, SESSIONS[1])
    rewrite(path, change)
    assert_refused(folder, kind, line)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        pytest.param(lambda data: data[: len(data) // 2], "cut short or damaged", id="cut short"),
        pytest.param(lambda data: data[:-1], "cut short or damaged", id="less its last byte"),
        pytest.param(lambda data: data[:-8] + b"\0" * 8, "cut short or damaged", id="wrong checksum"),
        pytest.param(lambda data: data[:5000] + b"\xff" * 500 + data[5500:], "cut short or damaged", id="overwritten"),
        pytest.param(lambda _: b"<html>not found</html>", "cut short or damaged", id="HTML"),
    ],
)
def test_a_damaged_archive_gives_nothing_and_one_clear_line(
    folder: Path, damage: Callable[[bytes], bytes], line: str
) -> None:
    path = file_of(folder, SESSIONS[1])
    path.write_bytes(damage(path.read_bytes()))
    assert_refused(folder, NotBelieved, line)


def test_a_folder_in_place_of_a_file_cannot_be_read(folder: Path) -> None:
    path = file_of(folder, SESSIONS[1])
    path.unlink()
    path.mkdir()
    assert_refused(folder, NotBelieved, "cannot be read: Is a directory")


def assert_refused(folder: Path, kind: type[ProviderError], line: str) -> None:
    """The second session's file is refused whole; the sessions around it are answered all the same."""
    name = f"files: us_stocks_sip/minute_aggs_v1/2026/07/{SESSIONS[1]}.csv.gz: "
    of = FilesProvider(folder)
    with pytest.raises(kind) as caught:
        of.fetch_market(whole_market("1m", SESSIONS[1], "AAPL", "BRK.B"), NOW)
    heard = hear(of, asking(FIRST, LAST))
    for error in (caught.value, heard.error):
        assert type(error) is kind
        assert str(error).startswith(name)
        assert line in str(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 300
    assert heard.answered == union([XNYS.days_window(FIRST, FIRST), XNYS.days_window(date(2026, 7, 31), LAST)])
    right = known("AAPL", "1m")
    kept = (right.ts < XNYS.days_window(SESSIONS[1], LAST).start) | (
        right.ts >= XNYS.days_window(SESSIONS[2], LAST).start
    )
    assert same(heard.stored, right.take(kept))


def test_the_file_of_another_day_under_this_name_is_not_believed(folder: Path) -> None:
    file_of(folder, SESSIONS[1]).write_bytes(file_of(folder, SESSIONS[0]).read_bytes())
    # Even for a ticker that it does not hold.
    with pytest.raises(NotBelieved, match="is of another day"):
        FilesProvider(folder).fetch_market(whole_market("1m", SESSIONS[1], "NOTHERE"), NOW)
