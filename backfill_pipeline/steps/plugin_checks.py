"""What `backfill doctor` says of the providers that other packages offer. Nothing of theirs is loaded here: one that is
chosen was, when its budget was looked for.
"""

from __future__ import annotations

from collections.abc import Collection

from backfill_pipeline.providers.configured import BUILT_IN
from backfill_pipeline.providers.plugins import clash, offered

from .diagnosis import Check, from_error


def check_plugins(chosen: Collection[str]) -> list[Check]:
    """A line for each name that other packages offer. `chosen`: the providers that bars come from."""
    every = offered()
    found = []
    for name in dict.fromkeys(one.name for one in every):
        of = [one for one in every if one.name == name]
        source = f"comes from the package {of[0].package}"
        if complaint := clash(name, of, BUILT_IN):
            found.append(from_error(name, ValueError(complaint), "uninstall one"))
        elif name in chosen:
            found.append(Check(name, "ok", source))
        else:
            found.append(Check(name, "ok", f"{source}, and BACKFILL_PROVIDER names others"))
    return found
