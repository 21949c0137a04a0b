"""Drives the understudy's protocol core by hand: events in, jobs done at once or held, everything sent kept."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pybase64

from fakes.brain import decide
from parley_common.audio import as_signal, ms_to_bytes, silence
from parley_understudy.beta import BetaDialect
from parley_understudy.brain.types import Decision, View
from parley_understudy.fault_plan import plan_of
from parley_understudy.flavours import flavour_of
from parley_understudy.line import Line
from parley_understudy.session import Options, Session
from parley_understudy.vad import GRID_MS, GRID_SAMPLES
from parley_understudy.wire import (
    Close,
    Ending,
    FallSilent,
    Forget,
    Hear,
    Ids,
    Job,
    Out,
    Raw,
    Send,
    Speak,
    Think,
    Vanish,
)

MS_PER_CHAR = 60


class LoudnessDetector:
    """Takes any frame that is not near silence for speech, so that positions in tests are exact."""

    def scores(self, frames: Any) -> list[float]:
        assert frames.shape[1] == GRID_SAMPLES
        return [1.0 if float(np.abs(as_signal(frame.tobytes())).max()) > 0.01 else 0.0 for frame in frames]


class Stage:
    """One session. ``heard`` answers the ears in turn (None: they fail); names in ``hold`` keep jobs waiting.

    ``faults`` is a fault script as decoded JSON.
    """

    def __init__(
        self,
        model: str = "gpt-realtime",
        *,
        pace: float | None = None,
        brain: Callable[[View], Decision] = decide,
        transcription_only: bool = False,
        azure: bool = False,
        beta: bool = False,
        faults: Any = None,
    ) -> None:
        flavour = flavour_of(model, azure=azure, beta=beta)
        assert flavour is not None
        self.now_ms = 0.0
        self.events: list[dict[str, Any]] = []
        self.jobs: deque[Job] = deque()
        self.forgotten: list[Forget] = []
        self.views: list[View] = []
        self.closed: Ending | None = None
        self.raw: list[str] = []
        self.heard: deque[str | None] = deque()
        self.hold: set[type] = set()
        self._brain = brain
        opened_at = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)
        ids = Ids(random.Random(7))
        options = Options(flavour, ids, LoudnessDetector, opened_at, 3600, pace, transcription_only)
        self.core = Session(options, 0)
        dialect = BetaDialect(ids, azure=azure) if beta else None
        plan = None if faults is None else plan_of(faults)
        self.line = Line(self.core, 0, plan=plan, dialect=dialect)
        self._take(self.line.open(0))

    def send(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Send a client event; return what it caused."""
        return self.send_raw({"type": kind, **fields})

    def send_raw(self, event: Any) -> list[dict[str, Any]]:
        before = len(self.events)
        self._take(self.line.receive(event, self.now_ms))
        return self.events[before:]

    def update(self, **session: Any) -> list[dict[str, Any]]:
        return self.send("session.update", session={"type": "realtime", **session})

    def say(self, text: str, **fields: Any) -> list[dict[str, Any]]:
        """Write a user message and ask for a response."""
        return self.write(text) + self.send("response.create", **fields)

    def write(self, text: str, role: str = "user", **fields: Any) -> list[dict[str, Any]]:
        kind = "output_text" if role == "assistant" else "input_text"
        item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}], **fields}
        return self.send("conversation.item.create", item=item)

    def append(self, pcm: bytes, chunk_ms: int = 20) -> list[dict[str, Any]]:
        """Append audio in chunks, in real time."""
        before = len(self.events)
        for at in range(0, len(pcm), ms_to_bytes(chunk_ms)):
            self.now_ms += chunk_ms
            chunk = pcm[at : at + ms_to_bytes(chunk_ms)]
            self.send("input_audio_buffer.append", audio=pybase64.b64encode(chunk).decode())
        return self.events[before:]

    def speak(self, speech_ms: int, silence_ms: int = 800) -> list[dict[str, Any]]:
        """Let the caller speak for so long, and be silent for so long."""
        return self.append(loud(speech_ms) + silence(silence_ms))

    def advance(self, by_ms: float) -> list[dict[str, Any]]:
        """Let time pass, stepping the core whenever it is due."""
        before, until = len(self.events), self.now_ms + by_ms
        while (due := self.line.due_ms()) is not None and due <= until:
            self.now_ms = max(self.now_ms, due)
            self._take(self.line.advance(self.now_ms))
        self.now_ms = until
        return self.events[before:]

    def release(self, *kinds: type) -> list[dict[str, Any]]:
        """Do the jobs of these kinds that were held."""
        before = len(self.events)
        self.hold -= set(kinds)
        self._work()
        return self.events[before:]

    def fail(self, job: Think | Speak) -> list[dict[str, Any]]:
        """Let a held job fail, as a full queue makes it."""
        before = len(self.events)
        self.jobs.remove(job)
        self._take(self.line.failed(job.response_id, "server_error", "rate_limit_exceeded", self.now_ms))
        return self.events[before:]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return all events of a type so far."""
        return [event for event in self.events if event["type"] == kind]

    def _take(self, outs: list[Out]) -> None:
        for out in outs:
            if isinstance(out, Send):
                self.events.append(out.event)
            elif isinstance(out, Raw):
                self.raw.append(out.text)
            elif isinstance(out, Close | Vanish | FallSilent):
                self.closed = out
            elif isinstance(out, Forget):
                self.forgotten.append(out)
            else:
                self.jobs.append(out)
        self._work()

    def _work(self) -> None:
        while job := next((job for job in self.jobs if type(job) not in self.hold), None):
            self.jobs.remove(job)
            self._take(self._done(job))

    def _done(self, job: Job) -> list[Out]:
        if isinstance(job, Think):
            self.views.append(job.view)
            return self.line.decided(job.response_id, self._brain(job.view), self.now_ms)
        if isinstance(job, Speak):
            pcm = loud(len(job.text) * MS_PER_CHAR)
            return self.line.rendered(job.response_id, job.index, pcm, self.now_ms)
        assert isinstance(job, Hear)
        text = self.heard.popleft() if self.heard else "hello"
        return self.line.heard(job.item_id, job.attempt, text, self.now_ms)


def loud(duration_ms: int) -> bytes:
    """Return sound that every detector takes for speech."""
    t = np.arange(ms_to_bytes(duration_ms) // 2)
    return (np.sin(t / 17) * 9000).astype("<i2").tobytes()


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Return the types of events, runs of the same delta as one."""
    names = [event["type"] for event in events]
    return [
        name for at, name in enumerate(names) if not (at and name.endswith("delta") and names[at - 1] == name)
    ]


def transcript(response_done: dict[str, Any]) -> str:
    """Return what the first output item of a ``response.done`` says."""
    part = response_done["response"]["output"][0]["content"][0]
    return str(part.get("transcript") or part.get("text") or "")


assert GRID_MS == 32
