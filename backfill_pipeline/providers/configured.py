"""The providers that the settings name, in their order, each on the budget that it shares with all other processes."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import SecretStr

from backfill_pipeline.settings import Settings

from .base import Provider
from .budget import Budget, LimitMemory, fingerprint
from .errors import ProviderStopped
from .polygon import PolygonProvider
from .router import Router
from .sample import SampleProvider
from .synthetic import SyntheticProvider

PROVIDERS = ("sample", "synthetic", "polygon")

# Provider, base URL and fingerprint of the key, and requests a minute: what all processes share of it.
Shared = Callable[[str, str, str, int], tuple[Budget, LimitMemory]]


def chosen_names(settings: Settings) -> tuple[str, ...]:
    """The providers that `BACKFILL_PROVIDER` names; `auto` is polygon where it has a key, else the sample.

    Raises ProviderStopped for an unknown one, and for one that lacks its key.
    """
    name = settings.provider
    if name == "auto":
        return ("sample" if settings.polygon_api_key is None else "polygon",)
    if name not in PROVIDERS:
        raise ProviderStopped(f"BACKFILL_PROVIDER={name} is not known; use one of auto, {', '.join(PROVIDERS)}")
    if name == "polygon" and settings.polygon_api_key is None:
        raise ProviderStopped("BACKFILL_PROVIDER=polygon needs a key; set POLYGON_API_KEY or MASSIVE_API_KEY")
    return (name,)


def configured_router(settings: Settings, shared: Shared) -> Router:
    """The chosen providers in their order. Raises as `chosen_names` does."""
    return Router([_provider(name, settings, shared) for name in chosen_names(settings)])


def _provider(name: str, settings: Settings, shared: Shared) -> Provider:
    if name == "sample":
        return SampleProvider()
    if name == "synthetic":
        return SyntheticProvider()
    key = settings.polygon_api_key or SecretStr("")
    rate = settings.polygon_requests_per_minute
    budget, limits = shared(name, settings.polygon_base_url, fingerprint(key), rate)
    return PolygonProvider(key, settings.polygon_base_url, budget=budget, limits=limits)
