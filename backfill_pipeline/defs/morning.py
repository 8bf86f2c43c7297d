"""After the night: a digest to `BACKFILL_WEBHOOK_URL`, and a sign of life to `BACKFILL_HEARTBEAT_URL` if it was good.

By the run itself, so that a night started from a shell tells as well, and so that a night that never was is missed
where the heartbeat is watched. At its very end: what it stored is stored, and nobody waits for more than two minutes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg
from pydantic import SecretStr

from backfill_pipeline.steps.delivery import deliver
from backfill_pipeline.steps.digest import Evening, digest, evening

from .bookkeeping import Context
from .notify import TOLD_TAG
from .resources import USER_ERRORS, Pipeline
from .run_news import failure_parts, listed, undone


@contextmanager
def told_in_the_morning(context: Context, pipeline: Pipeline) -> Iterator[None]:
    """Around everything that a night does. A failure goes on its way unchanged."""
    began = None if pipeline.settings.webhook_url is None else _evening(context, pipeline)
    try:
        yield
    except dg.Failure as failure:
        if began is not None:
            _tell(context, pipeline, began, failure_parts(failure.description))
        raise
    if began is not None:
        _tell(context, pipeline, began, ())
    if (url := pipeline.settings.heartbeat_url) is not None:
        _send(context, url, None, "the heartbeat")


def _evening(context: Context, pipeline: Pipeline) -> Evening | None:
    try:
        with pipeline.open("nightly") as warehouse:
            return evening(warehouse.conn, warehouse.now())
    except USER_ERRORS as error:  # the night fails for the same, and run_failure_notifier tells
        context.log.warning(f"no digest: {error}")
        return None


def _tell(context: Context, pipeline: Pipeline, began: Evening, failure: Sequence[str]) -> None:
    try:
        with pipeline.open("nightly") as warehouse:
            failed = listed(undone(context.instance, context.run_id)) if failure else ()
            message = digest(warehouse.conn, began, warehouse.now(), context.run_id, failure, failed)
    except USER_ERRORS as error:
        context.log.warning(f"no digest: {error}")
        return
    url = pipeline.settings.webhook_url
    assert url is not None
    if _send(context, url, message.body().encode(), "the digest") and failure:
        context.instance.add_run_tags(context.run_id, {TOLD_TAG: "digest"})


def _send(context: Context, url: SecretStr, body: bytes | None, what: str) -> bool:
    why_not = deliver(url, body)
    if why_not is not None:
        context.log.warning(f"{what} was not delivered: {why_not}")
    return why_not is None
