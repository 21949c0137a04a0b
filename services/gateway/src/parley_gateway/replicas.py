"""What this gateway knows of each session replica: whether it is ready, how full it is, what it carries for us.

Replicas are listed, or are the addresses of a DNS name. Knowledge comes from probes of /readyz, from ``load`` messages on
links and from links that failed. It does not choose: placement.py does. Law: what is not known is assumed good, for
trying is cheap and bounded; a name that does not resolve changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import msgspec
import structlog
from websockets.uri import parse_uri

from parley_common.clock import Clock
from parley_common.contracts.audio_link import Load
from parley_gateway.metrics import REPLICAS
from parley_gateway.placement import ReplicaView

PROBE_EVERY_MS = 500
PROBE_WITHIN_S = 1.0
HEARD_PROBED_EVERY = 4
"""A replica that is heard lives; whether it is ready it says only when asked."""
LOOK_UP_EVERY_MS = 5_000
LOOK_UP_WITHIN_S = 2.0
BY_NAME = "dns+ws"
"""The scheme of a name that stands for all its addresses, such as a headless service of Kubernetes."""

READYZ_MAX_BYTES = 16 * 1024
_CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d{1,6})\r\n")

log = structlog.get_logger("gateway")


class _LoadSaid(msgspec.Struct):
    sessions: int
    capacity: int
    draining: bool = False


class _Readyz(msgspec.Struct):
    load: _LoadSaid | None = None


@dataclass(slots=True)
class _Known:
    is_ready: bool = False
    load: Load | None = None
    """What it last said, when it was probed or on a link; null: nothing yet."""
    was_heard: bool = False
    """Since the last round of probes."""
    ours_count: int = 0
    is_gone: bool = False
    """It is not listed, or its name has it no more: it gets nothing new, what is there may stay."""


async def addresses_of(url: str) -> set[str]:
    """Return the base URLs of all addresses behind ``dns+ws://host:port/path``. Raises OSError."""
    uri = parse_uri(url.removeprefix("dns+"))
    found = await asyncio.get_running_loop().getaddrinfo(uri.host, uri.port, type=socket.SOCK_STREAM)
    hosts = {str(address[0]) for *_, address in found}
    return {f"ws://{_bracketed(host)}:{uri.port}{uri.path.rstrip('/')}" for host in hosts}


class Replicas:
    """The session replicas by base URL."""

    def __init__(
        self,
        urls: tuple[str, ...],
        on_change: Callable[[bool, str], None],
        look_up: Callable[[str], Awaitable[set[str]]] = addresses_of,
    ) -> None:
        """``on_change(any ready, why not)`` is told after each round of probes."""
        self._urls = urls
        self._names = tuple(url for url in urls if url.startswith(BY_NAME))
        self._listed = frozenset(urls) - frozenset(self._names)
        self._known = {url: _Known() for url in urls if url in self._listed}
        self._on_change = on_change
        self._look_up = look_up

    def views(self) -> list[ReplicaView]:
        """Return what placement needs, in the order of the setting."""
        return [_view(url, known) for url, known in self._known.items()]

    @property
    def ready_count(self) -> int:
        return sum(known.is_ready for known in self._known.values())

    def began(self, url: str) -> None:
        """Count a session of ours there; ``ended`` must follow."""
        self._known.setdefault(url, _Known(is_gone=True)).ours_count += 1

    def ended(self, url: str) -> None:
        """Count a session of ours less."""
        known = self._known[url]
        known.ours_count -= 1
        if known.is_gone and not known.ours_count:
            del self._known[url]

    def told(self, url: str, load: Load) -> None:
        """Take what a replica says of itself."""
        if url in self._known:
            self._known[url].load = load
            self._known[url].was_heard = True

    def failed(self, url: str) -> None:
        """Take it as unready until a probe says otherwise."""
        if url in self._known:
            self._known[url].is_ready = False

    async def watch(self, clock: Clock) -> None:
        """Probe twice a second, of those that are heard on links one time in four; look names up every five seconds."""
        looked_up_ms: int | None = None
        for turn in count():
            now_ms = clock.now_ms()
            if self._names and (looked_up_ms is None or now_ms - looked_up_ms >= LOOK_UP_EVERY_MS):
                looked_up_ms = now_ms
                await self.look_up()
            async with asyncio.TaskGroup() as group:
                for url, known in self._known.items():
                    if not known.is_ready or not known.was_heard or turn % HEARD_PROBED_EVERY == 0:
                        group.create_task(self._probe(url))
                    known.was_heard = False
            REPLICAS.set(self.ready_count)
            self._on_change(self.ready_count > 0, f"none of {', '.join(self._urls)} answers")
            await clock.sleep_ms(PROBE_EVERY_MS)

    async def look_up(self) -> None:
        """Learn what the names stand for now; one that does not resolve leaves everything as it was."""
        found: set[str] = set(self._listed)
        for name in self._names:
            try:
                async with asyncio.timeout(LOOK_UP_WITHIN_S):
                    found |= await self._look_up(name)
            except (OSError, TimeoutError) as wrong:
                log.warning("replicas.unresolved", name=name, kind=type(wrong).__name__)
                return
        for url in found:
            self._known.setdefault(url, _Known()).is_gone = False
        for url in [url for url in self._known if url not in found]:
            self._known[url].is_gone = True
            if not self._known[url].ours_count:
                del self._known[url]

    async def _probe(self, url: str) -> None:
        is_ready, load = await probe(url)
        known = self._known.get(url)
        if known is None:
            return
        if load is not None or (is_ready and not known.is_ready):
            known.load = load  # It came back: what it said before it went no longer holds.
        known.is_ready = is_ready


async def is_answering(url: str) -> bool:
    """Say whether the service at a ws(s) base URL answers 200 to GET /readyz within a second."""
    return (await probe(url))[0]


async def probe(url: str) -> tuple[bool, Load | None]:
    """Return whether the service at a ws(s) base URL is ready, and how full it says it is: GET /readyz, in a second."""
    uri = parse_uri(url)
    context = ssl.create_default_context() if uri.secure else None
    writer: asyncio.StreamWriter | None = None
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        try:
            async with asyncio.timeout(PROBE_WITHIN_S):
                reader, writer = await asyncio.open_connection(uri.host, uri.port, ssl=context)
                writer.write(f"GET {uri.path}/readyz HTTP/1.0\r\nHost: {uri.host}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                size = _CONTENT_LENGTH.search(head)
                body = await reader.readexactly(min(int(size[1]), READYZ_MAX_BYTES)) if size else b""
                return head.split(b" ", 2)[1:2] == [b"200"], _load_of(body)
        finally:
            if writer is not None:
                writer.transport.abort()
    return False, None


def _load_of(body: bytes) -> Load | None:
    """Return the ``load`` in a /readyz answer; null when it has none that makes sense."""
    try:
        said = msgspec.json.decode(body, type=_Readyz).load
    except msgspec.DecodeError:
        return None
    return Load(said.sessions, said.capacity, said.draining) if said is not None else None


def _view(url: str, known: _Known) -> ReplicaView:
    load = known.load or Load(sessions=0, capacity=0)
    return ReplicaView(
        url=url,
        is_ready=known.is_ready,
        is_draining=load.draining or known.is_gone,
        # A load is up to a second old; what we opened since is not in it yet.
        sessions_count=max(load.sessions, known.ours_count),
        capacity=load.capacity or None,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ipaddress.ip_address(host.partition("%")[0]).version == 6 else host
