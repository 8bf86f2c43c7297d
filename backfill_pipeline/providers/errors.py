"""What a provider may say instead of bars.

ProviderError
├── Retryable          a passing fault: the same request may succeed in a moment
├── NotYet             the data is not published yet: ask again after the time it names
├── NeverServed        not in this provider or plan, whatever is tried: do not ask again
└── ProviderStopped    a wrong key or address: nothing more can be asked until a person acts
"""

from __future__ import annotations


class ProviderError(Exception):
    """One line that names the provider, what was asked, and what to do. Never holds a key."""


class Retryable(ProviderError):  # noqa: N818  (the tree reads as words)
    """A passing fault: the same request may succeed in a moment."""


class NotYet(ProviderError):  # noqa: N818
    """The data is not published yet."""


class NeverServed(ProviderError):  # noqa: N818
    """Not in this provider or plan, whatever is tried."""


class ProviderStopped(ProviderError):  # noqa: N818
    """Nothing more can be asked until a person acts."""
