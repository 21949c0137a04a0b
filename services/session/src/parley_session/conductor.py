"""One session: readers put events into one mailbox, one loop steps the core and performs its effects.

Performing only enqueues and never awaits I/O. Caller audio bypasses the mailbox: the last MicPolicy of the
core is applied to it here. Decides nothing about the conversation.

Law: a full mailbox fails the session as Overloaded; control events are never dropped silently.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

import structlog
from opentelemetry.trace import Span

from parley_common.clock import Clock, Timer
from parley_common.contracts import audio_link
from parley_common.errors import PeerViolation
from parley_common.telemetry import Counter, mark_failed, start_span, traceparent_of
from parley_session import realtime_codec
from parley_session.caller_link import CallerLink
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.state import SessionConfig, SessionState, initial
from parley_session.core.step import next_deadline_ms, step
from parley_session.facts import FactWriter
from parley_session.realtime_codec import UpstreamProfile
from parley_session.realtime_link import Endpoint, RealtimeLink
from parley_session.tool_bridge import Requester, ToolBridge

MAILBOX_MAX = 4_096
HELD_MAX_FRAMES = 500
LINK_CLOSE_NORMAL = 1000

log = structlog.get_logger("session")
IGNORED = Counter("parley_session_ignored", "Events the core did nothing about, by reason", ["reason"])
MIC_DROPPED = Counter("parley_session_caller_frames_dropped", "Caller frames not forwarded, by why", ["why"])
VIOLATIONS = Counter(
    "parley_session_link_violations", "Frames of a gateway that broke the protocol", ["code"]
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a conductor works with; all but the core's own state."""

    config: SessionConfig
    profile: UpstreamProfile
    link: CallerLink
    bridge: ToolBridge
    requester: Requester
    facts: FactWriter
    clock: Clock
    traceparent: str | None


class Conductor:
    """Runs one session from attach to end."""

    def __init__(self, parts: Parts, endpoint: Endpoint) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._state: SessionState = initial(parts.config, self._clock.now_ms())
        self._mailbox: asyncio.Queue[ev.Event] = asyncio.Queue(MAILBOX_MAX)
        self._upstream = RealtimeLink(endpoint, parts.profile.model, self.tell)
        self._requester = replace(parts.requester, on_answer=self.tell)
        self._mic: str = "hold"
        self._held: deque[bytes] = deque(maxlen=HELD_MAX_FRAMES)
        self._timer: Timer | None = None
        self._timer_ms: int | None = None
        self._overflowed = False
        self._spans: dict[str, Span] = {}
        self._end: ef.EndSession | None = None
        self.last_heard_ms = self._clock.now_ms()

    # -- input ------------------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> None:
        """Put an event into the mailbox; never waits."""
        try:
            self._mailbox.put_nowait(event)
        except asyncio.QueueFull:
            if not self._overflowed:
                self._overflowed = True
                log.error("session.overloaded", mailbox=MAILBOX_MAX)

    async def _read_link(self) -> None:
        socket = self._parts.link.socket
        while (frame := await socket.receive()) is not None:
            self.last_heard_ms = self._clock.now_ms()
            try:
                if isinstance(frame, bytes):
                    self._hear(frame)
                else:
                    self._take(audio_link.decode_up_link(frame))
            except PeerViolation as wrong:
                # The gateway vets what clients send; what still gets here is a fault of its own.
                VIOLATIONS.labels(wrong.stable_code).inc()
        self.tell(ev.LinkLost(_LINK_REASONS.get(socket.close_code, "lost")))

    def _hear(self, frame: bytes) -> None:
        _, pcm = audio_link.unpack_uplink(frame)
        if self._mic == "forward":
            self._upstream.append(pcm)
        elif self._mic == "hold":
            self._held.append(bytes(pcm))
        else:
            MIC_DROPPED.labels("policy").inc()

    def _take(self, message: audio_link.UpLink) -> None:
        event = _event_of(message)
        if event is not None:
            self.tell(event)

    # -- the loop ---------------------------------------------------------------------------------

    async def run(self) -> ef.EndSession:
        """Conduct the session to its end; whatever ends it, the end is recorded once. Returns how it ended."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._read_link()),
                    group.create_task(self._parts.link.write()),
                    group.create_task(self._upstream.run()),
                ]
                await self._loop()
                self._upstream.close()
                self._parts.link.close(LINK_CLOSE_NORMAL, "ended")
                await asyncio.wait(tasks, timeout=2)
                for task in tasks:
                    task.cancel()
        finally:
            self._cancel_timer()
            self._parts.bridge.forget(self._parts.config.session_id)
            for span in self._spans.values():
                span.end()
            if self._end is None:
                self._step(ev.ShellFailed("session_crashed", "the conductor failed"))
        assert self._end is not None  # noqa: S101 - ShellFailed always ends a session
        return self._end

    async def _loop(self) -> None:
        self._schedule()
        while self._end is None:
            event = await self._mailbox.get()
            if self._overflowed:
                event = ev.ShellFailed("overloaded", "the session cannot keep up")
            self._step(event)
            self._schedule()

    def _step(self, event: ev.Event) -> None:
        self._state, effects = step(self._state, event, self._clock.now_ms())
        for effect in effects:
            self._perform(effect)

    def _schedule(self) -> None:
        """Keep one timer at or before the core's next deadline; one that fires early is set again."""
        deadline_ms = next_deadline_ms(self._state)
        if deadline_ms is None or (self._timer_ms is not None and self._timer_ms <= deadline_ms):
            return
        self._cancel_timer()
        self._timer_ms = deadline_ms
        self._timer = self._clock.call_later_ms(deadline_ms - self._clock.now_ms(), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = self._timer_ms = None
        deadline_ms = next_deadline_ms(self._state)
        if deadline_ms is None:
            return
        if self._clock.now_ms() >= deadline_ms:
            self.tell(ev.DeadlinePassed())
        else:
            self._schedule()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_ms = None

    # -- output -----------------------------------------------------------------------------------

    def _perform(self, effect: ef.Effect) -> None:
        match effect:
            case ef.PlayAudio():
                self._to_client(
                    self._parts.link.play(effect.epoch, effect.number, effect.first_sample, effect.pcm)
                )
            case ef.FlushPlayout():
                self._to_client(self._parts.link.flush(effect.epoch))
            case ef.Ignored():
                IGNORED.labels(effect.reason).inc()
            case ef.SetMicPolicy():
                self._set_mic(effect.policy)
            case ef.RequestTool():
                self._request(effect)
            case ef.EndSession():
                self._finish(effect)
            case ef.RecordStarted() | ef.RecordTurn() | ef.RecordToolUse() | ef.RecordFeedback():
                self._record(effect)
            case _:
                self._send(effect)

    def _send(self, effect: ef.Effect) -> None:
        message = _message_of(effect, self._parts.config.session_id)
        if message is not None:
            self._to_client(self._parts.link.send(message))
            return
        frame = realtime_codec.encode(effect, self._parts.profile)
        if frame is not None and not self._upstream.send(frame):
            self.tell(ev.ShellFailed("overloaded", "upstream does not take what it is sent"))

    def _to_client(self, taken: bool) -> None:
        if not taken and self._end is None:
            self.tell(ev.ShellFailed("overloaded", "the gateway does not take what it is sent"))

    def _set_mic(self, policy: str) -> None:
        self._mic = policy
        held, self._held = self._held, deque(maxlen=HELD_MAX_FRAMES)
        if policy == "forward":
            for pcm in held:
                self._upstream.append(pcm)

    def _request(self, effect: ef.RequestTool) -> None:
        span = self._spans.get(effect.call_id)
        if span is None:
            span = start_span(
                f"execute_tool {effect.tool}",
                parent=self._parts.traceparent,
                attributes={
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": effect.tool,
                    "gen_ai.tool.call.id": effect.call_id,
                    "parley.session_id": self._parts.config.session_id,
                    "parley.service": effect.service,
                },
            )
            self._spans[effect.call_id] = span
        if not self._parts.bridge.request(self._requester, effect, traceparent_of(span)):
            log.warning("session.tool_not_sent", tool=effect.tool)  # the core asks again at its deadline

    def _record(
        self, effect: ef.RecordStarted | ef.RecordTurn | ef.RecordToolUse | ef.RecordFeedback
    ) -> None:
        if isinstance(effect, ef.RecordToolUse):
            span = self._spans.pop(effect.call_id, None)
            if span is not None:
                span.set_attribute("parley.outcome", effect.status)
                if effect.status != "ok":
                    mark_failed(span, effect.code or effect.status)
                span.end()
        self._parts.facts.write(effect, self._parts.traceparent)

    def _finish(self, effect: ef.EndSession) -> None:
        self._end = effect
        self._parts.facts.write(effect, self._parts.traceparent)
        self._parts.link.send(audio_link.Ended(effect.reason))


_LINK_REASONS: dict[int, Literal["caller", "lost", "drained"]] = {
    4000: "caller",
    4001: "lost",
    4002: "drained",
}
"""What a gateway says with its close code; anything else is a lost link."""


def _event_of(message: audio_link.UpLink) -> ev.Event | None:
    """Return the core event of a link message; null for those the shell keeps to itself."""
    match message:
        case audio_link.Playout():
            return ev.PlayoutReported(message.epoch, message.item, message.received, message.played)
        case audio_link.Flushed():
            return ev.FlushAnswered(message.epoch, message.item, message.played)
        case audio_link.Text():
            return ev.CallerTyped(message.text[: audio_link.TEXT_MAX_CHARS])
        case audio_link.SetMode():
            return ev.CallerModeChosen(message.mode)
        case audio_link.Mute():
            return ev.CallerMuted(message.muted)
        case audio_link.Feedback():
            return ev.CallerRated(min(5, max(1, message.rating)), message.comment)
        case audio_link.Hangup():
            return ev.CallerHungUp()
        case _:
            return None


def _message_of(effect: ef.Effect, session_id: str) -> audio_link.DownLink | None:
    """Return the client message of an effect; null for effects that are not for the client."""
    match effect:
        case ef.WelcomeClient():
            return audio_link.Ready(session=session_id, resume="", epoch=effect.epoch)
        case ef.BeginItem():
            return audio_link.Item(effect.number, effect.role, "begins", effect.epoch)
        case ef.EndItem():
            return audio_link.Item(effect.number, effect.role, "ends", effect.epoch, effect.samples)
        case ef.ShowTranscript():
            return audio_link.Transcript(effect.number, effect.role, effect.text, effect.final, effect.heard)
        case ef.ShowState():
            return audio_link.State(effect.state)
        case ef.ShowTool():
            return audio_link.Tool(effect.name, effect.phase, effect.call_id, effect.outcome)
        case ef.ShowNotice():
            return audio_link.Notice(effect.code, effect.message)
        case ef.ShowError():
            return audio_link.Error(effect.code, effect.message, fatal=effect.fatal)
        case _:
            return None
