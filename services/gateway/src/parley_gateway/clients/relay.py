"""One session between a client's socket and its link: attaches it, forwards both ways, ends it once.

It does not choose the replica (native.py does) and keeps no audio: the client is the playout buffer. Law: per
audio frame one send and nothing else: no JSON, task, lock, span or log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from parley_common.clock import Clock
from parley_common.contracts.audio_link import (
    Attach,
    Beat,
    Checkpoint,
    DownLink,
    Drain,
    Ended,
    Error,
    Flush,
    Load,
    Notice,
    Ready,
    Safe,
    decode_down_link,
    encode,
)
from parley_common.errors import DependencyUnavailable, Overloaded, ParleyError, PeerViolation
from parley_gateway import metrics
from parley_gateway.client_socket import ClientSocket
from parley_gateway.clients.client_reader import ClientReader
from parley_gateway.clients.client_writer import ClientWriter
from parley_gateway.clients.ends import (
    CLIENT_LOST,
    HUNG_UP,
    SESSION_LOST,
    SLOW_CLIENT,
    End,
    ended_by_session,
    failed_by_session,
)
from parley_gateway.session_link import SessionLink
from parley_gateway.settings import Timing

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


class Relay:
    """The session of one client on one link; it is the link's LinkEvents."""

    def __init__(self, socket: ClientSocket, around: Surroundings) -> None:
        self.checkpoint: str | None = None
        """The newest sealed state of the session; opaque here, needed by whoever takes the session over."""
        self._around = around
        self._traffic = metrics.Traffic()
        self._writer = ClientWriter(socket, around.downlink_queue_bytes, self._traffic)
        self._reader = ClientReader(socket, around.clock, self._traffic, self._send)
        loop = asyncio.get_running_loop()
        self._attached: asyncio.Future[Ready] = loop.create_future()
        self._over: asyncio.Future[End] = loop.create_future()

    async def attach(self, link: SessionLink, attach: Attach) -> Ready:
        """Give the session to the replica and return its ``ready``, which is already on its way to the client.

        Raises:
            PeerViolation: the replica refuses this session, as any would (such as token_used).
            Overloaded: this replica has no room; another may have.
            DependencyUnavailable: it went away, or did not answer in time.
        """
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
                writing = group.create_task(self._writer.run())
                others = [group.create_task(self._read(link)), group.create_task(self._watch(link))]
                end = await self._over
                for task in others:
                    task.cancel()
                link.close(end.link_code, end.link_reason)
                await self._writer.say_goodbye(writing, end, self._around.timing)
        finally:
            link.close()
            self._report()
        return end

    def move(self) -> None:
        """Tell the client that this gateway is going away."""
        self._send(encode(Notice("move", "this gateway is going away")))

    def finish(self, end: End) -> None:
        """End the session so; the first end stands."""
        if not self._over.done():
            self._over.set_result(end)

    # -- what arrives on the link --------------------------------------------------------------------

    def link_frame(self, frame: bytes) -> None:
        if not self._over.done() and not self._writer.frame(frame):
            self._too_slow()

    def link_text(self, text: bytes) -> None:
        try:
            message = decode_down_link(text)
        except PeerViolation:
            metrics.LINK_UNREADABLE.inc()
            return
        if self._is_for_us(message) or self._over.done():
            return
        if not self._attached.done():
            self._answer_attach(message)
        elif isinstance(message, Flush):
            self._writer.flush(message.epoch, text.decode())
        else:
            self._send(text.decode())
            self._end_by(message)

    def link_lost(self, code: int, reason: str) -> None:
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
            self._send(encode(msgspec.structs.replace(message, resume=self._around.resume_token(message))))
        elif isinstance(message, Error):
            self._refuse_attach(_refusal(message))
        else:
            metrics.LINK_UNREADABLE.inc()

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

    async def _read(self, link: SessionLink) -> None:
        self.finish(await self._reader.run(link))

    def _send(self, text: str) -> None:
        if not self._writer.text(text):
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
        timing, hung_up_ms = self._around.timing, self._reader.hung_up_ms
        if now_ms - link_heard_ms >= timing.link_lost_after_ms:
            self.finish(SESSION_LOST)
        elif now_ms - self._reader.heard_ms >= timing.client_lost_after_ms:
            self.finish(CLIENT_LOST)
        elif hung_up_ms is not None and now_ms - hung_up_ms >= timing.hangup_within_ms:
            self.finish(HUNG_UP)

    def _report(self) -> None:
        meter = self._reader.meter
        self._traffic.report(meter.gaps_count, meter.repeats_count, self._writer.queue.stale_count)


def _refusal(error: Error) -> ParleyError:
    if error.code in TRY_ELSEWHERE:
        return Overloaded(error.message, code=error.code, retry_after_s=error.retry_after_s)
    return PeerViolation(error.message, code=error.code)
