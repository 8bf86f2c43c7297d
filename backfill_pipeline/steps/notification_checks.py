"""What `backfill doctor` finds of the addresses that are told: whether they are set and, on request, take a message."""

from __future__ import annotations

from datetime import datetime

from pydantic import SecretStr

from .delivery import send
from .diagnosis import Check
from .messages import Message

WEBHOOK, HEARTBEAT = "BACKFILL_WEBHOOK_URL", "BACKFILL_HEARTBEAT_URL"


def check_notifications(webhook: SecretStr | None, heartbeat: SecretStr | None, now: datetime, *, test: bool) -> Check:
    """`test`: send one message to each that is set, one try. Neither being set is no fault: telling is optional."""
    addresses = {WEBHOOK: webhook, HEARTBEAT: heartbeat}
    if not test or not (webhook or heartbeat):
        detail = ", ".join(f"{name} is {'set' if url else 'not set'}" for name, url in addresses.items())
        hint = "; not tried: backfill doctor --notify" if webhook or heartbeat else ""
        return Check("notify", "ok", f"{detail}{hint}")
    told, wrong = [], []
    for name, url in addresses.items():
        if url is None:
            told.append(f"{name} is not set")
        elif (refusal := send(url, _test_message(now) if name == WEBHOOK else None)) is None:
            told.append(f"{name} took a message")
        else:
            told.append(f"{name} took none: {refusal.why}")
            wrong.append(name)
    if wrong:
        return Check("notify", "problem", ", ".join(told), f"correct {' and '.join(wrong)}, or unset it")
    return Check("notify", "ok", ", ".join(told))


def _test_message(now: datetime) -> bytes:
    lines = ("Failed runs, finished backfills and a digest after each night are told here.",)
    return Message("test", "backfill doctor: a test message", lines, now).body().encode()
