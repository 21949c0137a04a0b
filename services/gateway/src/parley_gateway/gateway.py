"""What all clients of one gateway process share: keys, businesses, counters, replicas, the running sessions.

It owns no socket and serves no HTTP. Law: a session is registered while it runs and at no other time, so that
draining reaches every one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from parley_common.clock import Clock, SystemClock
from parley_common.errors import PeerViolation
from parley_gateway.admission import Admission
from parley_gateway.clients.ends import DRAINED
from parley_gateway.clients.relay import Relay
from parley_gateway.metrics import SESSIONS, SOCKETS
from parley_gateway.replicas import Replicas
from parley_gateway.settings import Timing
from parley_gateway.tokens import Tokens

DRAIN_POLL_MS = 20


@dataclass(frozen=True, slots=True)
class Gateway:
    """One process's gateway."""

    tokens: Tokens
    businesses: Mapping[str, str]
    """Titles by name."""
    admission: Admission
    replicas: Replicas
    internal_token: str = field(repr=False)
    timing: Timing = field(default_factory=Timing)
    clock: Clock = field(default_factory=SystemClock)
    downlink_queue_bytes: int = 4 * 1024 * 1024
    resume_grace_s: int = 30
    sessions: set[Relay] = field(default_factory=set)

    def check_business(self, name: str) -> None:
        """Raise PeerViolation (unknown_business) when there is no such business here."""
        if name not in self.businesses:
            raise PeerViolation(f"there is no business {name[:40]!r} here", code="unknown_business")

    @contextmanager
    def socket(self, address: str) -> Iterator[None]:
        """Count a client's socket while it is open. Raises Overloaded before that."""
        self.admission.enter(address, self.clock.now_ms())
        SOCKETS.set(self.admission.sockets_count)
        try:
            yield
        finally:
            self.admission.leave()
            SOCKETS.set(self.admission.sockets_count)

    @contextmanager
    def running(self, relay: Relay, url: str) -> Iterator[None]:
        """Register a session on a replica while it runs."""
        self.sessions.add(relay)
        self.replicas.began(url)
        SESSIONS.set(len(self.sessions))
        if self.admission.draining:
            relay.move()
        try:
            yield
        finally:
            self.sessions.discard(relay)
            self.replicas.ended(url)
            SESSIONS.set(len(self.sessions))

    async def drain(self, grace_s: float) -> None:
        """Refuse new sessions, ask the running ones to move, end those that are still here after ``grace_s``."""
        self.admission.draining = True
        for relay in list(self.sessions):
            relay.move()
        if not await self._empty_within(grace_s):
            for relay in list(self.sessions):
                relay.finish(DRAINED)
            await self._empty_within(2 * self.timing.close_within_ms / 1000)

    async def _empty_within(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                while self.sessions:
                    await self.clock.sleep_ms(DRAIN_POLL_MS)
        except TimeoutError:
            return False
        return True
