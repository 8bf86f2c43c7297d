"""A measured figure, its limit, and how both are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """`limit` None: told for information."""

    name: str
    value: float
    limit: float | None
    sense: Literal["at most", "at least"] = "at most"

    @property
    def holds(self) -> bool:
        if self.limit is None:
            return True
        return self.value <= self.limit if self.sense == "at most" else self.value >= self.limit


def show(figures: Sequence[Figure]) -> None:
    table = Table("figure", "measured", "limit", "")
    for figure in figures:
        limit = "" if figure.limit is None else f"{figure.sense} {figure.limit:g}"
        verdict = "" if figure.limit is None else "[green]holds[/green]" if figure.holds else "[red]exceeded[/red]"
        table.add_row(figure.name, f"{figure.value:.2f}", limit, verdict)
    Console(width=120).print(table)
