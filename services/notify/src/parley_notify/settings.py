"""Reads NOTIFY_* and hands it on as small values; nothing else here looks at the environment.

Law: what cannot work in production is refused at start, on one line that names the variable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.headerregistry import Address
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from parley_common.errors import ConfigInvalid
from parley_common.settings import ServiceSettings, load_settings
from parley_notify.channels.hubspot import URL as HUBSPOT_URL
from parley_notify.channels.salesforce import SalesforceLogin
from parley_notify.channels.signature import SigningKey
from parley_notify.delivery import url_fault
from parley_notify.pace import Circuit
from parley_notify.policy import RetryPolicy
from parley_notify.routes import Defaults

DEVELOPMENT_KEYS = "development:development-only"
SECRET_CHARS_MIN = 16
SMTP_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_KEY_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")


class NotifySettings(ServiceSettings):
    """Everything that notify can be told."""

    model_config = SettingsConfigDict(env_prefix="NOTIFY_")

    port: int = Field(default=8083, ge=0, le=65_535)
    database_url: SecretStr | None = None
    """Null: a SQLite file in PARLEY_STATE_DIR."""
    consumer_group: str = Field(default="notify", min_length=1)
    """Two deployments on one Kafka that must each hear every fact need two names."""

    maildir: Path | None = None
    """Where e-mail goes while no SMTP host is set. Null: ``mail`` in PARLEY_STATE_DIR."""
    smtp_host: str | None = None
    smtp_port: int | None = Field(default=None, ge=1, le=65_535)
    """Null: 587 for starttls, 465 for tls, 25 for none."""
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_from: str = "Parley <parley@example.com>"

    webhook_url: str | None = None
    """Where webhook routes without ``to`` go. Null: such routes are inactive."""
    webhook_keys: SecretStr = SecretStr(DEVELOPMENT_KEYS)
    """``name:secret``, comma-separated; the first signs. To rotate, put the new key first."""
    allow_private_webhooks: bool | None = None
    """Null: only in development."""

    slack_hooks: dict[str, SecretStr] = {}
    """Addresses of Slack-compatible incoming webhooks by the name that routes use; ``default`` for those without one."""

    hubspot_token: SecretStr | None = None
    """Of a private app. Null: HubSpot routes are inactive."""
    hubspot_url: str = HUBSPOT_URL
    salesforce_url: str | None = None
    """The org's own address (My Domain). Null: Salesforce routes are inactive."""
    salesforce_client_id: str | None = None
    salesforce_client_secret: SecretStr | None = None
    salesforce_api_version: str = Field(default="v62.0", pattern=r"^v\d{2,3}\.0$")
    salesforce_lead_key: str | None = Field(default=None, pattern=r"^[A-Za-z]\w*__c$")
    """An external id field of Lead for our lead's id. Null: Leads are found by e-mail alone."""

    handler_retry_s: float = Field(default=30.0, ge=0, le=140)
    """How long taking in one fact is tried, when it fails by a fault of ours, before it is parked as a dead letter."""
    in_flight_max: int = Field(default=8, ge=1, le=256)
    """Attempts under way at once in one process."""
    destination_in_flight_max: int = Field(default=4, ge=1, le=256)
    """Of those, at most so many to one host, so that a silent one cannot hold them all."""
    destination_rate_per_s: float = Field(default=20.0, gt=0, le=1_000)
    attempt_deadline_s: float = Field(default=20.0, gt=0, le=300)
    lease_margin_s: float = Field(default=30.0, gt=0)
    """How much longer a lease is than an attempt: time to settle, and for clocks of replicas to differ."""
    circuit_failures_max: int = Field(default=8, ge=1)
    """After so many failures in a row a destination rests."""
    circuit_first_s: float = Field(default=1.0, gt=0)
    circuit_wait_max_s: float = Field(default=60.0, gt=0)
    retry_first_s: float = Field(default=5.0, gt=0)
    retry_wait_max_s: float = Field(default=3_600.0, gt=0)
    retry_max_h: float = Field(default=72.0, gt=0)
    poll_ms: int = Field(default=1_000, ge=10, le=60_000)
    finished_kept_days: int = Field(default=30, ge=1)
    """Finished deliveries, and the personal data in them, are removed after this."""

    @field_validator("smtp_from")
    @classmethod
    def _sender_is_an_address(cls, sender: str) -> str:
        parse_sender(sender)
        return sender

    @field_validator("webhook_keys")
    @classmethod
    def _keys_are_readable(cls, keys: SecretStr) -> SecretStr:
        _parse_keys(keys.get_secret_value())
        return keys

    @field_validator("slack_hooks")
    @classmethod
    def _hooks_have_names(cls, hooks: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in hooks:
            if not _KEY_NAME.fullmatch(name):
                raise ValueError(f"{name[:40]!r} is no name for a hook")
        return hooks

    @property
    def is_production(self) -> bool:
        return self.parley.environment == "production"

    @property
    def database(self) -> str:
        """The database that is used: the one set, or the file of development."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.parley.state_dir / 'notify.db'}"

    @property
    def maildir_used(self) -> Path:
        return self.maildir or self.parley.state_dir / "mail"

    @property
    def smtp_port_used(self) -> int:
        return self.smtp_port or SMTP_PORTS[self.smtp_tls]

    @property
    def private_webhooks_allowed(self) -> bool:
        return not self.is_production if self.allow_private_webhooks is None else self.allow_private_webhooks

    @property
    def signing_key(self) -> SigningKey:
        return _parse_keys(self.webhook_keys.get_secret_value())[0]

    @property
    def circuit(self) -> Circuit:
        return Circuit(self.circuit_failures_max, self.circuit_first_s, self.circuit_wait_max_s)

    @property
    def salesforce(self) -> SalesforceLogin | None:
        """The login to use; null while it is not set."""
        if (
            self.salesforce_url is None
            or not self.salesforce_client_id
            or self.salesforce_client_secret is None
        ):
            return None
        return SalesforceLogin(
            self.salesforce_url,
            self.salesforce_client_id,
            self.salesforce_client_secret,
            self.salesforce_api_version,
            self.salesforce_lead_key,
        )

    @property
    def defaults(self) -> Defaults:
        """Where routes lead that name no destination themselves."""
        return Defaults(
            webhook_url=self.webhook_url,
            slack_hooks=frozenset(self.slack_hooks),
            hubspot_url=self.hubspot_url if self.hubspot_token else None,
            salesforce_url=self.salesforce_url,
        )

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.retry_first_s, self.retry_wait_max_s, self.retry_max_h * 3_600)


def load() -> NotifySettings:
    """Read the settings from the environment. Raises ConfigInvalid."""
    settings = load_settings(NotifySettings)
    if settings.is_production:
        _refuse_in_production(settings)
    for variable, url in _urls(settings):
        fault = url_fault(url, https_only=settings.is_production)
        if fault:
            raise ConfigInvalid(f"{variable} {fault}")
    if settings.salesforce_url and settings.salesforce is None:
        raise ConfigInvalid(
            "NOTIFY_SALESFORCE_CLIENT_ID and NOTIFY_SALESFORCE_CLIENT_SECRET are not set",
            remedy="NOTIFY_SALESFORCE_URL needs them",
        )
    if settings.smtp_username and settings.smtp_password is None:
        raise ConfigInvalid("NOTIFY_SMTP_PASSWORD is not set", remedy="NOTIFY_SMTP_USERNAME needs it")
    if settings.smtp_username and settings.smtp_tls == "none" and settings.is_production:
        raise ConfigInvalid("NOTIFY_SMTP_TLS is none", remedy="a password is never sent in the clear")
    return settings


def _urls(settings: NotifySettings) -> Iterator[tuple[str, str]]:
    if settings.webhook_url:
        yield "NOTIFY_WEBHOOK_URL", settings.webhook_url
    yield "NOTIFY_HUBSPOT_URL", settings.hubspot_url
    if settings.salesforce_url:
        yield "NOTIFY_SALESFORCE_URL", settings.salesforce_url
    for name, hook in settings.slack_hooks.items():
        yield f"NOTIFY_SLACK_HOOKS ({name})", hook.get_secret_value()


def parse_sender(sender: str) -> Address:
    """Return a sender such as ``Cap <cap@example.com>`` as an address. Raises ValueError."""
    match = re.fullmatch(r"(?:(?P<name>[^<>\r\n]*)<(?P<full>[^<>\s]+)>|(?P<bare>[^<>\s]+))", sender.strip())
    spec = (match["full"] or match["bare"]) if match else ""
    if not match or spec.count("@") != 1:
        raise ValueError(f"{sender!r} is not like Name <name@example.com>")
    return Address(display_name=(match["name"] or "").strip(), addr_spec=spec)


def _refuse_in_production(settings: NotifySettings) -> None:
    if settings.webhook_keys.get_secret_value() == DEVELOPMENT_KEYS:
        raise ConfigInvalid("NOTIFY_WEBHOOK_KEYS is not set", remedy="set it: this is production")
    if len(settings.signing_key.secret) < SECRET_CHARS_MIN:
        raise ConfigInvalid(
            "NOTIFY_WEBHOOK_KEYS has a short secret", remedy=f"use at least {SECRET_CHARS_MIN} characters"
        )


def _parse_keys(text: str) -> tuple[SigningKey, ...]:
    keys = []
    for part in text.split(","):
        name, _, secret = part.strip().partition(":")
        if not _KEY_NAME.fullmatch(name) or not secret:
            raise ValueError("not like name:secret,name:secret")
        keys.append(SigningKey(name, secret.encode()))
    return tuple(keys)
