"""What a symbol is to this project, and which texts may be one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

AssetClass = Literal["stock", "etf", "crypto"]
ASSET_CLASSES: tuple[AssetClass, ...] = get_args(AssetClass)

# Partition keys and range tags are cut at these; a symbol must not hold one.
_RESERVED = ("|", ",", "...")


@dataclass(frozen=True)
class Instrument:
    """One followed instrument. `first_date` and `last_date` are its known lifetime, None where unknown."""

    symbol_id: int
    symbol: str
    asset_class: AssetClass
    calendar: str
    first_date: date | None = None
    last_date: date | None = None


def check_symbol(text: object) -> str:
    """`text` itself when it can be a symbol. ValueError names it and says what to change."""
    if not isinstance(text, str):
        raise ValueError(
            f"symbol {text!r} is a {type(text).__name__}, not text; in YAML write it in quotes: 'NO', '1e5'"
        )
    if not text or len(text) > 64:
        raise ValueError(f"symbol {text!r} must have 1 to 64 characters")
    for mark in _RESERVED:
        if mark in text:
            raise ValueError(f"symbol {text!r} holds {mark!r}, which partition keys are cut at; leave it out")
    if not text.isprintable() or any(character.isspace() for character in text):
        raise ValueError(f"symbol {text!r} holds a space or an unprintable character; leave it out")
    return text


def default_calendar(symbol: str, asset_class: AssetClass) -> str:
    return "24/7" if asset_class == "crypto" or symbol.startswith("X:") else "XNYS"
