"""The one value that is a session. Orthogonal parts, each a closed set of types carrying only what is true then.

The floor, the upstream response and the playout ledger are separate, so that "R1 still plays, R2 already
generates, R3 waits" is sayable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from parley_session.core.config import LocalAudio, MicPolicy, Mode, Outcome, SessionConfig, ToolTarget

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
    """Agent audio of the current epoch is in the client's hands and not yet all played.

    ``aside`` is the item that the caller is speaking where barge-in is off; null while they are quiet.
    """

    aside: str | None = None


@dataclass(frozen=True, slots=True)
class Confirming:
    """The caller made a sound while the agent speaks: a cough, or a barge-in once it was loud long enough.

    Playout is paused while the sound lasts: ``loud_since_ms`` is null while it is away.
    """

    caller_item_id: str
    audio_start_ms: int
    loud_since_ms: int | None
    loud_ms: int = 0
    """Sound before ``loud_since_ms``."""


@dataclass(frozen=True, slots=True)
class Yielding:
    """The agent was barged in upon; the client's word on what was heard is awaited until ``deadline_ms``.

    ``caller_item_id`` is null when the caller typed.
    """

    deadline_ms: int
    flush_epoch: int
    caller_item_id: str | None


Floor = Silent | Caller | Agent | Confirming | Yielding

# -- the upstream connection and response ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connecting:
    """A connection is being opened and configured."""

    since_ms: int
    attempt: int = 1
    lost_ms: int | None = None
    """When the one before it was lost; null for a session's first, and for a roll-over."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Upstream is configured and can converse."""

    opened_ms: int


@dataclass(frozen=True, slots=True)
class Away:
    """Upstream was lost and is tried again at ``retry_ms``."""

    retry_ms: int
    attempt: int
    lost_ms: int


Upstream = Connecting | Ready | Away


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

CreateKind = Literal["greeting", "answer", "continuation", "nudge"]


@dataclass(frozen=True, slots=True)
class Create:
    """A response we want. ``unseen`` are the items it is to answer that upstream has not confirmed yet."""

    id: str
    kind: CreateKind
    unseen: frozenset[str] = frozenset()
    instructions: str | None = None
    may_call_tools: bool = True
    retries: int = 0
    after_playout: bool = False
    """Not before the client has played what it was given."""


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
    is_local: bool = False
    """Upstream has no such audio item: what was heard of it is told upstream as text, once it is over."""
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
    paused_ms: int | None = None
    """When the client was told to pause; null while it plays."""


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
    filled: bool = False
    """The agent has said that it is looking."""


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One item of the conversation as it was heard. ``text`` null: not known (yet)."""

    item_id: str
    role: Literal["user", "assistant", "tool_call", "tool_output"]
    number: int = 0
    text: str | None = None
    """Words; for a tool call its name, for a tool output the output."""
    final: bool = False
    is_estimate: bool = False
    """The words were estimated from how much audio was heard."""
    call_id: str = ""
    arguments: str = ""
    audio_start_ms: int | None = None
    """Where caller speech begins in the audio of its upstream connection; null when it was not spoken."""
    committed: bool = False
    """Caller speech that upstream has made an item of."""


@dataclass(frozen=True, slots=True)
class ResponseUsage:
    """Tokens of one or more responses; cached counts are part of the input counts."""

    input_text: int = 0
    input_audio: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    output_text: int = 0
    output_audio: int = 0
    input_image: int = 0
    cached_image: int = 0

    def __add__(self, other: ResponseUsage) -> ResponseUsage:
        return ResponseUsage(
            self.input_text + other.input_text,
            self.input_audio + other.input_audio,
            self.cached_text + other.cached_text,
            self.cached_audio + other.cached_audio,
            self.output_text + other.output_text,
            self.output_audio + other.output_audio,
            self.input_image + other.input_image,
            self.cached_image + other.cached_image,
        )

    @property
    def tokens(self) -> int:
        return self.input_text + self.input_audio + self.input_image + self.output_text + self.output_audio


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn under way: one thing the caller said and everything the agent did about it."""

    number: int
    started_ms: int
    caller_item_id: str | None = None
    speech_ended_ms: int | None = None
    """When the caller really stopped, before upstream's silence window; null for typed turns."""
    response_ms: int | None = None
    """When the first response to it began upstream."""
    first_audio_ms: int | None = None
    answered: bool = False
    """A response to it has ended upstream."""
    tool_calls: int = 0
    usage: ResponseUsage = ResponseUsage()
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """What the session came to so far."""

    turns: int = 0
    barge_ins: int = 0
    tool_calls: int = 0
    tool_rounds: int = 0
    """Since the caller last said something."""
    usage: ResponseUsage = ResponseUsage()
    transcribed_ms: int = 0
    cost_usd: float = 0.0
    local_ms: int = 0
    """Agent audio that came from here and cost no response."""
    reconnects: int = 0


@dataclass(frozen=True, slots=True)
class Farewell:
    """The session has failed; the caller still hears why, until ``deadline_ms`` at the latest."""

    code: str
    deadline_ms: int


# -- the whole ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session. Made by ``initial``; changed only by ``step``."""

    config: SessionConfig
    started_ms: int
    last_activity_ms: int
    mode: Mode
    playout: Playout
    upstream: Upstream
    upstream_heard_ms: int
    """When upstream last said anything."""
    floor: Floor = Silent()
    response: Response = Idle()
    creates: tuple[Create, ...] = ()
    creates_held_ms: int | None = None
    """Until when upstream wants no response of ours (its rate limit)."""
    next_create: int = 1
    dead_responses: tuple[str, ...] = ()
    """Responses whose deltas are dropped; the newest eight."""
    dismissed: tuple[str, ...] = ()
    """Caller items that were coughs; the newest eight."""
    calls: tuple[PendingCall, ...] = ()
    switched_off: tuple[str, ...] = ()
    """Tools, as the model names them, that an operator has switched off."""
    grants: tuple[str, ...] = ()
    history: tuple[HistoryItem, ...] = ()
    turn: Turn | None = None
    closing: Turn | None = None
    """The turn that was barged in upon, until what was heard of it is settled."""
    auto_response_due_ms: int | None = None
    """Until when upstream's own response to the committed caller item is expected; ours wait for it."""
    replay_from_ms: int | None = None
    """Where caller audio that upstream lost begins in its last connection; null: nothing was lost."""
    totals: Totals = Totals()
    muted: bool = False
    talk_began_ms: int | None = None
    """Since when the push-to-talk key is down; null while it is up."""
    talk_from_ms: int | None = None
    """Where what is said with the key begins in the audio of the connection; null once it was committed."""
    idle_base_ms: int | None = None
    """Since when nothing happened but our asking whether anyone is there; null when we have not asked."""
    mic: MicPolicy = "hold"
    """What the shell was last told to do with caller audio."""
    was_started: bool = False
    was_welcomed: bool = False
    was_wrapped_up: bool = False
    farewell: Farewell | None = None
    is_over: bool = False
    shown: str = ""
    """The agent state the client was last told."""
    outcome: Outcome = "none"


def initial(config: SessionConfig, now_ms: int) -> SessionState:
    """Return a session that has just been attached; its epoch outranks every epoch of an earlier owner.

    The shell opens the first upstream connection by itself; later ones are asked for by ``OpenUpstream``.
    """
    return SessionState(
        config=config,
        started_ms=now_ms,
        last_activity_ms=now_ms,
        mode=config.mode,
        playout=Playout(epoch=(config.fence << 16) | 1),
        upstream=Connecting(now_ms),
        upstream_heard_ms=now_ms,
    )


def local_audio(state: SessionState, name: str) -> LocalAudio | None:
    """Return rendered speech by its name; null when there is none, and in text mode."""
    if state.mode != "voice":
        return None
    return next((audio for audio in state.config.local if audio.name == name), None)
