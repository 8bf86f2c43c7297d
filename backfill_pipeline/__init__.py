"""Complete, correct OHLCV history of the symbols you follow, in your own PostgreSQL.

`read_bars` and `read_features` read it; everything else is the `backfill` command and Dagster's UI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backfill_pipeline.domain.adjust import Split
    from backfill_pipeline.reading import read_bars, read_features
    from backfill_pipeline.reading_completeness import IncompleteError, IncompleteWarning

__all__ = ["IncompleteError", "IncompleteWarning", "Split", "read_bars", "read_features"]


def __getattr__(name: str) -> object:
    """The public names, imported when they are first used: pandas costs half a second that no command needs."""
    if name == "Split":
        from backfill_pipeline.domain.adjust import Split

        return Split
    if name in __all__:
        from backfill_pipeline import reading

        return getattr(reading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
