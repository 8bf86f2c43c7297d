"""What a stand-in may be told to be; the words are explained in the package's text."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal

from backfill_pipeline.domain.windows import to_micros


@dataclass(frozen=True)
class Options:
    """One immutable set of them: a change makes a new one, so that a request sees only one."""

    now: datetime | None = None
    keys: tuple[str, ...] = ("test-key",)
    requests_per_minute: int | None = None
    window_seconds: float = 60.0
    limit_body: Literal["error", "empty"] = "error"
    retry_after: bool = False
    history_years: float | None = None
    too_old: Literal["refused", "clipped"] = "refused"
    today: Literal["served", "refused", "clipped"] = "served"
    not_entitled: tuple[str, ...] = ("/benzinga/",)
    status: Literal["OK", "DELAYED"] = "OK"
    empty: Literal["absent", "null", "list"] = "absent"
    page_limit: int | None = None
    next_url_host: str | None = None
    tradier_per_minute: int = 120
    tradier_depth: bool = True
    tradier_empty: Literal["null", "text", "missing", "data"] = "null"
    tradier_night: bool = False
    binance_weight_per_minute: int = 6000
    latency_seconds: float = 0.0

    def changed(self, **changes: Any) -> Options:
        """With some of them changed; ISO text is taken for `now`, lists for tuples. ValueError names an unknown one."""
        known = {field.name for field in fields(self)}
        for name in changes:
            if name not in known:
                raise ValueError(f"the stand-in has no option {name!r}; use one of {', '.join(sorted(known))}")
        return replace(self, **{name: _value(name, value) for name, value in changes.items()})

    def micros_now(self) -> int:
        """The time the stand-in believes in, microseconds UTC."""
        return to_micros(self.now or datetime.now(UTC))


def _value(name: str, value: Any) -> Any:
    if name == "now" and value is not None:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        to_micros(moment)  # refuses a time without a zone
        return moment
    return tuple(value) if isinstance(value, list) else value
