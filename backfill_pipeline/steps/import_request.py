"""What a person says of a file of bars, checked before it is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backfill_pipeline.domain.timeframe import BASES, CHAINS, Base, Chain
from backfill_pipeline.providers.bar_file_times import UNITS, Unit, check_zone
from backfill_pipeline.providers.bar_files import NAMES
from backfill_pipeline.storage.imports import PREFIX

from .requests import RequestError

_MOST_NAME = 40


@dataclass(frozen=True)
class ImportRequest:
    """`symbol` None: the file has a column of them. `columns`: field → column. `is_end`: bars are labelled by their
    end. `replace`: also sessions that another provider has.
    """

    path: Path
    base: Base
    provider: str
    symbol: str | None
    columns: Mapping[str, str]
    tz: str | None
    unit: Unit | None
    is_end: bool
    replace: bool

    @property
    def chain(self) -> Chain:
        return next(chain for chain in CHAINS if chain.base == self.base)


def parse_import(
    path: Path,
    *,
    timeframe: str,
    adjusted: str,
    symbol: str | None = None,
    columns: str | None = None,
    tz: str | None = None,
    unit: str | None = None,
    label: str = "start",
    name: str | None = None,
    replace: bool = False,
) -> ImportRequest:
    """Check and normalise. Raises RequestError."""
    base = next((base for base in BASES if base == timeframe), None)
    if base is None:
        raise RequestError(f"timeframe {timeframe!r}: only 1m and 1d are imported; the rest derives from them")
    if adjusted not in ("none", "splits", "all"):
        raise RequestError(f"adjusted {adjusted!r} is not known; use one of none splits all")
    if adjusted != "none":
        raise RequestError(
            f"{path} is adjusted ({adjusted}), and only unadjusted bars are stored: get those, and adjust them on read"
        )
    units = [known for known in UNITS if known == unit]
    if unit is not None and not units:
        raise RequestError(f"unit {unit!r} is not known; use one of {' '.join(UNITS)}")
    if label not in ("start", "end"):
        raise RequestError(f"label {label!r} is not known; use one of start end")
    if label == "end" and base == "1d":
        raise RequestError("label end is for minutes; days are labelled by their session's date: leave it out")
    try:
        zone = None if tz is None else check_zone(tz)
    except ValueError as error:
        raise RequestError(str(error)) from None
    return ImportRequest(
        path,
        base,
        _provider(path, name),
        symbol,
        _columns(columns),
        zone,
        units[0] if units else None,
        label == "end",
        replace,
    )


def _provider(path: Path, name: str | None) -> str:
    chosen = re.sub(r"[^\w.-]+", "-", path.name.partition(".")[0])[:_MOST_NAME] if name is None else name
    if not re.fullmatch(rf"[\w.-]{{1,{_MOST_NAME}}}", chosen):
        raise RequestError(
            f"name {chosen!r}: use letters, digits, dots and dashes, {_MOST_NAME} at most: --name my-bars"
        )
    return PREFIX + chosen


def _columns(text: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for piece in [] if text is None else text.split(","):
        field, equals, column = (part.strip() for part in piece.partition("="))
        if not equals or field not in NAMES or not column or field in found:
            raise RequestError(
                f"columns {text!r}: {piece!r} is not FIELD=COLUMN, of {' '.join(NAMES)}; as in ts=time,open=o"
            )
        found[field] = column
    return found
