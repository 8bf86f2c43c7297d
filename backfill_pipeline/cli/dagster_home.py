"""Dagster's home: the project's dagster.yaml in a folder of the user's home, for one machine or for several."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from backfill_pipeline.project_files import project_file
from backfill_pipeline.providers.configured import chosen_names
from backfill_pipeline.providers.errors import ProviderStopped
from backfill_pipeline.settings import Settings, SettingsError

_MADE = "# Made of the project's dagster.yaml and dagster-distributed.yaml, for BACKFILL_BROKER is set.\n"
# With at most so many requests a minute, runs wait for turns: a request brings up to 50,000 minutes, which one run
# decodes, derives from and stores in some 2 s.
_SLOW = 30
# Runs of each queue at once, on all workers together.
_OF_A_QUEUE = 8
_HERE = ("localhost", "127.0.0.1", "::1")


def dagster_home(home: Path, settings: Settings) -> Path:
    """Dagster's home with the dagster.yaml of these settings; one that somebody has edited is left as it is."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    target, record = folder / "dagster.yaml", folder / ".dagster.yaml.sha256"
    wanted = dagster_yaml(settings)
    current = target.read_bytes() if target.exists() else None
    written = record.read_text() if record.exists() else None
    if current is None or (current != wanted and hashlib.sha256(current).hexdigest() == written):
        target.write_bytes(wanted)
        record.write_text(hashlib.sha256(wanted).hexdigest())
    return folder


def dagster_yaml(settings: Settings) -> bytes:
    """The text of dagster.yaml; it holds no secret. Raises SettingsError where BACKFILL_BROKER cannot be used."""
    text = _with_runs(project_file("dagster.yaml").read_text(encoding="utf-8"), runs_at_once(settings))
    if settings.broker is None:
        return text.encode()
    if importlib.util.find_spec("dagster_celery") is None:
        raise SettingsError("BACKFILL_BROKER needs more: pip install 'backfill_pipeline[distributed]'")
    if settings.database_url is None and urlsplit(settings.broker.get_secret_value()).hostname not in _HERE:
        raise SettingsError(
            "BACKFILL_BROKER is on another machine and DATABASE_URL is not set: workers there cannot reach the embedded"
            " database; set DATABASE_URL, the same on every machine"
        )
    import yaml

    most = settings.runs_at_once or _OF_A_QUEUE
    differs = Template(project_file("dagster-distributed.yaml").read_text(encoding="utf-8")).substitute(
        runs=most, backfill_runs=max(1, most - 1)
    )
    merged = yaml.safe_load(text)
    for section, values in yaml.safe_load(differs).items():
        merged[section] = {**merged.get(section, {}), **values}
    return f"{_MADE}{yaml.safe_dump(merged, sort_keys=False)}".encode()


def runs_at_once(settings: Settings) -> int:
    """How many runs there are at most. By default as many as the machine has cores, and three where a provider's
    request budget is what they would wait for: one that writes, one that asks, and one for the night.
    """
    if settings.runs_at_once is not None:
        return settings.runs_at_once
    return 3 if _waits_for_turns(settings) else max(3, os.cpu_count() or 1)


def _waits_for_turns(settings: Settings) -> bool:
    try:
        names = chosen_names(settings)
    except ProviderStopped:  # a run says what is wrong with the setting
        return False
    return "polygon" in names and 0 < settings.polygon_requests_per_minute <= _SLOW


def _with_runs(text: str, most: int) -> str:
    """One place is left to the night and to repairs, where there is more than one."""
    limits = {"max_concurrent_runs": most, "limit": max(1, most - 1)}
    for name, limit in limits.items():
        text = re.sub(rf"^( +{name}): \d+$", rf"\1: {limit}", text, count=1, flags=re.MULTILINE)
    return text
