"""The floor of free disk: below it nothing more is written, because a server whose disk is full stops for everybody."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

GB = 1_000_000_000
# The disk is looked at this often at most, in seconds: a window of 50,000 bars is 15 MB and takes a second.
_EVERY = 2.0


class DiskFullError(RuntimeError):
    """Less free space than the floor. The text is one line: the folder, the space, the floor, what to do."""


@dataclass
class Disk:
    """The file system of `folder`, where the embedded server keeps its data. `floor_gb`: in 10⁹ bytes; 0 for none."""

    folder: Path
    floor_gb: float
    _looked_at: float | None = field(default=None, repr=False)

    def refuse_full(self) -> None:
        """To be called before anything is written. Raises DiskFullError."""
        if self._looked_at is not None and time.monotonic() - self._looked_at < _EVERY:
            return
        free = shutil.disk_usage(self.folder).free
        if free < self.floor_gb * GB:
            raise DiskFullError(
                f"{self.folder}: {free / GB:.2f} GB are free and BACKFILL_MIN_FREE_GB is {self.floor_gb:g}: nothing"
                " more is written, what is stored stays; free some space (backfill db size), or move (backfill db"
                " move-to URL); then the same command goes on"
            )
        self._looked_at = time.monotonic()
