"""Runs started on the daemon's code server, as Dagster does it, but none lost to a server that is on its way out.

The daemon replaces its code server every minute, and signs off from the old one at once. Where it takes more than 20 s
to start the runs of one look, as on a busy machine, the last of them meet a server that ends with the runs that it has,
and refuses more. Dagster takes that for the run's own failure: it would be red, and started again.
"""

import dagster as dg
from dagster._core.errors import DagsterLaunchFailedError, DagsterUserCodeUnreachableError
from dagster._core.launcher import LaunchRunContext

_ON_ITS_WAY_OUT = "after telling it to shut down"


class PatientRunLauncher(dg.DefaultRunLauncher):
    """A run that a server refuses for that goes back into the queue, as one does that finds no server:
    `max_user_code_failure_retries` of dagster.yaml.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        try:
            super().launch_run(context)
        except DagsterLaunchFailedError as error:
            if _ON_ITS_WAY_OUT not in str(error):
                raise
            raise DagsterUserCodeUnreachableError(f"the code server is being replaced: {error}") from error
