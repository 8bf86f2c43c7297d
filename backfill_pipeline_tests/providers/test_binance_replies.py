"""Binance's replies when single cells, or the whole shape of them, make no sense; and how refusals are told."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from backfill_pipeline.providers.binance import BinanceProvider
from backfill_pipeline.providers.budget import NoBudget
from backfill_pipeline.providers.errors import NeverServed, OddRefusal, ProviderError, ProviderStopped, ServerTrouble
from backfill_pipeline_tests.providers.polygons import QUICK, asking, hear
from backfill_pipeline_tests.providers.test_binance import PAIR
from backfill_pipeline_tests.providers.test_http import reply, serving

DAY = date(2026, 8, 1)


def _at(url: str) -> BinanceProvider:
    return BinanceProvider(url, budget=NoBudget(), patience=QUICK)


def row(*changed: tuple[int, str]) -> bytes:
    """A kline of 2026-08-01 with some of its cells written otherwise."""
    opened = 1_785_542_400_000
    cells = [f"{opened}", '"10"', '"12"', '"9"', '"11"', '"2"', f"{opened + 86_399_999}", '"21"', "3", '"0"', '"0"']
    for place, text in changed:
        cells[place] = text
    return ("[[" + ",".join([*cells, '"0"']) + "]]").encode()


@pytest.mark.parametrize(
    ("body", "kind", "line"),
    [
        pytest.param(b"{}", ServerTrouble, "something else than klines: '{}'", id="an object"),
        pytest.param(b"[[1,2,3]]", ServerTrouble, "something else than klines", id="short rows"),
        pytest.param(b'[{"t":1}]', ServerTrouble, "something else than klines", id="objects in a list"),
        pytest.param(b"[null]", ServerTrouble, "something else than klines", id="null in a list"),
    ],
)
def test_a_reply_of_another_shape_is_trouble_and_nothing_half(
    body: bytes, kind: type[ProviderError], line: str
) -> None:
    with serving(reply("200 OK", body)) as server:
        heard = hear(_at(server.url), asking(DAY, DAY, "1d", PAIR))
        assert type(heard.error) is kind
        assert line in str(heard.error)
        assert heard.pieces == []
        assert len(server.asked) == QUICK.tries


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param((1, "true"), "not a number", id="a boolean price"),
        pytest.param((4, '"eleven"'), "not a number", id="a word"),
        pytest.param((5, '"inf"'), "not a number", id="infinite volume"),
        pytest.param((2, "1" + "0" * 400), "not a number", id="a number beyond any float"),
        pytest.param((0, "-5"), "ts is outside the asked window", id="a time before all"),
        pytest.param((0, "null"), "ts is outside the asked window", id="no time"),
        pytest.param((0, "1e300"), "ts is outside the asked window", id="a time after all"),
        pytest.param((7, '"-21"'), "vwap is negative", id="negative turnover"),
    ],
)
def test_a_cell_that_makes_no_sense_costs_its_row_only(changed: tuple[int, str], reason: str) -> None:
    with serving(reply("200 OK", row(changed))) as server:
        heard = hear(_at(server.url), asking(DAY, DAY, "1d", PAIR))
    assert heard.error is None
    assert [one.reason.partition(" [")[0] for one in heard.refused] == [reason]
    assert len(heard.stored) == 0


def test_a_count_or_turnover_that_is_none_is_unknown() -> None:
    with serving(reply("200 OK", row((7, "null"), (8, '"many"')))) as server:
        bars = hear(_at(server.url), asking(DAY, DAY, "1d", PAIR)).stored
    assert len(bars) == 1
    assert np.isnan(bars.vwap[0])
    assert bars.trades[0] == -1


def test_a_row_without_a_close_time_is_not_answered() -> None:
    with serving(reply("200 OK", row((6, "null")))) as server:
        heard = hear(_at(server.url), asking(DAY, DAY, "1d", PAIR))
    assert len(heard.raw) == 1
    assert heard.answered == []


@pytest.mark.parametrize(
    ("answer", "kind", "line"),
    [
        (
            reply("451 Unavailable", b"<html>blocked"),
            ProviderStopped,
            "not served from this place (451): <html>",
        ),
        (reply("403 Forbidden", b"<html>WAF"), ProviderStopped, "turned away (403): <html>WAF"),
        (reply("403 Forbidden"), ProviderStopped, "turned away (403): no reason given"),
        (reply("400 Bad Request", b"what?"), OddRefusal, "called invalid (400): what?"),
        (reply("400 Bad Request", b"[]"), OddRefusal, "called invalid (400): []"),
        (reply("400 Bad Request", b'{"code":-1121,"msg":"Invalid symbol."}'), NeverServed, "no such pair"),
    ],
)
def test_a_refusal_is_told_in_one_line(answer: bytes, kind: type[ProviderError], line: str) -> None:
    with serving(answer) as server:
        error = hear(_at(server.url), asking(DAY, DAY, "1d", PAIR)).error
    assert type(error) is kind
    assert line in str(error)
    assert "\n" not in str(error)
