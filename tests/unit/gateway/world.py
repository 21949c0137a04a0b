"""A gateway under uvicorn on a free port, session services behind it, and callers: for tests over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from fakes.session_service import FakeLink, FakeSessionService
from harness.ports import free_port, release
from harness.waiting import until
from parley_common.contracts.audio_link import (
    SUBPROTOCOL,
    Error,
    FromClient,
    Open,
    Ready,
    ToClient,
    decode_to_client,
    encode,
)
from parley_common.service import Readiness, serve_http
from parley_gateway.admission import Admission, AdmissionLimits
from parley_gateway.door import server_options
from parley_gateway.facts_stream import FactsWatch
from parley_gateway.gateway import Gateway
from parley_gateway.http_api import build_app
from parley_gateway.replicas import Replicas
from parley_gateway.settings import Timing
from parley_gateway.token_access import TokenAccess
from parley_gateway.tokens import TokenKey, Tokens

KEY = TokenKey("test", "a-secret-of-thirty-two-bytes-or-more")
QUICK = Timing(
    open_within_ms=300,
    link_open_ms=400,
    attach_within_ms=400,
    beat_every_ms=100,
    link_lost_after_ms=500,
    client_lost_after_ms=600,
    hangup_within_ms=300,
    deliver_within_ms=2_000,
    resume_grace_ms=300,
    close_within_ms=500,
)
PATIENT = replace(QUICK, client_lost_after_ms=15_000, resume_grace_ms=30_000)
"""For clients that come back: slow machines lose nobody."""
DEADLINE_S = 5.0

M = TypeVar("M")


@dataclass
class Caller:
    """A client in a test's hand: what it received stays in ``messages`` and ``frames``."""

    socket: ClientConnection
    messages: list[ToClient] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    order: list[ToClient | bytes] = field(default_factory=list)

    async def say(self, message: FromClient) -> None:
        await self.socket.send(encode(message))

    async def send(self, data: str | bytes) -> None:
        await self.socket.send(data)

    async def next(self) -> ToClient | bytes:
        """Return the next thing received. Raises ConnectionClosed."""
        async with asyncio.timeout(DEADLINE_S):
            data = await self.socket.recv()
        if isinstance(data, bytes):
            self.frames.append(data)
            self.order.append(data)
            return data
        message = decode_to_client(data)
        self.messages.append(message)
        self.order.append(message)
        return message

    async def expect(self, kind: type[M]) -> M:
        """Read on until a message of ``kind`` comes."""
        while True:
            message = await self.next()
            if isinstance(message, kind):
                return message

    async def receive_frames(self, count: int) -> list[bytes]:
        """Read on until there are ``count`` audio frames."""
        while len(self.frames) < count:
            await self.next()
        return self.frames

    async def closed(self) -> int:
        """Read on until the gateway closes; return the code."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as gone:
            return gone.rcvd.code if gone.rcvd else 1006

    async def refused(self) -> tuple[str, int]:
        """Read the one error, and the close after it."""
        error = await self.expect(Error)
        assert error.fatal, error
        return error.code, await self.closed()


@dataclass
class World:
    """A running gateway and its session services."""

    gateway: Gateway
    readiness: Readiness
    port: int
    services: Sequence[FakeSessionService]

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def audio_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/audio"

    @property
    def service(self) -> FakeSessionService:
        return self.services[0]

    def token(self, business: str = "cap", **kinds: Any) -> str:
        return self.gateway.tokens.issue(business, self.gateway.clock.now(), **kinds)[0]

    @asynccontextmanager
    async def caller(
        self,
        *,
        subprotocol: str | None = SUBPROTOCOL,
        port: int | None = None,
        path: str = "/v1/audio",
        **options: Any,
    ) -> AsyncIterator[Caller]:
        """A socket on which nothing was opened yet."""
        subprotocols = [Subprotocol(subprotocol)] if subprotocol else None
        url = f"ws://127.0.0.1:{port or self.port}{path}"
        async with connect(url, subprotocols=subprotocols, compression=None, proxy=None, **options) as socket:
            yield Caller(socket)

    @asynccontextmanager
    async def session(self, *, mode: str = "voice", **options: Any) -> AsyncIterator[tuple[Caller, FakeLink]]:
        """A running session, and its far end."""
        before = sum(len(service.links) for service in self.services)
        async with self.caller(**options) as caller:
            await caller.say(Open(token=self.token(), mode=mode))  # type: ignore[arg-type]
            await caller.expect(Ready)
            await until(
                lambda: sum(len(service.links) for service in self.services) > before,
                why="an attached session",
            )
            newest = [service.links[-1] for service in self.services if service.links]
            yield caller, next(link for link in reversed(newest) if link.close_code is None)

    @asynccontextmanager
    async def http(self) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=self.http_url, trust_env=False) as client:
            yield client


@asynccontextmanager
async def running_gateway(
    *services: FakeSessionService,
    urls: Sequence[str] | None = None,
    timing: Timing = QUICK,
    limits: AdmissionLimits | None = None,
    public_url: str | None = None,
    allowed_origins: tuple[str, ...] = (),
    access: TokenAccess | None = None,
    facts: FactsWatch | None = None,
    **parts: Any,
) -> AsyncIterator[World]:
    """Run a gateway in this process, with every service known to be ready."""
    readiness = Readiness("session_service")
    replicas = Replicas(
        tuple(urls if urls is not None else [service.url for service in services]),
        lambda is_ready, why: readiness.set("session_service", is_ready, why),
    )
    gateway = Gateway(
        tokens=Tokens((KEY,), ttl_s=60),
        businesses={"cap": "Cap Lending", "oak": "Oak Dental"},
        admission=Admission(limits or AdmissionLimits(sessions_max=50, address_opens_per_minute=0)),
        replicas=replicas,
        internal_token="development-only",
        timing=timing,
        **parts,
    )
    port, stop = free_port(), asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            rules = access or TokenAccess(allowed_origins)
            app = build_app(gateway, readiness, public_url, access=rules, facts=facts)
            watching = group.create_task(replicas.watch(gateway.clock))
            serving = group.create_task(serve_http(app, "127.0.0.1", port, stop, **server_options(gateway)))
            try:
                await until(lambda: replicas.ready_count >= len(services), why="the replicas to be probed")
                await until(lambda: _is_listening(port), why="the gateway to listen")
                yield World(gateway, readiness, port, services)
                await until(lambda: not gateway.admission.sockets_count, 15, "every socket to be gone")
            finally:
                watching.cancel()
                stop.set()
                await asyncio.wait({serving})
    finally:
        release(port)


async def _is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
