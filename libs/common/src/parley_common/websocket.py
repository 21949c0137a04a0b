"""A WebSocket as the audio path needs it: frames are handed on in the turn of the loop in which they arrive.

Over `picows`: no task, no queue and no copy between the kernel and who listens; a send is one system call as long as
the peer reads. Here is the socket, and ``connect`` for the side that dials; audio_door.py accepts. Knows nothing of what
is said.

Law: what is unsent is bounded by whoever sends, who is told when the peer does not read (``is_choked``); whatever ends
a socket, ``on_closed`` is told once, after everything else. Neither an address nor a header gets into a log.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping

import structlog
from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
)

from parley_common.errors import LinkClosed

CLOSE_WITHIN_S = 2.0
"""How long a closing handshake may take before the socket is aborted."""
CLOSE_REASON_MAX_BYTES = 123
"""A control frame holds 125 bytes, two of them the code. Source: RFC 6455, section 5.5."""
NOT_SAID = 1005
VANISHED = 1006
GOING_AWAY = 1001
INTERNAL = 1011
WAITING_MAX = 64
"""Messages that wait for a reader; with more the peer is not read until some are taken."""
READ_BUFFER_BYTES = 2_048
"""To begin with: it grows to what comes at once."""

_TEXT, _BINARY, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
_PONG, _CLOSE = WSMsgType.PONG, WSMsgType.CLOSE
log = structlog.get_logger("socket")
SILENT = logging.getLogger("picows.silent")
"""picows tells of peers by their addresses."""
SILENT.setLevel(logging.CRITICAL + 1)


class Closed(LinkClosed):
    """The socket is closed. ``is_clean``: the peer said so; otherwise it vanished."""

    code = "socket_closed"

    def __init__(self, close_code: int, *, is_clean: bool) -> None:
        super().__init__(f"the socket is closed ({close_code})")
        self.close_code = close_code
        self.is_clean = is_clean


class HandshakeRefused(ConnectionError):
    """The peer answered, but not with a WebSocket. ``status`` is the HTTP status, 0 when there was none."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class WebSocket(WSListener):
    """One connected socket. Messages go to ``receive`` until somebody calls ``listen``."""

    def __init__(
        self, *, message_max_bytes: int, unsent_max_bytes: int = 64 * 1024, text_as_bytes: bool = False
    ) -> None:
        """``unsent_max_bytes``: with more unsent the socket is choked. ``text_as_bytes``: text is not decoded."""
        self.address = ""
        """The far end's; for counting, never for logs."""
        self.headers: Mapping[str, str] = {}
        """Of the request, at the side that accepts."""
        self.is_open = False
        self.is_choked = False
        self.is_clean = False
        self.close_code = VANISHED
        """What the peer closed with; 1006 when it vanished."""
        self.close_reason = ""
        self.on_open: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        """Is told when the peer reads again."""
        self._unsent_max_bytes = unsent_max_bytes
        self._text_as_bytes = text_as_bytes
        self._transport: WSTransport | None = None
        self._on_message: Callable[[bytes | str], None] | None = None
        self._on_closed: Callable[[], None] | None = None
        self._inbox = _Inbox()
        self._fragments = _Fragments(message_max_bytes)
        self._on_pong: Callable[[], None] | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._was_closed = False

    @property
    def message_max_bytes(self) -> int:
        """Return the size of the largest message that is taken; a larger one closes with 1009."""
        return self._fragments.max_bytes

    # -- sending ------------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray | str) -> bool:
        """Send a binary frame, or a text frame for a str, now. False when the socket is closed."""
        if not self.is_open or self._transport is None:
            return False
        self._transport.send(_TEXT if data.__class__ is str else _BINARY, data)
        return True

    def send_as_text(self, data: bytes) -> bool:
        """Send UTF-8 as a text frame. False when the socket is closed."""
        if not self.is_open or self._transport is None:
            return False
        self._transport.send(_TEXT, data)
        return True

    def ping(self, on_pong: Callable[[], None]) -> None:
        """Send a ping; ``on_pong`` is told of the next pong that comes."""
        if self.is_open and self._transport is not None:
            self._on_pong = on_pong
            self._transport.send_ping()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; the socket is aborted when it takes too long. Idempotent."""
        if not self.is_open or self._transport is None:
            return
        self.is_open = False
        short = reason.encode()[:CLOSE_REASON_MAX_BYTES].decode(errors="ignore").encode()
        self._transport.send_close(code, short)  # type: ignore[arg-type]
        self._abort_timer = asyncio.get_running_loop().call_later(CLOSE_WITHIN_S, self.abort)

    def abort(self) -> None:
        """Drop the socket at once, with what is unsent."""
        self.is_open = False
        if self._transport is not None:
            self._transport.disconnect(False)

    # -- receiving ----------------------------------------------------------------------------------

    async def receive(self) -> bytes | str:
        """Return the next message: bytes, or text. Raises Closed after the last."""
        while not self._inbox.messages:
            if self._was_closed:
                raise Closed(self.close_code, is_clean=self.is_clean)
            await self._inbox.news()
        return self._inbox.take()

    def listen(self, on_message: Callable[[bytes | str], None], on_closed: Callable[[], None]) -> None:
        """Hand every message on from now, those that wait first, and at last that the socket is closed.

        A later call takes the place of an earlier one. What ``on_message`` raises closes the socket with 1011.
        """
        self._on_message, self._on_closed = on_message, on_closed
        while self._inbox.messages and self._on_message is on_message:
            on_message(self._inbox.take())
        if self._was_closed and self._on_closed is on_closed:
            on_closed()

    def ignore(self) -> None:
        """Let everything that still comes go."""
        self.listen(_nothing, _nothing_more)

    # -- picows ---------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.is_open = True
        transport.underlying_transport.set_write_buffer_limits(high=self._unsent_max_bytes)
        if self.on_open is not None:
            self.on_open()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, "no extension was agreed on")
        if (kind is _BINARY or kind is _TEXT) and frame.fin and not self._fragments.parts:
            data = frame.get_payload_as_bytes()
            if kind is _BINARY:
                self._take(data)
            else:
                self._take_text(data)
        elif kind in {_BINARY, _TEXT, _CONTINUATION}:
            whole = self._fragments.add(frame, kind)
            if whole is not None:
                (self._take_text if self._fragments.is_text else self._take)(whole)
        elif kind is _CLOSE:
            self._peer_closes(transport, frame.get_payload_as_bytes())
        elif kind is _PONG and self._on_pong is not None:
            on_pong, self._on_pong = self._on_pong, None
            on_pong()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows' signature
        self.is_open = False
        self._was_closed = True
        self._fragments.parts.clear()
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._inbox.wake()
        if self._on_closed is not None:
            self._on_closed()

    def pause_writing(self) -> None:
        self.is_choked = True

    def resume_writing(self) -> None:
        self.is_choked = False
        if self.on_writable is not None and self.is_open:
            self.on_writable()

    # -------------------------------------------------------------------------------------------------

    def _take_text(self, data: bytes) -> None:
        if self._text_as_bytes:
            self._take(data)
            return
        try:
            self._take(data.decode())
        except UnicodeDecodeError:
            raise WSProtocolError(WSCloseCode.INVALID_TEXT, "text is UTF-8") from None

    def _take(self, message: bytes | str) -> None:
        if self._on_message is None:
            self._inbox.put(message, self._transport)
            return
        try:
            self._on_message(message)
        except Exception as bug:
            log.exception("socket.broke", kind=type(bug).__name__)
            self.close(INTERNAL)

    def _peer_closes(self, transport: WSTransport, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else NOT_SAID
        self.close_code, self.close_reason = code, payload[2:].decode(errors="replace")
        self.is_clean = code in {1000, GOING_AWAY, NOT_SAID}
        if self.is_open:
            self.is_open = False
            transport.send_close(code if payload else 1000)  # type: ignore[arg-type]
        transport.disconnect()


class _Inbox:
    """Messages that nobody listens to yet; with too many the peer is not read."""

    def __init__(self) -> None:
        self.messages: deque[bytes | str] = deque()
        self._news: asyncio.Future[None] | None = None
        self._paused: WSTransport | None = None

    def put(self, message: bytes | str, transport: WSTransport | None) -> None:
        self.messages.append(message)
        if len(self.messages) >= WAITING_MAX and self._paused is None and transport is not None:
            self._paused = transport
            transport.underlying_transport.pause_reading()
        self.wake()

    def take(self) -> bytes | str:
        message = self.messages.popleft()
        if self._paused is not None and len(self.messages) < WAITING_MAX:
            self._paused.underlying_transport.resume_reading()
            self._paused = None
        return message

    async def news(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    def wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class _Fragments:
    """The parts of a message that comes in several frames."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.parts: list[bytes] = []
        self.is_text = False

    def add(self, frame: WSFrame, kind: WSMsgType) -> bytes | None:
        """Take a part; return the whole message with its last. Raises WSProtocolError."""
        if (kind == _CONTINUATION) != bool(self.parts):
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, "fragments out of order")
        if kind != _CONTINUATION:
            self.is_text = kind == _TEXT
        self.parts.append(frame.get_payload_as_bytes())
        if sum(map(len, self.parts)) > self.max_bytes:
            raise WSProtocolError(WSCloseCode.MESSAGE_TOO_BIG, "the message is too big")
        if not frame.fin:
            return None
        whole = b"".join(self.parts)
        self.parts.clear()
        return whole


def _nothing(_: bytes | str) -> None: ...


def _nothing_more() -> None: ...


# -- the side that dials ----------------------------------------------------------------------------


async def connect(
    url: str,
    socket: WebSocket,
    *,
    headers: Mapping[str, str],
    within_s: float,
    read_buffer_bytes: int = READ_BUFFER_BYTES,
    proxy: str | None = None,
) -> WebSocket:
    """Return ``socket``, connected to ``url``.

    Raises:
        HandshakeRefused: it answered with something else than a WebSocket, or ``url`` is none.
        OSError, TimeoutError: it cannot be reached, or not in time.
    """
    context = ssl.create_default_context() if url.startswith("wss:") else None
    try:
        async with asyncio.timeout(within_s):
            await ws_connect(
                lambda: socket,
                url,
                ssl_context=context,
                extra_headers=dict(headers),
                websocket_handshake_timeout=within_s,
                logger_name=SILENT,
                max_frame_size=socket.message_max_bytes,
                read_buffer_init_size=read_buffer_bytes,
                max_redirects=0,
                proxy=proxy,
                use_aiofastnet=False,
            )
    except WSHandshakeError as refused:
        status = int(refused.response.status) if refused.response is not None else 0
        raise HandshakeRefused(f"no WebSocket there ({status})", status) from None
    except (WSError, ValueError) as wrong:
        raise HandshakeRefused(str(wrong)) from None
    return socket
