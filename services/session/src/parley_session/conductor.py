"""One session: every event steps the core in the turn of the loop in which it came, and its effects are performed.

Performing never awaits I/O. What is told meanwhile comes next, in order. Caller audio bypasses the core: its last
MicPolicy is applied to it here. Decides nothing about the conversation.

Law: one event at a time; whoever does not take what it is sent fails the session as Overloaded, and control events
are never dropped silently.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import structlog

from parley_common.clock import Clock, Timer
from parley_common.contracts import audio_link
from parley_common.errors import PeerViolation
from parley_common.telemetry import Counter
from parley_session import realtime_codec
from parley_session.barge_in_meter import BargeInMeter
from parley_session.caller_audio import CallerAudio
from parley_session.caller_link import CallerLink, LostAs, Socket
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import SessionConfig
from parley_session.core.continuity import caller_audio_needed_from_ms
from parley_session.core.state import SessionState, initial
from parley_session.core.step import more_audio, next_deadline_ms, step
from parley_session.facts import FactWriter
from parley_session.link_codec import event_of, message_of
from parley_session.meters import count_client_stats, count_spending
from parley_session.realtime_codec import UpstreamProfile
from parley_session.realtime_link import Dial, Endpoint, RealtimeLink, dial_websocket
from parley_session.session_trace import SessionTrace, Traced
from parley_session.tool_bridge import Requester, ToolBridge

LINK_CLOSE_NORMAL = 1000
CLOSE_S = 2

log = structlog.get_logger("session")
IGNORED = Counter("parley_session_ignored", "Events the core did nothing about, by reason", ["reason"])
RESUMED = Counter("parley_session_links_taken_over", "Sessions that went on at another gateway")
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
    local_pcm: Mapping[str, bytes] = field(default_factory=dict)
    """Rendered speech by its name: PCM16 mono 24 kHz."""
    dial: Dial = dial_websocket


class Conductor:
    """Runs one session from attach to end."""

    def __init__(self, parts: Parts, endpoint: Endpoint) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._state: SessionState = initial(parts.config, self._clock.now_ms())
        self._waiting: deque[ev.Event] = deque()
        """What was told while the core was stepped, or before the session runs."""
        self._is_stepping = False
        self._endpoint = endpoint
        self._upstream = self._new_link()
        self._tasks: set[asyncio.Task[None]] = set()
        """Those of the links and of the upstream connections."""
        self._group: asyncio.TaskGroup | None = None
        self._requester = replace(parts.requester, on_answer=self.tell)
        self._caller = CallerAudio(self._append, self._level_reader(parts.config))
        self._timer: Timer | None = None
        self._timer_ms: int | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._trace = SessionTrace(_traced(parts, endpoint), self._clock)
        self._barge_ins = BargeInMeter()
        self._end: ef.EndSession | None = None
        self._ready: audio_link.Ready | None = None
        self._uplink_sample = 0
        self._heard_ms = self._clock.now_ms()

    @property
    def business(self) -> str:
        return self._parts.requester.business

    @property
    def state(self) -> SessionState:
        """Return the session as it is now; for looking at."""
        return self._state

    # -- input ------------------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> None:
        """Step the core with an event; after what is under way, if something is. Never waits."""
        if self._end is not None:
            return
        if self._is_stepping or self._group is None:
            self._waiting.append(event)
        else:
            self._step_all(event)

    def _from_upstream(self, link: RealtimeLink, event: ev.Event) -> None:
        """Take what a connection says, unless it has been given up."""
        if link is self._upstream:
            self._caller.upstream_spoke()
            if not isinstance(event, ev.AudioArrived) or not self._play_on(event):
                self.tell(event)

    def _append(self, pcm: bytes | memoryview) -> None:
        self._upstream.append(pcm)

    def _level_reader(self, config: SessionConfig) -> Callable[[bool], None] | None:
        """Levels are measured only where a barge-in is to be confirmed: it costs something for each frame."""
        if config.turn_taking.barge_in != "confirm":
            return None
        return lambda is_loud: self.tell(ev.CallerLevelChanged(is_loud))

    async def resume(self, socket: Socket, have: Iterable[audio_link.Have]) -> None:
        """Go on over another gateway's link until that one is closed, or replaced in turn.

        Raises PeerViolation (resume_unknown) when the session is over, or was never ready.
        """
        if self._ready is None or self._end is not None:
            raise PeerViolation("this session is over; open a new one", code="resume_unknown")
        link = self._parts.link
        link.take_over(socket, msgspec.structs.replace(self._ready, uplink_sample=self._uplink_sample), have)
        log.info("session.taken_over")
        RESUMED.inc()
        await asyncio.wait({self._run_link(socket)})

    def check_upstream(self, now_ms: int) -> None:
        """Find out whether upstream still lives, and let caller audio go that has reached it."""
        caller, sent_samples, link = self._caller, self._caller.sent_samples, self._upstream

        def alive() -> None:
            if link is self._upstream:
                caller.upstream_heard(sent_samples)

        link.keep_alive(now_ms, alive)
        caller.forget(caller_audio_needed_from_ms(self._state))

    def check_link(self, now_ms: int, grace_ms: int) -> None:
        """Give up a gateway that is silent, and the session when none came back for it within the grace."""
        link = self._parts.link
        if self._end is not None:
            return
        if link.socket is not None:
            if now_ms - self._heard_ms > audio_link.LINK_LOST_AFTER_MS:
                self._lose_link("lost")
        elif now_ms - link.lost_ms >= grace_ms:
            self.tell(ev.LinkLost(link.lost_as))

    def _lose_link(self, lost_as: LostAs) -> None:
        self._parts.link.lose(lost_as, self._clock.now_ms())
        log.info("session.held", why=lost_as)

    def _run_link(self, socket: Socket) -> asyncio.Future[None]:
        """Listen to a link; the future is done once it is closed."""
        self._heard_ms = self._clock.now_ms()
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def gone() -> None:
            if not closed.done():
                closed.set_result(None)
            if self._parts.link.socket is socket and self._end is None:
                self._link_closed(socket.close_code)

        socket.listen(self._hear_link, gone)
        return closed

    def _hear_link(self, frame: bytes | str) -> None:
        self._heard_ms = self._clock.now_ms()
        try:
            if isinstance(frame, bytes):
                first, pcm = audio_link.unpack_uplink(frame)
                self._uplink_sample = first + len(pcm) // audio_link.BYTES_PER_SAMPLE
                self._caller.hear(pcm)
            else:
                self._take(audio_link.decode_up_link(frame))
        except PeerViolation as wrong:
            # The gateway vets what clients send; what still gets here is a fault of its own.
            VIOLATIONS.labels(wrong.stable_code).inc()

    def _link_closed(self, code: int) -> None:
        """Only a gateway that knows its client to be gone ends the session: without it the client finds another."""
        reason = _CLIENT_GONE.get(code)
        if reason is not None:
            self.tell(ev.LinkLost(reason))
        else:
            self._lose_link("drained" if code == audio_link.LINK_GATEWAY_DRAINING else "lost")

    def _take(self, message: audio_link.UpLink) -> None:
        if isinstance(message, audio_link.Talk):
            self.tell(ev.CallerTalked(message.phase, self._caller.position_ms))
            return
        if isinstance(message, audio_link.Stats):
            count_client_stats(message)
            return
        unreceived = self._parts.link.unreceived
        if isinstance(message, audio_link.Playout):
            unreceived.reported(message)
        elif isinstance(message, audio_link.Flushed) and not unreceived.flush_answered(message):
            return  # it was answered in the client's place
        event = event_of(message)
        if event is not None:
            self.tell(event)

    # -- stepping ---------------------------------------------------------------------------------

    async def run(self) -> ef.EndSession:
        """Conduct the session to its end; whatever ends it, the end is recorded once. Returns how it ended."""
        self._trace.begin()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                if self._parts.link.socket is not None:
                    self._run_link(self._parts.link.socket)
                self._start(self._upstream.run())
                self._step_all()
                await self._over
                self._upstream.close()
                await self._parts.link.close(LINK_CLOSE_NORMAL, "ended", CLOSE_S)
                if self._tasks:
                    await asyncio.wait(self._tasks, timeout=CLOSE_S)
                for task in self._tasks:
                    task.cancel()
        finally:
            self._cancel_timer()
            self._parts.bridge.forget(self._parts.config.session_id)
            if self._end is None:
                self._step(ev.ShellFailed("session_crashed", "the conductor failed"))
            if self._end is not None:
                self._trace.finish(self._end)
        assert self._end is not None  # noqa: S101 - ShellFailed always ends a session
        return self._end

    def _step_all(self, *events: ev.Event) -> None:
        self._waiting.extend(events)
        self._is_stepping = True
        try:
            while self._waiting and self._end is None:
                self._step(self._waiting.popleft())
            self._schedule()
        except Exception as bug:  # noqa: BLE001 - whoever told is not to blame: the session ends as crashed
            if not self._over.done():
                self._over.set_exception(bug)
        finally:
            self._is_stepping = False
        if self._end is not None and not self._over.done():
            self._over.set_result(None)

    def _play_on(self, event: ev.AudioArrived) -> bool:
        """Audio of an item that sounds: by far the most frequent event, and nothing that is watched. False: step."""
        if self._is_stepping or self._waiting:
            return False
        more = more_audio(self._state, event, self._clock.now_ms())
        if more is None:
            return False
        self._state, audio = more
        self._to_client(self._parts.link.play(audio.epoch, audio.number, audio.first_sample, audio.pcm))
        return True

    def _step(self, event: ev.Event) -> None:
        before, now_ms = self._state, self._clock.now_ms()
        self._state, effects = step(before, event, now_ms)
        self._watch(before, event, now_ms)
        for effect in effects:
            self._perform(effect)

    def _watch(self, before: SessionState, event: ev.Event, arrived_ms: int) -> None:
        """Spans and numbers of what has just happened; they change nothing."""
        after = self._state
        self._trace.stepped(event, after)
        self._barge_ins.stepped(before, event, after, arrived_ms)
        if after.totals is not before.totals:
            count_spending(self.business, before.totals, after.totals)

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
                self._flush(effect.epoch)
            case ef.Ignored():
                IGNORED.labels(effect.reason).inc()
            case ef.PlayLocal():
                self._play_local(effect)
            case ef.SetMicPolicy():
                self._caller.set_policy(effect.policy)
            case ef.ReplayCaller():
                self._caller.replay(effect.from_ms, since_heard=effect.since_heard)
            case ef.OpenUpstream():
                self._open_upstream()
            case ef.CloseUpstream():
                self._close_upstream()
            case ef.RequestTool():
                self._request(effect)
            case ef.EndSession():
                self._finish(effect)
            case ef.RecordStarted() | ef.RecordTurn() | ef.RecordToolUse() | ef.RecordFeedback():
                self._record(effect)
            case _:
                self._send(effect)

    def _send(self, effect: ef.Effect) -> None:
        message = message_of(effect, self._parts.config)
        if isinstance(effect, ef.WelcomeClient):
            self._trace.welcomed()
        if isinstance(message, audio_link.Ready):
            self._ready, self._parts.link.unreceived.epoch = message, message.epoch
        if message is not None:
            self._to_client(self._parts.link.send(message))
            return
        frame = realtime_codec.encode(effect, self._parts.profile)
        if frame is not None and not self._upstream.send(frame):
            self.tell(ev.ShellFailed("overloaded", "upstream does not take what it is sent"))

    def _to_client(self, taken: bool) -> None:
        if not taken and self._end is None:
            self.tell(ev.ShellFailed("overloaded", "the gateway does not take what it is sent"))

    def _flush(self, epoch: int) -> None:
        link = self._parts.link
        self._to_client(link.flush(epoch))
        if link.socket is None:
            answer = link.unreceived.answer_flush(epoch)
            self.tell(ev.FlushAnswered(answer.epoch, answer.item, answer.played))

    def _play_local(self, effect: ef.PlayLocal) -> None:
        pcm = self._parts.local_pcm[effect.name]
        self._to_client(self._parts.link.play(effect.epoch, effect.number, 0, pcm))

    def _open_upstream(self) -> None:
        self._upstream.close()
        self._upstream = self._new_link()
        self._caller.begin_connection()
        self._start(self._upstream.run())

    def _new_link(self) -> RealtimeLink:
        profile = self._parts.profile
        return RealtimeLink(self._endpoint, profile.model, self._from_upstream, self._parts.dial)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        assert self._group is not None  # noqa: S101 - run() has set it
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _close_upstream(self) -> None:
        """What it still says is nobody's: events of any link but the newest are dropped, so forget this one."""
        self._upstream.abort()
        self._upstream = self._new_link()

    def _request(self, effect: ef.RequestTool) -> None:
        traceparent = self._trace.requested(effect, self._state)
        if not self._parts.bridge.request(self._requester, effect, traceparent):
            log.warning("session.tool_not_sent", tool=effect.tool)  # the core asks again at its deadline

    def _record(
        self, effect: ef.RecordStarted | ef.RecordTurn | ef.RecordToolUse | ef.RecordFeedback
    ) -> None:
        self._parts.facts.write(effect, self._trace.recorded(effect))

    def _finish(self, effect: ef.EndSession) -> None:
        self._end = effect
        self._parts.facts.write(effect, self._parts.traceparent)
        self._parts.link.send(audio_link.Ended(effect.reason))


def _traced(parts: Parts, endpoint: Endpoint) -> Traced:
    provider = "azure.ai.openai" if endpoint.auth == "api-key" else "openai"
    config, requester = parts.config, parts.requester
    return Traced(config.session_id, requester.business, parts.profile.model, provider, parts.traceparent)


_CLIENT_GONE: dict[int, Literal["caller", "lost"]] = {
    audio_link.LINK_CALLER_HUNG_UP: "caller",
    audio_link.LINK_CLIENT_LOST: "lost",
}
"""What a gateway says with its close code; after any other the client may come back elsewhere."""
