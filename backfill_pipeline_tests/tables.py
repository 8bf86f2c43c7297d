"""What must be equal between two databases that were filled in different ways: everything but ids, `*_at` columns, the
cutting of coverage, and what became of gaps that are open no more. As text, so that every digit of a float counts.
"""

from __future__ import annotations

import io

from psycopg2.extensions import connection as Connection  # noqa: N812  (a type)

Tables = dict[str, list[str]]

_NOT_COMPARED = {"symbol_id", "added_at", "checked_at"}
# Of gaps, what they are; attempts and evidence are of the way there.
_GAP = {"gap_id", "evidence", "attempts", "next_attempt_at", "detected_at", "resolved_at", "resolution"}
_NAMES = ("symbols", "wanted", "bars", "features", "session_status", "gaps")


def tables(conn: Connection) -> Tables:
    """Rows of each table as tab-separated text with the symbol's name first, sorted. Ends the open transaction."""
    dumped = {name: _rows(conn, name) for name in _NAMES}
    conn.rollback()
    return dumped


def differences(left: Tables, right: Tables, most: int = 10) -> list[str]:
    """Rows that only one side has, `most` of each table and side; empty for equal tables. Quick to print, unlike ==."""
    found = []
    for name in _NAMES:
        if left[name] == right[name]:
            continue
        mine, theirs = set(left[name]), set(right[name])
        found.append(f"{name}: {len(mine)} rows, of which {len(mine - theirs)} others, against {len(theirs)}")
        found += [f"  only left:  {row!r}" for row in sorted(mine - theirs)[:most]]
        found += [f"  only right: {row!r}" for row in sorted(theirs - mine)[:most]]
    return found


def counts(dumped: Tables) -> list[str]:
    """`session_status` without the sums, which change with any bar."""
    return [row.rsplit("\t", 3)[0] for row in dumped["session_status"]]


def _rows(conn: Connection, name: str) -> list[str]:
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'market' AND table_name = %s"
            " ORDER BY ordinal_position",
            (name,),
        )
        columns = [row[0] for row in cursor.fetchall() if row[0] not in _NOT_COMPARED | _GAP]
        chosen = ["y.symbol", *(f"t.{column}" for column in columns if column != "symbol")]
        buffer = io.BytesIO()
        which = "WHERE resolved_at IS NULL" if name == "gaps" else ""
        query = f"SELECT {', '.join(chosen)} FROM {name} AS t LEFT JOIN symbols AS y USING (symbol_id) {which}"
        cursor.copy_expert(f"COPY ({query}) TO STDOUT", buffer)
    return sorted(buffer.getvalue().decode().splitlines())
