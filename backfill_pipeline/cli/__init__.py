"""The `backfill` command."""

from __future__ import annotations

import sys
import warnings


def main() -> None:
    """Run a command; anything a user can cause is one line on stderr and exit code 1 (2 for wrong usage)."""
    from backfill_pipeline.cli.app import app
    from backfill_pipeline.cli.common import CommandError, err
    from backfill_pipeline.defs.resources import USER_ERRORS
    from backfill_pipeline.storage.lost import was_lost

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        app()
    except (CommandError, *USER_ERRORS) as error:
        err.print(f"backfill: {error}")
        sys.exit(1)
    finally:
        # Dagster's own reads tell of it by errors of sqlalchemy's and of its own.
        if was_lost(sys.exception()):
            err.print("backfill: the database went away; what is stored stays, the same command goes on from there")
            sys.exit(1)
