"""Settings: a wrong or unknown variable is one line that names it; secrets are never printed."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from parley_common.errors import ConfigInvalid
from parley_common.settings import (
    KafkaSettings,
    ServiceSettings,
    Settings,
    load_settings,
    variable_prefix,
    variables,
)


class ShopSettings(ServiceSettings):
    """A service of this test alone."""

    model_config = SettingsConfigDict(env_prefix="SHOP_")

    port: int = Field(default=9000, ge=1, le=65_535)
    api_key: SecretStr | None = None
    pin: SecretStr = Field(default=SecretStr("00000000"), min_length=8)
    hosts: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("SHOP_", "PARLEY_", "KAFKA_", "OTEL_"):
        for name in _named(prefix):
            monkeypatch.delenv(name)


def _named(prefix: str) -> list[str]:
    import os

    return [name for name in os.environ if name.startswith(prefix)]


def refusal(*pairs: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> ConfigInvalid:
    for name, value in pairs:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigInvalid) as refused:
        load_settings(ShopSettings)
    assert len(str(refused.value).splitlines()) == 1
    return refused.value


def test_settings_have_defaults_and_shared_groups_keep_their_own_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_PORT", "9100")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example.com:9092")
    monkeypatch.setenv("PARLEY_STATE_DIR", "state")
    settings = load_settings(ShopSettings)
    assert (settings.port, settings.host) == (9100, "127.0.0.1")
    assert settings.kafka.bootstrap_servers == "kafka.example.com:9092"
    assert settings.parley.state_dir == Path("state")


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PORT", "")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "")
    settings = load_settings(ShopSettings)
    assert (settings.port, settings.kafka.sasl_username) == (9000, None)


@pytest.mark.parametrize("name", ["SHOP_PROT", "SHOP_KAFKA", "PARLEY_INTERNAL_TOKEM"])
def test_an_unknown_variable_with_our_prefix_is_an_error_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = refusal((name, "hunter2"), monkeypatch=monkeypatch)
    assert name in str(wrong)
    assert "hunter2" not in str(wrong)


@pytest.mark.parametrize(
    "name", ["PARLEY_TEST_KAFKA", "PARLEY_UP_X", "KAFKA_HEAP_OPTS", "OTEL_SERVICE_NAME", "OTHER"]
)
def test_variables_of_others_are_none_of_our_business(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")
    assert load_settings(ShopSettings).port == 9000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHOP_PORT", "eighty"),
        ("SHOP_PORT", "70000"),
        ("SHOP_HOSTS", "not json"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_REPLICATION_FACTOR", "0"),
        ("PARLEY_LOG_LEVEL", "loud"),
        ("PARLEY_ENVIRONMENT", "staging"),
    ],
)
def test_a_wrong_value_is_an_error_on_one_line_with_the_name_of_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(refusal((name, value), monkeypatch=monkeypatch)).startswith(f"{name}: ")


def test_a_wrong_secret_is_named_and_never_printed_not_even_in_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = refusal(("SHOP_PIN", "hunter2"), monkeypatch=monkeypatch)
    assert str(wrong).startswith("SHOP_PIN: ")
    assert "hunter2" not in "".join(traceback.format_exception(wrong))


def test_secrets_are_not_printed_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHOP_API_KEY", "KAFKA_SASL_PASSWORD", "PARLEY_INTERNAL_TOKEN"):
        monkeypatch.setenv(name, "hunter2-hunter2")
    settings = load_settings(ShopSettings)
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "hunter2-hunter2"


def test_settings_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(ShopSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_production_refuses_the_token_of_development(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = refusal(("PARLEY_ENVIRONMENT", "production"), monkeypatch=monkeypatch)
    assert "PARLEY_INTERNAL_TOKEN" in str(wrong)
    monkeypatch.setenv("PARLEY_INTERNAL_TOKEN", "a token of our own")
    assert load_settings(ShopSettings).parley.environment == "production"


def test_every_variable_that_is_read_can_be_listed() -> None:
    listed = set(variables(ShopSettings))
    assert {"SHOP_PORT", "SHOP_HOST", "KAFKA_BOOTSTRAP_SERVERS", "PARLEY_INTERNAL_TOKEN"} <= listed
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in listed
    assert not any(name.startswith("SHOP_KAFKA") for name in listed)
    assert (variable_prefix(KafkaSettings), variable_prefix(Settings)) == ("KAFKA_", "")
