"""Providers of other packages: entry points of the group `backfill_pipeline.providers`. How to write one stands in
docs/writing-a-provider.md.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from backfill_pipeline.settings import variable_prefix

from .base import Provider
from .budget import Budget, LimitMemory, Priority, fingerprint
from .errors import ProviderError, ProviderStopped
from .guarded import guarded, members

GROUP = "backfill_pipeline.providers"

# Provider, base URL and fingerprint of the key, and requests a minute: what all processes share of it.
Shared = Callable[[str, str, str, int], tuple[Budget, LimitMemory]]


@dataclass(frozen=True)
class Given:
    """What a factory is given. `settings`: the variables that begin with the provider's own name, without it: of
    ACME_TOKEN and ACME_BASE_URL, for the provider `acme`, `TOKEN` and `BASE_URL`. A dash in the name is a `_` there.
    `priority`: of its requests, for `Budget.take`.
    """

    name: str
    settings: Mapping[str, str] = field(repr=False)
    priority: Priority
    shared: Shared = field(repr=False)

    def needs(self, setting: str) -> str:
        """A setting's value. Raises ProviderStopped, naming the variable, where it is not set."""
        if value := self.settings.get(setting):
            return value
        raise ProviderStopped(f"provider {self.name} needs {variable_prefix(self.name)}{setting}; set it")

    def budget(self, base_url: str, key: str = "", *, per_minute: int) -> Budget:
        """The slots that all processes on this database share of an address and key; `per_minute` 0: no limit."""
        return self.shared(self.name, base_url, fingerprint(SecretStr(key)), per_minute)[0]


Factory = Callable[[Given], Provider]


@dataclass(frozen=True)
class Offered:
    """A provider that an installed package offers. `package`: its name and version, for people."""

    name: str
    package: str
    entry_point: importlib.metadata.EntryPoint = field(repr=False)

    def make(self, given: Given) -> Provider:
        """Load and call the factory. Raises ProviderStopped, naming the package, whatever goes wrong in it; what goes
        wrong later is PluginFault.
        """
        try:
            made = self.entry_point.load()(given)
            missing = [name for name in members(Provider) if not hasattr(made, name)]
            called = getattr(made, "name", self.name)
        except ProviderError:
            raise
        except Exception as error:  # a stranger's code may raise anything, and is to be named
            told = " ".join(str(error).split()) or "no reason given"
            raise self._broken(f"{type(error).__name__}: {told}") from error
        if missing:
            raise self._broken(f"{self.entry_point.value} makes no Provider: it lacks {', '.join(missing)}")
        if called != self.name:
            raise self._broken(f"it calls itself {called!r}")
        return guarded(made, f"provider {self.name} of the package {self.package}")

    def _broken(self, why: str) -> ProviderStopped:
        return ProviderStopped(f"provider {self.name} of the package {self.package} cannot be used: {why}")


def offered() -> list[Offered]:
    """What installed packages offer, by name; nothing of theirs is loaded. A name may stand there twice."""
    found = []
    for entry_point in importlib.metadata.entry_points(group=GROUP):
        package = f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else "without a name"
        found.append(Offered(entry_point.name, package, entry_point))
    return sorted(found, key=lambda one: (one.name, one.package))


def chosen(name: str, built_in: Mapping[str, object]) -> Offered | None:
    """Who offers the provider; None: nobody but this project, or nobody. Raises ProviderStopped where that is not to be
    told: two packages offer it, or one offers what is `built_in`.
    """
    of = [one for one in offered() if one.name == name]
    if complaint := clash(name, of, built_in):
        raise ProviderStopped(complaint)
    return of[0] if of else None


def clash(name: str, of: list[Offered], built_in: Mapping[str, object]) -> str:
    """Why a name is not one provider's alone; empty where it is. `of`: who offers it."""
    packages = " and ".join(f"the package {one.package}" for one in of)
    if of and name in built_in:
        return f"{packages} offers a provider called {name}, which is built in; uninstall it, or have it renamed"
    if len(of) > 1:
        return f"{packages} offer a provider called {name}; uninstall all but one"
    return ""
