"""Replacing the rows of a stretch, held against a dict, on a table of one value."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)
from psycopg2.sql import SQL

from backfill_pipeline.domain.windows import MINUTE, Window
from backfill_pipeline.storage.copying import Column
from backfill_pipeline.storage.rows import Changes, Key, Table, read_rows, replace_rows
from backfill_pipeline_tests.storage.stored import KEY, START, migrated, rows

TOY = Table("toy", (("v", "float8", SQL("coalesce(v, 'NaN')")),))
CREATE = "CREATE TEMP TABLE toy (symbol_id int, timeframe timeframe, ts timestamptz, v float8)"

IDENTITIES = "SELECT ts, ctid::text || xmin::text || cmin::text FROM toy WHERE symbol_id = 1"

TOYS = st.dictionaries(st.integers(0, 30), st.sampled_from([1.0, 2.0, None]), max_size=20)


def _replace(conn: Connection, new: dict[int, float | None], key: Key = KEY) -> tuple[Changes, list[list[int]]]:
    minutes = sorted(new)
    ts = np.array([START + minute * MINUTE for minute in minutes], dtype=np.int64)
    v = np.array([np.nan if new[minute] is None else new[minute] for minute in minutes], dtype=np.float64)
    told: list[list[int]] = []
    changes = replace_rows(
        conn,
        TOY,
        key,
        ts,
        {"v": v},
        lambda index: [
            ("symbol_id", Column("int4", key.symbol_id)),
            ("timeframe", Column("text", key.timeframe)),
            ("ts", Column("timestamptz", ts[index])),
            ("v", Column("float8", v[index], np.isnan(v[index]))),
        ],
        lambda restated, withdrawn: told.extend([((restated - START) // MINUTE).tolist(), _minutes(withdrawn)]),
    )
    return changes, told


def _minutes(ts: np.ndarray) -> list[int]:
    return sorted(((ts - START) // MINUTE).tolist())


def _all(conn: Connection) -> dict[int, float | None]:
    found = rows(conn, "SELECT (extract(epoch FROM ts) * 1000000)::bigint, v FROM toy WHERE symbol_id = 1")
    return {(row[0] - START) // MINUTE: row[1] for row in found}  # type: ignore[operator, misc]  # a row


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=TOYS, new=TOYS, low=st.integers(0, 10), high=st.integers(20, 31))
def test_a_stretch_becomes_what_was_given_and_nothing_around_it_moves(
    database_url: str, old: dict[int, float | None], new: dict[int, float | None], low: int, high: int
) -> None:
    inside = {minute: v for minute, v in new.items() if low <= minute < high}
    before = {minute: v for minute, v in old.items() if low <= minute < high}
    changed = {minute for minute in inside.keys() & before.keys() if inside[minute] != before[minute]}
    added, gone = inside.keys() - before.keys(), before.keys() - inside.keys()
    with migrated(database_url) as conn:
        rows(conn, CREATE)
        rows(
            conn,
            "INSERT INTO toy SELECT 2, '1m', ts, 9 FROM generate_series(%s::timestamptz, '2024-05-07', '1h') ts",
            "2024-05-06",
        )
        _replace(conn, old)
        ids = dict(rows(conn, IDENTITIES))  # type: ignore[arg-type]  # pairs
        key = Key(1, "1m", Window(START + low * MINUTE, START + high * MINUTE))
        changes, told = _replace(conn, inside, key)
        assert _all(conn) == {m: v for m, v in old.items() if not low <= m < high} | inside
        touched = sorted(added | gone | changed)
        assert (changes.inserted, changes.changed, changes.withdrawn) == (len(added), len(changed), len(gone))
        assert changes.written == len(added) + len(changed)
        assert bool(changes) == bool(touched)
        if touched:
            assert (changes.first, changes.last) == (START + touched[0] * MINUTE, START + touched[-1] * MINUTE)
        assert told == ([sorted(changed), sorted(gone)] if changed or gone else [])
        after = dict(rows(conn, IDENTITIES))  # type: ignore[arg-type]  # pairs
        rewritten = {ts for ts in ids.keys() & after.keys() if ids[ts] != after[ts]}
        assert len(rewritten) == len(changed)
        assert rows(conn, "SELECT count(*) FROM toy WHERE symbol_id = 2 AND v = 9") == [(25,)]


def test_rows_come_back_ascending_with_nan_for_null(database_url: str) -> None:
    with migrated(database_url) as conn:
        rows(conn, CREATE)
        _replace(conn, {5: 1.0, 2: None, 9: 2.0})
        read = read_rows(conn, TOY, KEY)
        assert ((read["ts"].astype(np.int64) - START) // MINUTE).tolist() == [2, 5, 9]
        assert np.array_equal(read["v"], [np.nan, 1.0, 2.0], equal_nan=True)
        assert len(read_rows(conn, TOY, KEY, SQL(" AND v > 1"))["ts"]) == 1


def test_changes_add_up() -> None:
    nothing, one = Changes(), Changes(1, 2, 3, 10, 20)
    assert nothing + one == one + nothing == one
    assert one + Changes(1, 1, 1, 5, 15) == Changes(2, 3, 4, 5, 20)
    assert not nothing + nothing


def test_an_instant_is_exact_to_the_microsecond(database_url: str) -> None:
    micros = [-1, 0, 1, 999_999, -62_135_596_800_000_000, 253_402_300_799_999_999, 1_714_953_600_000_001]
    with migrated(database_url) as conn:
        assert rows(
            conn, "SELECT (extract(epoch FROM instant(u)) * 1000000)::bigint FROM unnest(%s::bigint[]) AS u", micros
        ) == [(value,) for value in micros]
