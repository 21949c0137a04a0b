"""The gateway's settings: what is refused at start, and that no secret is repeated."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import SecretStr

from parley_common.business import load
from parley_common.errors import ConfigInvalid
from parley_common.settings import ParleySettings, load_settings
from parley_gateway.settings import (
    GatewaySettings,
    allowed_origins,
    api_keys,
    session_services,
    timing,
    token_keys,
)

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


def test_allowed_origins_are_a_list_of_sites() -> None:
    settings = GatewaySettings(allowed_origins=" https://www.example.com/, http://localhost:3000 ,")
    assert allowed_origins(settings) == ("https://www.example.com", "http://localhost:3000")
    assert allowed_origins(GatewaySettings()) == ()


@pytest.mark.parametrize("text", ["*", "www.example.com", "https://", "https://*.example.com", "https://a/b"])
def test_what_no_browser_sends_as_an_origin_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="GATEWAY_ALLOWED_ORIGINS"):
        allowed_origins(GatewaySettings(allowed_origins=text))


HASH = hashlib.sha256(b"a key").hexdigest()


def test_api_keys_come_from_the_variable_and_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the web shop\noak:shop:{HASH}\n\ncap:june:{HASH} # rotates\n")
    keys_found = api_keys(GatewaySettings(api_keys=f"cap:crm:{HASH}", api_keys_file=path))
    assert [(key.business, key.name) for key in keys_found] == [
        ("cap", "crm"),
        ("oak", "shop"),
        ("cap", "june"),
    ]


@pytest.mark.parametrize(
    "text",
    ["cap:crm:not-a-hash", f"cap:{HASH}", f"Cap:crm:{HASH}", f"cap:crm:{HASH},cap:crm:{HASH}"],
)
def test_api_keys_that_cannot_be_used_are_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="GATEWAY_API_KEYS") as wrong:
        api_keys(GatewaySettings(api_keys=text))
    assert "not-a-hash" not in str(wrong.value)
    assert HASH not in str(wrong.value)


def test_a_file_of_api_keys_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="GATEWAY_API_KEYS_FILE"):
        api_keys(GatewaySettings(api_keys_file=tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("origin", "is_good"),
    [
        ("https://www.example.com", True),
        ("http://localhost:3000", True),
        ("https://www.example.com/", False),
        ("https://*.example.com", False),
        ("www.example.com", False),
        ("HTTPS://www.example.com", False),
    ],
)
def test_a_business_names_its_sites_as_browsers_do(tmp_path: Path, origin: str, is_good: bool) -> None:
    folder = tmp_path / "cap"
    folder.mkdir()
    (folder / "prompt.md").write_text("Be brief.")
    (folder / "business.yaml").write_text(
        f"name: cap\ntitle: Cap\nagent:\n  name: Cap\norigins:\n  - '{origin}'\n"
    )
    if is_good:
        assert load(folder).config.origins == (origin,)
        return
    with pytest.raises(ConfigInvalid, match=r"business\.yaml:5: .*is not a site"):
        load(folder)
