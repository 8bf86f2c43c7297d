"""How a benchmark or a campaign that is told to end does: with its `finally` blocks, that is, with its servers."""

from __future__ import annotations

import signal
import sys


def end_on_sigterm() -> None:
    """SIGTERM raises SystemExit in the main thread, once: a second one does not disturb the tidying up."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
