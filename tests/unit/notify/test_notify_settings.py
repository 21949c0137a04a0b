"""The settings of notify: defaults that run, and what production refuses."""

from __future__ import annotations

import pytest

from parley_common.errors import ConfigInvalid
from parley_notify.routes import Defaults
from parley_notify.settings import load, parse_sender

PRODUCTION = {
    "PARLEY_ENVIRONMENT": "production",
    "PARLEY_INTERNAL_TOKEN": "a long internal token",
    "NOTIFY_WEBHOOK_KEYS": "k2:0123456789abcdef,k1:old-but-long-enough",
}


def set_all(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_development_needs_no_setting_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PARLEY_STATE_DIR="state")
    settings = load()
    assert settings.port == 8083
    assert settings.database == "sqlite:///state/notify.db"
    assert str(settings.maildir_used) == "state/mail"
    assert settings.private_webhooks_allowed
    assert settings.signing_key.name == "development"


def test_production_refuses_private_webhooks_unless_they_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, **PRODUCTION)
    assert not load().private_webhooks_allowed
    set_all(monkeypatch, NOTIFY_ALLOW_PRIVATE_WEBHOOKS="true")
    assert load().private_webhooks_allowed


def test_the_first_key_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, **PRODUCTION)
    assert (load().signing_key.name, load().signing_key.secret) == ("k2", b"0123456789abcdef")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NOTIFY_WEBHOOK_KEYS", "development:development-only"),
        ("NOTIFY_WEBHOOK_KEYS", "k1:short"),
        ("NOTIFY_WEBHOOK_URL", "http://crm.example.com/in"),
    ],
)
def test_production_refuses_what_is_only_for_development(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    set_all(monkeypatch, **(PRODUCTION | {variable: value}))
    with pytest.raises(ConfigInvalid, match=variable):
        load()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NOTIFY_WEBHOOK_KEYS", "no-secret"),
        ("NOTIFY_WEBHOOK_KEYS", "k1:a,bad name:b"),
        ("NOTIFY_WEBHOOK_URL", "crm.example.com/in"),
        ("NOTIFY_SLACK_HOOKS", '{"desk": "hooks.slack.com"}'),
        ("NOTIFY_SLACK_HOOKS", '{"bad name": "https://hooks.slack.com/x"}'),
        ("NOTIFY_SLACK_HOOKS", "desk"),
        ("NOTIFY_HUBSPOT_URL", "api.hubapi.com"),
        ("NOTIFY_SALESFORCE_URL", "x.my.salesforce.com"),
        ("NOTIFY_SALESFORCE_API_VERSION", "62"),
        ("NOTIFY_SALESFORCE_LEAD_KEY", "Id = '' OR Name"),
        ("NOTIFY_SMTP_FROM", "Cap"),
        ("NOTIFY_SMTP_TLS", "maybe"),
        ("NOTIFY_RETRY_MAX_H", "0"),
        ("NOTIFY_COLOUR", "blue"),
    ],
)
def test_a_wrong_or_unknown_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    set_all(monkeypatch, **{variable: value})
    with pytest.raises(ConfigInvalid, match=variable):
        load()


def test_a_user_without_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, NOTIFY_SMTP_USERNAME="cap")
    with pytest.raises(ConfigInvalid, match="NOTIFY_SMTP_PASSWORD"):
        load()


def test_a_salesforce_org_without_a_login_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, NOTIFY_SALESFORCE_URL="https://x.my.salesforce.com", NOTIFY_SALESFORCE_CLIENT_ID="c")
    with pytest.raises(ConfigInvalid, match="NOTIFY_SALESFORCE_CLIENT_SECRET"):
        load()


def test_channels_lead_somewhere_once_they_are_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().defaults == Defaults()
    set_all(
        monkeypatch,
        NOTIFY_SLACK_HOOKS='{"default": "https://hooks.slack.com/services/T/B/s"}',
        NOTIFY_HUBSPOT_TOKEN="pat-1",
        NOTIFY_SALESFORCE_URL="https://x.my.salesforce.com",
        NOTIFY_SALESFORCE_CLIENT_ID="c",
        NOTIFY_SALESFORCE_CLIENT_SECRET="s",
    )
    assert load().defaults == Defaults(
        slack_hooks=frozenset({"default"}),
        hubspot_url="https://api.hubapi.com",
        salesforce_url="https://x.my.salesforce.com",
    )
    assert not [secret for secret in ("services/T", "pat-1") if secret in repr(load())]


def test_production_never_sends_a_password_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    mail = {"NOTIFY_SMTP_USERNAME": "cap", "NOTIFY_SMTP_PASSWORD": "p", "NOTIFY_SMTP_TLS": "none"}
    set_all(monkeypatch, **PRODUCTION, **mail)
    with pytest.raises(ConfigInvalid, match="NOTIFY_SMTP_TLS"):
        load()


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(
        monkeypatch,
        **PRODUCTION,
        NOTIFY_DATABASE_URL="postgresql://u:hidden@db/x",
        NOTIFY_SMTP_PASSWORD="pw-1",
    )
    text = repr(load()) + repr(load().signing_key)
    assert not [secret for secret in ("0123456789abcdef", "hidden", "pw-1") if secret in text]


@pytest.mark.parametrize(("tls", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_the_smtp_port_follows_from_tls(monkeypatch: pytest.MonkeyPatch, tls: str, port: int) -> None:
    set_all(monkeypatch, NOTIFY_SMTP_TLS=tls)
    assert load().smtp_port_used == port
    set_all(monkeypatch, NOTIFY_SMTP_PORT="2525")
    assert load().smtp_port_used == 2525


def test_a_sender_may_be_bare_or_named() -> None:
    assert str(parse_sender("cap@example.com")) == "cap@example.com"
    assert parse_sender("Harbor, Inc. <cap@example.com>").display_name == "Harbor, Inc."


@pytest.mark.parametrize("sender", ["", "a@b@c", "Cap <cap>", "x\r\nBcc: y@example.com", "A <a@x> B"])
def test_what_is_no_sender_is_refused(sender: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - Address raises its own kinds of it
        parse_sender(sender)
