"""Why the embedded server did not start, in its own words."""

from pathlib import Path

from backfill_pipeline.storage.server_places import Layout

TELLING = ("PANIC:", "FATAL:", "ERROR:")


class LogReader:
    """Remembers how long the logs were, and later reads only what was added: the reason for this failure, not
    an old one.

    Removes the start log, which only ever grows.
    """

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.logs
        layout.start_log.unlink(missing_ok=True)
        self._sizes = {path: path.stat().st_size for path in self._logs()}

    def last_telling_line(self) -> str | None:
        """The last line of the worst kind that was added, from its severity on. None: nothing tells."""
        lines = [line for path in self._logs() for line in self._added(path)]
        for severity in TELLING:
            for line in reversed(lines):
                if severity in line:
                    return line[line.index(severity) :].removeprefix(severity).strip()
        return lines[-1].strip() if lines else None

    def _logs(self) -> list[Path]:
        return sorted(self._folder.glob("*.log"), key=lambda path: path.stat().st_mtime)

    def _added(self, path: Path) -> list[str]:
        with path.open("rb") as log:
            size = self._sizes.get(path, 0)
            log.seek(size if size <= path.stat().st_size else 0)  # shorter: a new week overwrote it
            return log.read().decode("utf-8", "replace").splitlines()
