"""The client side's socket: receive, send bytes, send text, close. Everything else sees only this interface.

The one implementation speaks ASGI under uvicorn with its `websockets` protocol. Law: a peer that is gone is
``ClientGone`` whatever the library below calls it, and a socket that cannot be closed is aborted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from parley_common.contracts.audio_link import FRAME_MAX_BYTES
from parley_common.errors import LinkClosed

SOCKET_FRAME_MAX_BYTES = 4 * FRAME_MAX_BYTES
"""Beyond this the library closes with 1009 by itself; up to it the client gets an error that says why."""

CLOSE_REASON_MAX_BYTES = 123
"""A control frame holds 125 bytes, two of them the code. Source: RFC 6455, section 5.5."""


class ClientGone(LinkClosed):
    """The client's socket is closed. ``is_clean``: it said so; otherwise it vanished."""

    code = "client_gone"

    def __init__(self, close_code: int, *, is_clean: bool) -> None:
        super().__init__(f"the client is gone ({close_code})")
        self.close_code = close_code
        self.is_clean = is_clean


class ClientSocket(Protocol):
    """What a client handler needs of a socket."""

    @property
    def address(self) -> str:
        """Return the far end's address: for counting, never for logs."""
        ...

    @property
    def origin(self) -> str | None:
        """Return the site of the page that dialled; null for other programs."""
        ...

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """Return what the client offered."""
        ...

    async def accept(self, subprotocol: str | None) -> None:
        """Finish the handshake."""
        ...

    async def receive(self) -> bytes | str:
        """Return the next frame. Raises ClientGone."""
        ...

    async def send_bytes(self, frame: bytes | bytearray) -> None:
        """Send one binary frame; waits while the client does not read. Raises ClientGone."""
        ...

    async def send_text(self, text: str) -> None:
        """Send one text frame; waits while the client does not read. Raises ClientGone."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; does nothing for a socket that is gone."""
        ...


class AsgiClientSocket:
    """A client socket over one ASGI WebSocket connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send

    @property
    def address(self) -> str:
        client: tuple[str, int] | None = self._scope.get("client")
        return client[0] if client else ""

    @property
    def origin(self) -> str | None:
        headers: Iterable[tuple[bytes, bytes]] = self._scope.get("headers", ())
        return next((value.decode("latin-1") for name, value in headers if name == b"origin"), None)

    @property
    def subprotocols(self) -> tuple[str, ...]:
        return tuple(self._scope.get("subprotocols", ()))

    async def accept(self, subprotocol: str | None) -> None:
        await self._receive()
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    async def receive(self) -> bytes | str:
        message = await self._receive()
        data: bytes | str | None = message.get("bytes")
        if data is not None:
            return data
        if message["type"] == "websocket.disconnect":
            raise _gone(message)
        text: str = message["text"]
        return text

    async def send_bytes(self, frame: bytes | bytearray) -> None:
        try:
            await self._send({"type": "websocket.send", "bytes": frame})
        except (OSError, RuntimeError) as gone:
            raise ClientGone(1006, is_clean=False) from gone

    async def send_text(self, text: str) -> None:
        try:
            await self._send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError) as gone:
            raise ClientGone(1006, is_clean=False) from gone

    async def close(self, code: int, reason: str) -> None:
        try:
            short = reason.encode()[:CLOSE_REASON_MAX_BYTES].decode(errors="ignore")
            await self._send({"type": "websocket.close", "code": code, "reason": short})
        except (OSError, RuntimeError):
            return


class AudioProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, which would wait for ever to hand its last bytes to a peer that reads none."""

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if not self.writable.is_set():
            self.transport.abort()


def server_options() -> dict[str, Any]:
    """Return what ``serve_http`` does not tell uvicorn yet. Liveness is parley.v1's own ping: WebSocket pings are off."""
    return {
        "ws": AudioProtocol,
        "ws_max_size": SOCKET_FRAME_MAX_BYTES,
        "ws_ping_interval": None,
    }


def _gone(message: Any) -> ClientGone:
    """uvicorn gives a reason only with a close frame: 1005 without one is a connection that broke."""
    code = int(message.get("code") or 1005)
    return ClientGone(code, is_clean="reason" in message and code in {1000, 1001, 1005})
