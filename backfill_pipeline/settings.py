"""The one place that reads the environment. Nothing is read at import; nothing here connects to anything."""

import os
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from backfill_pipeline.database_urls import canonical_url, redacted_url

Grain = Literal["day", "week", "month"]
_PROVIDERS = "auto or names of providers, the preferred first, like files,polygon,tradier"
CRON_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


class SettingsError(ValueError):
    """An environment variable has a wrong value. The text is one line: the variable, its value, what is
    allowed.
    """


def default_home() -> Path:
    """BACKFILL_HOME if it is not set: the platform's folder for a user's data; for root
    /var/lib/backfill_pipeline.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/backfill_pipeline")
    return platformdirs.user_data_path("backfill_pipeline", appauthor=False)


def variable_prefix(provider: str) -> str:
    """What the environment variables of another package's provider begin with: `ACME_BARS_` of acme-bars."""
    return f"{provider.upper().replace('-', '_')}_"


def _iso_date(text: object) -> object:
    if isinstance(text, str):
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):  # pydantic would take 20220101 for seconds since 1970
            raise ValueError("a date like 2022-01-31")
        return date.fromisoformat(text)
    return text


def _home(folder: Path) -> Path:
    return folder.expanduser().absolute()


def _web_address(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+\S*", text):
        raise ValueError("an address that starts with https:// or http://")
    return text.rstrip("/")


def _secret_web_address(secret: SecretStr) -> SecretStr:
    _web_address(secret.get_secret_value())
    return secret  # with the slash at its end: the whole of it is asked for, and nothing is put behind it


def _broker(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"rediss?://[^\s/]+\S*", secret.get_secret_value()):
        raise ValueError("an address like redis://host:6379/0")
    return secret


def _providers(text: str) -> str:
    names = [name.strip() for name in text.split(",")]
    if not all(re.fullmatch(r"[a-z][a-z0-9_-]*", name) for name in names):
        raise ValueError(_PROVIDERS)
    if len(set(names)) < len(names):
        raise ValueError("each provider once")
    if "auto" in names and len(names) > 1:
        raise ValueError("auto stands alone")
    return ",".join(names)


def _cron(text: str) -> str:
    fields = text.split()
    if len(fields) != len(CRON_FIELDS):
        raise ValueError(f"5 fields, minute hour day month weekday, and not {len(fields)}")
    for field, (name, low, high, names) in zip(fields, CRON_FIELDS, strict=True):
        for part in field.lower().split(","):
            if not _is_cron_part(part, low, high, names):
                raise ValueError(f"{name} {field!r} is not of {low}-{high}")
    return " ".join(fields)


def _is_cron_part(part: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and 1 <= int(step) <= high):
        return False
    if span == "*":
        return True
    ends = [low + names.index(end) if end in names else int(end) if end.isdecimal() else -1 for end in span.split("-")]
    if not all(low <= end <= high for end in ends):
        return False
    return not slash if len(ends) == 1 else len(ends) == 2 and ends[0] <= ends[1]


DatabaseUrl = Annotated[str, AfterValidator(canonical_url)]
IsoDate = Annotated[date, BeforeValidator(_iso_date)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
SecretWebAddress = Annotated[SecretStr, AfterValidator(_secret_web_address)]
Broker = Annotated[SecretStr, AfterValidator(_broker)]
Providers = Annotated[str, AfterValidator(_providers)]


class Settings(BaseSettings):
    """Every variable this project reads. A field's description says what is allowed; secrets are not in the
    repr.

    Database URLs are in libpq's form; see `database_urls.sqlalchemy_url` for the other.
    """

    model_config = SettingsConfigDict(
        case_sensitive=True, env_ignore_empty=True, env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    home: Annotated[Path, AfterValidator(_home)] = Field(
        default_factory=default_home, validation_alias="BACKFILL_HOME", description="a folder"
    )
    database_url: DatabaseUrl | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        repr=False,
        description="postgresql://user@host:5432/market",
    )
    dagster_database_url: DatabaseUrl | None = Field(
        default=None, validation_alias="DAGSTER_DATABASE_URL", repr=False, description="like DATABASE_URL"
    )

    provider: Providers = Field(default="auto", validation_alias="BACKFILL_PROVIDER", description=_PROVIDERS)
    polygon_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("POLYGON_API_KEY", "MASSIVE_API_KEY"),
        description="the key",
    )
    polygon_base_url: WebAddress = Field(
        default="https://api.massive.com",
        validation_alias="POLYGON_BASE_URL",
        description="an address that starts with https:// or http://",
    )
    polygon_requests_per_minute: int = Field(
        default=5,
        ge=0,
        validation_alias="POLYGON_REQUESTS_PER_MINUTE",
        description="a whole number; 0 for a plan without a limit",
    )
    tradier_token: SecretStr | None = Field(default=None, validation_alias="TRADIER_TOKEN", description="the token")
    tradier_base_url: WebAddress = Field(
        default="https://api.tradier.com/v1",
        validation_alias="TRADIER_BASE_URL",
        description="an address that starts with https:// or http://",
    )
    binance_base_url: WebAddress = Field(
        default="https://data-api.binance.vision",
        validation_alias="BINANCE_BASE_URL",
        description="an address that starts with https:// or http://",
    )
    files: Annotated[Path, AfterValidator(_home)] | None = Field(
        default=None, validation_alias="BACKFILL_FILES", description="a folder"
    )

    min_free_gb: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        validation_alias="BACKFILL_MIN_FREE_GB",
        description="a number of gigabytes; 0 for no floor",
    )

    webhook_url: SecretWebAddress | None = Field(default=None, validation_alias="BACKFILL_WEBHOOK_URL")
    heartbeat_url: SecretWebAddress | None = Field(default=None, validation_alias="BACKFILL_HEARTBEAT_URL")
    nightly_cron: Annotated[str, AfterValidator(_cron)] = Field(
        default="0 2 * * *", validation_alias="BACKFILL_NIGHTLY_CRON", description="5 cron fields, in UTC"
    )

    runs_at_once: int | None = Field(
        default=None, ge=1, le=100, validation_alias="BACKFILL_RUNS_AT_ONCE", description="a whole number, 1 to 100"
    )
    broker: Broker | None = Field(default=None, validation_alias="BACKFILL_BROKER")

    intraday_start: IsoDate = Field(
        default=date(2022, 1, 1),
        validation_alias="BACKFILL_INTRADAY_START",
        description="a date like 2022-01-31",
    )
    daily_start: IsoDate = Field(
        default=date(2000, 1, 1),
        validation_alias="BACKFILL_DAILY_START",
        description="a date like 2022-01-31",
    )
    intraday_grain: Grain = Field(
        default="day", validation_alias="BACKFILL_INTRADAY_GRAIN", description="day, week or month"
    )
    daily_grain: Grain = Field(
        default="month", validation_alias="BACKFILL_DAILY_GRAIN", description="day, week or month"
    )

    _others: dict[str, str] = PrivateAttr(default_factory=dict)  # variables of other packages' providers

    def variables_of(self, provider: str) -> dict[str, str]:
        """Variables that begin with the provider's name, without it: what a provider of another package is given."""
        prefix = variable_prefix(provider)
        return {name.removeprefix(prefix): value for name, value in self._others.items() if name.startswith(prefix)}

    @property
    def provider_names(self) -> tuple[str, ...]:
        """The parts of `provider`, the preferred first."""
        return tuple(self.provider.split(","))

    @field_validator("*", mode="before")
    @classmethod
    def _strip(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value  # a .env file edited on Windows ends lines in \r


def load_settings(env_file: Path | None = None) -> Settings:
    """Read the environment, and a `.env` file beneath it if one is given and exists: the environment wins.

    An empty value counts as unset. Raises SettingsError, one line.
    """
    try:
        settings = Settings(_env_file=env_file)  # type: ignore[call-arg]  # mypy sees the fields only
        settings._others.update(_variables_of(settings.provider_names, env_file))  # noqa: SLF001  (its own module)
        return settings
    except ValidationError as error:
        lines = dict.fromkeys(_complaint(dict(detail)) for detail in error.errors(include_url=False))
        raise SettingsError("; ".join(lines)) from None  # pydantic's own text quotes secrets
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{env_file} cannot be read: {error}") from None


def _variables_of(providers: Sequence[str], env_file: Path | None) -> dict[str, str]:
    """The variables that begin with a provider's name, of the file and the environment, which wins; no empty one."""
    prefixes = tuple(map(variable_prefix, providers))
    every = {**(dotenv_values(env_file, encoding="utf-8") if env_file else {}), **os.environ}
    return {name: value.strip() for name, value in every.items() if name.startswith(prefixes) and value}


def _complaint(detail: dict[str, Any]) -> str:
    variable = str(detail["loc"][0])
    field = next(field for field in Settings.model_fields.values() if variable in _variables(field))
    own_words = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else None
    if "DATABASE_URL" in variable:
        return f"{variable} ({redacted_url(detail['input'])}) {own_words}"
    allowed = field.description or own_words
    if "Secret" in str(field.annotation):
        return f"{variable} has a wrong value (not shown, it is a secret); allowed: {allowed}"
    reason = f" ({own_words})" if own_words and own_words != allowed else ""
    return f"{variable} is {detail['input']!r}; allowed: {allowed}{reason}"


def _variables(field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
