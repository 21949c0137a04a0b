"""One client of one session: the socket, the microphone and the playout clock around a SessionView.

It streams the microphone in real time (silence when nothing is said), reports playout, answers flushes and pings.
When to say what is the caller's affair: see run.py for a scripted one.

Law: one task reads, one keeps time; only the socket's own buffer stands between us and the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from parley_common import audio
from parley_common.clock import Clock, SystemClock
from parley_common.contracts import audio_link as wire
from parley_common.errors import ConfigInvalid, DependencyUnavailable, LinkClosed, LinkTimedOut, Permanent
from parley_common.telemetry import new_traceparent
from parley_launcher.talk.door import Ticket, get_ticket
from parley_launcher.talk.microphone import Microphone
from parley_launcher.talk.report import Failure, Happening
from parley_launcher.talk.turns import Observed
from parley_launcher.talk.view import REMEDIES, SessionView

OPEN_DEADLINE_S = 10.0
CLOSE_DEADLINE_S = 3.0
CLIENT_NAME = "parley-talk/0.1"


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Where to go, and as what."""

    url: str
    business: str
    mode: wire.Mode = "voice"
    keep_audio: bool = True
    """False keeps counts only: for many clients in one process."""
    ready_deadline_ms: int = 15_000
    locale: str | None = None
    time_zone: str | None = None


class TalkClient:
    """A session as a client holds it; made by ``TalkClient.open``, which also ends it."""

    def __init__(
        self,
        options: ClientOptions,
        socket: ClientConnection,
        clock: Clock,
        observer: Callable[[Happening], None],
    ) -> None:
        self.options = options
        self.view = SessionView(observer, keep_audio=options.keep_audio)
        self.clock = clock
        self.microphone = Microphone(keep_audio=options.keep_audio)
        self.closed = asyncio.Event()
        """Set when the socket is gone, by whoever's doing."""
        self._socket = socket
        self._changed = asyncio.Event()
        self._hanging_up = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        options: ClientOptions,
        *,
        clock: Clock | None = None,
        observer: Callable[[Happening], None] = lambda _: None,
    ) -> AsyncIterator[TalkClient]:
        """Get a token, dial, open a session and wait until it is ready; hang up and close at the end.

        Raises:
            ConfigInvalid, DependencyUnavailable, Overloaded, Permanent: it could not be opened.
            LinkClosed, LinkTimedOut: the socket was lost while the session was opened.
        """
        clock = clock or SystemClock()
        ticket = await get_ticket(options.url, options.business)
        async with _dial(ticket.audio_url) as socket:
            client = cls(options, socket, clock, observer)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(client._read())
                    keeper = group.create_task(client._keep_time())
                    await client._open(ticket)
                    yield client
                    await client.hang_up()
                    keeper.cancel()
            except BaseExceptionGroup as group:
                raise _only(group) from group

    # -- what the caller does ---------------------------------------------------------------------

    def say(self, pcm: bytes) -> None:
        """Speak ``pcm`` (PCM16 mono 24 kHz) into the microphone, after whatever is being said."""
        self.microphone.say(pcm)

    async def type(self, text: str) -> None:
        """Type ``text``."""
        await self._send(wire.Text(text))

    async def mute(self, muted: bool) -> None:
        """Mute or unmute the microphone; muted, nothing is sent, and what is said meanwhile is lost."""
        self.microphone.muted = muted
        await self._send(wire.Mute(muted))

    async def send(self, message: wire.FromClient) -> None:
        """Send any other message of the protocol."""
        await self._send(message)

    async def hang_up(self) -> None:
        """Say that the caller is done and wait, within a deadline, until the service has closed."""
        if self._hanging_up or self.closed.is_set():
            return
        self._hanging_up = True
        with suppress(ConnectionClosed, TimeoutError):
            if self.view.ended is None:
                await self._send(wire.Hangup())
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                await self.closed.wait()
        await self._socket.close()

    # -- what can be seen -------------------------------------------------------------------------

    def observed(self) -> Observed:
        """Return what turn-taking may look at, now."""
        now_ms = self.clock.now_ms()
        view = self.view
        return Observed(
            now_ms,
            view.state,
            view.playout.is_drained,
            view.playout.played_samples,
            view.active_at_ms,
            view.stirred_at_ms,
        )

    async def changed(self, within_ms: int = audio.FRAME_MS) -> None:
        """Return when something arrived, the clock ticked, or ``within_ms`` of real time passed."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_ms / 1000):
                await self._changed.wait()

    # -- the socket -------------------------------------------------------------------------------

    async def _open(self, ticket: Ticket) -> None:
        options = self.options
        await self._send(
            wire.Open(
                token=ticket.token,
                mode=options.mode,
                client=CLIENT_NAME,
                locale=options.locale,
                time_zone=options.time_zone,
                traceparent=new_traceparent(),
            )
        )
        give_up_ms = self.clock.now_ms() + options.ready_deadline_ms
        while self.view.ready is None:
            if failure := self.view.failure:
                raise Permanent(failure.message, remedy=failure.remedy, code=failure.code)
            if self.closed.is_set():
                raise LinkClosed(self._closing_words())
            if self.clock.now_ms() >= give_up_ms:
                raise LinkTimedOut(
                    f"the session was not ready after {options.ready_deadline_ms / 1000:g} s",
                    code="not_ready",
                    remedy="see .parley/logs/gateway.log and session.log",
                )
            await self.changed()

    async def _read(self) -> None:
        try:
            async for frame in self._socket:
                now_ms = self.clock.now_ms()
                if isinstance(frame, bytes):
                    self.view.receive_audio(frame, now_ms)
                else:
                    for answer in self.view.receive_text(frame, now_ms):
                        await self._send(answer)
                self._changed.set()
        except ConnectionClosed:
            # A close frame with an error code: what it means is told by the code, below.
            pass
        finally:
            self._note_closed()

    def _note_closed(self) -> None:
        self.closed.set()
        self._changed.set()
        view = self.view
        if view.ready is not None and view.ended is None and not self._hanging_up:
            lost = Failure(*self._close_failure())
            view.fail(lost, self.clock.now_ms())

    def _close_failure(self) -> tuple[str, str, str | None]:
        code, reason = self._socket.close_code, self._socket.close_reason or ""
        stable = reason.split(":")[0].strip() if reason else "link_closed"
        known = stable if stable.replace("_", "").isalnum() else "link_closed"
        return (
            known,
            self._closing_words(),
            REMEDIES.get(known, f"close code {code}; see .parley/logs/gateway.log"),
        )

    def _closing_words(self) -> str:
        code, reason = self._socket.close_code, self._socket.close_reason
        return f"the gateway closed the socket ({code}{': ' + reason if reason else ''})"

    async def _keep_time(self) -> None:
        """Every 20 ms: one microphone frame, playout reports; every 5 s a ping."""
        next_ms = ping_ms = self.clock.now_ms()
        while not self.closed.is_set():
            now_ms = self.clock.now_ms()
            with suppress(ConnectionClosed):
                for report in self.view.tick(now_ms):
                    await self._send(report)
                await self._send_microphone(now_ms)
                if now_ms >= ping_ms and self.view.ready:
                    ping_ms = now_ms + wire.PING_EVERY_MS
                    await self._send(wire.Ping(float(now_ms)))
            self._check_alive(now_ms)
            self._changed.set()
            next_ms = max(next_ms + audio.FRAME_MS, now_ms - audio.FRAME_MS)
            await self.clock.sleep_ms(next_ms - self.clock.now_ms())

    def _check_alive(self, now_ms: int) -> None:
        silent_ms = now_ms - self.view.last_heard_of_ms
        if self.view.ready and silent_ms >= wire.CLIENT_LOST_AFTER_MS:
            said = f"nothing came from the gateway for {silent_ms / 1000:.0f} s"
            self.view.fail(
                Failure("gateway_silent", said, "look at the network, and the gateway's log"), now_ms
            )
            self._socket.transport.abort()

    async def _send_microphone(self, now_ms: int) -> None:
        if self.view.ready is None or self.options.mode != "voice" or self._hanging_up:
            return
        for frame in self.microphone.frames_due(self.view.since_ready(now_ms)):
            await self._socket.send(frame)

    async def _send(self, message: wire.FromClient) -> None:
        await self._socket.send(wire.encode(message))


@asynccontextmanager
async def _dial(url: str) -> AsyncIterator[ClientConnection]:
    try:
        socket = await connect(
            url,
            subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
            compression=None,
            open_timeout=OPEN_DEADLINE_S,
            close_timeout=CLOSE_DEADLINE_S,
            max_size=wire.FRAME_MAX_BYTES * 2,
            ping_interval=None,
            proxy=None,
            user_agent_header=CLIENT_NAME,
        )
    except InvalidURI as wrong:
        raise ConfigInvalid(f"{url} is no WebSocket address") from wrong
    except InvalidStatus as wrong:
        refused = f"{url} refused the socket: HTTP {wrong.response.status_code}"
        raise Permanent(refused, code="socket_refused", remedy="is that a Parley gateway?") from wrong
    except (OSError, InvalidHandshake, TimeoutError) as wrong:
        raise DependencyUnavailable(
            f"cannot open {url}: {str(wrong) or type(wrong).__name__}",
            code="gateway_unreachable",
            remedy="is it running? `parley up` starts it; --url names another",
        ) from wrong
    try:
        if socket.subprotocol != wire.SUBPROTOCOL:
            raise Permanent(
                f"{url} does not speak {wire.SUBPROTOCOL}",
                code="wrong_protocol",
                remedy="is that a Parley gateway?",
            )
        yield socket
    finally:
        await socket.close()


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that a task group wraps; a lost socket is said in our words."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, ConnectionClosed):
        return LinkClosed(f"the gateway closed the socket ({first})")
    return first
