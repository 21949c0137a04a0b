"""What a session is told at its start and never changes: how turns are taken, limits, tools, prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SAMPLES_PER_MS = 24
BYTES_PER_SAMPLE = 2

Mode = Literal["voice", "text"]
ToolClass = Literal["read", "reversible", "irreversible"]
BargeIn = Literal["instant", "confirm", "off"]
MicPolicy = Literal["forward", "hold", "drop"]
EndReason = Literal["caller", "agent", "idle", "limit", "lost", "failed", "drained", "operator"]
Outcome = Literal["lead", "case", "none"]


@dataclass(frozen=True, slots=True)
class TurnTaking:
    """How turns are taken."""

    barge_in: BargeIn = "instant"
    push_to_talk: bool = False
    """The client's key marks turns; upstream detects none."""
    min_speech_ms: int = 350
    """``confirm``: caller sound shorter than this is a cough. About two syllables of quick speech."""
    flush_answer_ms: int = 300
    """How long the client's answer to a flush is awaited; the last report counts after that."""
    silence_ms: int = 500
    """Upstream's silence window: how long before speech_stopped the caller really stopped."""
    playout_grace_ms: int = 2_000
    """How long after audio must have ended a client that stopped reporting is still thought to play."""

    @property
    def upstream_answers(self) -> bool:
        """Upstream's VAD interrupts and creates by itself; otherwise the core does both."""
        return self.barge_in == "instant" and not self.push_to_talk


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may take; null means no such limit."""

    connect_ms: int = 8_000
    """How long upstream may take to accept and configure a new session, all attempts together."""
    attempt_ms: int = 4_000
    """How long one attempt to connect may take."""
    reconnect_ms: int = 30_000
    """How long a lost upstream is tried again before the session fails."""
    upstream_silent_ms: int = 20_000
    """How long upstream may say nothing while something is expected of it; recorded gaps stay under 5 s."""
    rollover_ms: int | None = 3_300_000
    """When a connection is replaced at a quiet moment: 55 of OpenAI's 60 minutes (realtime.md 1.6)."""
    rate_limit_wait_max_ms: int = 60_000
    session_max_ms: int = 1_800_000
    wrap_up_ms: int = 60_000
    """How long before its longest time the agent is told to wrap up."""
    idle_nudge_ms: int | None = None
    idle_hangup_ms: int | None = 120_000
    tokens_max: int | None = None
    usd_max: float | None = None
    wrap_up_share: float = 0.8
    """The share of tokens or money at which the agent is told to wrap up."""
    filler_after_ms: int | None = 1_200
    """How long a tool may take before the agent says that it is looking."""
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
    outcome: Outcome = "none"
    """What a session that used it successfully came to."""


@dataclass(frozen=True, slots=True)
class LocalAudio:
    """Rendered speech of the agent that costs no response: ``greeting``, ``filler`` or ``apology``."""

    name: str
    text: str
    samples: int


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens of one model, and its transcription per minute."""

    input_text: float = 0.0
    input_audio: float = 0.0
    input_image: float = 0.0
    cached_text: float = 0.0
    cached_audio: float = 0.0
    cached_image: float = 0.0
    output_text: float = 0.0
    output_audio: float = 0.0
    transcription_minute: float = 0.0


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
    local: tuple[LocalAudio, ...] = ()
    prices: Prices | None = None
    """Null: nobody knows what this model costs."""
