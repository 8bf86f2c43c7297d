"""The shared request budgets of the providers that the settings name, found as a run finds them."""

from __future__ import annotations

from dataclasses import dataclass

from backfill_pipeline.providers.budget import Budget, LimitMemory
from backfill_pipeline.providers.configured import configured_router
from backfill_pipeline.settings import Settings
from backfill_pipeline.storage.budget import OwnConnection, PostgresBudget, PostgresLimits, ProviderKey


@dataclass(frozen=True)
class SharedBudget:
    """`per_minute`: requests of all processes together; 0 for no limit."""

    provider: str
    base_url: str
    per_minute: int
    budget: PostgresBudget
    limits: PostgresLimits


def share(
    own: OwnConnection, provider: str, base_url: str, key_fingerprint: str, per_minute: int
) -> tuple[PostgresBudget, PostgresLimits]:
    """What all processes on one database share of a key."""
    key = ProviderKey(provider, base_url, key_fingerprint)
    return PostgresBudget(own, key, per_minute), PostgresLimits(own, key)


def shared_budgets(settings: Settings, own: OwnConnection) -> dict[str, SharedBudget]:
    """By provider, in the order of preference; empty where none of them sends requests. Asks no provider.

    Raises ProviderStopped for a provider that is unknown or lacks its key.
    """
    found: dict[str, SharedBudget] = {}

    def shared(provider: str, base_url: str, key_fingerprint: str, per_minute: int) -> tuple[Budget, LimitMemory]:
        budget, limits = share(own, provider, base_url, key_fingerprint, per_minute)
        found[provider] = SharedBudget(provider, base_url, per_minute, budget, limits)
        return budget, limits

    configured_router(settings, shared)
    return found
