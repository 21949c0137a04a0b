"""What stands between a session and its client: the client's dialect, and the faults that a script asks for.

Events of the session leave through it and those of the client come in; without a script and in the GA dialect it
changes nothing. No I/O, no clock: what is delayed is due later, like everything else of a session.

Law: what leaves keeps its order, but for what a script swaps, makes late or loses; after an ending nothing leaves.
"""

from __future__ import annotations

from typing import Any, Protocol

from parley_understudy.brain.types import Decision
from parley_understudy.client_events import event_id_of
from parley_understudy.fault_acts import CHANGING, DIRECTING
from parley_understudy.fault_plan import Act, Plan
from parley_understudy.faults import Faults, response_of
from parley_understudy.session import Session
from parley_understudy.stream import Stream
from parley_understudy.transcripts import Transcripts
from parley_understudy.troubles import Scene, error_of, refusal_of
from parley_understudy.wire import (
    Close,
    Event,
    FallSilent,
    Forget,
    Hear,
    Out,
    Outgoing,
    Refused,
    Send,
    Speak,
    Think,
    Vanish,
)

_INSIDE = (Hear, Think, Speak, Forget)
"""What is for the program, not for the client."""


class Dialect(Protocol):
    """How a client speaks that does not speak GA."""

    def incoming(self, event: Any) -> Any:
        """Return a client's event as GA has it."""
        ...

    def outgoing(self, event: Event) -> list[Event]:
        """Return a GA server event as the client knows it: none, one or more."""
        ...


class Line:
    """One session as its client meets it. It is driven as the session itself is."""

    def __init__(
        self, core: Session, now_ms: float, *, plan: Plan | None = None, dialect: Dialect | None = None
    ) -> None:
        self._core = core
        self._opened_ms = now_ms
        self._dialect = dialect
        self._scripts: list[Faults] = []
        self._outgoing = Outgoing(core.ids)
        self._noted: dict[str, list[Act]] = {}
        self._swapped: list[Out] = []
        self._stream = Stream(now_ms)
        self._transcripts = Transcripts(self._stream)
        self._is_expiring = False
        if plan is not None:
            self.disturb(plan)

    @property
    def id(self) -> str:
        """Return the session's id."""
        return self._core.id

    def speculate(self, *, wanted: bool, scripted: bool) -> None:
        """Say whether recognition should begin before a turn ends, and whether a script says what is heard."""
        self._core.caller.speculates, self._core.caller.scripted = wanted, scripted

    def disturb(self, plan: Plan) -> None:
        """Follow a fault script from now on, beside any that is followed already."""
        self._scripts.append(Faults(plan))
        self._core.watch(self._watch)

    def open(self, now_ms: float) -> list[Out]:
        """Open the session, unless a script refuses it."""
        opening = [act for script in self._scripts for act in script.opening()]
        for act in opening:
            if act.name == "refuse":
                error, code, reason = refusal_of(act.value, self._scene)
                self._send_error(error, now_ms)
                self._stream.leave(Close(code, reason), now_ms)
                return self._stream.take(now_ms)
        self._pass(self._core.open(now_ms), now_ms)
        for act in opening:
            self._do(act, None, now_ms)
        return self._stream.take(now_ms)

    def receive(self, event: Any, now_ms: float) -> list[Out]:
        """Take one decoded client event."""
        if self._stream.ending is not None:
            return []
        kind = event.get("type") if isinstance(event, dict) else None
        lost = False
        if isinstance(kind, str):
            for act in [act for script in self._scripts for act in script.client_sent(kind)]:
                lost = self._on_client_event(act, event, now_ms) or lost
        if not lost:
            ours = self._dialect.incoming(event) if self._dialect else event
            self._pass(self._core.receive(ours, now_ms), now_ms)
        return self._stream.take(now_ms)

    def refuse(self, refused: Refused, now_ms: float) -> list[Out]:
        """Answer something that is no event at all."""
        return self._stepped(self._core.refuse(refused, now_ms), now_ms)

    def heard(self, item_id: str, attempt: int, text: str | None, now_ms: float) -> list[Out]:
        """Take what the ears made of some audio; None when they failed."""
        return self._stepped(self._core.heard(item_id, attempt, text, now_ms), now_ms)

    def decided(self, response_id: str, decision: Decision, now_ms: float) -> list[Out]:
        """Take what the brain decided for a response."""
        return self._stepped(self._core.decided(response_id, decision, now_ms), now_ms)

    def rendered(self, response_id: str, sentence: int, pcm: bytes, now_ms: float) -> list[Out]:
        """Take the audio of one sentence (PCM16 24 kHz)."""
        return self._stepped(self._core.rendered(response_id, sentence, pcm, now_ms), now_ms)

    def failed(self, response_id: str, kind: str, code: str | None, now_ms: float) -> list[Out]:
        """Take note that a response's brain or voice gave up."""
        return self._stepped(self._core.failed(response_id, kind, code, now_ms), now_ms)

    def expire(self, now_ms: float) -> list[Out]:
        """End the session because it has lasted its longest; a silent one is dropped."""
        if self._stream.ending is not None:
            return [Vanish()]
        self._expire(now_ms)
        return self._stream.take(now_ms)

    def _expire(self, now_ms: float) -> None:
        if not self._is_expiring:
            self._is_expiring = True
            self._pass(self._core.expire(now_ms), now_ms)

    def advance(self, now_ms: float) -> list[Out]:
        """Send what is due by now."""
        self._pass(self._core.advance(now_ms), now_ms)
        elapsed_ms = now_ms - self._opened_ms
        for act in [act for script in self._scripts for act in script.time_came(elapsed_ms)]:
            self._do(act, None, now_ms)
        return self._stream.take(now_ms)

    def due_ms(self) -> float | None:
        """Return when :meth:`advance` is to be called next; None when nothing is waiting."""
        if self._stream.ending is not None:
            return None
        times = [self._core.due_ms(), self._stream.due_ms()]
        timed = [script.due_ms() for script in self._scripts]
        times += [self._opened_ms + elapsed_ms for elapsed_ms in timed if elapsed_ms is not None]
        return min((each for each in times if each is not None), default=None)

    def _stepped(self, outs: list[Out], now_ms: float) -> list[Out]:
        if self._is_plain:
            return outs
        self._pass(outs, now_ms)
        return self._stream.take(now_ms)

    @property
    def _is_plain(self) -> bool:
        return not self._scripts and self._dialect is None and self._stream.ending is None

    @property
    def _scene(self) -> Scene:
        return Scene(str(self._core.config.get("model", "gpt-realtime")), self._core.id)

    # -- what comes about in the session, seen before it leaves ------------------------------------

    def _watch(self, event: Event) -> None:
        """Let the script see a server event as it comes about; note what is to be done to it when it leaves."""
        for act in [act for script in self._scripts for act in script.server_sends(event)]:
            direct = DIRECTING.get(act.name)
            if direct is None:
                self._noted.setdefault(event["event_id"], []).append(act)
            elif response_id := response_of(event) or self._active_id():
                direct(self._core.directions.give(response_id), act.value, self._scene)

    def _active_id(self) -> str | None:
        active = self._core.responses.active
        return active.id if active is not None else None

    # -- what comes from the client ----------------------------------------------------------------

    def _on_client_event(self, act: Act, event: Event, now_ms: float) -> bool:
        """Do something about a client event; return whether the session is not to see it."""
        if act.name == "lose":
            return True
        if act.name == "error":
            self._send_error(error_of(act.value, self._scene, event_id_of(event)), now_ms)
            return True
        if act.name == "collide":
            self._pass(self._core.collide(now_ms), now_ms)
        else:
            self._do(act, None, now_ms)
        return False

    # -- what leaves -------------------------------------------------------------------------------

    def _pass(self, outs: list[Out], now_ms: float) -> None:
        if self._is_plain:
            self._stream.hand_in(outs)
            return
        for out in outs:
            if isinstance(out, Send):
                self._send(out.event, now_ms)
            elif isinstance(out, _INSIDE):
                self._stream.hand_in([out])
            else:
                self._stream.leave(out, now_ms)

    def _send(self, event: Event, now_ms: float) -> None:
        acts = self._noted.pop(event["event_id"], [])
        frames: list[Out] = (
            [Send(each) for each in self._dialect.outgoing(event)] if self._dialect else [Send(event)]
        )
        if self._transcripts.concerns(event):
            self._transcripts.send(event, frames, now_ms)
            return
        changed = frames
        for act in acts:
            if act.name in CHANGING:
                changed = CHANGING[act.name](changed, act.value)
            elif act.name == "delay_ms":
                self._stream.block(act.value, now_ms)
        if any(act.name == "swap" for act in acts):
            self._swapped += changed
        else:
            swapped, self._swapped = (self._swapped, []) if changed else ([], self._swapped)
            for frame in changed + swapped:
                self._stream.leave(frame, now_ms)
        self._transcripts.passed(event, now_ms)
        for act in acts:
            self._do(act, event, now_ms)

    def _do(self, act: Act, event: Event | None, now_ms: float) -> None:
        """Do what is done beside or after an event, or at a time of its own."""
        if act.name == "error":
            self._send_error(error_of(act.value, self._scene), now_ms)
        elif act.name == "send":
            self._stream.leave(Send({"event_id": self._outgoing.ids.new("event_"), **act.value}), now_ms)
        elif act.name == "transcript" and event is not None:
            self._transcripts.follow(event["item_id"], act.value)
        elif act.name == "drop":
            self._stream.leave(Vanish(), now_ms)
        elif act.name == "silence":
            self._stream.leave(FallSilent(), now_ms)
        elif act.name == "close":
            self._stream.leave(Close(act.value.code, act.value.reason), now_ms)
        elif act.name == "expire":
            self._expire(now_ms)
        elif act.name in DIRECTING and event is None and (response_id := self._active_id()):
            DIRECTING[act.name](self._core.directions.give(response_id), act.value, self._scene)
            self._pass(self._core.advance(now_ms), now_ms)

    def _send_error(self, error: Event, now_ms: float) -> None:
        event = {"type": "error", "event_id": self._outgoing.ids.new("event_"), "error": error}
        frames = self._dialect.outgoing(event) if self._dialect else [event]
        for each in frames:
            self._stream.leave(Send(each), now_ms)
