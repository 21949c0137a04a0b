"""A session service as the gateway sees one: the link at /v1/link, and /readyz. No model, no audio of its own.

A test says how it answers (attributes) and what it sends (``FakeLink``), and reads what arrived. It cannot
imitate: the order in which a real session speaks, checkpoints with content, and timing under load.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from types import TracebackType
from typing import Self

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from harness.waiting import until
from parley_common.contracts.audio_link import (
    BEAT_EVERY_MS,
    LINK_CALLER_HUNG_UP,
    LINK_CLIENT_LOST,
    LINK_REPLACED,
    LINK_SUBPROTOCOL,
    Attach,
    Beat,
    DownLink,
    Ended,
    Error,
    Hangup,
    Load,
    Ready,
    UpLink,
    decode_up_link,
    encode,
)

LINK_PATH = "/v1/link"
_UNKNOWN = Error("resume_unknown", "this session is over; open a new one", fatal=True)


class FakeLink:
    """One session's link: what came over it, and how to answer."""

    def __init__(self, attach: Attach, socket: ServerConnection) -> None:
        self.attach = attach
        self.frames: list[bytes] = []
        self.messages: list[UpLink] = []
        """Everything but beats."""
        self.beats_count = 0
        self.is_beating = True
        self.is_over = False
        """Its session ended, or goes on at another link."""
        self._socket = socket

    def holds(self, session_id: str) -> bool:
        """Say whether this is a session's newest link, and the session is not over."""
        gone_for_good = self.close_code in {1000, LINK_CALLER_HUNG_UP, LINK_CLIENT_LOST}
        return self.attach.session_id == session_id and not self.is_over and not gone_for_good

    @property
    def close_code(self) -> int | None:
        """The code that the gateway closed with; null while the link is open."""
        return self._socket.close_code

    @property
    def close_reason(self) -> str | None:
        return self._socket.close_reason

    async def send(self, message: DownLink) -> None:
        """Send one message."""
        await self._socket.send(encode(message))

    async def send_raw(self, data: str | bytes) -> None:
        """Send a frame as it is: audio, or what no session service should send."""
        await self._socket.send(data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the link."""
        await self._socket.close(code, reason)

    def abort(self) -> None:
        """Drop the socket, as a killed process does."""
        self._socket.transport.abort()

    def stop_reading(self) -> None:
        """Read nothing more, as a replica that cannot keep up; it goes on beating."""
        self._socket.transport.pause_reading()

    def read_again(self) -> None:
        """Read on after ``stop_reading``."""
        self._socket.transport.resume_reading()

    async def closed(self, deadline_s: float = 5.0) -> int:
        """Wait for the gateway to close; return its code."""
        async with asyncio.timeout(deadline_s):
            await self._socket.wait_closed()
        return self.close_code or 0

    async def received(self, frames_count: int) -> list[bytes]:
        """Wait for as many audio frames; return all."""
        await until(lambda: len(self.frames) >= frames_count, why=f"{frames_count} frames on the link")
        return self.frames


class FakeSessionService:
    """A replica on 127.0.0.1; use with ``async with``. Attributes may change while it runs."""

    def __init__(self, *, internal_token: str = "development-only", port: int = 0) -> None:
        self.is_ready = True
        """What /readyz says."""
        self.refuses: Error | None = None
        """The answer to every attach, when set."""
        self.is_frozen = False
        """Accepts sockets and answers no handshake."""
        self.is_mute = False
        """Never answers an attach."""
        self.ready = Ready(session="", resume="")
        """The answer to an attach; the session is filled in."""
        self.ends_on_hangup = True
        self.links: list[FakeLink] = []
        self.attach_count = 0
        self._internal_token = internal_token
        self._port = port
        self._seen_tokens: set[str] = set()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def link(self) -> FakeLink:
        """The newest session."""
        return self.links[-1]

    async def attached(self, count: int = 1) -> FakeLink:
        """Wait until that many sessions were attached; return the newest."""
        await until(lambda: len(self.links) >= count, why=f"{count} attached sessions")
        return self.links[-1]

    async def start(self) -> None:
        """Listen; on the same port as before when it was stopped."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self._port,
            process_request=self._answer_http,
            subprotocols=[Subprotocol(LINK_SUBPROTOCOL)],
            compression=None,
            max_size=None,
            ping_interval=None,
            open_timeout=2,
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drop every link and stop listening, as a killed process does."""
        if self._server is None:
            return
        server, self._server = self._server, None
        for link in self.links:
            link.abort()
        server.close()
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _answer_http(self, socket: ServerConnection, request: Request) -> Response | None:
        if request.path == "/readyz":
            return socket.respond(HTTPStatus.OK if self.is_ready else HTTPStatus.SERVICE_UNAVAILABLE, "{}")
        if request.path != LINK_PATH:
            return socket.respond(HTTPStatus.NOT_FOUND, "")
        if self.is_frozen:
            await asyncio.Event().wait()
        if request.headers.get("Authorization") != f"Bearer {self._internal_token}":
            return socket.respond(HTTPStatus.UNAUTHORIZED, "")
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        try:
            attach = decode_up_link(await socket.recv(decode=False))
            assert isinstance(attach, Attach), attach
            self.attach_count += 1
            refusal = self._refusal(attach)
            if refusal is None:
                await self._run(FakeLink(attach, socket), socket)
            else:
                await socket.send(encode(refusal))
                await socket.close(1008, refusal.code)
        except* ConnectionClosed:
            pass

    def _refusal(self, attach: Attach) -> Error | None:
        if self.refuses is not None:
            return self.refuses
        if attach.resume:
            return None if self._running(attach.session_id) else _UNKNOWN
        if attach.token_id in self._seen_tokens:
            return Error("token_used", "this token opened a session before", fatal=True)
        self._seen_tokens.add(attach.token_id)
        return None

    def _running(self, session_id: str) -> FakeLink | None:
        """Return the link of a session that did not end: another gateway may take it over from there."""
        return next((link for link in self.links if link.holds(session_id)), None)

    async def _run(self, link: FakeLink, socket: ServerConnection) -> None:
        if link.attach.resume and (old := self._running(link.attach.session_id)):
            old.is_over = True
            await old.close(LINK_REPLACED, "replaced")
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._beat(link, socket))
            if not self.is_mute:
                await link.send(Load(sessions=len(self.links) + 1, capacity=100))
                await link.send(
                    msgspec.structs.replace(self.ready, session=link.attach.session_id, resume="")
                )
            self.links.append(link)
            try:
                async for data in socket:
                    await self._take(link, data)
            finally:
                beating.cancel()

    async def _take(self, link: FakeLink, data: str | bytes) -> None:
        if isinstance(data, bytes):
            link.frames.append(data)
            return
        message = decode_up_link(data)
        if isinstance(message, Beat):
            link.beats_count += 1
            return
        link.messages.append(message)
        if isinstance(message, Hangup) and self.ends_on_hangup:
            link.is_over = True
            await link.send(Ended("caller_hung_up"))

    async def _beat(self, link: FakeLink, socket: ServerConnection) -> None:
        while True:
            await asyncio.sleep(BEAT_EVERY_MS / 1000 / 5)
            if link.is_beating:
                await socket.send(encode(Beat()))
