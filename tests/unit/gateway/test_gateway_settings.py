"""The gateway's settings: what is refused at start, and that no secret is repeated."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from parley_common.errors import ConfigInvalid
from parley_common.settings import ParleySettings, load_settings
from parley_gateway.settings import GatewaySettings, session_services, timing, token_keys

SECRET = "0123456789abcdef0123456789abcdef"


def keys(text: str, **parley: object) -> tuple[object, ...]:
    settings = GatewaySettings(token_keys=SecretStr(text), parley=ParleySettings(**parley))  # type: ignore[arg-type]
    return token_keys(settings)


def test_keys_are_read_in_their_order() -> None:
    found = token_keys(GatewaySettings(token_keys=SecretStr(f"june:{SECRET}, may:{SECRET[::-1]}")))
    assert [(key.name, key.secret) for key in found] == [("june", SECRET), ("may", SECRET[::-1])]


@pytest.mark.parametrize(
    "text", ["short:secret", SECRET, f":{SECRET}", f"a:{SECRET},a:{SECRET}", ",", "name:"]
)
def test_keys_that_cannot_be_used_are_refused_by_name_and_never_repeated(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="GATEWAY_TOKEN_KEYS") as wrong:
        keys(text)
    assert SECRET not in str(wrong.value)


def test_the_development_key_is_refused_in_production() -> None:
    default = GatewaySettings().token_keys.get_secret_value()
    assert keys(default)
    with pytest.raises(ConfigInvalid, match="production"):
        keys(default, environment="production", internal_token=SecretStr("x"))


def test_replicas_are_a_list_of_base_urls() -> None:
    settings = GatewaySettings(session_services="ws://a:1/, wss://b/x ,")
    assert session_services(settings) == ("ws://a:1", "wss://b/x")


@pytest.mark.parametrize("text", ["", ",", "http://a:1", "ws://", "a:1", "ws://a:1,ws://a:1/"])
def test_what_is_no_list_of_replicas_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="GATEWAY_SESSION_SERVICES"):
        session_services(GatewaySettings(session_services=text))


def test_an_unknown_variable_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN_TTL", "60")
    with pytest.raises(ConfigInvalid, match="GATEWAY_TOKEN_TTL"):
        load_settings(GatewaySettings)


def test_deadlines_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_LINK_OPEN_MS", "1500")
    assert timing(load_settings(GatewaySettings)).link_open_ms == 1_500
