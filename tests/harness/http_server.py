"""A small HTTP/1.1 server in a thread of its own, so that it answers even while the test's loop is busy.

What to answer is decided by the function that it is given. It deliberately has no routes, no TLS and no
streaming: receivers of the harness need none.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

BODY_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True)
class Request:
    """One request, whole. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Silence:
    """No answer while the server lives."""


@dataclass(frozen=True)
class Reset:
    """The socket is reset (RST) instead of an answer."""


Answer = Reply | Silence | Reset


class HttpServer:
    """Listens on 127.0.0.1 from construction on; use with ``with``."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self._closing = threading.Event()
        self._server = _Server(answer, self._closing)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening and let every silent request go."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[Request], Answer], closing: threading.Event) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.closing = closing

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away in the middle is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: _Server

    def _handle(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        if length > BODY_BYTES_MAX:
            self._reply(Reply(413))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.rfile.read(length))
        match self.server.answer(request):
            case Reply() as reply:
                self._reply(reply)
            case Silence():
                self.server.closing.wait()
                self.close_connection = True
            case Reset():
                self._reset()

    # http.server finds its handlers by these names.
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _reply(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(reply.body)))
        if self.server.closing.is_set():
            self.close_connection = True
        self.end_headers()
        self.wfile.write(reply.body)

    def _reset(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The server's own shutdown() before close() would send a FIN first.
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""
