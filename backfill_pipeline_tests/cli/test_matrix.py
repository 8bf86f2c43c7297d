"""The matrix of many symbols fits on a page: those that are alike share a row."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from backfill_pipeline.cli.matrix import show_matrix
from backfill_pipeline.storage.status import Completeness

WHOLE = Completeness(
    symbol="",
    timeframe="1d",
    wanted_from=date(2024, 1, 2),
    wanted_to=date(2024, 12, 31),
    expected=252,
    stored=252,
    explained=0,
    missing=0,
    not_due=0,
    complete_pct=100.0,
    clipped=None,
)
LACKING = replace(WHOLE, stored=240, missing=12, complete_pct=95.24)


def lines(capsys: pytest.CaptureFixture[str], count: int, *, every: bool = False) -> list[str]:
    rows = [replace(WHOLE, symbol=f"S{number:03d}") for number in range(count)]
    rows[7:9] = [replace(LACKING, symbol=row.symbol) for row in rows[7:9]]
    show_matrix(rows, every=every)
    return [line for line in capsys.readouterr().out.splitlines() if " S0" in line]


def test_of_a_hundred_symbols_those_that_are_alike_share_a_row_and_the_least_complete_come_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = lines(capsys, 100)
    assert [line.split("  ")[0].strip() for line in short] == ["S007 and 1 more", "S000 and 97 more"]
    assert "95.24" in short[0]


@pytest.mark.parametrize(("count", "every"), [(20, False), (100, True)])
def test_a_page_of_symbols_or_all_that_are_asked_for_have_a_row_each(
    capsys: pytest.CaptureFixture[str], count: int, every: bool
) -> None:
    assert len(lines(capsys, count, every=every)) == count
