"""Files that are not what was said of them: one line each, and nothing stored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from backfill_pipeline.steps.requests import RequestError
from backfill_pipeline.steps.warehouse import Warehouse
from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.databases import database
from backfill_pipeline_tests.steps.imports import DAYS, LATER, NAMES, contents, minutes, request, save, take
from backfill_pipeline_tests.steps.warehouses import Exchange, listed, micros, opened, query, row_of


@pytest.fixture(scope="module")
def shelf(server: EmbeddedServer) -> Iterator[Warehouse]:
    """One warehouse for all files that are refused."""
    with database(server) as url, opened(url, Exchange(), LATER) as made:
        listed(made)
        yield made


@pytest.fixture
def warehouse(database_url: str) -> Iterator[Warehouse]:
    with opened(database_url, Exchange(), LATER) as made:
        listed(made)
        yield made


def in_zone(frame: pd.DataFrame, zone: str) -> pd.DataFrame:
    """Zone-less wall-clock times."""
    stamps = pd.to_datetime(frame["ts"], unit="us", utc=True).dt.tz_convert(zone).dt.tz_localize(None)
    return frame.assign(ts=stamps)


@pytest.mark.parametrize(
    ("frame", "said", "words"),
    [
        pytest.param(in_zone(minutes(), "America/New_York"), {"tz": "UTC"}, "zone looks wrong: bars of ABC", id="zone"),
        pytest.param(
            in_zone(minutes(), "America/Chicago"),
            {"tz": "America/New_York"},
            "would fit the sessions of XNYS better 1:00 later (100% instead of",
            id="an hour",
        ),
        pytest.param(in_zone(minutes(), "UTC"), {}, "its times have no zone; say which: --tz", id="no zone said"),
        pytest.param(minutes().drop(columns="close"), {}, "has no column for close", id="a column missing"),
        pytest.param(minutes().rename(columns={"open": "first"}), {}, "has no column for open; it has", id="misnamed"),
        pytest.param(minutes(), {"symbol": None}, "has no column of symbols; say whose", id="no symbol"),
        pytest.param(minutes().assign(symbol="ABC"), {}, "has a column of symbols, 'symbol'; leave", id="two symbols"),
        pytest.param(minutes().assign(symbol="XYZ"), {"symbol": None}, "symbol XYZ not registered", id="unknown"),
        pytest.param(minutes().assign(timeframe="5m"), {}, "holds bars of 5m, and not of 1m alone", id="timeframe"),
        pytest.param(minutes().head(0), {}, "holds no rows", id="empty"),
        pytest.param(minutes().assign(volume=-1.0), {}, "1,170 rows: volume is negative; nothing", id="all refused"),
        pytest.param(
            minutes().assign(ts=lambda frame: frame["ts"] + 5 * 86_400_000_000).head(390),
            {},
            "390 of 390 rows are out of session",
            id="a weekend",
        ),
    ],
)
def test_a_file_that_is_not_what_was_said_is_one_line_and_nothing_is_stored(
    tmp_path: Path, shelf: Warehouse, frame: pd.DataFrame, said: dict[str, Any], words: str
) -> None:
    before = contents(shelf)
    with pytest.raises((RequestError, LookupError)) as raised:
        take(shelf, request(save(tmp_path, frame), **said))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert contents(shelf) == before


@pytest.mark.parametrize("known", ["a split in the file", "a day's close before a later split"])
def test_adjusted_prices_said_to_be_raw_are_refused(tmp_path: Path, warehouse: Warehouse, known: str) -> None:
    query(
        warehouse,
        "INSERT INTO splits (symbol_id, ex_date, split_from, split_to, adjustment_type, provider_id, provider,"
        " accepted, reason, seen_at) SELECT symbol_id, %s, 1, 4, 'forward_split', 'x', 'told', true, '', now()"
        " FROM symbols",
        DAYS[1] if known == "a split in the file" else DAYS[2] + timedelta(days=7),
    )
    raw = minutes()
    if known == "a split in the file":
        raw.loc[raw["ts"] < micros(DAYS[1], 0), [*NAMES[1:5], "vwap"]] *= 4
        adjusted = minutes()
    else:
        take(
            warehouse,
            request(save(tmp_path, pd.DataFrame([(micros(DAYS[1], 0), *row_of(raw["ts"][779]))], columns=NAMES)), "1d"),
        )
        adjusted = minutes()
        adjusted[[*NAMES[1:5], "vwap"]] /= 4
    before = contents(warehouse)

    with pytest.raises(RequestError, match="ABC looks adjusted: ") as raised:
        take(warehouse, request(save(tmp_path, adjusted)))

    assert "\n" not in str(raised.value)
    assert contents(warehouse) == before
    (found,) = take(warehouse, request(save(tmp_path, raw)))
    assert found.bars == 1170
