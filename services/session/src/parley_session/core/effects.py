"""Everything the core can ask of its shell, imperative. The closed union ``Effect`` is at the end.

Ordering: effects are performed in the order they are given; those to one peer arrive there in that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from parley_session.core.state import ResponseUsage

# -- upstream -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfigureUpstream:
    """Send the session's configuration; ``mode`` chooses audio or text answers.

    ``only_mode``: nothing else may be sent again, because the voice is frozen after the first agent audio.
    """

    mode: Literal["voice", "text"]
    only_mode: bool = False


@dataclass(frozen=True, slots=True)
class CreateResponse:
    """Ask upstream to answer now. ``create_id`` comes back with the response."""

    create_id: str
    instructions: str | None = None
    """Null: the session's own instructions."""
    may_call_tools: bool = True


@dataclass(frozen=True, slots=True)
class CancelResponse:
    response_id: str


@dataclass(frozen=True, slots=True)
class TruncateItem:
    item_id: str
    content_index: int
    audio_end_ms: int


@dataclass(frozen=True, slots=True)
class DeleteItem:
    item_id: str


@dataclass(frozen=True, slots=True)
class AddCallerText:
    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class AddToolOutput:
    item_id: str
    call_id: str
    output: str


# -- the client -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WelcomeClient:
    """The session runs: tell the client that it may begin."""

    epoch: int


@dataclass(frozen=True, slots=True)
class BeginItem:
    number: int
    role: Literal["user", "assistant"]
    epoch: int


@dataclass(frozen=True, slots=True)
class EndItem:
    number: int
    role: Literal["user", "assistant"]
    epoch: int
    samples: int | None


@dataclass(frozen=True, slots=True)
class PlayAudio:
    """Forward audio to the client at once; it is the playout buffer."""

    epoch: int
    number: int
    first_sample: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class FlushPlayout:
    """Silence the client: goes ahead of all audio of older epochs, which is dropped on the way."""

    epoch: int


@dataclass(frozen=True, slots=True)
class ShowTranscript:
    number: int
    role: Literal["user", "assistant"]
    text: str
    final: bool
    heard: str | None = None


@dataclass(frozen=True, slots=True)
class ShowState:
    state: Literal["listening", "thinking", "speaking", "using_tool"]


@dataclass(frozen=True, slots=True)
class ShowTool:
    name: str
    phase: Literal["begins", "ends"]
    call_id: str
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class ShowNotice:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ShowError:
    code: str
    message: str
    fatal: bool


# -- tools, facts, the shell ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestTool:
    """Ask a tool service; ``arguments`` is the model's JSON text, complete."""

    call_id: str
    attempt: int
    service: str
    tool: str
    arguments: str
    deadline_ms: int
    grants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetMicPolicy:
    """What the shell does with caller audio until told otherwise."""

    policy: Literal["forward", "hold", "drop"]


@dataclass(frozen=True, slots=True)
class RecordStarted:
    """The fact that the session started."""

    mode: Literal["voice", "text"]
    model: str


@dataclass(frozen=True, slots=True)
class RecordTurn:
    """The fact of a completed turn."""

    turn: int
    mode: Literal["voice", "text"]
    barged_in: bool
    lasted_ms: int
    heard_ms: int
    spoken_ms: int
    voice_to_voice_ms: int | None
    tool_calls: int
    usage: ResponseUsage
    caller_text: str
    agent_heard_text: str


@dataclass(frozen=True, slots=True)
class RecordToolUse:
    call_id: str
    service: str
    tool: str
    status: Literal["ok", "refused", "failed", "unknown_outcome", "expired", "cancelled"]
    code: str | None
    attempts: int
    round_trip_ms: int


@dataclass(frozen=True, slots=True)
class RecordFeedback:
    rating: int
    comment: str | None


@dataclass(frozen=True, slots=True)
class EndSession:
    """The session is over: record it, tell the client, close both sides. Nothing follows it."""

    reason: Literal["caller", "agent", "idle", "limit", "lost", "failed", "drained"]
    code: str | None
    duration_ms: int
    turns: int
    barge_ins: int
    tool_calls: int
    usage: ResponseUsage
    outcome: Literal["lead", "case", "none"]


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing was done, on purpose; counted by reason."""

    reason: str


Effect = (
    ConfigureUpstream
    | CreateResponse
    | CancelResponse
    | TruncateItem
    | DeleteItem
    | AddCallerText
    | AddToolOutput
    | WelcomeClient
    | BeginItem
    | EndItem
    | PlayAudio
    | FlushPlayout
    | ShowTranscript
    | ShowState
    | ShowTool
    | ShowNotice
    | ShowError
    | RequestTool
    | SetMicPolicy
    | RecordStarted
    | RecordTurn
    | RecordToolUse
    | RecordFeedback
    | EndSession
    | Ignored
)
