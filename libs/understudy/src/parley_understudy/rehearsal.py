"""One session of the understudy without socket, models or asyncio: the time is an argument of every call.

It is what a test steps by hand, and what in_process.py puts behind something like a socket. ``due_ms`` says when to call
``advance`` next; what is returned are the frames of wire.py.

Law: nothing happens but in a call; the same calls at the same times give the same frames.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import msgspec

from parley_common.audio import read_text_tags
from parley_common.clock import Timer
from parley_understudy.admission import Admitted, Knock, Refusal, admit
from parley_understudy.brain import decide
from parley_understudy.brain.types import Decision, View
from parley_understudy.fault_plan import Plan
from parley_understudy.light_voice import speech_like
from parley_understudy.opening import opening
from parley_understudy.settings import Settings
from parley_understudy.vad import EnergyDetector
from parley_understudy.wire import (
    Close,
    FallSilent,
    Forget,
    Hear,
    Ids,
    Job,
    Out,
    Outgoing,
    Raw,
    Refused,
    Send,
    Speak,
    Think,
    Vanish,
)

Frame: TypeAlias = Send | Raw | Close | Vanish | FallSilent
_ROUNDING_MS = 1e-6
"""A due time that was divided by the scale and multiplied again must not lie a hair ahead of now."""
ANY_KEY: Mapping[str, str] = {"authorization": "Bearer any"}


@dataclass(frozen=True)
class Latency:
    """How long ears, brain and voice take, on the session's clock."""

    hear_ms: float = 0
    think_ms: float = 0
    speak_ms: float = 0

    def of(self, job: Job) -> float:
        """Return how long a job takes."""
        if isinstance(job, Hear):
            return self.hear_ms
        return self.think_ms if isinstance(job, Think) else self.speak_ms


@dataclass
class Troupe:
    """Who hears, thinks and speaks in rehearsals. ``lines`` are what the next committed turns are taken to say."""

    brain: Callable[[View], Decision] = decide
    voice: Callable[[str, str, float], bytes] = speech_like
    latency: Latency = Latency()
    lines: deque[str] = field(default_factory=deque)

    def hear(self, job: Hear) -> str | None:
        """Return what is said in caller audio; None when nobody can tell."""
        if job.final and self.lines:
            return self.lines.popleft()
        texts = read_text_tags(job.pcm)
        return " ".join(texts) if texts else None


class Rehearsal:
    """One session, from its handshake to its end; a refused one ends with its first frames."""

    def __init__(
        self,
        target: str = "/v1/realtime?model=gpt-realtime-2.1",
        now_ms: int = 0,
        *,
        headers: Mapping[str, str] = ANY_KEY,
        subprotocols: Iterable[str] = (),
        settings: Settings | None = None,
        troupe: Troupe | None = None,
        opened_at: datetime = datetime(2026, 1, 5, 17, 0, tzinfo=UTC),
        seed: float = 1,
        plan: Plan | None = None,
    ) -> None:
        self.troupe = troupe or Troupe()
        self._told = _Told(now_ms, opened_at)
        self._jobs: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()
        self._over = False
        knock = Knock(target, {name.lower(): value for name, value in headers.items()}, tuple(subprotocols))
        admitted = admit(knock)
        self._refusal = admitted if isinstance(admitted, Refusal) else None
        if isinstance(admitted, Admitted):
            self._begin(admitted, settings or Settings(), seed, plan)

    def _begin(self, admitted: Admitted, settings: Settings, seed: float, plan: Plan | None) -> None:
        made = opening(admitted, settings, self._told, make_detector=EnergyDetector, seed=seed, plan=plan)
        self._line = made.line
        self._scale = admitted.conditions.time_scale or settings.time_scale
        self._began_ms, self._own_began_ms = self._told.now_ms(), made.clock.now_ms()
        self._ends_ms = self._own_began_ms + made.lasts_s * 1000
        self._is_expiring = False

    @property
    def id(self) -> str:
        """Return the session's id; empty when it was refused."""
        return "" if self._refusal else self._line.id

    def open(self, now_ms: int) -> list[Frame]:
        """Return the first frames: ``session.created``, or why the session is refused."""
        if self._refusal is None:
            return self._stepped(now_ms, self._line.open)
        self._over = True
        outgoing = Outgoing(Ids(random.Random(0)))  # noqa: S311 - one event id
        outgoing.error(self._refusal.error)
        told = [out for out in outgoing.take() if isinstance(out, Send)]
        return [*told, Close(self._refusal.close_code, self._refusal.reason)]

    def send(self, event: Any, now_ms: int) -> list[Frame]:
        """Take one client event: an object, or the text of one. Time that has come is lived first."""
        before = self.advance(now_ms)
        if isinstance(event, str | bytes):
            try:
                event = msgspec.json.decode(event)
            except msgspec.DecodeError as wrong:
                refused = Refused(f"Invalid event: failed to parse JSON value. {wrong}", "invalid_json")
                return before + self._stepped(now_ms, lambda own_ms: self._line.refuse(refused, own_ms))
        return before + self._stepped(now_ms, lambda own_ms: self._line.receive(event, own_ms))

    def send_binary(self, now_ms: int) -> list[Frame]:
        """Take a binary frame, which is no event."""
        message = "Expected a text WebSocket message; binary frames are not supported."
        refused = Refused(message, "invalid_event")
        return self.advance(now_ms) + self._stepped(now_ms, lambda own_ms: self._line.refuse(refused, own_ms))

    def disturb(self, plan: Plan) -> None:
        """Follow one more fault script from now on."""
        self._line.disturb(plan)

    def advance(self, now_ms: int) -> list[Frame]:
        """Live until ``now_ms``, step by step, and return what was sent on the way."""
        sent: list[Frame] = []
        while (due_ms := self.due_ms()) is not None and due_ms <= now_ms:
            sent += self._stepped(due_ms, self._advanced)
        return sent

    def due_ms(self) -> int | None:
        """Return when :meth:`advance` is to be called next; None when the session is over."""
        if self._over:
            return None
        own_due_ms = self._next_ms()
        if not self._is_expiring or own_due_ms is None:
            own_due_ms = min(self._ends_ms, own_due_ms or math.inf)
        due_ms = self._began_ms + (own_due_ms - self._own_began_ms) / self._scale
        return max(math.ceil(due_ms), self._told.now_ms())

    def _next_ms(self) -> float | None:
        """Return when something but the session's expiry is due."""
        due = (self._line.due_ms(), self._jobs[0][0] if self._jobs else None)
        return min((each for each in due if each is not None), default=None)

    def _advanced(self, own_ms: float) -> list[Out]:
        # A script may hold back what expiry sends: then that is waited for, and a session that fell silent is dropped.
        if own_ms >= self._ends_ms and (not self._is_expiring or self._next_ms() is None):
            self._is_expiring = True
            return self._line.expire(own_ms)
        outs: list[Out] = []
        while self._jobs and self._jobs[0][0] <= own_ms:
            outs += self._done(heapq.heappop(self._jobs)[2], own_ms)
        return outs + self._line.advance(own_ms)

    def _stepped(self, now_ms: int, step: Callable[[float], list[Out]]) -> list[Frame]:
        if self._over:
            return []
        self._told.set(now_ms)
        self._line.speculate(wanted=False, scripted=bool(self.troupe.lines))
        own_ms = self._own_ms()
        sent: list[Frame] = []
        todo = deque(step(own_ms))
        while todo:
            out = todo.popleft()
            if isinstance(out, Hear | Think | Speak):
                due_ms = own_ms + self.troupe.latency.of(out)
                if due_ms <= own_ms:
                    todo.extend(self._done(out, own_ms))
                else:
                    heapq.heappush(self._jobs, (due_ms, next(self._numbers), out))
            elif not isinstance(out, Forget):  # the line itself drops what comes of a forgotten one
                sent.append(out)
                self._over = self._over or isinstance(out, Close | Vanish)
        return sent

    def _own_ms(self) -> float:
        elapsed_ms = self._told.now_ms() - self._began_ms
        rounding_ms = 0.0 if self._scale == 1 else _ROUNDING_MS
        return self._own_began_ms + elapsed_ms * self._scale + rounding_ms

    def _done(self, job: Job, own_ms: float) -> list[Out]:
        troupe, line = self.troupe, self._line
        if isinstance(job, Hear):
            return line.heard(job.item_id, job.attempt, troupe.hear(job), own_ms)
        if isinstance(job, Think):
            return line.decided(job.response_id, troupe.brain(job.view), own_ms)
        pcm = troupe.voice(job.text.strip(), job.voice, job.speed)
        return line.rendered(job.response_id, job.index, pcm, own_ms)


class _Told:
    """A clock that is told the time."""

    def __init__(self, now_ms: int, opened_at: datetime) -> None:
        self._began_ms = self._now_ms = now_ms
        self._opened_at = opened_at

    def set(self, now_ms: int) -> None:
        self._now_ms = max(self._now_ms, now_ms)

    def now_ms(self) -> int:
        return self._now_ms

    def now(self) -> datetime:
        return self._opened_at + timedelta(milliseconds=self._now_ms - self._began_ms)

    # Clock asks for both; a rehearsal sets the time itself, so a call to either is a mistake and says so.
    async def sleep_ms(self, delay_ms: float) -> None:
        raise NotImplementedError("a rehearsal waits for no one")

    def call_later_ms(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        raise NotImplementedError("a rehearsal waits for no one")
