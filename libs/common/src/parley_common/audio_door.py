"""Accepts WebSockets at the port of an HTTP server: uvicorn reads the request, and gives up what asks for an upgrade.

Law: one port for HTTP and audio; uvicorn waits for these sockets, as for its own, when it stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from picows import (
    WSAutoPingStrategy,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from parley_common.websocket import GOING_AWAY, READ_BUFFER_BYTES, SILENT, WebSocket

HANDSHAKE_S = 5.0


class Refusal(Exception):
    """Raised instead of accepting: the HTTP status that the peer gets."""

    def __init__(self, status: int) -> None:
        self.status = status


Accepted = tuple[WebSocket, str | None, Callable[[WebSocket], Coroutine[Any, Any, None]]]
"""A socket, the agreed subprotocol, and what serves the socket; it is closed when that returns."""
Accept = Callable[[str, Mapping[str, str]], Accepted]
"""Takes path and headers of a request. Raises Refusal."""


def audio_door(accept: Accept, *, message_max_bytes: int) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol with our WebSockets in place of its own: give it to uvicorn as ``http``.

    Larger frames than ``message_max_bytes`` close with 1009. Liveness is whoever listens' business: nothing is pinged.
    """
    tasks: set[asyncio.Task[None]] = set()

    class AudioDoor(H11Protocol):
        def handle_websocket_upgrade(self, event: Any) -> None:
            self.connections.discard(self)
            lines = [event.method, b" ", event.target, b" HTTP/1.1\r\n"]
            lines += [part for name, value in self.headers for part in (name, b": ", value, b"\r\n")]
            upgrade = _Upgrade(accept, tasks, self.connections, _address(self))
            upgrade.take_over(self.transport, b"".join([*lines, b"\r\n"]), message_max_bytes)

    return AudioDoor


class _Upgrade:
    """One connection that uvicorn gave away, and waits for when it stops."""

    def __init__(
        self, accept: Accept, tasks: set[asyncio.Task[None]], connections: set[Any], address: str
    ) -> None:
        self._accept = accept
        self._tasks = tasks
        self._connections = connections
        self._address = address
        self._socket: WebSocket | None = None

    def take_over(self, transport: asyncio.Transport, request: bytes, message_max_bytes: int) -> None:
        """Let picows answer the request, and read on."""
        none_of_its_pings = (False, 0, 0, WSAutoPingStrategy.PING_WHEN_IDLE, True)
        protocol = WSProtocol(
            None,
            None,
            False,
            self._answer,
            SILENT,
            True,
            HANDSHAKE_S,
            *none_of_its_pings,
            message_max_bytes,
            None,
            READ_BUFFER_BYTES,
        )
        # Reading begins anew: uvloop looks at what a protocol wants to be given only then.
        transport.pause_reading()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        while request:
            room = protocol.get_buffer(len(request))
            part, request = request[: len(room)], request[len(room) :]
            room[: len(part)] = part
            protocol.buffer_updated(len(part))
        if not transport.is_closing():
            transport.resume_reading()

    def _answer(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        try:
            path = request.path.decode("latin-1").partition("?")[0]
            socket, subprotocol, serve = self._accept(path, request.headers)
        except Refusal as refused:
            return WSUpgradeResponseWithListener(
                WSUpgradeResponse.create_error_response(refused.status), None
            )
        socket.address, socket.headers = self._address, request.headers
        self._socket = socket
        socket.on_open = lambda: self._begin(socket, serve)
        agreed = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else None
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(agreed), socket)

    def _begin(self, socket: WebSocket, serve: Callable[[WebSocket], Coroutine[Any, Any, None]]) -> None:
        self._connections.add(self)
        task = asyncio.get_running_loop().create_task(self._serve(socket, serve))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, socket: WebSocket, serve: Callable[[WebSocket], Coroutine[Any, Any, None]]
    ) -> None:
        try:
            await serve(socket)
        finally:
            socket.listen(_let_go, self._is_gone)
            socket.close()

    def _is_gone(self) -> None:
        self._connections.discard(self)

    def shutdown(self) -> None:
        """uvicorn stops: whoever is still here is sent away."""
        if self._socket is not None:
            self._socket.close(GOING_AWAY, "stopping")


def _address(door: H11Protocol) -> str:
    """Return where a connection comes from, as uvicorn's own middleware would tell an application."""
    client, config = door.client, door.config
    if client is None or not config.proxy_headers:
        return client[0] if client else ""
    trusted = ProxyHeadersMiddleware(cast(Any, config.app), config.forwarded_allow_ips).trusted_hosts
    forwarded = [value for name, value in door.headers if name == b"x-forwarded-for"]
    if not forwarded or client[0] not in trusted:
        return client[0]
    return trusted.get_trusted_client_address(b", ".join(forwarded).decode("latin-1"))[0] or client[0]


def _let_go(_: bytes | str) -> None: ...
