"""Settings of the session service: prefix SESSION_."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from parley_common.contracts.audio_link import RESUME_GRACE_S
from parley_common.settings import ServiceSettings
from parley_common.workers import WORKERS_MAX


class SessionSettings(ServiceSettings):
    """One replica of the session service."""

    model_config = SettingsConfigDict(env_prefix="SESSION_")

    port: int = Field(default=8081, ge=1, le=65535)
    ordinal: int = Field(default=0, ge=0)
    """Which replica this is: names it, chooses its reply partition and its spool file. StatefulSet's ordinal."""
    workers: int = Field(default=1, ge=1, le=WORKERS_MAX)
    """Processes, one per core: each is a replica of its own, the first at ``port``, the others at the ports after it."""
    sessions_max: int = Field(default=500, ge=1)

    upstream_url: str = "ws://127.0.0.1:8090/v1/realtime"
    """The Realtime endpoint: the understudy's, OpenAI's wss://…/v1/realtime, or any compatible one."""
    upstream_api_key: SecretStr = SecretStr("understudy")
    upstream_auth: str = Field(default="bearer", pattern="^(bearer|api-key)$")
    """How the key is shown: ``bearer`` (OpenAI) or ``api-key`` (Azure)."""
    upstream_dialect: Literal["ga", "beta"] = "ga"
    """``beta`` for legacy Azure preview deployments; everything else speaks ``ga``."""
    model: str = "gpt-realtime-2.1"
    """The model of businesses that name none."""
    rollover_min: int = Field(default=55, ge=1, le=1_440)
    """When a connection is replaced at a quiet moment: below the endpoint's own limit, 60 at OpenAI, 30 at Azure (25)."""
    reconnect_s: int = Field(default=30, ge=1, le=600)
    """How long a lost upstream is tried again before the session fails."""
    rendered_dir: Path | None = None
    """Where ``parley render`` keeps speech; null: ``rendered`` under PARLEY_STATE_DIR."""

    resume_grace_s: int = Field(default=RESUME_GRACE_S, ge=0, le=600)
    """How long a session whose gateway is gone waits for its client to come back by another."""
    flush_answer_ms: int = Field(default=300, ge=10, le=2000)
    tool_attempts_max: int = Field(default=3, ge=1, le=10)
    spool_facts_max: int = Field(default=50_000, ge=100)
    """Facts kept on disk while Kafka is away; when full the oldest turn facts go, never session.ended."""
    catalog_wait_ms: int = Field(default=3_000, ge=0)
    """How long a new session waits for a tool that its business names and nobody announces."""

    @property
    def rendered_folder(self) -> Path:
        """Return where rendered speech is."""
        return self.rendered_dir or self.parley.state_dir / "rendered"

    def of_worker(self, index: int) -> SessionSettings:
        """Return what one of several workers runs with: a port and an ordinal of its own."""
        own = {"port": self.port + index, "ordinal": self.ordinal * self.workers + index}
        return self.model_copy(update=own)

    @property
    def replica(self) -> str:
        """Return this replica's name.

        The first of several workers has the name that a single process has, and goes on with its spool and its day.
        """
        ordinal, worker = divmod(self.ordinal, self.workers)
        return f"session-{ordinal}-{worker}" if worker else f"session-{ordinal}"
