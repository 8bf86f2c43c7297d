"""Another package's provider behind a guard: whatever it raises reaches a run as a ProviderError, in one line."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from .base import EventSource, HasEvents, HasToday, MarketProvider, NamingProvider, Provider
from .errors import PluginFault, ProviderError

logger = logging.getLogger(__name__)

# What a provider may be beside one.
_MORE = (MarketProvider, HasToday, NamingProvider, HasEvents)
# Answered piece by piece: what is raised on the way counts too.
_PIECEWISE = ("fetch", "splits", "dividends", "earnings")
_STORAGE = "backfill_pipeline.storage"


def members(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def guarded(made: object, called: str) -> Provider:
    """The provider `made`, with the members of every protocol that it follows and no others. `called`: its name and
    package, for people.
    """
    return cast("Provider", _guard(made, called, Provider, *(kind for kind in _MORE if isinstance(made, kind))))


def _guard(made: object, called: str, *kinds: type) -> object:
    """An object of a class of its own: `isinstance` with a protocol may look at the class alone."""
    space: dict[str, object] = {}
    for kind in kinds:
        for name in members(kind):
            is_attribute = isinstance(getattr(kind, name), property)
            space[name] = (_attribute if is_attribute else _method)(made, called, name)
    return type("Guarded", (), space)()


def _attribute(made: object, called: str, name: str) -> property:
    def read(_self: object) -> object:
        with _told(called):
            found = getattr(made, name)
            return found if name != "events" else _guard(found, called, EventSource)

    return property(read)


def _method(made: object, called: str, name: str) -> Callable[..., object]:
    def call(_self: object, *arguments: Any, **named: Any) -> object:
        asked = partial(getattr(made, name), *arguments, **named)
        if name in _PIECEWISE:
            return _pieces(called, asked)
        with _told(called):
            return asked()

    return call


def _pieces(called: str, asked: Callable[[], Iterable[object]]) -> Iterator[object]:
    with _told(called):
        yield from asked()


@contextmanager
def _told(called: str) -> Iterator[None]:
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:  # not only ours: a stranger's code may raise anything
        frames = list(traceback.walk_tb(error.__traceback__))
        if any(frame.f_globals.get("__name__", "").startswith(_STORAGE) for frame, _ in frames):
            raise  # the shared budget has lost its database: that is ours
        kind, stack = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
        logger.debug(f"{called}: {kind}\n{stack}")  # without its text, which may hold a key
        raise PluginFault(f"{called}: its code failed with {kind}; tell its author") from None
