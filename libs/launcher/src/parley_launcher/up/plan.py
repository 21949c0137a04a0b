"""What `parley up` starts, in which order, with which environment: decided here, from settings alone.

Pure: it starts nothing and looks at no port. Services are configured by environment only.

Law: what the user set stays as it was set; the plan only fills in what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parley_common.errors import ConfigInvalid
from parley_common.settings import KafkaSettings
from parley_launcher.embedded_kafka import EmbeddedKafka
from parley_launcher.settings import UpSettings

OPENAI_URL = "wss://api.openai.com/v1/realtime"
STARTABLE = ("understudy", "tools", "notify", "session", "gateway")
"""What --only may name, in the order of starting."""
MIGRATED = ("tools", "notify")
HOST = "127.0.0.1"
_ALL = {"PYTHONUNBUFFERED": "1", "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep running."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Added to the inherited environment."""
    port: int
    port_setting: str
    purpose: str
    url: str
    """What people may open or dial there."""
    workers_at: tuple[int, ...] = ()
    """Ports of its workers, where it is several processes."""

    @property
    def ready_urls(self) -> tuple[str, ...]:
        """Return what answers 200 when it is ready: each of its workers."""
        return tuple(f"http://{HOST}:{port}/readyz" for port in self.workers_at or (self.port,))


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One process that does its work and exits."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Choices:
    """What the command line says. ``only`` null: everything."""

    light: bool = False
    only: tuple[str, ...] | None = None

    def starts(self, name: str) -> bool:
        """Say whether ``name`` is to be started; the understudy comes with the session service."""
        if self.only is None or name in self.only:
            return True
        return name == "understudy" and "session" in self.only


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is to run here. ``broker`` null: Kafka is elsewhere."""

    broker: EmbeddedKafka | None
    kafka: KafkaSettings
    jobs: tuple[JobSpec, ...]
    understudy: ProcessSpec | None
    services: tuple[ProcessSpec, ...]
    upstream: str
    """Where the model is, in words."""
    inherited: Mapping[str, str]

    @property
    def processes(self) -> tuple[ProcessSpec, ...]:
        """Return every process in the order of starting, without the broker."""
        return (*((self.understudy,) if self.understudy else ()), *self.services)

    def environment_of(self, spec: ProcessSpec | JobSpec) -> dict[str, str]:
        """Return the whole environment of a process: what we inherited, and what the plan fills in.

        The understudy stands in for a stranger's API and refuses settings that only Parley's services know.
        """
        is_stranger = spec is self.understudy
        passed_on = {k: v for k, v in self.inherited.items() if not (is_stranger and k.startswith("PARLEY_"))}
        return {**passed_on, **spec.env}


def make_plan(settings: UpSettings, inherited: Mapping[str, str], choices: Choices) -> Plan:
    """Return the plan. Raises ConfigInvalid for a name in --only that nothing here has."""
    unknown = sorted(set(choices.only or ()) - set(STARTABLE))
    if unknown:
        raise ConfigInvalid(f"--only names {unknown[0]!r}", remedy=f"it takes {', '.join(STARTABLE)}")
    broker = _broker(settings, inherited)
    kafka = settings.kafka
    if broker:
        kafka = kafka.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})
    upstream = upstream_of(settings, inherited)
    env = _service_env(settings, inherited, kafka, upstream)
    wants_understudy = upstream.is_understudy and choices.starts("understudy")
    return Plan(
        broker=broker,
        kafka=kafka,
        jobs=tuple(
            JobSpec(f"migrate {name}", (*_module(name), "migrate"), env)
            for name in MIGRATED
            if choices.starts(name)
        ),
        understudy=_understudy(settings, inherited, choices) if wants_understudy else None,
        services=tuple(spec for spec in _services(settings, env) if choices.starts(spec.name)),
        upstream=upstream.words,
        inherited=inherited,
    )


@dataclass(frozen=True, slots=True)
class Upstream:
    """What the session service talks to: in words, and as its settings."""

    words: str
    env: Mapping[str, str]
    is_understudy: bool = False


def _broker(settings: UpSettings, inherited: Mapping[str, str]) -> EmbeddedKafka | None:
    if inherited.get("KAFKA_BOOTSTRAP_SERVERS"):
        return None
    return EmbeddedKafka(settings.kafka_port, _state_dir(settings) / "kafka")


def upstream_of(settings: UpSettings, inherited: Mapping[str, str]) -> Upstream:
    """Return what was set by hand first, then OpenAI when there is a key, else the understudy."""
    if url := inherited.get("SESSION_UPSTREAM_URL"):
        return Upstream(f"{url} (SESSION_UPSTREAM_URL)", {})
    if key := inherited.get("OPENAI_API_KEY"):
        env = {"SESSION_UPSTREAM_URL": OPENAI_URL, "SESSION_UPSTREAM_API_KEY": key}
        return Upstream("OpenAI (OPENAI_API_KEY is set)", env)
    url = f"ws://{HOST}:{settings.ports.understudy_port}/v1/realtime"
    return Upstream(
        "the understudy, a stand-in (set OPENAI_API_KEY for OpenAI)",
        {"SESSION_UPSTREAM_URL": url, "SESSION_UPSTREAM_API_KEY": "understudy"},
        is_understudy=True,
    )


def _service_env(
    settings: UpSettings, inherited: Mapping[str, str], kafka: KafkaSettings, upstream: Upstream
) -> dict[str, str]:
    ports = settings.ports
    filled_in = {
        "PARLEY_STATE_DIR": str(_state_dir(settings)),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "GATEWAY_PORT": str(ports.gateway_port),
        "GATEWAY_WORKER_PORT": str(ports.gateway_worker_port),
        "SESSION_PORT": str(ports.sessions_at[0]),
        "TOOLS_PORT": str(ports.tools_port),
        "NOTIFY_PORT": str(ports.notify_port),
        "GATEWAY_SESSION_SERVICES": ",".join(f"ws://{HOST}:{port}" for port in ports.sessions_at),
        "NOTIFY_MAILDIR": str(_state_dir(settings) / "mail"),
        **upstream.env,
    }
    missing = {name: value for name, value in filled_in.items() if not inherited.get(name)}
    return {**_ALL, **missing}


def _understudy(settings: UpSettings, inherited: Mapping[str, str], choices: Choices) -> ProcessSpec:
    port = settings.ports.understudy_port
    env = {**_ALL, "UNDERSTUDY_PORT": str(port)}
    if choices.light:
        env["UNDERSTUDY_LIGHT"] = "1"
    if not inherited.get("UNDERSTUDY_CACHE_DIR"):
        env["UNDERSTUDY_CACHE_DIR"] = str(_state_dir(settings) / "voice")
    return ProcessSpec(
        name="understudy",
        argv=_module("understudy"),
        env=env,
        port=port,
        port_setting="UNDERSTUDY_PORT",
        purpose="stands in for the model",
        url=f"ws://{HOST}:{port}",
    )


def _services(settings: UpSettings, env: Mapping[str, str]) -> list[ProcessSpec]:
    at = settings.ports
    ports: dict[str, Any] = {**at.model_dump(), "session_port": at.sessions_at[0]}
    workers_at = {
        "gateway": at.gateway_workers_at,
        "session": at.sessions_at if at.session_workers > 1 else (),
    }
    purposes = {
        "tools": ("http", "tool calls, leads, cases"),
        "notify": ("http", "e-mail and webhooks"),
        "session": ("ws", "conversations with the model"),
        "gateway": ("http", "where callers come in"),
    }
    return [
        ProcessSpec(
            name=name,
            argv=_module(name),
            env=env,
            port=(port := ports[f"{name}_port"]),
            port_setting=f"{name.upper()}_PORT",
            purpose=purpose,
            url=f"{scheme}://{HOST}:{port}",
            workers_at=workers_at.get(name, ()),
        )
        for name, (scheme, purpose) in purposes.items()
    ]


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"parley_{name}.app")


def _state_dir(settings: UpSettings) -> Path:
    return settings.parley.state_dir.absolute()
