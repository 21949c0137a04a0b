"""What the command reads from the environment: its own settings, where services listen, and what it passes on.

Law: nothing else in this package looks at the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from parley_common.errors import ConfigInvalid
from parley_common.settings import (
    KafkaSettings,
    ParleySettings,
    Settings,
    load_settings,
    variables,
)
from parley_common.workers import WORKERS_MAX, worker_ports

SEVERAL_SESSIONS_FROM = 8110


class ServicePorts(Settings):
    """Where the services of this machine listen. Each variable is its service's own."""

    model_config = SettingsConfigDict(env_prefix="")

    gateway_port: int = Field(default=8080, ge=1, le=65_535)
    gateway_workers: int = Field(default=1, ge=1, le=WORKERS_MAX)
    gateway_worker_port: int = Field(default=8100, ge=1, le=65_535)
    session_port: int = Field(default=8081, ge=1, le=65_535)
    session_workers: int = Field(default=1, ge=1, le=WORKERS_MAX)
    tools_port: int = Field(default=8082, ge=1, le=65_535)
    notify_port: int = Field(default=8083, ge=1, le=65_535)
    understudy_port: int = Field(default=8090, ge=1, le=65_535)

    @property
    def gateway_workers_at(self) -> tuple[int, ...]:
        """Return where the workers of the gateway show themselves; none where it is one process. Raises ConfigInvalid."""
        if self.gateway_workers == 1:
            return ()
        return worker_ports(self.gateway_worker_port, self.gateway_workers, "GATEWAY_WORKER_PORT")

    @property
    def sessions_at(self) -> tuple[int, ...]:
        """Return where the session replicas listen. Raises ConfigInvalid.

        Several begin at 8110 where no port is set: behind 8081 are other services of this machine.
        """
        is_free_to_choose = self.session_workers > 1 and "session_port" not in self.model_fields_set
        first = SEVERAL_SESSIONS_FROM if is_free_to_choose else self.session_port
        return worker_ports(first, self.session_workers, "SESSION_PORT")


class UpSettings(Settings):
    """What `parley up` can be told."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_UP_")

    kafka_port: int = Field(default=9092, ge=1, le=65_535)
    """Where the embedded broker listens."""
    ready_deadline_s: float = Field(default=120.0, gt=0)
    """How long each process may take until it is ready."""
    stop_deadline_s: float = Field(default=10.0, gt=0)
    """How long each process may take to stop before it is killed."""
    log_max_bytes: int = Field(default=10_000_000, ge=10_000)
    """A log file larger than this is turned over; one older file is kept."""
    parley: ParleySettings = Field(default_factory=ParleySettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    ports: ServicePorts = Field(default_factory=ServicePorts)


def load_up_settings() -> UpSettings:
    """Read the settings of `parley up`. Raises ConfigInvalid that names the variable at fault."""
    known = set(variables(UpSettings))
    for variable in sorted(os.environ):
        if variable.startswith("PARLEY_UP_") and variable not in known:
            raise ConfigInvalid(f"{variable} is not a setting of parley up", remedy="see .env.example")
    return load_settings(UpSettings)


def load_kafka_settings() -> KafkaSettings:
    """Read how to reach Kafka: as told, else where `parley up` starts the embedded broker. Raises ConfigInvalid."""
    settings = load_up_settings()
    if "bootstrap_servers" in settings.kafka.model_fields_set:
        return settings.kafka
    return settings.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{settings.kafka_port}"})


def load_ports() -> ServicePorts:
    """Read where the services listen. Raises ConfigInvalid."""
    return load_up_settings().ports


def load_internal_token() -> str:
    """Return what services show each other. Raises ConfigInvalid."""
    return load_up_settings().parley.internal_token.get_secret_value()


def environment() -> Mapping[str, str]:
    """Return the environment that started processes inherit."""
    return dict(os.environ)
