"""Binary COPY, held against PostgreSQL's own reading of it and against `struct`."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL

from backfill_pipeline.storage.connection import connect
from backfill_pipeline.storage.copying import Coded, Column, RowStream, copy_in, copy_out

WORDS = ("pre", "regular", "ÄÖ", "€uro")


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    with closing(connect(database_url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE TEMP TABLE t (i int4, f float8, b bool, ts timestamptz, d date, w text, c text, k int4)"
            )
        yield connection


def _columns(rows: int, *, nulls: bool) -> tuple[list[Column], list[tuple[object, ...]]]:
    """Columns of every kind, and the rows that Python should get back."""
    random = np.random.default_rng(rows + 1)
    ints = random.integers(-(2**31), 2**31, rows)
    floats = random.normal(0, 1e6, rows)
    bools = random.integers(0, 2, rows).astype(bool)
    micros = random.integers(-(10**15), 4 * 10**15, rows)
    days = random.integers(-20_000, 40_000, rows)
    codes = random.integers(0, len(WORDS), rows).astype(np.int8)
    null = random.integers(0, 3, rows) == 0
    nothing = null if nulls else np.zeros(rows, dtype=bool)
    columns = [
        Column("int4", ints, null if nulls else None),
        Column("float8", floats, null if nulls else None),
        Column("bool", bools),
        Column("timestamptz", micros, null if nulls else None),
        Column("date", days.astype("datetime64[D]")),
        Column("text", Coded(WORDS, codes)),
        Column("text", "ünï"),
        Column("int4", 7),
    ]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = [
        (
            None if nothing[i] else int(ints[i]),
            None if nothing[i] else float(floats[i]),
            bool(bools[i]),
            None if nothing[i] else epoch + timedelta(microseconds=int(micros[i])),
            date(1970, 1, 1) + timedelta(days=int(days[i])),
            WORDS[codes[i]],
            "ünï",
            7,
        )
        for i in range(rows)
    ]
    return columns, expected


@pytest.mark.parametrize("nulls", [False, True], ids=["no NULLs", "NULLs"])
@pytest.mark.parametrize("rows", [0, 1, 2, 4095, 4096, 4097, 9000])
def test_postgresql_reads_what_was_written(conn: Connection, rows: int, *, nulls: bool) -> None:
    columns, expected = _columns(rows, nulls=nulls)
    copy_in(conn, SQL("COPY t FROM STDIN (FORMAT binary)"), columns, rows)
    with conn.cursor() as cursor:
        cursor.execute("SELECT * FROM t")
        assert cursor.fetchall() == expected


def test_a_stream_is_the_bytes_of_the_documented_format() -> None:
    columns = [
        Column("int4", np.array([1, -2]), np.array([False, True])),
        Column("text", Coded(("a", "bcd"), np.array([1, 0]))),
        Column("bool", np.array([True, False])),
        Column("float8", 2.5, np.array([True, False])),
    ]
    expected = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
    expected += struct.pack(">h ii i3s i? i", 4, 4, 1, 3, b"bcd", 1, 1, -1)
    expected += struct.pack(">h i i1s i? id", 4, -1, 1, b"a", 1, 0, 8, 2.5)
    expected += struct.pack(">h", -1)
    assert RowStream(columns, 2).read() == expected


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([0, 1, 4095, 4096, 4097]), st.booleans(), st.lists(st.integers(1, 300_000), min_size=1))
def test_reads_of_any_size_give_the_same_bytes(rows: int, nulls: bool, sizes: list[int]) -> None:
    whole = RowStream(_columns(rows, nulls=nulls)[0], rows).read()
    stream = RowStream(_columns(rows, nulls=nulls)[0], rows)
    pieces = io.BytesIO()
    i = 0
    while piece := stream.read(sizes[i % len(sizes)]):
        assert len(piece) <= sizes[i % len(sizes)]
        pieces.write(piece)
        i += 1
        if i > 2000:
            pieces.write(stream.read())
            break
    assert pieces.getvalue() == whole
    assert stream.read() == b""
    assert stream.read(0) == b""


def test_microseconds_survive_from_the_bronze_age_to_the_far_future(conn: Connection) -> None:
    micros = np.array(
        [-209_920_118_400_000_000, -1, 0, 1, 253_402_300_799_999_999, 8_500_000_000_000_000_001], dtype=np.int64
    )
    days = np.array(["-4712-01-02", "1969-12-31", "2000-01-01", "9999-12-31", "0001-01-01", "2024-02-29"]).astype(
        "M8[D]"
    )
    copy_in(
        conn,
        SQL("COPY t (ts, d) FROM STDIN (FORMAT binary)"),
        [Column("timestamptz", micros), Column("date", days)],
        6,
    )
    with conn.cursor() as cursor:
        cursor.execute("SELECT (extract(epoch FROM ts) * 1000000)::bigint FROM t")
        assert [row[0] for row in cursor.fetchall()] == micros.tolist()
    read = copy_out(conn, SQL("SELECT ts, d FROM t"), [("ts", "timestamptz"), ("d", "date")])
    assert read["ts"].tolist() == micros.tolist()
    assert read["d"].tolist() == days.tolist()


@pytest.mark.parametrize("rows", [0, 1, 4097])
def test_what_is_read_equals_what_was_written(conn: Connection, rows: int) -> None:
    columns, _ = _columns(rows, nulls=False)
    copy_in(conn, SQL("COPY t FROM STDIN (FORMAT binary)"), columns, rows)
    kinds = [("i", "int4"), ("f", "float8"), ("b", "bool"), ("ts", "timestamptz"), ("d", "date")]
    read = copy_out(conn, SQL("SELECT i, f, b, ts, d FROM t"), kinds)  # type: ignore[arg-type]  # Kinds
    assert [read[name].dtype.str for name, _ in kinds] == ["<i8", "<f8", "|b1", "<i8", "<M8[D]"]
    for column, (name, _) in zip(columns, kinds, strict=False):
        assert np.array_equal(read[name], column.values)  # type: ignore[arg-type]  # the first five are arrays


@pytest.mark.parametrize("null_rows", [1, 2, 3, 6, 12, 60], ids=lambda n: f"{n} NULLs")
def test_a_null_is_never_read_as_something_else(conn: Connection, null_rows: int) -> None:
    with conn.cursor() as cursor:
        cursor.execute("INSERT INTO t (f, i) SELECT nullif(g, 0), g FROM generate_series(1, 60) AS g")
        cursor.execute("UPDATE t SET f = NULL WHERE i <= %s", (null_rows,))
    with pytest.raises(AssertionError, match="NULLs"):
        copy_out(conn, SQL("SELECT i, f FROM t"), [("i", "int4"), ("f", "float8")])
