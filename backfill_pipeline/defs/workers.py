"""How runs get to workers on other machines: Dagster's launcher for Celery, set up to lose no run and do none twice.

Celery only carries the word that a run is to start. Whether the run is alive, PostgreSQL knows, and Dagster starts it
again: see `reconcile_runs`. So Celery keeps no results, and a word that comes twice does no harm.
"""

import time
from collections.abc import Sequence
from typing import Any

import dagster as dg
from celery import Celery
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.launcher import LaunchRunContext
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.make_app import make_app
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_TASK_ID_TAG
from kombu.exceptions import OperationalError

from .queues import GENERAL

# The Celery task that does a run.
WORD = "backfill.execute"
# A run that is not begun so many seconds after it was sent is looked after: a worker that is free begins one in some.
PATIENCE = 120.0
# Workers answer at once, those of a busy machine a little later, in seconds.
_ANSWER = 5.0

_CELERY = {
    # One run for each free place, and none put by: another worker may be idle.
    "worker_prefetch_multiplier": 1,
    "broker_transport_options": {
        # Redis gives out again what is not acknowledged for so many seconds: the longest run of dagster.yaml.
        "visibility_timeout": 259_200,
        "socket_keepalive": True,
        "socket_connect_timeout": 10,
        # Of what is sent: a broker that is away is told within seconds.
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.5,
        "interval_max": 1,
    },
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "task_ignore_result": True,
    "worker_redirect_stdouts": False,
    # A process for each run, forked from one that has everything loaded: what a run leaves behind ends with it.
    "worker_max_tasks_per_child": 1,
    "worker_proc_alive_timeout": 60,
}


class BrokerError(RuntimeError):
    """The broker cannot be used. One line, without its password."""


def celery_app(broker: str) -> Celery:
    """`broker`: URL of Redis. Connects to nothing."""
    return make_app(_app_args(broker))  # type: ignore[no-untyped-call]  # dagster-celery's has no types


def _app_args(broker: str | None) -> dict[Any, Any]:
    return {"broker": broker, "backend": "disabled://", "config_source": _CELERY, "task_default_queue": GENERAL}


def _queue(run: dg.DagsterRun) -> str:
    return run.tags.get(DAGSTER_CELERY_QUEUE_TAG, GENERAL)


class WorkerRunLauncher(CeleryRunLauncher):
    """Sends whole runs to the workers that listen to their queue."""

    def app_args(self) -> dict[Any, Any]:
        return _app_args(self.broker)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return False  # Celery takes a run for alive whose machine is gone

    @property
    def supports_resume_run(self) -> bool:
        return False

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        try:
            # By name, and the run's id alone: what is to be done stands in Dagster's database.
            word = self.celery.signature(WORD, (run.run_id,), immutable=True)
            self._launch_celery_task_run(run=run, task_signature=word, routing_key=WORD)
        except OperationalError as error:
            raise BrokerError(self._away(error)) from None

    def terminate(self, run_id: str) -> bool:
        """Stop a run as Ctrl-C would: what it has stored stays."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        try:
            self.celery.control.revoke(run.tags.get(DAGSTER_CELERY_TASK_ID_TAG), terminate=True)
        except OperationalError as error:
            self._instance.report_engine_event(self._away(error), run)
        return True

    def attend(self, runs: Sequence[dg.DagsterRun]) -> list[str]:
        """See to runs that were sent and that no worker has begun: one fails where none listens to its queue, and is
        sent again where the word of it is lost. Returns a line for each of those. Takes seconds if there are any.
        """
        stats = {run.run_id: self._instance.get_run_stats(run.run_id) for run in runs}
        late = [run for run in runs if time.time() - (stats[run.run_id].launch_time or time.time()) > PATIENCE]
        if not late:
            return []
        try:
            attended = self._attended()
            lines = [self._see_to(run, _queue(run) in attended, self._waiting(_queue(run))) for run in late]
        except OperationalError as error:
            lines = [self._fail(run, self._away(error)) for run in late]
        return [line for line in lines if line]

    def _see_to(self, run: dg.DagsterRun, is_attended: bool, waiting: int) -> str | None:
        queue = _queue(run)
        if not is_attended:
            return self._fail(run, f"no worker listens to queue {queue}")
        if waiting or self._is_begun(run):
            return None  # its workers are busy
        # Redis may have handed it to a machine that was gone by then, or have lost its memory.
        self.launch_run(LaunchRunContext(run, workspace=None))
        return f"run {run.run_id} was sent to queue {queue} again"

    def _fail(self, run: dg.DagsterRun, reason: str) -> str | None:
        if self._is_begun(run):
            return None
        message = f"{reason}; next, on any machine: backfill worker --queues {_queue(run)}"
        failure = JobFailureData(error=None, failure_reason=RunFailureReason.START_TIMEOUT)
        self._instance.report_run_failed(run, message, failure)
        return f"run {run.run_id} failed: {message}"

    def _is_begun(self, run: dg.DagsterRun) -> bool:
        again = self._instance.get_run_by_id(run.run_id)
        return again is None or again.status is not dg.DagsterRunStatus.STARTING

    def _attended(self) -> set[str]:
        """The queues that workers listen to now."""
        listening = self.celery.control.inspect(timeout=_ANSWER).active_queues() or {}
        return {queue["name"] for queues in listening.values() for queue in queues}

    def _waiting(self, queue: str) -> int:
        """Words in the queue that no worker has fetched."""
        with self.celery.connection_for_write() as connection:
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
            except connection.channel_errors:  # Redis has no empty queues
                return 0

    def _away(self, error: Exception) -> str:
        place = self.celery.connection_for_write().as_uri()  # with ** for the password
        return f"the broker {place} cannot be reached ({error}); start it, or correct BACKFILL_BROKER"
