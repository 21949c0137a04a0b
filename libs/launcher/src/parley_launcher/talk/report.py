"""What came of one `parley talk`: plain values for people, tests and benchmarks.

Times are milliseconds since the session was ready, unless a name says otherwise.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened, as it is shown or printed as JSON. ``kind`` is stable, ``data`` is JSON."""

    kind: str
    at_ms: int
    data: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {"type": self.kind, "at_ms": self.at_ms, **self.data}


@dataclass(frozen=True, slots=True)
class ItemReport:
    """One item of the conversation; sample counts are of that item and 0 for text."""

    number: int
    role: str
    text: str = ""
    final: bool = False
    heard: str | None = None
    """The part of ``text`` that was heard, as the service says; null when all of it stands."""
    samples: int = 0
    """How many samples arrived."""
    played: int = 0
    flushed: bool = False


@dataclass(frozen=True, slots=True)
class ToolReport:
    """One tool call as the client saw it; ``took_ms`` is null while it has not ended."""

    name: str
    call: str
    outcome: str | None
    took_ms: int | None


@dataclass(frozen=True, slots=True)
class NoticeReport:
    code: str
    message: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class FlushReport:
    """One flush: which item it met and how much of that had been played."""

    epoch: int
    item: int
    played: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class TurnReport:
    """What the caller did once, and how long the agent took. Null: it did not happen, or does not apply."""

    name: str
    """The file's name, or the text typed."""
    spoken: bool
    started_at_ms: int
    speech_ended_at_ms: int
    voice_to_voice_ms: int | None = None
    """From the end of the caller's speech to the first agent sample played."""
    first_words_ms: int | None = None
    """From the end of speech, or from sending the text, to the agent's first words or audio."""
    barge_in_to_flush_ms: int | None = None
    """From the caller's first loud sample to the flush; null when nothing was flushed in this turn."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the session failed; ``code`` is stable."""

    code: str
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class TalkReport:
    """Everything that a finished `parley talk` knows."""

    business: str
    session_id: str | None
    items: tuple[ItemReport, ...]
    tools: tuple[ToolReport, ...]
    notices: tuple[NoticeReport, ...]
    turns: tuple[TurnReport, ...]
    flushes: tuple[FlushReport, ...]
    ended: str | None
    """The reason the service gave; null when the socket just closed."""
    failure: Failure | None
    connect_ms: int
    """From dialling to ``ready``; 0 when it never came."""
    duration_ms: int
    round_trip_ms: float | None
    oddities: dict[str, int]
    """Breaches of the protocol by reason and count; empty in a clean session."""

    @property
    def ok(self) -> bool:
        return self.failure is None

    @property
    def agent_text(self) -> str:
        """Return all that the agent said or wrote, as far as it was heard, joined by spaces."""
        said = (i.text if i.heard is None else i.heard for i in self.items if i.role == "assistant")
        return " ".join(part for part in said if part)

    def as_json(self) -> dict[str, Any]:
        return {"type": "summary", "ok": self.ok, **dataclasses.asdict(self)}
