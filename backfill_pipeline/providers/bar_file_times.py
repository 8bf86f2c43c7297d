"""The times of a user's file as microseconds UTC: texts, epochs, timestamps with a zone or without, dates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .bar_files import BarFileError

Unit = Literal["s", "ms", "us", "ns"]
UNITS: tuple[Unit, ...] = get_args(Unit)

# Per second. Epochs of 1990 to 2099 in one unit are none in another: the bands lie three digits apart.
_PER_SECOND: dict[Unit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST, _LAST = 631_152_000, 4_102_444_800
_NUMBER = r"^-?\d+(\.0*)?$"
_WITH_ZONE = r"(Z|z|[+-]\d\d(:?\d\d)?)$"
_DATE = r"^\d{4}-\d\d-\d\d$"

Micros = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Times:
    """`micros` since 1970-01-01 UTC; where `is_date`, midnights of bare dates or zone-less days, in no zone yet."""

    micros: Micros
    is_date: bool


@dataclass(frozen=True)
class Clock:
    """How times without a zone, and numbers, are to be read; None: not said. `where`: the file, for errors."""

    where: str
    tz: str | None
    unit: Unit | None
    days: bool

    def read(self, stamps: pa.Array) -> Times:
        """Raises BarFileError."""
        kind = stamps.type
        if pa.types.is_dictionary(kind):
            return self.read(stamps.cast(kind.value_type))
        if pa.types.is_date(kind):
            return self._local(stamps.cast(pa.date32()).cast(pa.timestamp("us")))
        if pa.types.is_timestamp(kind):
            made = stamps.cast(pa.timestamp("us", kind.tz), safe=False)
            return Times(_micros(made), is_date=False) if kind.tz else self._local(made)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return self._epoch(stamps)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return self._texts(stamps.cast(pa.string()))
        raise BarFileError(f"{self.where}: a column of {kind} holds no times; name another: --columns ts=NAME")

    def _texts(self, texts: pa.Array) -> Times:
        import pandas as pd

        texts = pc.utf8_trim_whitespace(texts)
        if pc.any(pc.equal(texts, "")).as_py():
            raise BarFileError(f"{self.where} has rows without a time; remove them")
        if _all(texts, _NUMBER):
            return self._epoch(texts.cast(pa.float64()))
        if _all(texts, _DATE):
            return self._local(texts.cast(pa.date32()).cast(pa.timestamp("us")))
        zoned = pc.match_substring_regex(pc.utf8_slice_codeunits(texts, 10), _WITH_ZONE)
        if pc.any(zoned).as_py() and not pc.all(zoned).as_py():
            raise BarFileError(f"{self.where}: some times have a zone and some have none; write all in one way")
        try:
            parsed = pd.to_datetime(texts.to_pandas(), format="ISO8601", utc=bool(pc.all(zoned).as_py()))
        except ValueError as error:
            first = str(error).splitlines()[0]
            raise BarFileError(f"{self.where}: {first.split(', ')[0]}; write times as 2024-03-01 09:30:00") from None
        stamps = pa.Array.from_pandas(parsed).cast(pa.timestamp("us", parsed.dt.tz and "UTC"), safe=False)
        return Times(_micros(stamps), is_date=False) if stamps.type.tz else self._local(stamps)

    def _local(self, stamps: pa.Array) -> Times:
        micros = _micros(stamps)
        if self.days and not (micros % 86_400_000_000).any():
            return Times(micros, is_date=True)
        if self.tz is None:
            raise BarFileError(f"{self.where}: its times have no zone; say which: --tz America/New_York, or --tz UTC")
        try:
            zoned = pc.assume_timezone(stamps, self.tz)
        except pa.ArrowInvalid as error:
            raise BarFileError(
                f"{self.where}: {str(error).splitlines()[0]}: the clocks change there; write the times in UTC"
            ) from None
        return Times(_micros(zoned), is_date=False)

    def _epoch(self, stamps: pa.Array) -> Times:
        numbers: npt.NDArray[np.float64] | Micros = stamps.to_numpy(zero_copy_only=False)
        if not np.isfinite(numbers).all():
            raise BarFileError(f"{self.where}: some of its times are not numbers; correct them")
        unit = self.unit or self._unit_of(numbers)
        seconds = _PER_SECOND[unit]
        whole = numbers.astype(np.int64)
        return Times(whole // (seconds // 10**6) if seconds > 10**6 else whole * (10**6 // seconds), is_date=False)

    def _unit_of(self, numbers: npt.NDArray[np.float64] | Micros) -> Unit:
        low, high = (numbers.min(), numbers.max()) if len(numbers) else (_FIRST, _LAST)
        for unit, per_second in _PER_SECOND.items():
            if low >= _FIRST * per_second and high < _LAST * per_second:
                return unit
        raise BarFileError(
            f"{self.where}: times from {low:.0f} to {high:.0f} are no epochs of 1990 to 2099 in any one unit;"
            f" say which: --unit {'|'.join(UNITS)}, or another column: --columns ts=NAME"
        )


def check_zone(tz: str) -> str:
    """The zone itself. ValueError names it."""
    try:
        ZoneInfo(tz)
    except (ValueError, LookupError, OSError):  # LookupError: ZoneInfoNotFoundError
        raise ValueError(f"tz {tz!r} is not a time zone; write it as UTC or America/New_York") from None
    return tz


def _all(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def _micros(stamps: pa.Array) -> Micros:
    made: Micros = stamps.cast(pa.timestamp("us", stamps.type.tz)).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return made
