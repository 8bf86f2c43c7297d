"""The `backfill` command."""

from __future__ import annotations

import sys
import warnings


def main() -> None:
    """Run a command; anything a user can cause is one line on stderr and exit code 1 (2 for wrong usage)."""
    import click
    import typer

    from backfill_pipeline.cli.app import USER_ERRORS, app
    from backfill_pipeline.cli.common import err

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except click.exceptions.Abort:
        err.print("interrupted")
        sys.exit(130)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("interrupted: what is stored stays; the same command goes on from there")
        sys.exit(130)
    except USER_ERRORS as error:
        err.print(f"backfill: {error}", markup=False)
        sys.exit(1)
