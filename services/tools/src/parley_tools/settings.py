"""What an operator may set for the tools service. Nothing here is read anywhere but in app.py.

Law: a wrong value is an error at start that names its variable.
"""

from __future__ import annotations

from pydantic import Field, HttpUrl, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from parley_common.contracts.topics import OWN_TOOL_SERVICE
from parley_common.settings import ServiceSettings


class ToolsSettings(ServiceSettings):
    """Settings of the tools service."""

    model_config = SettingsConfigDict(env_prefix="TOOLS_")

    port: int = Field(default=8082, ge=1, le=65_535)
    service: str = Field(default=OWN_TOOL_SERVICE, pattern=r"^[a-z][a-z0-9_]{0,31}$")
    """The name it announces; its calls topic is ``parley.tool.calls.<service>``, its group the same name."""
    database_url: str | None = None
    """Null: ``tools.db`` (SQLite) in PARLEY_STATE_DIR."""
    in_flight_max: int = Field(default=256, ge=1, le=10_000)
    """Calls accepted and not yet answered; at this many the consumer pauses its partitions."""
    tool_concurrency: int = Field(default=8, ge=1, le=1_000)
    """How many calls of one tool run at once, unless the tool says otherwise."""
    lease_s: float = Field(default=3.0, ge=0.5, le=60)
    """How long a run is believed alive after its worker last said so; a repeat takes over after that."""
    results_kept_h: int = Field(default=24, ge=1, le=720)
    """How long a finished call is answered from its stored result."""
    drain_s: float = Field(default=5.0, ge=0, le=60)
    """How long running calls may go on once the service was told to stop."""
    relay_poll_ms: int = Field(default=1_000, ge=10, le=60_000)
    """How often the outbox is looked at when no commit woke the relay."""
    web_search_url: HttpUrl | None = None
    """A web-search API for market research: GET with ``q`` and ``count``; null: the business's sample data."""
    web_search_api_key: SecretStr | None = None
    web_search_key_header: str = Field(default="X-Subscription-Token", pattern=r"^[A-Za-z0-9-]{1,64}$")
    """The header the API wants its key in."""
    web_search_deadline_ms: int = Field(default=6_000, ge=100, le=60_000)
    embeddings_url: HttpUrl | None = None
    """An embeddings API like OpenAI's /v1/embeddings, for finding articles by meaning too; null: by words alone."""
    embeddings_api_key: SecretStr | None = None
    embeddings_model: str = Field(default="text-embedding-3-small", min_length=1, max_length=100)
    embeddings_deadline_ms: int = Field(default=1_500, ge=100, le=60_000)
    http_secrets: dict[str, SecretStr] = {}
    """JSON, name to value: what ``${NAME}`` stands for in the headers of businesses' HTTP and MCP tools."""
    allow_private_http: bool = False
    """Whether businesses' HTTP and MCP tools may go to private addresses; for development, refused in production."""
    reload_s: float = Field(default=1.0, ge=0, le=60)
    """How often business folders are looked at for changes, in development only; 0: never."""

    @model_validator(mode="after")
    def _production_keeps_to_the_open_internet(self) -> ToolsSettings:
        if self.allow_private_http and self.parley.environment == "production":
            raise PydanticCustomError("private_http", "TOOLS_ALLOW_PRIVATE_HTTP cannot be set in production")
        return self

    def resolved_database_url(self) -> str:
        """Return where the database is: the setting, or the embedded file."""
        return self.database_url or f"sqlite+aiosqlite:///{self.parley.state_dir / 'tools.db'}"
