"""What a provider may say instead of bars.

ProviderError
├── Retryable            a passing fault: the same request may succeed in a moment
│   ├── Unreachable      no connection, a time-out, a reply cut short
│   ├── ServerTrouble    a 5xx, a page of HTML, JSON that makes no sense
│   ├── RateLimited      asked too fast, by whomever: everybody waits
│   ├── OddRefusal       a valid request called invalid (seen in the wild): asked once more
│   └── PluginFault      another package's provider raised what is none of these: a bug of its own
├── NotYet               the data is not published yet: ask again after the time it names
│   └── NoTrading        a whole market without a single bar: a day off, or its data is late
├── NeverServed          not in this provider or plan, whatever is tried: do not ask again
│   └── BeyondPlan       older than the plan reaches: what is wanted is cut there
├── NotBelieved          an answer that contradicts the question: nothing of it is stored
└── ProviderStopped      a wrong key or address: nothing more can be asked until a person acts
"""

from __future__ import annotations

from typing import ClassVar


class ProviderError(Exception):
    """One line that names the provider, what was asked, and what to do. Never holds a key."""


class Retryable(ProviderError):  # noqa: N818  (the tree reads as words)
    """A passing fault: the same request may succeed in a moment."""

    most_tries: ClassVar[int | None] = None


class Unreachable(Retryable):
    """No connection, a time-out, a reply cut short."""


class ServerTrouble(Retryable):
    """The server is not itself: a 5xx, a page of HTML, JSON that makes no sense."""


class RateLimited(Retryable):
    """Asked too fast, by whomever."""


class OddRefusal(Retryable):
    """A valid request called invalid."""

    most_tries = 2


class PluginFault(Retryable):
    """Another package's provider raised what is no ProviderError."""


class NotYet(ProviderError):  # noqa: N818  (the tree reads as words)
    """The data is not published yet."""


class NoTrading(NotYet):
    """A whole market without a single bar: a day off, or its data is late."""


class NeverServed(ProviderError):  # noqa: N818  (the tree reads as words)
    """Not in this provider or plan, whatever is tried."""


class BeyondPlan(NeverServed):
    """Older than the plan reaches."""


class NotBelieved(ProviderError):  # noqa: N818  (the tree reads as words)
    """An answer that contradicts the question."""


class ProviderStopped(ProviderError):  # noqa: N818  (the tree reads as words)
    """Nothing more can be asked until a person acts."""
