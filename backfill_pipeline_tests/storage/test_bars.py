"""Writing bars: only what is new or different, with the old values kept."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

from backfill_pipeline.domain.windows import MINUTE, Window
from backfill_pipeline.storage.bars import (
    StoredBars,
    nth_regular_after,
    nth_regular_before,
    read_bars,
    write_bars,
)
from backfill_pipeline.storage.rows import Changes
from backfill_pipeline_tests.storage.stored import (
    KEY,
    NOW,
    START,
    Values,
    as_bars,
    migrated,
    rows,
    stored,
    values,
)

LATER = NOW + timedelta(days=1)
TABLES = st.dictionaries(
    st.integers(0, 40),
    st.tuples(st.integers(0, 4), st.booleans()).map(lambda pair: values(pair[0], final=pair[1])),
    max_size=25,
)


def _write(conn: Connection, table: dict[int, Values], provider: str = "p", *, keep: bool = True) -> Changes:
    with conn:
        return write_bars(conn, KEY, as_bars(table), provider, now=LATER, keep_revisions=keep)


def _revisions(conn: Connection) -> list[tuple[int, Values, str]]:
    found = rows(
        conn,
        "SELECT (extract(epoch FROM ts) * 1000000)::bigint, open, high, low, close, volume, vwap, trades, final, kind,"
        " revised_at FROM bar_revisions ORDER BY ts",
    )
    assert all(row[-1] == LATER for row in found)
    return [((row[0] - START) // MINUTE, tuple(row[1:9]), row[9]) for row in found]  # type: ignore[operator, misc]  # a row


def test_the_first_bars_of_a_stretch_are_stored_with_all_their_columns(database_url: str) -> None:
    table = {minute: values(minute, final=minute % 2 == 0) for minute in range(5000 // 4)}
    with migrated(database_url) as conn:
        assert _write(conn, table) == Changes(1250, 0, 0, START, START + 1249 * MINUTE)
        assert stored(conn) == table
        assert rows(conn, "SELECT DISTINCT session::text, provider FROM bars") == [("2024-05-06", "p")]
        assert rows(conn, "SELECT segment::text FROM bars ORDER BY ts LIMIT 4") == [
            ("pre",),
            ("regular",),
            ("post",),
            ("pre",),
        ]


def test_equal_bars_are_not_written_again(database_url: str) -> None:
    table = {minute: values(minute) for minute in range(1400)}
    with migrated(database_url) as conn:
        _write(conn, table)
        before = rows(conn, "SELECT ctid, xmin, * FROM bars ORDER BY ts")
        position = rows(conn, "SELECT pg_current_wal_lsn()")[0][0]
        conn.commit()
        assert _write(conn, table) == Changes()
        growth = rows(conn, "SELECT pg_current_wal_lsn() - %s::pg_lsn", position)[0][0]
        assert growth < 20_000  # 1,400 rewritten bars would be 300,000; hint bits and other workers' noise are small
        assert rows(conn, "SELECT ctid, xmin, * FROM bars ORDER BY ts") == before
        assert _revisions(conn) == []


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=TABLES, new=TABLES, keep=st.booleans(), same=st.booleans())
def test_any_change_leaves_the_new_bars_and_the_old_values(
    database_url: str, old: dict[int, Values], new: dict[int, Values], *, keep: bool, same: bool
) -> None:
    with migrated(database_url) as conn:
        with conn:
            rows(conn, "TRUNCATE bars, bar_revisions")
        _write(conn, old, "p")
        changes = _write(conn, new, "p" if same else "q", keep=keep)
        assert stored(conn) == new
        both = old.keys() & new.keys()
        changed = {minute for minute in both if not same or old[minute] != new[minute]}
        assert (changes.inserted, changes.changed, changes.withdrawn) == (
            len(new.keys() - old.keys()),
            len(changed),
            len(old.keys() - new.keys()),
        )
        assert rows(conn, "SELECT count(*) FROM bars WHERE provider = %s", "p" if same else "q")[0][0] == len(new)
        expected = [(minute, old[minute], "withdrawn") for minute in old.keys() - new.keys()]
        expected += [(minute, old[minute], "restated") for minute in both if old[minute][:7] != new[minute][:7]]
        assert _revisions(conn) == (sorted(expected) if keep else [])


@pytest.mark.parametrize("column", range(7), ids=["open", "high", "low", "close", "volume", "vwap", "trades"])
def test_a_change_of_any_one_value_is_seen(database_url: str, column: int) -> None:
    old = {0: values(1), 1: values(2)}
    changed = list(old[1])
    changed[column] += 1  # type: ignore[operator]  # none of these is None
    with migrated(database_url) as conn:
        _write(conn, old)
        assert _write(conn, {0: old[0], 1: tuple(changed)}) == Changes(0, 1, 0, START + MINUTE, START + MINUTE)  # type: ignore[dict-item]  # Values
        assert _revisions(conn) == [(1, old[1], "restated")]


def test_becoming_known_or_unknown_is_a_change(database_url: str) -> None:
    known = values(1)
    unknown = (*known[:5], None, None, known[7])
    with migrated(database_url) as conn:
        for table in ({0: known}, {0: unknown}, {0: known}):
            _write(conn, table)
        assert [revision[1] for revision in _revisions(conn)] == [known, unknown]
        assert stored(conn) == {0: known}


def test_bars_are_read_back_as_they_were(database_url: str) -> None:
    table = {minute: values(minute) for minute in (3, 1, 7)}
    with migrated(database_url) as conn:
        _write(conn, table)
        bars = read_bars(conn, KEY)
        assert ((bars.ts - START) // MINUTE).tolist() == [1, 3, 7]
        given_bars = as_bars(table).bars
        for name in ("ts", "open", "high", "low", "close", "volume", "vwap", "trades", "final"):
            assert getattr(bars, name).tobytes() == getattr(given_bars, name).tobytes()
        assert ((read_bars(conn, KEY, regular_only=True).ts - START) // MINUTE).tolist() == [3]


def test_a_slice_of_bars_is_half_open() -> None:
    some: StoredBars = as_bars({minute: values(minute) for minute in range(5)})
    chosen = some.between(Window(START + MINUTE, START + 3 * MINUTE))
    assert chosen.bars.ts.tolist() == [START + MINUTE, START + 2 * MINUTE]
    assert chosen.segment.tolist() == [1, 2]
    assert len(chosen.session) == 2


def test_the_nth_regular_bar_counts_regular_bars_only(database_url: str) -> None:
    with migrated(database_url) as conn:
        _write(conn, {minute: values(minute) for minute in range(30)})  # regular: 1, 4, 7 … 28
        for n, after, before in ((1, 13, 7), (3, 19, 1), (6, 28, None), (7, None, None)):
            expected = None if after is None else START + after * MINUTE
            assert nth_regular_after(conn, 1, "1m", START + 10 * MINUTE, n) == expected
            expected = None if before is None else START + before * MINUTE
            assert nth_regular_before(conn, 1, "1m", START + 10 * MINUTE, n) == expected
        assert nth_regular_after(conn, 1, "5m", START, 1) is None
