"""One session between its client and its link: attaches it, forwards both ways, ends it once.

The link outlives the client's socket: a client that lost it comes back within the grace to another seat, and the session
service hears nothing of it. It does not choose the replica (native.py does); what a client may have missed is kept in
unreceived.py. Law: per audio frame one send and one reference kept: no JSON, task, lock, span or log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
import structlog

from parley_common.clock import Clock
from parley_common.contracts.audio_link import (
    LINK_REPLACED,
    Attach,
    Beat,
    Checkpoint,
    DownLink,
    Drain,
    Ended,
    Error,
    Flush,
    Flushed,
    FromClient,
    Have,
    Load,
    Notice,
    Playout,
    Ready,
    Safe,
    decode_down_link,
    encode,
)
from parley_common.errors import (
    DependencyUnavailable,
    LocalViolation,
    Overloaded,
    ParleyError,
    PeerViolation,
)
from parley_common.unreceived import Unreceived
from parley_common.websocket import WebSocket
from parley_gateway import metrics
from parley_gateway.clients.client_reader import ClientReader, Uplink
from parley_gateway.clients.client_writer import ClientWriter
from parley_gateway.clients.ends import (
    BROKEN,
    CLIENT_LOST,
    HUNG_UP,
    REPLACED,
    SESSION_LOST,
    SLOW_CLIENT,
    End,
    ended_by_session,
    failed_by_session,
)
from parley_gateway.clients.flow import NO_LIMITS, FlowLimits
from parley_gateway.clients.seat import Seat
from parley_gateway.refusals import RefusedForNow
from parley_gateway.session_link import SessionLink
from parley_gateway.settings import Timing

log = structlog.get_logger("gateway")
BEAT = encode(Beat())
TRY_ELSEWHERE = frozenset({"overloaded", "draining", "full"})
"""With these a replica refuses an attach that another may take."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session needs of the gateway it is in."""

    timing: Timing
    clock: Clock
    downlink_queue_bytes: int
    resume_token: Callable[[Ready], str]
    """Makes the token with which the client finds this session again."""
    on_load: Callable[[Load], None]
    """Takes what the session's replica says of itself."""
    text_only: bool = False
    """The client's token is good for text, so a voice is refused."""
    flow: FlowLimits = NO_LIMITS


class Relay:
    """The session of one client on one link; it is the link's LinkEvents."""

    def __init__(self, socket: WebSocket, around: Surroundings) -> None:
        self.checkpoint: str | None = None
        """The newest sealed state of the session; opaque here, needed by whoever takes the session over."""
        self._around = around
        self._uplink = Uplink(metrics.Traffic(), self._accept, around.text_only, around.flow)
        self._unreceived = Unreceived(around.downlink_queue_bytes // 2)
        self._seat: Seat | None = self._new_seat(socket)
        self._held_since_ms = 0
        """When the client was lost; means nothing while somebody sits in the seat."""
        self._link: SessionLink | None = None
        self._stale_count = 0
        """Stale frames at the sockets before the present one."""
        loop = asyncio.get_running_loop()
        self._attached: asyncio.Future[Ready] = loop.create_future()
        self._over: asyncio.Future[End] = loop.create_future()

    async def attach(self, link: SessionLink, attach: Attach) -> Ready:
        """Give the session to the replica and return its ``ready``, which is already on its way to the client.

        Raises:
            PeerViolation: the replica refuses this session, as any would (such as token_used).
            RefusedForNow: nobody will take this session now (a switch, a budget, no model).
            Overloaded: this replica has no room; another may have.
            DependencyUnavailable: it went away, or did not answer in time.
        """
        self._link = link
        link.send_text(encode(attach))
        timing = self._around.timing
        try:
            async with asyncio.timeout(timing.attach_within_ms / 1000):
                while not self._attached.done():
                    await asyncio.wait({self._attached}, timeout=timing.beat_every_ms / 1000)
                    link.send_text(BEAT)
        except TimeoutError as late:
            raise DependencyUnavailable(f"{link.url} did not say ready", code="attach_timed_out") from late
        return self._attached.result()

    async def run(self, link: SessionLink) -> End:
        """Forward until the session is over, tell both sides why, and return that. The link is closed then."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch(link))
                if self._seat is not None:
                    group.create_task(self.serve(self._seat))
                end = await asyncio.shield(self._over)
                watching.cancel()
                link.close(end.link_code, end.link_reason)
                if self._seat is not None:
                    await asyncio.wait({self._seat.closed})
        finally:
            self.finish(BROKEN)
            link.close()
            self._report()
            metrics.KEPT_DROPPED.inc(self._unreceived.dropped_count)
            if self._seat is None:
                metrics.HELD.dec()
        return end

    async def serve(self, seat: Seat) -> None:
        """Serve one socket of the client until it is gone, another took its place, or the session is over."""
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(seat))
                await asyncio.wait({reading, seat.vacated, self._over}, return_when=asyncio.FIRST_COMPLETED)
                end = self._end_of(seat, reading)
                reading.cancel()
                await seat.writer.say_goodbye(end, self._around.timing)
        finally:
            self._hold(seat)
            seat.close()

    def resume(self, socket: WebSocket, have: Iterable[Have]) -> Seat:
        """Give the client a new socket, which ``serve`` must follow; a socket it still has is told and closed.

        Raises PeerViolation (resume_unknown) when the session is over.
        """
        if self._over.done() or not self._attached.done():
            raise PeerViolation("this session is over; open a new one", code="resume_unknown")
        seat, old = self._new_seat(socket), self._seat
        ready = msgspec.structs.replace(
            self._welcome(self._attached.result()),
            epoch=self._unreceived.epoch,
            uplink_sample=self._uplink.meter.expected,
        )
        entries = [encode(ready), *self._unreceived.missed(have)]
        seat.writer.again(entries, self._unreceived.epoch)
        self._seat = seat
        if old is None:
            metrics.HELD.dec()
        else:
            self._stale_count += old.writer.queue.stale_count
            old.vacate(REPLACED)
        metrics.RESUMED.labels("held" if old is None else "replaced").inc()
        return seat

    @property
    def is_held(self) -> bool:
        """Return whether the client is away, and may come back."""
        return self._seat is None and not self._over.done()

    def move(self) -> None:
        """Tell the client that this gateway is going away."""
        self._send(encode(Notice("move", "this gateway is going away")))

    def finish(self, end: End) -> None:
        """End the session so; the first end stands."""
        if not self._over.done():
            self._over.set_result(end)

    # -- what arrives on the link --------------------------------------------------------------------

    def link_frame(self, frame: bytes) -> None:
        if self._over.done():
            return
        self._unreceived.audio(frame)
        if self._seat is not None and not self._seat.writer.frame(frame):
            self._too_slow()

    def link_text(self, text: str) -> None:
        try:
            message = decode_down_link(text)
        except PeerViolation:
            metrics.LINK_UNREADABLE.inc()
            return
        if self._is_for_us(message) or self._over.done():
            return
        if not self._attached.done():
            self._answer_attach(message)
            return
        self._unreceived.message(message, text)
        if isinstance(message, Flush):
            self._flush(message, text)
        else:
            self._send(text)
            self._end_by(message)

    def link_lost(self, code: int, reason: str) -> None:
        if code == LINK_REPLACED:
            self.finish(REPLACED)
            return
        self._refuse_attach(DependencyUnavailable(f"the link closed: {code} {reason}", code="link_lost"))
        self.finish(SESSION_LOST)

    def _is_for_us(self, message: DownLink) -> bool:
        match message:
            case Beat() | Safe() | Drain():
                return True
            case Load():
                self._around.on_load(message)
                return True
            case Checkpoint():
                self.checkpoint = message.data
                return True
        return False

    def _answer_attach(self, message: DownLink) -> None:
        if isinstance(message, Ready):
            self._attached.set_result(message)
            self._unreceived.epoch = message.epoch
            self._uplink.meter.begin(message.uplink_sample)
            self._send(encode(self._welcome(message)))
        elif isinstance(message, Error):
            self._refuse_attach(_refusal(message))
        else:
            metrics.LINK_UNREADABLE.inc()

    def _welcome(self, ready: Ready) -> Ready:
        """Return the replica's ``ready`` with what only the gateway knows."""
        limits = msgspec.structs.replace(ready.limits, resume_grace_ms=self._around.timing.resume_grace_ms)
        return msgspec.structs.replace(ready, resume=self._around.resume_token(ready), limits=limits)

    def _refuse_attach(self, why: ParleyError) -> None:
        if not self._attached.done():
            self._attached.set_exception(why)
            self._attached.exception()  # Marks it as seen: when attach gave up, nobody asks any more.

    def _end_by(self, message: DownLink) -> None:
        """``ended`` and a fatal error are a session's last words."""
        if isinstance(message, Ended):
            self.finish(ended_by_session(message.reason))
        elif isinstance(message, Error) and message.fatal:
            self.finish(failed_by_session(message.code))

    # -- the client ----------------------------------------------------------------------------------

    def _new_seat(self, socket: WebSocket) -> Seat:
        writer = ClientWriter(socket, self._around.downlink_queue_bytes, self._uplink.traffic)
        return Seat(writer, ClientReader(socket, self._around.clock, self._uplink, self._send))

    async def _read(self, seat: Seat) -> End:
        if self._link is None:
            raise LocalViolation("a client is served before its session is attached")
        return await seat.reader.run(self._link)

    def _end_of(self, seat: Seat, reading: asyncio.Task[End]) -> End:
        """Return what the socket in ``seat`` is told, and decide what it means for the session."""
        if self._over.done():
            return self._over.result()
        end = seat.vacated.result() if seat.vacated.done() else reading.result()
        if end in {CLIENT_LOST, REPLACED}:
            self._hold(seat)
        else:
            self.finish(end)
        return end

    def _hold(self, seat: Seat) -> None:
        """Nobody sits there any more: the session waits for its client, unless another seat was taken."""
        if self._seat is seat and not self._over.done():
            self._seat = None
            self._stale_count += seat.writer.queue.stale_count
            self._held_since_ms = self._around.clock.now_ms()
            metrics.HELD.inc()
            log.info("session.held")

    def _accept(self, message: FromClient) -> bool:
        """Note what tells of playout; false for an answer that was given in the client's place."""
        if isinstance(message, Playout):
            self._unreceived.reported(message)
        elif isinstance(message, Flushed):
            return self._unreceived.flush_answered(message)
        return True

    def _flush(self, flush: Flush, text: str) -> None:
        if self._seat is not None:
            self._seat.writer.flush(flush.epoch, text)
        elif self._link is not None:
            self._link.send_text(encode(self._unreceived.answer_flush(flush.epoch)))

    def _send(self, text: str) -> None:
        if self._seat is not None and not self._seat.writer.text(text):
            self._too_slow()

    def _too_slow(self) -> None:
        if not self._over.done():
            metrics.SLOW_CLIENTS.inc()
        self.finish(SLOW_CLIENT)

    # -- time ----------------------------------------------------------------------------------------

    async def _watch(self, link: SessionLink) -> None:
        """Beat, and find out who is no longer there."""
        clock, beat_every_ms = self._around.clock, self._around.timing.beat_every_ms
        checked_ms = clock.now_ms()
        while True:
            await clock.sleep_ms(beat_every_ms)
            now_ms = clock.now_ms()
            link.send_text(BEAT)
            self._report()
            # When this process itself slept, what the others sent meanwhile is not read yet: judge next time.
            if now_ms - checked_ms < 2 * beat_every_ms:
                self._judge(now_ms, link.heard_ms)
            checked_ms = now_ms

    def _judge(self, now_ms: int, link_heard_ms: int) -> None:
        timing, seat = self._around.timing, self._seat
        if now_ms - link_heard_ms >= timing.link_lost_after_ms:
            self.finish(SESSION_LOST)
        elif seat is None:
            if now_ms - self._held_since_ms >= timing.resume_grace_ms:
                self.finish(CLIENT_LOST)
        elif now_ms - seat.reader.heard_ms >= timing.client_lost_after_ms:
            seat.vacate(CLIENT_LOST)
        elif seat.hung_up_for_ms(now_ms) >= timing.hangup_within_ms:
            self.finish(HUNG_UP)

    def _report(self) -> None:
        uplink, seat = self._uplink, self._seat
        stale_count = self._stale_count + (seat.writer.queue.stale_count if seat is not None else 0)
        uplink.traffic.report(uplink.meter.gaps_count, uplink.meter.repeats_count, stale_count)


def _refusal(error: Error) -> ParleyError:
    if error.code in TRY_ELSEWHERE:
        return Overloaded(error.message, code=error.code, retry_after_s=error.retry_after_s)
    if error.retry_after_s is not None or error.code.startswith("upstream_"):
        return RefusedForNow(error.message, code=error.code, retry_after_s=error.retry_after_s)
    return PeerViolation(error.message, code=error.code)
