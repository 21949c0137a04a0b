"""Tools that a business brings itself, as business.yaml declares them: HTTP endpoints and tools of MCP servers.

Shapes only: what they may say and what is a mistake in them. The tools service calls them.

Law: an address is fixed by the file; a caller's words only ever fill its path, query or body, never its host. A
secret is named, never written.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from parley_common.contracts.tool_calls import ToolClass

PLACEHOLDER = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")
SECRET = re.compile(r"\$\{([A-Z][A-Z0-9_]{0,63})\}")
NAME = r"^[a-z][a-z0-9_]{0,47}$"
_POINTER = re.compile(r"^(/([^/~]|~[01])*)*$")
_HEADER = re.compile(r"^[A-Za-z0-9-]{1,64}$")
_GRANT = re.compile(r"^(consent|verified):[a-z][a-z_]{0,31}$")
_RESERVED_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection"})


class Part(BaseModel):
    """A part of business.yaml: frozen, and a key nobody knows is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _needs_are_grants(needs: tuple[str, ...]) -> tuple[str, ...]:
    for need in needs:
        if not _GRANT.match(need):
            raise ValueError(f"{need!r} is no consent:<what> or verified:<whom>")
    return needs


def _address_is_fixed(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https address")
    if "{" in parts.netloc or "@" in parts.netloc:
        raise ValueError(
            "its host is fixed, and a secret belongs into a header: no { } and no @ before the path"
        )
    if SECRET.search(url):
        raise ValueError("a secret belongs into a header, where no log sees it")
    return url


def _headers_are_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER.match(name) or name.lower() in _RESERVED_HEADERS:
            raise ValueError(f"{name!r} is not a header that can be set")
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name}: a header is one line")
    return headers


class HttpTool(Part):
    """One HTTP endpoint as a tool."""

    name: str = Field(pattern=NAME)
    description: str = Field(min_length=40, max_length=1_024)
    """What the model reads."""
    parameters: dict[str, Any]
    """JSON Schema of the arguments: an object whose properties are described."""
    tool_class: ToolClass = Field(alias="class")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: str
    """``{parameter}`` in its path and query is filled in, percent-encoded."""
    query: dict[str, str] = {}
    body: JsonValue = None
    """JSON sent with it, ``{parameter}`` filled in; null: with POST, PUT and PATCH all arguments not used elsewhere."""
    headers: dict[str, str] = {}
    """``${NAME}`` stands for a secret of the deployment (TOOLS_HTTP_SECRETS)."""
    idempotency_header: str | None = None
    """Where the target takes a key that makes a repeat the same request; null: it takes none."""
    answer: dict[str, str] = {}
    """Field of the output → JSON pointer into the answer; empty: the whole answer, if it is an object."""
    say: str = Field(default="Here is what I found.", max_length=500)
    """What the agent may say; ``{field}`` of the output, or of the arguments, is filled in."""
    refusals: dict[int, str] = {}
    """What the agent may say for a status of 4xx, such as 404."""
    deadline_ms: int = Field(default=5_000, ge=100, le=60_000)
    needs: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()
    filler: str | None = None

    _address = field_validator("url")(_address_is_fixed)
    _headers = field_validator("headers")(_headers_are_headers)
    _needs = field_validator("needs")(_needs_are_grants)

    @field_validator("parameters")
    @classmethod
    def _is_an_object_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        properties = schema.get("properties", {})
        if schema.get("type") != "object" or not isinstance(properties, dict):
            raise ValueError("must be a JSON Schema of type object with properties")
        for name, each in properties.items():
            if not isinstance(each, dict) or not each.get("description"):
                raise ValueError(f"property {name!r} has no description")
        if strangers := set(schema.get("required", ())) - set(properties):
            raise ValueError(f"required names no property: {', '.join(sorted(strangers))}")
        return {"additionalProperties": False, **schema}

    @field_validator("answer")
    @classmethod
    def _are_pointers(cls, answer: dict[str, str]) -> dict[str, str]:
        for name, pointer in answer.items():
            if not _POINTER.match(pointer):
                raise ValueError(f"{name}: {pointer!r} is no JSON pointer such as /result/0/name")
        return answer

    @model_validator(mode="after")
    def _everything_named_is_there(self) -> HttpTool:
        known = set(self.parameters["properties"])
        used = set(PLACEHOLDER.findall(self.url)) | set(PLACEHOLDER.findall(str([self.query, self.body])))
        if strangers := used - known:
            raise ValueError(f"no parameter is called {', '.join(sorted(strangers))}")
        if strangers := set(PLACEHOLDER.findall(urlsplit(self.url).path)) - set(
            self.parameters.get("required", ())
        ):
            raise ValueError(f"what stands in the path must be required: {', '.join(sorted(strangers))}")
        if strangers := set(self.personal) - known:
            raise ValueError(f"personal names no parameter: {', '.join(sorted(strangers))}")
        said = set(PLACEHOLDER.findall(self.say))
        if self.answer and (strangers := said - set(self.answer) - known):
            raise ValueError(f"say names nothing of the answer: {', '.join(sorted(strangers))}")
        if self.idempotency_header and not _HEADER.match(self.idempotency_header):
            raise ValueError("idempotency_header is not a header's name")
        return self


class McpTool(Part):
    """One tool of an MCP server that this business may use."""

    name: str = Field(min_length=1, max_length=128)
    """What the server calls it."""
    known_as: str | None = Field(default=None, alias="as", pattern=NAME)
    """What the model calls it; null: its own name, which must then be fit."""
    tool_class: ToolClass | None = Field(default=None, alias="class")
    """Null: ``read`` when the server says that it only reads, else ``irreversible``."""
    deadline_ms: int = Field(default=8_000, ge=100, le=60_000)
    needs: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()
    filler: str | None = None

    _needs = field_validator("needs")(_needs_are_grants)

    @model_validator(mode="after")
    def _has_a_fit_name(self) -> McpTool:
        if not re.match(NAME, self.own_name):
            raise ValueError(
                f"{self.name!r} is not lower case words joined by _: give it another name with `as`"
            )
        return self

    @property
    def own_name(self) -> str:
        """What the model calls it."""
        return self.known_as or self.name


def _named(raw: object) -> object:
    """An allowed tool may be written as its name alone."""
    return {"name": raw} if isinstance(raw, str) else raw


class McpServer(Part):
    """One MCP server, reached at a URL or started as a command, and which of its tools are allowed."""

    server: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")
    """Its name in messages and metrics."""
    url: str | None = None
    command: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    env: dict[str, str] = {}
    """Of the command; ``${NAME}`` stands for a secret of the deployment, here and in headers."""
    tools: tuple[Annotated[McpTool, BeforeValidator(_named)], ...] = Field(min_length=1)

    _headers = field_validator("headers")(_headers_are_headers)

    @field_validator("url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and PLACEHOLDER.search(url):
            raise ValueError("an MCP server has one address: no { }")
        return None if url is None else _address_is_fixed(url)

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> McpServer:
        if (self.url is None) == (not self.command):
            raise ValueError("give either url or command")
        if self.url is None and self.headers:
            raise ValueError("headers are for a url; a command has env")
        if self.url is not None and self.env:
            raise ValueError("env is for a command; a url has headers")
        return self


def secrets_named(texts: dict[str, str]) -> set[str]:
    """Return the names of the secrets that header or environment values ask for."""
    return {name for value in texts.values() for name in SECRET.findall(value)}
