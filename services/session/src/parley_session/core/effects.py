"""Everything the core can ask of its shell, imperative. The closed union ``Effect`` is at the end.

Ordering: effects are performed in the order they are given; those to one peer arrive there in that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from parley_session.core.config import EndReason, MicPolicy, Outcome
from parley_session.core.state import ResponseUsage

# -- upstream -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenUpstream:
    """Dial anew; what the old connection still says is no longer ours."""


@dataclass(frozen=True, slots=True)
class CloseUpstream:
    """Give the connection up; nothing it says after this counts."""


@dataclass(frozen=True, slots=True)
class ConfigureUpstream:
    """Send the session's configuration; ``mode`` chooses audio or text answers.

    ``part``: ``mode`` and ``turns`` send no more than that, because the voice is frozen after the first agent
    audio. ``holds_turns``: upstream creates no response by itself yet, while the history is put back.
    """

    mode: Literal["voice", "text"]
    part: Literal["all", "mode", "turns"] = "all"
    holds_turns: bool = False


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
class AddAgentText:
    """Tell upstream what the agent said that upstream does not know: local audio, history after a loss.

    ``after`` is the item it follows, ``root`` for the beginning; null: it goes to the end.
    """

    item_id: str
    text: str
    after: str | None = None


@dataclass(frozen=True, slots=True)
class AddSystemText:
    """Tell the model something that neither side said."""

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class AddToolCall:
    """Put a tool call of an earlier connection back."""

    item_id: str
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class CommitCallerAudio:
    """The key is up: what was said is an item now."""


@dataclass(frozen=True, slots=True)
class ClearCallerAudio:
    """Forget what was said since the key went down."""


@dataclass(frozen=True, slots=True)
class ReplayCaller:
    """Append caller audio again that the last connection lost, before any new.

    ``from_ms`` is a position in the last connection's audio. Null: from where the last connection fell silent
    (``since_heard``), or the last half second, in which a word may have begun that it had not noticed.
    """

    from_ms: int | None
    since_heard: bool = False


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
class PlayLocal:
    """Forward rendered speech, whole, by its name."""

    epoch: int
    number: int
    name: str


@dataclass(frozen=True, slots=True)
class PausePlayout:
    """The client holds its playout where it is."""


@dataclass(frozen=True, slots=True)
class ResumePlayout:
    """The client goes on playing."""


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

    policy: MicPolicy


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
    turn_detection_ms: int | None
    """From the caller's last sound to the commit; null for typed turns."""
    response_ms: int | None
    """From the commit, or the typed text, to the response."""
    first_audio_ms: int | None
    """From the response to its first audio."""
    tool_calls: int
    usage: ResponseUsage
    cost_usd: float | None
    """Null when nobody knows what the model costs."""
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

    reason: EndReason
    code: str | None
    duration_ms: int
    turns: int
    barge_ins: int
    tool_calls: int
    usage: ResponseUsage
    cost_usd: float | None
    local_ms: int
    reconnects: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing was done, on purpose; counted by reason."""

    reason: str


Effect = (
    OpenUpstream
    | CloseUpstream
    | ConfigureUpstream
    | CreateResponse
    | CancelResponse
    | TruncateItem
    | DeleteItem
    | AddCallerText
    | AddAgentText
    | AddSystemText
    | AddToolCall
    | AddToolOutput
    | CommitCallerAudio
    | ClearCallerAudio
    | ReplayCaller
    | WelcomeClient
    | BeginItem
    | EndItem
    | PlayAudio
    | PlayLocal
    | PausePlayout
    | ResumePlayout
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
