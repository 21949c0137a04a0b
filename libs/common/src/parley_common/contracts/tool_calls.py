"""Tool calls over Kafka: the call, its result, and the announcement of the tools a service has.

These are requests and replies, not facts: they live an hour and the requester owns their reliability.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, JsonValue

from parley_common.contracts.record import Contract

CALL_TYPE = "parley.tool.call.v1"
RESULT_TYPE = "parley.tool.result.v1"
ANNOUNCEMENT_TYPE = "parley.tool.announcement.v1"
REPLY_TO_HEADER = "parley_reply_to"
"""The id of the replica that asked; a result for another replica is dropped before it is decoded."""
ANNOUNCE_EVERY_S = 5
ANNOUNCEMENT_DEAD_AFTER_S = 15

ToolClass = Literal["read", "reversible", "irreversible"]
"""read: no effect. reversible: an effect that can be undone. irreversible: never again after unknown_outcome."""
ToolStatus = Literal["ok", "refused", "failed", "unknown_outcome"]


class CallerContext(Contract):
    """What a tool may know of the session that calls it."""

    channel: str = "browser"
    mode: Literal["voice", "text"] = "voice"
    page: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    grants: tuple[str, ...] = ()
    """What earlier tools of this session established, such as ``consent:contact`` or ``verified:account-7``."""


class ToolCall(Contract):
    """Run this tool. Key: session_id. Asked again with the same ``call_id`` and the next ``attempt``."""

    call_id: str
    session_id: str
    business: str
    business_version: str
    tool: str
    arguments: dict[str, JsonValue]
    attempt: int = Field(default=1, ge=1)
    deadline_ms: int = Field(gt=0)
    """Milliseconds from the record's time within which an answer is of use."""
    fence: int = Field(default=1, ge=1)
    reply_partition: int = Field(ge=0, strict=True)
    context: CallerContext = CallerContext()


class ToolResult(Contract):
    """What came of a call. Key: session_id; partition: the call's ``reply_partition``."""

    call_id: str
    session_id: str
    tool: str
    attempt: int
    status: ToolStatus
    output: JsonValue = None
    """What the model reads: an object, usually with ``say``. For refused and failed: {"error": {code, message, say}}."""
    code: str | None = None
    """A stable code for refused, failed and unknown_outcome; null for ok."""
    grants: tuple[str, ...] = ()
    """What this call established; the session hands it to later calls."""
    took_ms: int = 0


class ToolSpec(Contract):
    """One tool as its service describes it; ``name`` is without the service."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")
    description: str
    parameters: dict[str, Any]
    """JSON Schema of the arguments object."""
    tool_class: ToolClass = Field(alias="class")
    deadline_ms: int = Field(gt=0)
    needs: tuple[str, ...] = ()
    """Grants that must be there first; the executor enforces them."""
    personal: tuple[str, ...] = ()
    """Arguments that are personal data: never logged."""
    emits: tuple[str, ...] = ()
    """Fact types the tool may emit."""
    filler: str | None = None
    """What the agent may say while a slow call runs; null for the business's own words."""
    version: str = "1"
    business: str | None = None
    """The business that brings it, and alone may use it; null: any business that names it."""


class Announcement(Contract):
    """The tools of one instance of a tool service. Key: service/instance; a tombstone takes it back."""

    service: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    instance: str
    calls_topic: str
    tools: tuple[ToolSpec, ...]
    announced_at: datetime

    @property
    def key(self) -> str:
        """Return the record key."""
        return f"{self.service}/{self.instance}"
