"""The link to a session service: dial it, send and receive frames, close it. One per session.

It runs the `websockets` library's protocol (no compression) right inside asyncio's callbacks: a frame that
arrives is handed on in the same turn of the loop, without a queue or a task between. It knows the frames'
kinds, not their meaning. Law: what is unsent is bounded; ``send_frame`` refuses rather than waits.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from parley_common.clock import Clock
from parley_common.contracts.audio_link import LINK_SUBPROTOCOL
from parley_common.errors import DependencyUnavailable

LINK_PATH = "/v1/link"
LINK_MESSAGE_MAX_BYTES = 1024 * 1024
"""Checkpoints are the largest messages of a link."""
UNSENT_MAX_BYTES = 256 * 1024
"""5 s of caller audio; a replica that far behind gets no more until it reads."""
CLOSE_WITHIN_S = 1.0


class LinkEvents(Protocol):
    """Who is told what arrives on a link, in order, without awaiting."""

    def link_frame(self, frame: bytes) -> None:
        """A binary frame arrived."""
        ...

    def link_text(self, text: bytes) -> None:
        """A text frame arrived."""
        ...

    def link_lost(self, code: int, reason: str) -> None:
        """The link is closed, whoever closed it; told once, after all frames."""
        ...


class SessionLink(asyncio.Protocol):
    """One WebSocket to a session service, after ``dial``."""

    def __init__(self, url: str, token: str, events: LinkEvents, clock: Clock) -> None:
        self.url = url
        self.heard_ms = clock.now_ms()
        self.is_choked = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._token = token
        self._events = events
        self._clock = clock
        self._ws = ClientProtocol(
            parse_uri(url + LINK_PATH),
            subprotocols=[Subprotocol(LINK_SUBPROTOCOL)],
            max_size=LINK_MESSAGE_MAX_BYTES,
        )
        self._fragments: list[Frame] = []
        self._transport: asyncio.Transport | None = None
        self._abort_timer: asyncio.TimerHandle | None = None

    def send_frame(self, frame: bytes) -> bool:
        """Send a binary frame now; false when the replica is too far behind, or gone, and it was dropped."""
        if self.is_choked or self._ws.state is not State.OPEN:
            return False
        self._ws.send_binary(frame)
        self._write()
        return True

    def send_text(self, text: str) -> bool:
        """Send a text frame now, however far behind the replica is; false when it is gone."""
        if self._ws.state is not State.OPEN:
            return False
        self._ws.send_text(text.encode())
        self._write()
        return True

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; the socket is aborted when it takes too long. Idempotent."""
        if self._transport is None or self._abort_timer is not None:
            return
        if self._ws.state is State.OPEN:
            self._ws.send_close(code, reason)
            self._write()
        loop = asyncio.get_running_loop()
        self._abort_timer = loop.call_later(CLOSE_WITHIN_S, self._transport.abort)

    def abort(self) -> None:
        """Drop the socket at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_MAX_BYTES)
        request = self._ws.connect()
        request.headers["Authorization"] = f"Bearer {self._token}"
        self._ws.send_request(request)
        self._write()

    def data_received(self, data: bytes) -> None:
        self.heard_ms = self._clock.now_ms()
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            elif isinstance(event, Response):
                self._answered(self._ws.handshake_exc)
        if self._ws.writes:
            self._write()
        if self._ws.state is State.CLOSING:
            self.close()

    def eof_received(self) -> None:
        self._ws.receive_eof()
        self._ws.data_to_send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._answered(exc or ConnectionError("closed before the handshake was over"))
        received = self._ws.close_rcvd
        self._events.link_lost(received.code if received else 1006, received.reason if received else "")

    def pause_writing(self) -> None:
        self.is_choked = True

    def resume_writing(self) -> None:
        self.is_choked = False

    # ------------------------------------------------------------------------------------------------

    def _answered(self, wrong: Exception | None) -> None:
        if self.opened.done():
            return
        if wrong is None:
            self.opened.set_result(None)
        else:
            self.opened.set_exception(wrong)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY and frame.fin:
            self._events.link_frame(cast(bytes, frame.data))
        elif frame.opcode is Opcode.TEXT and frame.fin:
            self._events.link_text(cast(bytes, frame.data))
        elif frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            self._fragment(frame)

    def _fragment(self, frame: Frame) -> None:
        self._fragments.append(frame)
        if not frame.fin:
            return
        fragments, self._fragments = self._fragments, []
        data = b"".join(fragment.data for fragment in fragments)
        self._frame(Frame(fragments[0].opcode, data))

    def _write(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._ws.data_to_send()))


async def dial(url: str, token: str, events: LinkEvents, clock: Clock, within_ms: int) -> SessionLink:
    """Return an open link to the session service at ``url``. Raises DependencyUnavailable."""
    link = SessionLink(url, token, events, clock)
    uri = parse_uri(url)
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context() if uri.secure else None
    try:
        async with asyncio.timeout(within_ms / 1000):
            await loop.create_connection(lambda: link, uri.host, uri.port, ssl=context)
            await link.opened
    except (OSError, InvalidHandshake) as wrong:
        link.abort()
        raise DependencyUnavailable(f"no link to {url}: {wrong}", code="link_refused") from wrong
    except BaseException:
        link.abort()
        raise
    return link
