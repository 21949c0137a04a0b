"""The port's door: plain HTTP requests are answered here, WebSocket handshakes go on to websockets.

websockets reads no request bodies, so this looks at each connection's first bytes: without an ``Upgrade`` header the
request is answered and the connection closed.

Law: a request is bounded (16 KiB of head, 256 KiB of body) and answered once; handshakes pass unchanged.
"""

from __future__ import annotations

import http
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from websockets.asyncio.server import ServerConnection

_HEAD_BYTES = 16 * 1024
_BODY_BYTES = 256 * 1024
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class HttpRequest:
    """A plain request."""

    method: str
    target: str
    body: bytes


@dataclass(frozen=True)
class HttpAnswer:
    """A plain answer."""

    status: int
    body: bytes
    content_type: str = "application/json"

    def as_bytes(self) -> bytes:
        """Return the answer as it goes over the wire."""
        phrase = http.HTTPStatus(self.status).phrase
        head = (
            f"HTTP/1.1 {self.status} {phrase}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode("ascii") + self.body


Answerer: TypeAlias = Callable[[HttpRequest], HttpAnswer]


def parsed(data: bytes) -> HttpRequest | HttpAnswer | None:
    """Read the first bytes of a connection.

    Returns:
        The request; an answer when it cannot be served; None while more bytes are needed.

    Raises:
        NotPlain: It is a WebSocket handshake.
    """
    head, separator, body = data.partition(_HEAD_END)
    if not separator:
        return (
            HttpAnswer(431, b'{"error": "the request head is too large"}')
            if len(data) > _HEAD_BYTES
            else None
        )
    line, *rest = head.split(b"\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (row.partition(b":") for row in rest)
    }
    if b"websocket" in headers.get(b"upgrade", b"").lower():
        raise NotPlain
    words = line.decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return HttpAnswer(400, b'{"error": "not an HTTP/1 request"}')
    size = headers.get(b"content-length", b"0")
    if not size.isdigit() or b"transfer-encoding" in headers:
        return HttpAnswer(411, b'{"error": "give a Content-Length"}')
    if len(size) > 7 or int(size) > _BODY_BYTES:
        return HttpAnswer(413, b'{"error": "the body is too large"}')
    return HttpRequest(words[0], words[1], body[: int(size)]) if len(body) >= int(size) else None


class NotPlain(Exception):
    """The bytes begin a WebSocket handshake."""


class Door(ServerConnection):
    """A connection of websockets' server that answers plain requests itself, and can be made deaf."""

    answerer: Answerer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._first_bytes: bytearray | None = bytearray()
        self._is_deaf = False

    def fall_silent(self) -> None:
        """Answer nothing from now on, pings neither; what comes is read and thrown away."""
        self._is_deaf = True

    def vanish(self) -> None:
        """Drop the TCP connection as a network does: without a close frame."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._first_bytes is None:
            super().data_received(data)
            return
        self._first_bytes += data
        first = bytes(self._first_bytes)
        try:
            request = parsed(first)
        except NotPlain:
            self._first_bytes = None
            super().data_received(first)
            return
        if request is not None:
            self._first_bytes = bytearray()
            answer = self.answerer(request) if isinstance(request, HttpRequest) else request
            self.transport.write(answer.as_bytes())
            self.transport.close()


def door(answerer: Answerer) -> type[Door]:
    """Return a connection class for websockets' server that answers plain requests with ``answerer``."""
    return type("AnsweringDoor", (Door,), {"answerer": staticmethod(answerer)})
