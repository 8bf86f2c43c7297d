"""Measure everything and print one table; exit code 1 if a limit is exceeded. A name or more: only those; `scale`,
`ui_backfill` and `asset_page` only by their names, because they take long.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from . import (
    asset_page,
    bookkeeping,
    decode,
    features,
    ingest,
    look,
    memory,
    overhead,
    overlap,
    resample,
    scale,
    ui_backfill,
)
from .ending import end_on_sigterm
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
    "overhead": overhead.run,
}
# Minutes each: only by their names.
ON_REQUEST: dict[str, Callable[[], list[Figure]]] = {
    "ui_backfill": ui_backfill.run,
    "asset_page": asset_page.run,
}


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{' '.join(PARTS)}; on request: {' '.join(ON_REQUEST)} scale"
    )
    parser.add_argument("--rows", type=int, default=scale.ROWS, help="of scale: bars of the larger table")
    asked = parser.parse_args(words)
    parts: dict[str, Callable[[], list[Figure]]] = {**PARTS, **ON_REQUEST, "scale": lambda: scale.run(asked.rows)}
    names = asked.names or list(PARTS)
    unknown = [name for name in names if name not in parts]
    if unknown:
        sys.stderr.write(f"benchmark {unknown[0]!r} is not known; choose from {' '.join(parts)}\n")
        return 2
    end_on_sigterm()
    figures: list[Figure] = []
    for name, part in parts.items():
        if name in names:
            sys.stderr.write(f"{name} …\n")
            figures += part()
    show(figures)
    return 0 if all(figure.holds for figure in figures) else 1


sys.exit(main(sys.argv[1:]))
