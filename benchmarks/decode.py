"""A full page of 50,000 minutes, as Polygon sends it, from bytes to columns."""

from __future__ import annotations

import json
import statistics
import time

import numpy as np

from backfill_pipeline.providers.http import Reply
from backfill_pipeline.providers.polygon_decode import read_page

from .figures import Figure

ROWS = 50_000
LIMIT = 0.2


def run(repeats: int = 7) -> list[Figure]:
    """Medians of processor time, for others may use the machine. Of the second page's rows 7 in 1,000 lack vw and n, as
    recorded replies do.
    """
    return [
        Figure(f"decode a page of {ROWS:,} bars, s", _median(_page(bare=0.0), repeats), LIMIT),
        Figure(f"decode {ROWS:,} bars, 0.7 % without vw and n, s", _median(_page(bare=0.007), repeats), LIMIT),
    ]


def _median(body: bytes, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        page = read_page(Reply("polygon: benchmark", 200, {}, body), "AAPL")
        times.append(time.process_time() - begun)
        assert len(page.bars) == ROWS
    return statistics.median(times)


def _page(*, bare: float) -> bytes:
    random = np.random.default_rng(1)
    prices = np.round(150 + random.normal(0, 1, (ROWS, 5)), 4).tolist()
    volumes = np.round(random.gamma(1.6, 20_000, ROWS), 3).tolist()
    rows = [
        {"v": volume, "vw": vw, "o": o, "c": c, "h": h, "l": low, "t": 1_700_000_000_000 + 60_000 * i, "n": i % 900}
        for i, (volume, (vw, o, c, h, low)) in enumerate(zip(volumes, prices, strict=True))
    ]
    for i in np.flatnonzero(random.random(ROWS) < bare):
        del rows[i]["vw"], rows[i]["n"]
    head = {"ticker": "AAPL", "queryCount": ROWS, "resultsCount": ROWS, "adjusted": False, "status": "OK"}
    return json.dumps({**head, "results": rows}, separators=(",", ":")).encode()
