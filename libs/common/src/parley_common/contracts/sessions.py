"""Session facts: what happened in a conversation, never what was said unless the business opted in."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from parley_common.contracts.record import Contract, Fact
from parley_common.contracts.topics import SESSION_EVENTS, Topic


class Usage(Contract):
    """Tokens by modality as upstream reported them; cached counts are part of the input counts."""

    input_text_tokens: int = 0
    input_audio_tokens: int = 0
    cached_text_tokens: int = 0
    cached_audio_tokens: int = 0
    output_text_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    cached_image_tokens: int = 0


class _SessionFact(Fact):
    topic: ClassVar[Topic] = SESSION_EVENTS
    key_field: ClassVar[str] = "session_id"

    session_id: str
    business: str
    at: datetime


class SessionStarted(_SessionFact):
    """A caller and an agent are connected."""

    fact_type: ClassVar[str] = "parley.session.started.v1"

    business_version: str
    channel: str
    mode: Literal["voice", "text"]
    page: str | None = None
    model: str
    replica: str


class TurnCompleted(_SessionFact):
    """The agent answered, or was barged in upon."""

    fact_type: ClassVar[str] = "parley.turn.completed.v1"

    turn: int = Field(ge=1)
    mode: Literal["voice", "text"]
    barged_in: bool = False
    heard_ms: int = 0
    """How much of the agent's audio was heard."""
    spoken_ms: int = 0
    """How much of it upstream had made."""
    voice_to_voice_ms: int | None = None
    """From the end of the caller's speech to the first agent audio sent; null for typed turns."""
    turn_detection_ms: int | None = None
    """Part of it: from the end of speech to the commit."""
    response_ms: int | None = None
    """Part of it, and of typed turns: from the commit or the text to the response."""
    first_audio_ms: int | None = None
    """Part of it: from the response to its first audio."""
    tool_calls: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = None
    """Null when the model has no known price."""
    caller_text: str | None = None
    agent_heard_text: str | None = None
    """Both null unless the business keeps heard text in facts."""


class ToolUsed(_SessionFact):
    """A tool call ended, however it ended."""

    fact_type: ClassVar[str] = "parley.tool.used.v1"

    call_id: str
    service: str
    tool: str
    status: Literal["ok", "refused", "failed", "unknown_outcome", "expired", "cancelled"]
    code: str | None = None
    attempts: int = 1
    round_trip_ms: int = 0


class SessionFeedback(_SessionFact):
    """The caller rated the session."""

    fact_type: ClassVar[str] = "parley.session.feedback.v1"

    rating: int = Field(ge=1, le=5)
    comment: str | None = None


class SessionEnded(_SessionFact):
    """The session is over. ``ce_id`` is UUIDv5(session_id, "ended"): one by id, whatever ended it."""

    fact_type: ClassVar[str] = "parley.session.ended.v1"

    reason: Literal["caller", "agent", "idle", "limit", "lost", "failed", "drained", "operator"]
    code: str | None = None
    """A stable error code when the session failed; null otherwise."""
    duration_ms: int = 0
    turns: int = 0
    barge_ins: int = 0
    tool_calls: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = None
    """Null when the model has no known price; transcription is part of it."""
    local_audio_ms: int = 0
    """Agent audio that was rendered beforehand and cost no response."""
    reconnects: int = 0
    """How often upstream was lost and dialled again."""
    outcome: Literal["lead", "case", "none"] = "none"
