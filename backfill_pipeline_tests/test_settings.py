"""The environment: what counts as unset, what is refused and in which words, what never shows."""

from datetime import date
from pathlib import Path

import pytest
from dagster._utils.schedules import is_valid_cron_schedule

from backfill_pipeline.settings import Settings, SettingsError, default_home, load_settings
from backfill_pipeline_tests.other_users import needs_root, python_as

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        for name in [alias] if isinstance(alias, str) else alias.choices:
            monkeypatch.delenv(name, raising=False)


def test_without_any_variable_the_documented_defaults_hold() -> None:
    settings = load_settings()
    assert settings.home == default_home()
    assert settings.database_url is None
    assert settings.provider == "auto"
    assert settings.polygon_requests_per_minute == 5
    assert settings.binance_base_url == "https://data-api.binance.vision"
    assert settings.nightly_cron == "0 2 * * *"
    assert (settings.intraday_start, settings.intraday_grain) == (date(2022, 1, 1), "day")
    assert (settings.daily_start, settings.daily_grain) == (date(2000, 1, 1), "month")


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "POLYGON_API_KEY", "BACKFILL_INTRADAY_GRAIN", "BACKFILL_HOME"):
        monkeypatch.setenv(name, "")
    assert load_settings() == Settings()
    assert load_settings().polygon_api_key is None


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        pytest.param("BACKFILL_INTRADAY_GRAIN", "hour", "is 'hour'; allowed: day, week or month", id="grain"),
        pytest.param("BACKFILL_DAILY_START", "20000101", "is '20000101'; allowed: a date like", id="compact date"),
        pytest.param("BACKFILL_DAILY_START", "2001-02-29", "(day is out of range", id="no such date"),
        pytest.param("POLYGON_REQUESTS_PER_MINUTE", "-1", "allowed: a whole number; 0 for", id="fewer than none"),
        pytest.param("POLYGON_REQUESTS_PER_MINUTE", "five", "is 'five'; allowed: a whole", id="no number"),
        pytest.param("BACKFILL_PROVIDER", "Polygon", "is 'Polygon'; allowed: auto or", id="upper case"),
        pytest.param("BACKFILL_PROVIDER", "polygon,", "is 'polygon,'; allowed: auto or", id="a name that is empty"),
        pytest.param("BACKFILL_PROVIDER", "polygon;tradier", "like files,polygon,tradier", id="another comma"),
        pytest.param("BACKFILL_PROVIDER", "files,polygon,files", "(each provider once)", id="a provider twice"),
        pytest.param("BACKFILL_PROVIDER", "auto,files", "(auto stands alone)", id="auto and a name"),
        pytest.param("BINANCE_BASE_URL", "data-api.binance.vision", "that starts with https", id="no scheme, crypto"),
        pytest.param("POLYGON_BASE_URL", "api.x.com", "allowed: an address that starts with https", id="no scheme"),
        pytest.param("BACKFILL_NIGHTLY_CRON", "0 2 * *", "and not 4", id="four fields"),
        pytest.param("BACKFILL_NIGHTLY_CRON", "0 24 * * *", "hour '24' is not of 0-23", id="hour 24"),
        pytest.param("DATABASE_URL", "sqlite:///bars.db", "is no PostgreSQL URL", id="sqlite"),
        pytest.param("DATABASE_URL", "mysql://u@h/d", "is no PostgreSQL URL", id="mysql"),
        pytest.param("DATABASE_URL", "postgresql://u@h", "names no database", id="no database"),
        pytest.param("DAGSTER_DATABASE_URL", "postgresql://h:x/d", "has a port that is no number", id="port"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(variable)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@more@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}%zz@h/d"),
        ("DATABASE_URL", f"postgresql://u@h/d?password={SECRET}&port=x"),
        ("BACKFILL_WEBHOOK_URL", f"hooks/{SECRET}"),
        ("BACKFILL_HEARTBEAT_URL", f"ftp://x/{SECRET}"),
    ],
)
def test_no_error_shows_a_secret(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as caught:
        load_settings()
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_repr_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLYGON_API_KEY", "TRADIER_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    for name in ("BACKFILL_WEBHOOK_URL", "BACKFILL_HEARTBEAT_URL"):
        monkeypatch.setenv(name, f"https://x/{SECRET}")
    for name in ("DATABASE_URL", "DAGSTER_DATABASE_URL"):
        monkeypatch.setenv(name, f"postgresql://u:{SECRET}@h/d")
    settings = load_settings()
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert settings.webhook_url is not None
    assert settings.webhook_url.get_secret_value() == f"https://x/{SECRET}"


def test_an_address_that_is_told_keeps_the_slash_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKFILL_HEARTBEAT_URL", "https://x/beat/")
    url = load_settings().heartbeat_url
    assert url is not None
    assert url.get_secret_value() == "https://x/beat/"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("auto", ("auto",)),
        ("sample", ("sample",)),
        ("files,polygon,tradier", ("files", "polygon", "tradier")),
        (" files , polygon\r", ("files", "polygon")),
    ],
)
def test_providers_are_named_in_the_order_of_preference(
    monkeypatch: pytest.MonkeyPatch, value: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("BACKFILL_PROVIDER", value)
    assert load_settings().provider_names == names
    assert load_settings().provider == ",".join(names)  # as `backfill env` hands it on


def test_the_key_is_known_by_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASSIVE_API_KEY", "m")
    key = load_settings().polygon_api_key
    assert key is not None
    assert key.get_secret_value() == "m"


def test_the_environment_wins_over_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"BACKFILL_DAILY_GRAIN=week\r\nBACKFILL_INTRADAY_GRAIN=week\r\nPOLYGON_API_KEY=f\r\nOTHER=1\r\n")
    monkeypatch.setenv("BACKFILL_DAILY_GRAIN", "day")
    monkeypatch.setenv("MASSIVE_API_KEY", "e")
    settings = load_settings(file)
    assert (settings.daily_grain, settings.intraday_grain) == ("day", "week")
    assert settings.polygon_api_key is not None
    assert settings.polygon_api_key.get_secret_value() == "e"
    assert load_settings().intraday_grain == "day"
    assert load_settings(tmp_path / "none").intraday_grain == "day"


def test_a_home_is_absolute_and_may_start_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKFILL_HOME", ".backfill/demo")
    assert load_settings().home == tmp_path / ".backfill" / "demo"
    monkeypatch.setenv("BACKFILL_HOME", "~/bars")
    assert load_settings().home == Path.home() / "bars"


@needs_root
def test_the_home_of_root_and_of_a_user_differ() -> None:
    assert default_home() == Path("/var/lib/backfill_pipeline")
    done = python_as("nobody", "from backfill_pipeline.settings import default_home; print(default_home())")
    assert "/var/lib" not in done.stdout
    assert done.stdout.strip().endswith("backfill_pipeline")


@pytest.mark.parametrize(
    "cron", ["0 2 * * *", "*/15 * * * *", "30 1-5/2 1,15 jan-mar MON-FRI", "59 23 31 12 7", "0  2 * * 0"]
)
def test_a_cron_line_that_is_accepted_is_one_to_dagster(monkeypatch: pytest.MonkeyPatch, cron: str) -> None:
    monkeypatch.setenv("BACKFILL_NIGHTLY_CRON", cron)
    assert is_valid_cron_schedule(load_settings().nightly_cron)


@pytest.mark.parametrize(
    "cron", ["@daily", "60 2 * * *", "0 2 0 * *", "0 2 * 13 *", "0 2 * * 8", "0 2 * * 5-1", "*/0 * * * *"]
)
def test_a_cron_line_that_never_fires_is_refused(monkeypatch: pytest.MonkeyPatch, cron: str) -> None:
    monkeypatch.setenv("BACKFILL_NIGHTLY_CRON", cron)
    with pytest.raises(SettingsError, match="BACKFILL_NIGHTLY_CRON"):
        load_settings()
