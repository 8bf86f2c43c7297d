"""`python -m backfill_pipeline_tests.standin`: a stand-in as a process of its own. Its first line is its URL."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from . import StandIn


def main() -> int:
    parser = argparse.ArgumentParser(prog="standin", description=__doc__)
    parser.add_argument("--port", type=int, help="default: the file's, else a free one")
    parser.add_argument("--config", type=Path, help="JSON; see the package's text")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input is closed")
    arguments = parser.parse_args()
    config = json.loads(arguments.config.read_text()) if arguments.config else {}
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with StandIn.from_config(config, arguments.port) as standin:
        sys.stdout.write(f"{standin.url}\n")
        sys.stdout.flush()
        if arguments.end_with_stdin:
            threading.Thread(target=_watch_stdin, args=(ended,), daemon=True).start()
        ended.wait()
    return 0


def _watch_stdin(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    sys.exit(main())
