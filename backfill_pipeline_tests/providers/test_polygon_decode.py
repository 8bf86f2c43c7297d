"""One row, one page, one next_url at a time: what is read, and what is never made up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from backfill_pipeline.domain.windows import MINUTE
from backfill_pipeline.providers.errors import ServerTrouble
from backfill_pipeline.providers.http import Reply
from backfill_pipeline.providers.polygon_decode import decode_rows, next_target, read_page
from backfill_pipeline_tests.providers.polygons import same


@pytest.mark.parametrize(
    ("next_url", "target"),
    [
        (None, None),
        ("", None),
        (7, None),
        ("https://api.polygon.io/v2/aggs/x?cursor=bGltaXQ9Mg", "/v2/aggs/x?cursor=bGltaXQ9Mg&adjusted=false"),
        ("https://evil.example:99/v2/x?cursor=a-b==&adjusted=true", "/v2/x?cursor=a-b%3D%3D&adjusted=false"),
        ("/v2/x?apiKey=secret&cursor=", "/v2/x?cursor=&adjusted=false"),
    ],
)
def test_of_a_next_url_only_path_and_query_count(next_url: object, target: str | None) -> None:
    assert next_target(next_url) == target


ROW = {"o": 10, "h": 11.5, "l": 9.75, "c": 11, "v": 1234.5, "vw": 10.6, "t": 1_754_000_040_000, "n": 17}


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        ({}, "ts", 1_754_000_040_000_000),
        ({}, "open", 10.0),
        ({"v": 1.12117471e08}, "volume", 112_117_471.0),
        ({"v": 0.000123}, "volume", 0.000123),
        ({"vw": 0}, "vwap", np.nan),
        ({"vw": None}, "vwap", np.nan),
        ({"vw": 12.5}, "vwap", 12.5),
        ({"n": None}, "trades", -1),
        ({"n": 10**30}, "trades", -1),
        ({"n": 2**40}, "trades", 2**40),
        ({"n": 3.0}, "trades", 3),
        ({"c": None}, "close", np.nan),
        ({"c": "abc"}, "close", np.nan),
        ({"c": True}, "close", np.nan),
        ({"c": [1]}, "close", np.nan),
        ({"h": 10**400}, "high", np.inf),
        ({"t": None}, "ts", 0),
        ({"t": -5}, "ts", 0),
        ({"t": 10**18}, "ts", 0),
        ({"t": "soon"}, "ts", 0),
        ({"t": 1_754_000_040_017}, "ts", 1_754_000_040_017_000),
    ],
)
def test_a_row_is_read_as_it_stands_and_nothing_is_made_up(
    change: dict[str, object], column: str, value: float
) -> None:
    for rows in ([{**ROW, **change}], [ROW, {**ROW, **change}, ROW]):
        found = getattr(decode_rows(rows), column)[len(rows) // 2]
        assert np.array_equal(found, value, equal_nan=True)


@pytest.mark.parametrize("name", ["o", "h", "l", "c", "v", "t", "vw", "n"])
def test_a_lacking_column_is_unknown_and_the_others_stay(name: str) -> None:
    lacking = {key: value for key, value in ROW.items() if key != name}
    bars = decode_rows([ROW, lacking, ROW], suspicious=False)
    column = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "t": "ts", "vw": "vwap", "n": "trades"}
    missing = {"t": 0, "n": -1}.get(name, np.nan)
    for key, own in column.items():
        value = missing if key == name else ROW[key] * (1000 if key == "t" else 1)
        assert np.array_equal(getattr(bars, own)[1], value, equal_nan=True)
        assert getattr(bars, own)[0] == ROW[key] * (1000 if key == "t" else 1)


@pytest.mark.parametrize("row", [None, 7, "x", [1, 2], {}])
def test_a_row_that_is_no_row_harms_only_itself(row: object) -> None:
    bars = decode_rows([ROW, row, ROW])
    assert bars.ts.tolist() == [ROW["t"] * 1000, 0, ROW["t"] * 1000]
    assert np.isnan(bars.close[1])
    assert bars.close[[0, 2]].tolist() == [11, 11]


def test_both_readings_of_a_page_agree() -> None:
    random = np.random.default_rng(3)
    rows = [
        {**ROW, "t": ROW["t"] + i * MINUTE // 1000, "c": float(c), "n": int(c)}
        for i, c in enumerate(random.random(200))
    ]
    assert same(decode_rows(rows, suspicious=True), decode_rows(rows, suspicious=False))


def test_a_boolean_price_in_a_page_is_no_price() -> None:
    body = json.dumps({"ticker": "A", "results": [{**ROW, "c": True}], "adjusted": False}).encode()
    assert np.isnan(read_page(Reply("polygon: A", 200, {}, body), "A").bars.close[0])


def test_a_reply_that_holds_less_than_it_counts_is_a_passing_fault() -> None:
    row = b'{"o":1,"h":1,"l":1,"c":1,"v":1,"t":1754000040000}'
    for count, rows in ((2, row), (1, b"")):
        body = b'{"ticker":"A","resultsCount":%d,"adjusted":false,"results":[%s]}' % (count, rows)
        with pytest.raises(ServerTrouble, match=rf"counts {count} bars and holds {count - 1}"):
            read_page(Reply("polygon: A", 200, {}, body), "A")
    body = b'{"ticker":"A","resultsCount":0,"queryCount":0,"adjusted":false,"results":[%s]}' % row
    assert len(read_page(Reply("polygon: A", 200, {}, body), "A").bars) == 1
