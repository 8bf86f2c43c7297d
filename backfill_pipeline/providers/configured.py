"""The providers that the settings name, in their order, each on the budget that it shares with all other processes."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import SecretStr

from backfill_pipeline.settings import Settings

from . import plugins
from .base import Provider
from .binance import BinanceProvider
from .budget import Priority, fingerprint
from .errors import ProviderStopped
from .files import FilesProvider
from .plugins import Shared
from .polygon import PolygonProvider
from .router import Router
from .sample import SampleProvider
from .synthetic import SyntheticProvider
from .tradier import TradierProvider, requests_per_minute

# A klines request weighs 2 of the 6,000 a minute that an address has: well below, for others may share the address.
_BINANCE_PER_MINUTE = 1200


def chosen_names(settings: Settings) -> tuple[str, ...]:
    """The providers that `BACKFILL_PROVIDER` names, the preferred first.

    `auto`: what is configured, files before polygon before tradier; the sample where nothing is. Raises ProviderStopped
    for an unknown one, for one that lacks its key or folder, and for a name that two have.
    """
    if settings.provider == "auto":
        return tuple(name for name, (_, value) in _needs(settings).items() if value is not None) or ("sample",)
    for name in settings.provider_names:
        if plugins.chosen(name, BUILT_IN) is None and name not in BUILT_IN:
            known = ", ".join(dict.fromkeys([*BUILT_IN, *(one.name for one in plugins.offered())]))
            raise ProviderStopped(f"BACKFILL_PROVIDER={name} is not known; use one of auto, {known}")
        what, value = _needs(settings).get(name, ("", True))
        if value is None:
            raise ProviderStopped(f"BACKFILL_PROVIDER={name} needs {what}")
    return settings.provider_names


def configured_router(settings: Settings, shared: Shared, priority: Priority = "backfill") -> Router:
    """The chosen providers in their order; with `auto`, at the end, binance too, which needs no key and serves what no
    other does. Raises as `chosen_names` does.
    """
    names = chosen_names(settings)
    if settings.provider == "auto":
        names = (*names, "binance")
    return Router([_made(name, settings, shared, priority) for name in names])


def _made(name: str, settings: Settings, shared: Shared, priority: Priority) -> Provider:
    if name in BUILT_IN:
        return BUILT_IN[name](settings, shared, priority)
    of = plugins.chosen(name, BUILT_IN)
    assert of is not None  # as `chosen_names` found
    return of.make(plugins.Given(name, settings.variables_of(name), priority, shared))


def _needs(settings: Settings) -> dict[str, tuple[str, object]]:
    """By provider, what a person must give it, and what was given; in the order of preference."""
    return {
        "files": ("a folder; set BACKFILL_FILES", settings.files),
        "polygon": ("a key; set POLYGON_API_KEY or MASSIVE_API_KEY", settings.polygon_api_key),
        "tradier": ("a token; set TRADIER_TOKEN", settings.tradier_token),
    }


def _files(settings: Settings, shared: Shared, priority: Priority) -> Provider:  # noqa: ARG001  (no requests)
    assert settings.files is not None
    return FilesProvider(settings.files)


def _polygon(settings: Settings, shared: Shared, priority: Priority) -> Provider:
    key, url = settings.polygon_api_key or SecretStr(""), settings.polygon_base_url
    budget, limits = shared("polygon", url, fingerprint(key), settings.polygon_requests_per_minute)
    return PolygonProvider(key, url, budget=budget, limits=limits, priority=priority)


def _tradier(settings: Settings, shared: Shared, priority: Priority) -> Provider:
    token, url = settings.tradier_token or SecretStr(""), settings.tradier_base_url
    budget, _ = shared("tradier", url, fingerprint(token), requests_per_minute(url))
    return TradierProvider(token, url, budget=budget, priority=priority)


def _binance(settings: Settings, shared: Shared, priority: Priority) -> Provider:
    url = settings.binance_base_url
    budget, _ = shared("binance", url, fingerprint(SecretStr("")), _BINANCE_PER_MINUTE)
    return BinanceProvider(url, budget=budget, priority=priority)


BUILT_IN: dict[str, Callable[[Settings, Shared, Priority], Provider]] = {
    "files": _files,
    "polygon": _polygon,
    "tradier": _tradier,
    "binance": _binance,
    "sample": lambda *_: SampleProvider(),
    "synthetic": lambda *_: SyntheticProvider(),
}
