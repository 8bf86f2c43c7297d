"""The `backfill` command."""

from __future__ import annotations

import logging
import sys
import warnings


def _is_news(record: logging.LogRecord) -> bool:
    """Dagster tells of every new try to reach its database, in five lines; what comes of them is told in one."""
    return not str(record.msg).startswith("Retrying failed database connection")


def main() -> None:
    """Run a command; anything a user can cause is one line on stderr and exit code 1 (2 for wrong usage)."""
    from backfill_pipeline.cli.app import app
    from backfill_pipeline.cli.common import CommandError, err
    from backfill_pipeline.defs.resources import USER_ERRORS
    from backfill_pipeline.storage.lost import was_lost

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger().addFilter(_is_news)
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
