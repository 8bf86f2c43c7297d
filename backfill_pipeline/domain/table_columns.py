"""How a table and a column are declared; the declarations are in columns.py and event_columns.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableColumn:
    """`type`: PostgreSQL's name. `unit`: `-` where a value has none."""

    name: str
    type: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class TableDeclaration:
    """`grain`: what one row is."""

    name: str
    grain: str
    columns: tuple[TableColumn, ...]
