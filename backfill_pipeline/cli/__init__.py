"""The `backfill` command."""

from __future__ import annotations

import sys
import warnings


def main() -> None:
    """Run a command; anything a user can cause is one line on stderr and exit code 1 (2 for wrong usage)."""
    from backfill_pipeline.cli.app import app
    from backfill_pipeline.cli.common import CommandError, err
    from backfill_pipeline.defs.resources import USER_ERRORS

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        app()
    except (CommandError, *USER_ERRORS) as error:
        err.print(f"backfill: {error}")
        sys.exit(1)
