"""What all clients of one gateway process share: keys, businesses, counters, replicas, the running sessions.

It owns no socket and serves no HTTP. Law: a session is registered while it runs and at no other time, so that
draining reaches every one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field

from parley_common.clock import Clock, SystemClock
from parley_common.errors import PeerViolation
from parley_common.ids import new_id
from parley_gateway.admission import Admission, BusinessLimits
from parley_gateway.clients.ends import DRAINED
from parley_gateway.clients.flow import NO_LIMITS, FlowLimits
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
    flow: FlowLimits = NO_LIMITS
    business_limits: Mapping[str, BusinessLimits] = field(default_factory=dict)
    """By name; a business that is missing has none."""
    callbacks: AbstractSet[str] = frozenset()
    """The businesses that call back whom they had no room for."""
    told: Callable[[str], int] = lambda _: 0
    """How many sessions of a business run anywhere, as session replicas told it last."""
    instance: str = field(default_factory=new_id)
    """Names this process in resume tokens: another holds none of our sessions, nor does our next life."""
    sessions: dict[str, Relay] = field(default_factory=dict)
    """By session id."""

    def check_business(self, name: str) -> None:
        """Raise PeerViolation (unknown_business) when there is no such business here."""
        if name not in self.businesses:
            raise PeerViolation(f"there is no business {name[:40]!r} here", code="unknown_business")

    def check_token(self, address: str, business: str) -> None:
        """Raise Overloaded when a token for this business could not be used now, or is asked for too often."""
        limits = self.business_limits.get(business, BusinessLimits())
        self.admission.check_token(address, business, limits, self.clock.now_ms(), self.told(business))

    @contextmanager
    def socket(self, address: str) -> Iterator[Callable[[], None]]:
        """Count a client's socket while it is open, or until the value is called. Raises Overloaded before that."""
        self.admission.enter(address, self.clock.now_ms())
        SOCKETS.set(self.admission.sockets_count)
        is_counted = True

        def leave() -> None:
            nonlocal is_counted
            if is_counted:
                is_counted = False
                self.admission.leave(address)
                SOCKETS.set(self.admission.sockets_count)

        try:
            yield leave
        finally:
            leave()

    @contextmanager
    def place(self, business: str) -> Iterator[None]:
        """Count a session of a business while it opens and runs. Raises Overloaded before that."""
        limits = self.business_limits.get(business, BusinessLimits())
        self.admission.begin(business, limits, self.clock.now_ms(), self.told(business))
        try:
            yield
        finally:
            self.admission.end(business)

    @contextmanager
    def place_again(self, business: str) -> Iterator[None]:
        """Count a session that another gateway held: only room here is asked for. Raises Overloaded before that."""
        self.admission.begin_again(business)
        try:
            yield
        finally:
            self.admission.end(business)

    @contextmanager
    def running(self, relay: Relay, session_id: str, url: str) -> Iterator[None]:
        """Register a session on a replica while it runs."""
        self.sessions[session_id] = relay
        self.replicas.began(url)
        SESSIONS.set(len(self.sessions))
        if self.admission.draining:
            relay.move()
        try:
            yield
        finally:
            if self.sessions.get(session_id) is relay:
                del self.sessions[session_id]
            self.replicas.ended(url)
            SESSIONS.set(len(self.sessions))

    async def drain(self, grace_s: float) -> None:
        """Refuse new sessions, ask the running ones to move, end those that are still here after ``grace_s``."""
        self.admission.draining = True
        for relay in list(self.sessions.values()):
            relay.move()
        if not await self._empty_within(grace_s):
            for relay in list(self.sessions.values()):
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
