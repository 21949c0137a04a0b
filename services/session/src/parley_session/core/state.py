"""The one value that is a session. Orthogonal parts, each a closed set of types carrying only what is true then.

The floor, the upstream response and the playout ledger are separate, so that "R1 still plays, R2 already
generates, R3 waits" is sayable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SAMPLES_PER_MS = 24
BYTES_PER_SAMPLE = 2

Mode = Literal["voice", "text"]
ToolClass = Literal["read", "reversible", "irreversible"]

# -- what the session was told at its start -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnTaking:
    """How turns are taken."""

    flush_answer_ms: int = 150
    """How long the client's answer to a flush is awaited; the last report counts after that."""
    silence_ms: int = 500
    """Upstream's silence window: how long before speech_stopped the caller really stopped."""
    playout_grace_ms: int = 2_000
    """How long after audio must have ended a client that stopped reporting is still thought to play."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may take; null means no such limit."""

    connect_ms: int = 10_000
    """How long upstream may take to accept and configure the session."""
    session_max_ms: int = 1_800_000
    idle_hangup_ms: int | None = 120_000
    tool_calls_max: int = 50
    tool_rounds_max: int = 8
    """Rounds of tool calls without a word of the caller, after which the model must speak."""
    tool_attempts_max: int = 3
    tool_output_chars_max: int = 60_000
    """Well below upstream's 256,000 (realtime.md 1.6): a result is read by a model, not archived."""


@dataclass(frozen=True, slots=True)
class ToolTarget:
    """A tool as the model knows it, and where it runs."""

    model_name: str
    service: str
    tool: str
    tool_class: ToolClass
    deadline_ms: int
    outcome: Literal["lead", "case", "none"] = "none"
    """What a session that used it successfully came to."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Everything the core needs to know that does not change."""

    session_id: str
    mode: Mode = "voice"
    greet_first: bool = True
    greeting: str | None = None
    fence: int = 1
    turn_taking: TurnTaking = TurnTaking()
    limits: Limits = Limits()
    tools: tuple[ToolTarget, ...] = ()


# -- the floor ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Silent:
    """Nobody speaks."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller speaks, as upstream's VAD says."""

    item_id: str


@dataclass(frozen=True, slots=True)
class Agent:
    """Agent audio of the current epoch is in the client's hands and not yet all played."""


@dataclass(frozen=True, slots=True)
class Yielding:
    """The agent was barged in upon; the client's word on what was heard is awaited until ``deadline_ms``.

    ``caller_item_id`` is null when the caller typed.
    """

    deadline_ms: int
    flush_epoch: int
    caller_item_id: str | None


Floor = Silent | Caller | Agent | Yielding

# -- the upstream connection and response ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connecting:
    """Not yet able to converse."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Upstream is configured."""


Upstream = Connecting | Ready


@dataclass(frozen=True, slots=True)
class Idle:
    """No response is under way upstream."""


@dataclass(frozen=True, slots=True)
class Creating:
    """We asked for a response and have not seen it. ``doomed``: the caller spoke since, so it must not be heard."""

    create: Create
    doomed: bool = False


@dataclass(frozen=True, slots=True)
class Active:
    """Upstream generates this response. ``create`` is null for one that upstream's VAD made."""

    response_id: str
    create: Create | None


@dataclass(frozen=True, slots=True)
class Cancelling:
    """This response was cancelled, by us or by upstream's VAD, and has not ended yet."""

    response_id: str


Response = Idle | Creating | Active | Cancelling

CreateKind = Literal["greeting", "answer"]


@dataclass(frozen=True, slots=True)
class Create:
    """A response we want. ``unseen`` are the items it is to answer that upstream has not confirmed yet."""

    id: str
    kind: CreateKind
    unseen: frozenset[str] = frozenset()
    instructions: str | None = None
    may_call_tools: bool = True
    retries: int = 0


# -- playout --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LedgerItem:
    """One stretch of agent audio (item_id, content_index) and what became of it. Counts are samples."""

    number: int
    item_id: str
    content_index: int
    response_id: str
    epoch: int
    turn: int
    """Number of the turn it belongs to; 0 for the greeting."""
    sent: int = 0
    received: int = 0
    played: int = 0
    generated: bool = False
    """Upstream has ended its audio: ``sent`` is all there is."""
    done: bool = False
    """Upstream has ended the item: it can be deleted."""
    words: str = ""
    settled: bool = False
    """What was heard of it is decided: nothing about it is sent upstream any more, save its deletion."""
    unheard: bool = False
    """Settled with nothing heard: deleted upstream as soon as it is done there."""

    @property
    def is_played_out(self) -> bool:
        return self.generated and self.played >= self.sent


@dataclass(frozen=True, slots=True)
class Playout:
    """The client's speaker as far as we know it. ``ledger`` holds the current epoch and what is not settled."""

    epoch: int
    next_number: int = 1
    ledger: tuple[LedgerItem, ...] = ()
    playing_until_ms: int = 0
    """When all audio sent in this epoch must have been played, had it played without a pause."""


# -- tools, history, money ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A tool call that has no output upstream yet."""

    call_id: str
    response_id: str
    target: ToolTarget
    arguments: str
    attempt: int
    started_ms: int
    attempt_deadline_ms: int


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One item of the conversation as it was heard. ``text`` null: not known (yet)."""

    item_id: str
    role: Literal["user", "assistant", "tool_call", "tool_output"]
    number: int = 0
    text: str | None = None
    final: bool = False
    is_estimate: bool = False
    """The words were estimated from how much audio was heard."""


@dataclass(frozen=True, slots=True)
class ResponseUsage:
    """Tokens of one or more responses; cached counts are part of the input counts."""

    input_text: int = 0
    input_audio: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    output_text: int = 0
    output_audio: int = 0

    def __add__(self, other: ResponseUsage) -> ResponseUsage:
        return ResponseUsage(
            self.input_text + other.input_text,
            self.input_audio + other.input_audio,
            self.cached_text + other.cached_text,
            self.cached_audio + other.cached_audio,
            self.output_text + other.output_text,
            self.output_audio + other.output_audio,
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn under way: one thing the caller said and everything the agent did about it."""

    number: int
    started_ms: int
    caller_item_id: str | None = None
    speech_ended_ms: int | None = None
    """When the caller really stopped, before upstream's silence window; null for typed turns."""
    first_audio_ms: int | None = None
    answered: bool = False
    """A response to it has ended upstream."""
    tool_calls: int = 0
    usage: ResponseUsage = ResponseUsage()


@dataclass(frozen=True, slots=True)
class Totals:
    """What the session came to so far."""

    turns: int = 0
    barge_ins: int = 0
    tool_calls: int = 0
    tool_rounds: int = 0
    """Since the caller last said something."""
    usage: ResponseUsage = ResponseUsage()


# -- the whole ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session. Made by ``initial``; changed only by ``step``."""

    config: SessionConfig
    started_ms: int
    last_activity_ms: int
    mode: Mode
    playout: Playout
    upstream: Upstream = Connecting()
    floor: Floor = Silent()
    response: Response = Idle()
    creates: tuple[Create, ...] = ()
    next_create: int = 1
    dead_responses: tuple[str, ...] = ()
    """Responses whose deltas are dropped; the newest eight."""
    calls: tuple[PendingCall, ...] = ()
    grants: tuple[str, ...] = ()
    history: tuple[HistoryItem, ...] = ()
    turn: Turn | None = None
    closing: Turn | None = None
    """The turn that was barged in upon, until what was heard of it is settled."""
    auto_response_due_ms: int | None = None
    """Until when upstream's own response to the committed caller item is expected; ours wait for it."""
    totals: Totals = Totals()
    muted: bool = False
    was_welcomed: bool = False
    is_over: bool = False
    shown: str = ""
    """The agent state the client was last told."""
    outcome: Literal["lead", "case", "none"] = "none"


def initial(config: SessionConfig, now_ms: int) -> SessionState:
    """Return a session that has just been attached; its epoch outranks every epoch of an earlier owner."""
    return SessionState(
        config=config,
        started_ms=now_ms,
        last_activity_ms=now_ms,
        mode=config.mode,
        playout=Playout(epoch=(config.fence << 16) | 1),
    )
