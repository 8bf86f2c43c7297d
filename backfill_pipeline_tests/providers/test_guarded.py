"""Another package's provider behind its guard: each member, and whose fault a fault is."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from backfill_pipeline.providers.base import HasEvents, HasToday, MarketProvider, NamingProvider
from backfill_pipeline.providers.budget import NoBudget, OwnMemory
from backfill_pipeline.providers.configured import configured_router
from backfill_pipeline.providers.errors import PluginFault
from backfill_pipeline.providers.guarded import guarded
from backfill_pipeline.settings import load_settings
from backfill_pipeline.storage.budget import OwnConnection
from backfill_pipeline_tests.providers.test_plugins import install

STRANGE = """
import logging
from datetime import timedelta
from backfill_pipeline.providers.base import Settle
class Strange:
    name, live, settle = "strange", False, Settle("close", timedelta(0))
    answered, account = 0, "strange"
    def served(self, instrument, timeframe, sessions): return 1 / 0
    def page_rows(self, timeframe): return 5000
    def expected_wait(self, requests): return 0.0
    def lifetime(self, symbol): return {}[symbol]
    def fetch(self, request, now): return None
    @property
    def events(self): return self
    def splits(self, days):
        yield "AAPL", None
        raise OSError("planted")
    dividends = earnings = splits
"""


def test_every_member_is_guarded_and_the_stack_is_in_the_debug_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, "strange", STRANGE, {"strange": "strange:make"})
    with (tmp_path / "strange.py").open("a") as file:
        file.write("def make(given): return Strange()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BACKFILL_PROVIDER", "strange")
    (made,) = configured_router(load_settings(), lambda *_: (NoBudget(), OwnMemory())).providers
    assert (made.name, made.live, made.page_rows("1m"), made.settle.after) == ("strange", False, 5000, "close")
    assert isinstance(made, HasEvents)
    assert not isinstance(made, (HasToday, MarketProvider, NamingProvider))
    caplog.set_level("DEBUG", logger="backfill_pipeline.providers.guarded")
    days: Any = None
    told = made.events.splits(days)
    assert next(told)[0] == "AAPL"
    faults: list[tuple[str, Callable[[], object]]] = [
        ("ZeroDivisionError", lambda: made.served(days, "1m", days)),
        ("KeyError", lambda: made.lifetime("AAPL")),
        ("TypeError", lambda: list(made.fetch(days, days))),
        ("OSError", lambda: next(told)),
    ]
    for kind, asked in faults:
        with pytest.raises(PluginFault, match=f"of the package strange 1.0: its code failed with {kind}; tell"):
            asked()
    assert "in served" in caplog.text
    assert "planted" not in caplog.text.replace('OSError("planted")', "")


def test_a_database_that_is_lost_while_it_waits_for_a_slot_is_no_fault_of_the_plugin(empty_database_url: str) -> None:
    """The run is to wait for the database, and go on."""
    with closing(OwnConnection(empty_database_url)) as own, pytest.raises(psycopg2.errors.UndefinedTable):
        guarded(_Slotted(own), "strange").page_rows("1m")


class _Slotted:
    def __init__(self, own: OwnConnection) -> None:
        self._own = own

    def page_rows(self, timeframe: str) -> object:
        return self._own.rows("SELECT FROM nothing", ())
