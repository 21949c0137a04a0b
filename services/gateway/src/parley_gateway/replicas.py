"""What this gateway knows of each session replica: whether it is ready, how full it is, what it carries for us.

Knowledge comes from probes of /readyz, from ``load`` messages on links and from links that failed. It does not
choose: placement.py does. Law: what is not known is assumed good, for trying is cheap and bounded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from websockets.uri import parse_uri

from parley_common.clock import Clock
from parley_common.contracts.audio_link import Load
from parley_gateway.metrics import REPLICAS
from parley_gateway.placement import ReplicaView

PROBE_EVERY_MS = 500
PROBE_WITHIN_S = 1.0


@dataclass(slots=True)
class _Known:
    is_ready: bool = False
    load: Load | None = None
    ours_count: int = 0


class Replicas:
    """The session replicas by base URL."""

    def __init__(self, urls: tuple[str, ...], on_change: Callable[[bool, str], None]) -> None:
        """``on_change(any ready, why not)`` is told after each round of probes."""
        self._known = {url: _Known() for url in urls}
        self._on_change = on_change

    def views(self) -> list[ReplicaView]:
        """Return what placement needs, in the order of the setting."""
        return [_view(url, known) for url, known in self._known.items()]

    @property
    def ready_count(self) -> int:
        return sum(known.is_ready for known in self._known.values())

    def began(self, url: str) -> None:
        """Count a session of ours there; ``ended`` must follow."""
        self._known.setdefault(url, _Known()).ours_count += 1

    def ended(self, url: str) -> None:
        """Count a session of ours less."""
        if url in self._known:
            self._known[url].ours_count -= 1

    def told(self, url: str, load: Load) -> None:
        """Take what a replica says of itself."""
        if url in self._known:
            self._known[url].load = load

    def failed(self, url: str) -> None:
        """Take it as unready until a probe says otherwise."""
        if url in self._known:
            self._known[url].is_ready = False

    async def watch(self, clock: Clock) -> None:
        """Probe every replica twice a second, until cancelled."""
        while True:
            async with asyncio.TaskGroup() as group:
                for url in self._known:
                    group.create_task(self._probe(url))
            REPLICAS.set(self.ready_count)
            self._on_change(self.ready_count > 0, f"none of {', '.join(self._known)} answers")
            await clock.sleep_ms(PROBE_EVERY_MS)

    async def _probe(self, url: str) -> None:
        is_ready = await is_answering(url)
        known = self._known[url]
        if is_ready and not known.is_ready:
            known.load = None  # It came back: what it said before it went no longer holds.
        known.is_ready = is_ready


async def is_answering(url: str) -> bool:
    """Say whether the service at a ws(s) base URL answers 200 to GET /readyz within a second."""
    uri = parse_uri(url)
    context = ssl.create_default_context() if uri.secure else None
    writer: asyncio.StreamWriter | None = None
    with suppress(OSError):
        try:
            async with asyncio.timeout(PROBE_WITHIN_S):
                reader, writer = await asyncio.open_connection(uri.host, uri.port, ssl=context)
                writer.write(f"GET {uri.path}/readyz HTTP/1.0\r\nHost: {uri.host}\r\n\r\n".encode())
                return (await reader.readline()).split(b" ")[1:2] == [b"200"]
        finally:
            if writer is not None:
                writer.transport.abort()
    return False


def _view(url: str, known: _Known) -> ReplicaView:
    load = known.load or Load(sessions=0, capacity=0)
    return ReplicaView(
        url=url,
        is_ready=known.is_ready,
        is_draining=load.draining,
        # A load is up to a second old; what we opened since is not in it yet.
        sessions_count=max(load.sessions, known.ours_count),
        capacity=load.capacity or None,
    )
