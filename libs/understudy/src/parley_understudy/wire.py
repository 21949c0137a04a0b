"""What leaves the protocol core: server events, jobs for ears, brain and voice, and the close of the socket.

It builds values only; the shell sends and performs them. Shapes are those observed on the GA wire.

Law: nothing here knows the time; ids and padding come from the given random source, so a seed repeats a session.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from parley_common.errors import Permanent

if TYPE_CHECKING:
    from random import Random

    from parley_understudy.brain.types import View

Event: TypeAlias = dict[str, Any]

_ALPHABET = string.ascii_letters + string.digits
_OBFUSCATION_UNIT = 16
"""``len(delta) + len(obfuscation)`` is a multiple of this on every text-like delta (378 of 378 recorded)."""


@dataclass(frozen=True, slots=True)
class Send:
    """One server event for the client."""

    event: Event


@dataclass(frozen=True, slots=True)
class Hear:
    """Recognise this caller audio (PCM16 24 kHz). Only a ``final`` one is a turn: a script may answer that."""

    item_id: str
    attempt: int
    pcm: bytes
    final: bool


@dataclass(frozen=True, slots=True)
class Think:
    """Ask the brain what to say and call next."""

    response_id: str
    view: View


@dataclass(frozen=True, slots=True)
class Speak:
    """Render one sentence of a response."""

    response_id: str
    index: int
    text: str
    voice: str
    speed: float


@dataclass(frozen=True, slots=True)
class Forget:
    """A speculative recognition is of no use any more."""

    item_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Close:
    """End the socket with this code and reason."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Raw:
    """A text frame as it stands, which need not be JSON."""

    text: str


@dataclass(frozen=True, slots=True)
class Vanish:
    """Drop the TCP connection, without a close frame."""


@dataclass(frozen=True, slots=True)
class FallSilent:
    """Stop answering, pings too, and leave the socket open."""


Job: TypeAlias = Hear | Think | Speak
Ending: TypeAlias = Close | Vanish | FallSilent
Out: TypeAlias = Send | Raw | Job | Forget | Ending


class Refused(Permanent):
    """A client event that is answered with an ``error`` event and has no other effect.

    ``wire_code`` is null on the wire where the API sends null.
    """

    code = "invalid_request_error"

    def __init__(self, message: str, wire_code: str | None, param: str | None = None) -> None:
        super().__init__(message)
        self.wire_code = wire_code
        self.param = param


class Ids:
    """Makes ids in the API's formats: 21 characters after the prefix, 16 for calls."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def new(self, prefix: str) -> str:
        """Return a new ``event_``, ``item_``, ``resp_``, ``sess_``, ``conv_`` or ``call_`` id."""
        return prefix + self._letters(16 if prefix == "call_" else 21)

    def padding(self, delta: str) -> str:
        """Return the ``obfuscation`` for a delta: at least one character, never a whole unit of them for nothing."""
        return self._letters(_OBFUSCATION_UNIT - len(delta) % _OBFUSCATION_UNIT)

    def _letters(self, count: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=count))


class Outgoing:
    """Collects what one step of the core produces, in order. ``watch`` is shown each event as it is added."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self.watch: Callable[[Event], None] | None = None
        self._outs: list[Out] = []

    def send(self, kind: str, **fields: Any) -> None:
        """Add a server event with a fresh event id."""
        event = {"type": kind, "event_id": self.ids.new("event_"), **fields}
        self._outs.append(Send(event))
        if self.watch is not None:
            self.watch(event)

    def delta(self, kind: str, delta: str, **fields: Any) -> None:
        """Add a text-like delta with its padding."""
        self.send(kind, **fields, delta=delta, obfuscation=self.ids.padding(delta))

    def error(self, refused: Refused, client_event_id: str | None = None) -> None:
        """Add the ``error`` event for a refusal."""
        self.send(
            "error",
            error={
                "type": refused.stable_code,
                "code": refused.wire_code,
                "message": refused.message,
                "param": refused.param,
                "event_id": client_event_id,
            },
        )

    def do(self, out: Out) -> None:
        """Add a job, or the close."""
        self._outs.append(out)

    def take(self) -> list[Out]:
        """Return what was collected, once."""
        outs, self._outs = self._outs, []
        return outs
