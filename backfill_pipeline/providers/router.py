"""Which provider serves: by setting."""

from __future__ import annotations

from backfill_pipeline.settings import Settings

from .base import Provider
from .errors import ProviderStopped
from .sample import SampleProvider
from .synthetic import SyntheticProvider

PROVIDERS = ("sample", "synthetic")


def choose_provider(settings: Settings) -> Provider:
    """The provider that `BACKFILL_PROVIDER` names; `auto` is the sample. ProviderStopped: an unknown one."""
    name = settings.provider
    if name in ("auto", "sample"):
        return SampleProvider()
    if name == "synthetic":
        return SyntheticProvider()
    raise ProviderStopped(f"BACKFILL_PROVIDER={name} is not known; use one of auto, {', '.join(PROVIDERS)}")
