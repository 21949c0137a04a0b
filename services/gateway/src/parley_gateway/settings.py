"""What the gateway reads from the environment, once, and the small frozen values made of it.

Law: nothing else in this package looks at the environment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from parley_common.business_config import is_origin
from parley_common.contracts.audio_link import (
    BEAT_EVERY_MS,
    CLIENT_LOST_AFTER_MS,
    LINK_LOST_AFTER_MS,
)
from parley_common.errors import ConfigInvalid
from parley_common.settings import ServiceSettings
from parley_common.workers import WORKERS_MAX
from parley_gateway.replicas import BY_NAME
from parley_gateway.token_access import ApiKey
from parley_gateway.tokens import TokenKey

DEVELOPMENT_KEY = "development:for-development-only-set-your-own-keys"
SECRET_BYTES_MIN = 32
"""An HS256 secret shorter than its hash can be guessed. Source: RFC 7518, section 3.2."""

_API_KEY = re.compile(r"([a-z][a-z0-9-]{0,31}):([\w.-]{1,64}):([0-9a-f]{64})")


class GatewaySettings(ServiceSettings):
    """GATEWAY_*: where it listens, whom it trusts, what it bears."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    port: int = Field(default=8080, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=WORKERS_MAX)
    """Processes, one per core, that share ``port``: each is a gateway of its own, with limits of its own."""
    worker_port: int = Field(default=8100, ge=1, le=65_535)
    """Where the first of several workers shows its own health, readiness and metrics; the others at the ports after it."""
    public_url: str | None = None
    """What clients dial, such as wss://voice.example.com; null: as the request for the token was made."""
    trusted_proxies: str = "127.0.0.1"
    """Comma list of proxies whose X-Forwarded-For is believed; ``*`` believes everyone."""
    session_services: str = "ws://127.0.0.1:8081"
    """Comma list of the session replicas' base URLs; ``dns+ws://name:port`` stands for every address of the name."""
    token_keys: SecretStr = SecretStr(DEVELOPMENT_KEY)
    """``name:secret`` comma list; the first signs, all are accepted. Must be set in production."""
    token_ttl_s: int = Field(default=60, ge=5, le=3_600)
    resume_grace_s: int = Field(default=30, ge=1, le=600)
    sessions_max: int = Field(default=500, ge=1)
    """Sessions of this process, those whose client is away included."""
    allowed_origins: str = ""
    """Comma list of sites, such as https://www.example.com, whose pages may open sessions; empty: only our own page."""
    address_opens_per_minute: int = Field(default=300, ge=0)
    """Sockets, and as many tokens, one address may open a minute; 0 is no limit."""
    address_sockets_max: int = Field(default=500, ge=0)
    """Sockets of one address at once; 0 is no limit. Lower it where clients' own addresses are seen."""
    client_bytes_per_s: int = Field(default=192_000, ge=0)
    """What one socket may send, with a burst of 20 s: four times a microphone; 0 is no limit."""
    client_messages_per_s: int = Field(default=250, ge=0)
    """Frames and messages of one socket, with a burst of 20 s; 0 is no limit."""
    api_keys: str = ""
    """Comma list of ``business:name:sha256``: keys with which a site's backend asks for tokens, hashed."""
    api_keys_file: Path | None = None
    """A file with the same, one a line; ``#`` begins a comment."""
    open_within_ms: int = Field(default=5_000, ge=100)
    link_open_ms: int = Field(default=2_000, ge=100)
    """A replica whose link does not open within this is left for the next."""
    attach_within_ms: int = Field(default=10_000, ge=100)
    """A replica that opened the link has this long to say ``ready``."""
    downlink_queue_bytes: int = Field(default=4 * 1024 * 1024, ge=64 * 1024)
    """What one client may fall behind: 4 MiB are 87 s of audio."""
    drain_grace_s: float = Field(default=5.0, ge=0, le=300)


@dataclass(frozen=True, slots=True)
class Timing:
    """The deadlines of one session, in milliseconds; the defaults are the protocol's."""

    open_within_ms: int = 5_000
    link_open_ms: int = 2_000
    attach_within_ms: int = 10_000
    beat_every_ms: int = BEAT_EVERY_MS
    link_lost_after_ms: int = LINK_LOST_AFTER_MS
    client_lost_after_ms: int = CLIENT_LOST_AFTER_MS
    resume_grace_ms: int = 30_000
    """A client that lost its socket has this long to come back."""
    hangup_within_ms: int = 3_000
    """A session that was told ``hangup`` has this long to say ``ended``."""
    deliver_within_ms: int = 10_000
    """Audio still queued when a session ends has this long to reach the client."""
    close_within_ms: int = 1_000


def timing(settings: GatewaySettings) -> Timing:
    """Return the deadlines of a session."""
    return Timing(
        open_within_ms=settings.open_within_ms,
        link_open_ms=settings.link_open_ms,
        attach_within_ms=settings.attach_within_ms,
        resume_grace_ms=settings.resume_grace_s * 1000,
    )


def session_services(settings: GatewaySettings) -> tuple[str, ...]:
    """Return the replicas' base URLs. Raises ConfigInvalid for none, a repeated one or one that is not ws(s)."""
    urls = tuple(url.strip().rstrip("/") for url in settings.session_services.split(",") if url.strip())
    schemes = {"ws", "wss", BY_NAME}
    wrong = [url for url in urls if urlsplit(url).scheme not in schemes or not urlsplit(url).hostname]
    if wrong or not urls or len(set(urls)) != len(urls):
        raise ConfigInvalid(
            f"GATEWAY_SESSION_SERVICES: {', '.join(wrong) or 'empty, or one twice'} is no list of replicas",
            remedy="use a comma list such as ws://session-0:8081,ws://session-1:8081, or dns+ws://session:8081",
        )
    return urls


def allowed_origins(settings: GatewaySettings) -> tuple[str, ...]:
    """Return the sites that may open sessions with any business. Raises ConfigInvalid for one that no browser sends."""
    origins = tuple(o.strip().rstrip("/") for o in settings.allowed_origins.split(",") if o.strip())
    for origin in origins:
        if not is_origin(origin):
            raise ConfigInvalid(
                f"GATEWAY_ALLOWED_ORIGINS: {origin[:80]!r} is no origin",
                remedy="use a comma list such as https://www.example.com,https://shop.example.com:8443",
            )
    return origins


def api_keys(settings: GatewaySettings) -> tuple[ApiKey, ...]:
    """Return the keys of sites' backends. Raises ConfigInvalid that never repeats a line."""
    lines = settings.api_keys.split(",")
    if settings.api_keys_file is not None:
        try:
            lines += settings.api_keys_file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as wrong:
            raise ConfigInvalid(f"GATEWAY_API_KEYS_FILE: {settings.api_keys_file} cannot be read") from wrong
    lines = [line.partition("#")[0].strip() for line in lines]
    keys = []
    for number, line in enumerate(filter(None, lines), 1):
        match = _API_KEY.fullmatch(line)
        if match is None:
            raise ConfigInvalid(
                f"GATEWAY_API_KEYS: key {number} is not business:name:sha256",
                remedy='hash a key with: printf %s "$key" | sha256sum',
            )
        keys.append(ApiKey(match[1], match[2], match[3]))
    if len({(key.business, key.name) for key in keys}) != len(keys):
        raise ConfigInvalid("GATEWAY_API_KEYS: two keys of one business have the same name")
    return tuple(keys)


def token_keys(settings: GatewaySettings) -> tuple[TokenKey, ...]:
    """Return the signing keys, newest first. Raises ConfigInvalid that never repeats a secret."""
    pairs = [part.strip().partition(":") for part in settings.token_keys.get_secret_value().split(",")]
    keys = tuple(TokenKey(name, secret) for name, _, secret in pairs)
    is_wrong = any(not key.name or len(key.secret.encode()) < SECRET_BYTES_MIN for key in keys)
    if is_wrong or len({key.name for key in keys}) != len(keys):
        raise ConfigInvalid(
            f"GATEWAY_TOKEN_KEYS: each key is name:secret, names differ, secrets have {SECRET_BYTES_MIN} bytes",
            remedy="make one with: openssl rand -hex 32",
        )
    is_development_key = DEVELOPMENT_KEY.partition(":")[2] in {key.secret for key in keys}
    if settings.parley.environment == "production" and is_development_key:
        raise ConfigInvalid("GATEWAY_TOKEN_KEYS is not set", remedy="set it: this is production")
    return keys
