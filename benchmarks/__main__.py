"""Measure everything and print one table; exit code 1 if a limit is exceeded. A name or more: only those."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from . import bookkeeping, decode, features, ingest, look, memory, overlap, resample
from .figures import Figure, show

PARTS: dict[str, Callable[[], list[Figure]]] = {
    "ingest": ingest.run,
    "resample": resample.run,
    "features": features.run,
    "bookkeeping": bookkeeping.run,
    "decode": decode.run,
    "overlap": overlap.run,
    "look": look.run,
    "memory": memory.run,
}


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        sys.stderr.write(f"benchmark {unknown[0]!r} is not known; choose from {' '.join(PARTS)}\n")
        return 2
    figures: list[Figure] = []
    for name, part in PARTS.items():
        if not names or name in names:
            sys.stderr.write(f"{name} …\n")
            figures += part()
    show(figures)
    return 0 if all(figure.holds for figure in figures) else 1


sys.exit(main(sys.argv[1:]))
