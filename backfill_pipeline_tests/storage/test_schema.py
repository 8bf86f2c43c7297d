"""The declared columns are those of the migrated database, and the generated documentation is up to date."""

from __future__ import annotations

import re

from backfill_pipeline.domain.columns import BARS, TABLES
from backfill_pipeline_tests.docs import pages
from backfill_pipeline_tests.storage.stored import migrated, rows


def test_every_declared_column_is_in_the_database_and_no_other(database_url: str) -> None:
    with migrated(database_url) as conn:
        found: dict[str, list[tuple[str, str]]] = {}
        for table, column, kind in rows(
            conn,
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a"
            " JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'market' AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped"
            " ORDER BY c.relname, a.attnum",
        ):
            found.setdefault(str(table), []).append((str(column), str(kind)))
    declared = {table.name: [(column.name, column.type) for column in table.columns] for table in TABLES}
    assert found == declared


def test_views_are_called_views_and_tables_are_not(database_url: str) -> None:
    with migrated(database_url) as conn:
        views = {row[0] for row in rows(conn, "SELECT viewname FROM pg_views WHERE schemaname = 'market'")}
    assert {table.name for table in TABLES if table.grain.startswith("View: ")} == views


def test_a_revision_is_a_bar_and_what_became_of_it() -> None:
    revisions = next(table for table in TABLES if table.name == "bar_revisions")
    assert [column.name for column in revisions.columns] == [*(c.name for c in BARS), "kind", "revised_at"]


def test_enums_print_as_the_documented_words(database_url: str) -> None:
    with migrated(database_url) as conn:
        words = [
            rows(conn, f"SELECT enum_range(NULL::{name})::text")[0][0]
            for name in ("timeframe", "segment", "asset_class")
        ]
    assert words == ["{1m,5m,15m,30m,1h,4h,1d,1w}", "{pre,regular,post}", "{stock,etf,crypto}"]


def test_the_documentation_is_what_make_docs_writes() -> None:
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: make docs"


def test_every_line_of_a_generated_table_has_the_cells_of_its_header() -> None:
    for path, text in pages().items():
        cells = 0
        for line in text.splitlines():
            if not line.startswith("|"):
                cells = 0
                continue
            count = len(re.findall(r"(?<!\\)\|", line))
            cells = cells or count
            assert count == cells, f"{path.name}: {line}"


def test_every_declared_column_says_what_it_means() -> None:
    for table in TABLES:
        assert table.grain.rstrip(".")
        for column in table.columns:
            assert column.unit, f"{table.name}.{column.name}"
            assert column.meaning, f"{table.name}.{column.name}"
