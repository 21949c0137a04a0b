"""Settings: one frozen class per service, read once, from the environment.

Shared groups (Kafka, telemetry, Parley itself) keep their own prefix whichever service reads them. This is
the only module besides services' own settings.py that looks at the environment.

Law: a wrong or unknown variable is an error at start, on one line, with the variable's name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from parley_common.errors import ConfigInvalid

S = TypeVar("S", bound="Settings")


class Settings(BaseSettings):
    """A frozen group of settings; ``env_prefix`` is its namespace."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # it may be a secret, and errors are chained
    )


class KafkaSettings(Settings):
    """How to reach Kafka."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_")

    bootstrap_servers: str = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_file: Path | None = None
    ssl_cert_file: Path | None = None
    ssl_key_file: Path | None = None
    replication_factor: int = Field(default=1, ge=1, le=5)
    """For topics that `parley topics apply` creates; 3 in production."""


class TelemetrySettings(Settings):
    """Where spans go. Nothing is exported until an endpoint is set."""

    model_config = SettingsConfigDict(env_prefix="OTEL_")

    exporter_otlp_endpoint: str | None = None


class ParleySettings(Settings):
    """What every service agrees on."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_")

    environment: Literal["development", "production"] = "development"
    businesses_dir: Path = Path("businesses")
    state_dir: Path = Path(".parley")
    """Where embedded files live: SQLite, spool, mail, the embedded broker."""
    internal_token: SecretStr = SecretStr("development-only")
    """What services show each other on links. Must be set in production."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"


class ServiceSettings(Settings):
    """The base of each service's class: shared groups, and where its HTTP port listens."""

    host: str = "127.0.0.1"
    parley: ParleySettings = Field(default_factory=ParleySettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)


def load_settings(cls: type[S]) -> S:
    """Read ``cls`` from the environment. Raises ConfigInvalid that names the variable at fault."""
    known = set(variables(cls))
    for prefix in {variable_prefix(cls), "PARLEY_"}:
        for variable in sorted(os.environ):
            if variable.startswith(prefix) and variable not in known and not _is_foreign(variable):
                raise ConfigInvalid(f"{variable} is not a setting of this service", remedy="see .env.example")
    try:
        settings = cls()
    except ValidationError as wrong:
        fault = wrong.errors(include_url=False, include_input=False)[0]
        raise ConfigInvalid(f"{_variable_of(cls, wrong, fault['loc'])}: {fault['msg']}") from wrong
    except SettingsError as wrong:
        raise ConfigInvalid(f"{_unparsed(cls, wrong)}: is not JSON", remedy="see .env.example") from wrong
    _refuse_development_secrets(settings)
    return settings


def variables(cls: type[Settings]) -> Iterator[str]:
    """Yield every environment variable that ``cls`` and its groups read."""
    prefix = variable_prefix(cls)
    for name, field in cls.model_fields.items():
        group = _group(field)
        if group is not None:
            yield from variables(group)
        else:
            yield (prefix + name).upper()


def variable_prefix(cls: type[Settings]) -> str:
    """Return the namespace of a settings class, such as ``GATEWAY_``."""
    return str(cls.model_config.get("env_prefix", ""))


def _is_foreign(variable: str) -> bool:
    """Other Parley groups share the PARLEY_ prefix on purpose: the launcher's and the tests' own."""
    return variable.startswith(("PARLEY_TEST_", "PARLEY_UP_"))


def _group(field: FieldInfo) -> type[Settings] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def _variable_of(cls: type[Settings], wrong: ValidationError, location: tuple[Any, ...]) -> str:
    """A group validates itself while its parent is built, so the error's title tells whose field it is."""
    groups = [group for field in cls.model_fields.values() if (group := _group(field))]
    owner = next((group for group in groups if group.__name__ == wrong.title), cls)
    return (variable_prefix(owner) + str(location[0] if location else "settings")).upper()


def _unparsed(cls: type[Settings], wrong: SettingsError) -> str:
    """A list or mapping is read as JSON before any validation; that error names the field only in its text."""
    for owner in (cls, *(group for field in cls.model_fields.values() if (group := _group(field)))):
        for name in owner.model_fields:
            if f'"{name}"' in str(wrong):
                return (variable_prefix(owner) + name).upper()
    return "settings"


def _refuse_development_secrets(settings: Settings) -> None:
    parley = getattr(settings, "parley", None)
    if not isinstance(parley, ParleySettings) or parley.environment != "production":
        return
    if parley.internal_token.get_secret_value() == "development-only":
        raise ConfigInvalid("PARLEY_INTERNAL_TOKEN is not set", remedy="set it: this is production")
