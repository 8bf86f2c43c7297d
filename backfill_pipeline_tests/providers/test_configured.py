"""Which providers the settings give, in which order, and the one line where they cannot be had."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from pydantic import SecretStr

from backfill_pipeline.providers.base import Provider
from backfill_pipeline.providers.budget import Budget, LimitMemory, NoBudget, OwnMemory, Priority, fingerprint
from backfill_pipeline.providers.configured import chosen_names, configured_router
from backfill_pipeline.providers.errors import ProviderStopped
from backfill_pipeline.providers.files import FilesProvider
from backfill_pipeline.settings import Settings, SettingsError, load_settings

KEY, TOKEN = "pk_live_0123456789abcdef", "tr_live_fedcba9876543210"
GIVEN = {"BACKFILL_FILES": "/data/flat", "POLYGON_API_KEY": KEY, "TRADIER_TOKEN": TOKEN}
OWN = {"BACKFILL_FILES": "files", "POLYGON_API_KEY": "polygon", "TRADIER_TOKEN": "tradier"}

Budgets = dict[str, tuple[str, str, int]]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*GIVEN, "MASSIVE_API_KEY", "BACKFILL_PROVIDER", "POLYGON_BASE_URL", "TRADIER_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def configured(of: Settings, priority: Priority = "backfill") -> tuple[tuple[Provider, ...], Budgets]:
    """The providers in order; and by name what they share: base URL, the key's fingerprint, requests a minute."""
    shared_by: Budgets = {}

    def shared(provider: str, base_url: str, key_fingerprint: str, per_minute: int) -> tuple[Budget, LimitMemory]:
        shared_by[provider] = base_url, key_fingerprint, per_minute
        return NoBudget(), OwnMemory()

    return configured_router(of, shared, priority).providers, shared_by


@pytest.mark.parametrize("chosen", list(product((False, True), repeat=3)))
def test_auto_is_files_polygon_tradier_as_far_as_they_are_set_and_binance_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, chosen: tuple[bool, bool, bool]
) -> None:
    variables = [name for name, given in zip(GIVEN, chosen, strict=True) if given]
    of = settings(monkeypatch, **{name: GIVEN[name] for name in variables})
    expected = [OWN[name] for name in variables] or ["sample"]
    assert list(chosen_names(of)) == expected
    providers, shared_by = configured(of)
    assert [provider.name for provider in providers] == [*expected, "binance"]
    # Files and the sample send no requests, and so share no budget.
    assert set(shared_by) == {*expected, "binance"} - {"files", "sample"}


def test_massives_name_of_the_key_is_polygons_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_names(settings(monkeypatch, MASSIVE_API_KEY=KEY)) == ("polygon",)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_names(settings(monkeypatch, POLYGON_API_KEY="", BACKFILL_FILES="", TRADIER_TOKEN="")) == ("sample",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sample", ["sample"]),
        ("synthetic", ["synthetic"]),
        ("binance", ["binance"]),
        ("polygon", ["polygon"]),
        ("tradier, polygon ,files", ["tradier", "polygon", "files"]),
        ("polygon,binance", ["polygon", "binance"]),
        ("sample,files", ["sample", "files"]),
    ],
)
def test_a_list_gives_those_providers_in_that_order_and_no_other(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]
) -> None:
    providers, _ = configured(settings(monkeypatch, **GIVEN, BACKFILL_PROVIDER=text))
    assert [provider.name for provider in providers] == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("files", "files needs a folder; set BACKFILL_FILES"),
        ("sample,polygon", "polygon needs a key; set POLYGON_API_KEY or MASSIVE_API_KEY"),
        ("sample,tradier", "tradier needs a token; set TRADIER_TOKEN"),
        ("sample,yahoo", "yahoo is not known; use one of auto, files, polygon, tradier, binance, sample, synthetic"),
    ],
)
def test_a_provider_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch, text: str, line: str) -> None:
    of = settings(monkeypatch, BACKFILL_PROVIDER=text)
    for build in (chosen_names, configured):
        with pytest.raises(ProviderStopped) as caught:
            build(of)
        assert str(caught.value) == f"BACKFILL_PROVIDER={line}"


@pytest.mark.parametrize("text", ["polygon,polygon", "auto,files", "polygon,,files", "Polygon", "a b"])
def test_a_list_that_makes_no_sense_names_the_variable_and_its_value(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(monkeypatch, BACKFILL_PROVIDER=text)
    assert f"BACKFILL_PROVIDER is {text!r}; allowed: auto or names of providers" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_cannot_be_one_is_a_line_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("POLYGON_API_KEY", "TRADIER_TOKEN"):
        of = settings(monkeypatch, **{**GIVEN, variable: "two words of a key"})
        with pytest.raises(ProviderStopped, match="the key is empty or holds a character no key has") as caught:
            configured(of)
        assert "words" not in str(caught.value)
        monkeypatch.undo()


def test_budgets_are_shared_by_address_key_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    of = settings(
        monkeypatch,
        **GIVEN,
        BACKFILL_PROVIDER="polygon,tradier,binance",
        POLYGON_REQUESTS_PER_MINUTE="300",
        TRADIER_BASE_URL="https://sandbox.tradier.com/v1/",
    )
    assert configured(of)[1] == {
        "polygon": ("https://api.massive.com", fingerprint(SecretStr(KEY)), 300),
        "tradier": ("https://sandbox.tradier.com/v1", fingerprint(SecretStr(TOKEN)), 55),  # of the sandbox's 60
        "binance": ("https://data-api.binance.vision", fingerprint(SecretStr("")), 1200),
    }


def test_no_key_shows_in_any_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    of = settings(monkeypatch, **GIVEN)
    providers, shared_by = configured(of)
    seen = [of, *providers, shared_by]
    for provider in providers:
        seen += [vars(provider), *vars(provider).values()]
        seen += [vars(inner) for inner in vars(provider).values() if hasattr(inner, "__dict__")]
    text = "\n".join(f"{one!r} {one}" for one in seen)
    assert "polygon" in text
    assert KEY not in text
    assert TOKEN not in text


def test_the_folder_is_read_where_it_was_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (provider, *_), _ = configured(settings(monkeypatch, BACKFILL_FILES="flat"))
    assert isinstance(provider, FilesProvider)
    assert vars(provider)["_folder"] == tmp_path / "flat"
