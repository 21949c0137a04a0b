"""Decides who may open another socket or session: how full this process and a business are, and how often one asks.

Pure counters in memory: no clock, no socket. What other gateways do is known from what session replicas tell, a second
or two late: all gateways together may exceed a business's limit by what the others open in that time, and by no more
than ``gateways`` times the limit while nothing is told at all. The session service holds the same limit once more.

Law: the table of addresses is bounded; the longest unseen is forgotten first, so that a flood costs accuracy, never
memory. Whatever is refused here was never dialled.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

from parley_common.errors import Overloaded

FULL_RETRY_AFTER_S = 5.0
CALLBACKS_PER_MINUTE = 10
"""Of one address: each is a case that a person reads."""
MINUTE_MS = 60_000
TOLD_WITHIN_MS = 2_000
"""A session that opened longer ago is in what the replicas tell: they tell every second."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What this process bears; 0 per address is no limit."""

    sessions_max: int
    address_opens_per_minute: int
    addresses_max: int = 10_000
    address_sockets_max: int = 0

    @property
    def sockets_max(self) -> int:
        """Return how many sockets may be open: sessions, and room to open, or resume, when they are all taken."""
        return self.sessions_max + max(8, self.sessions_max // 4)


@dataclass(frozen=True, slots=True)
class BusinessLimits:
    """What one business may have; null is no limit."""

    sessions_max: int | None = None
    opens_per_minute: int | None = None


class Rate:
    """A token bucket per key, such as an address: a minute's worth at once, then evenly."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, key: str, per_minute: int, now_ms: int) -> float:
        """Take one and return 0, or return the seconds until there is one again."""
        if not per_minute:
            return 0.0
        left, seen_ms = self._buckets.pop(key, (float(per_minute), now_ms))
        left = min(per_minute, left + (now_ms - seen_ms) * per_minute / MINUTE_MS)
        wait_s = 0.0 if left >= 1 else (1 - left) * MINUTE_MS / per_minute / 1000
        self._buckets[key] = (left if wait_s else left - 1, now_ms)
        if len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        return wait_s

    def __len__(self) -> int:
        return len(self._buckets)


@dataclass(slots=True)
class _Running:
    """One business in this process."""

    sessions: int = 0
    opened_ms: deque[int] = field(default_factory=deque)
    """When those opened that the replicas may not have told yet."""


class Admission:
    """Counts the client sockets and the sessions of this process."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._opens = Rate(limits.addresses_max)
        self._tokens = Rate(limits.addresses_max)
        self._callbacks = Rate(limits.addresses_max)
        self._business_opens = Rate(limits.addresses_max)
        self._at_address: Counter[str] = Counter()
        self._businesses: dict[str, _Running] = {}
        self.draining = False
        self.sockets_count = 0
        self.sessions_count = 0

    def enter(self, address: str, now_ms: int) -> None:
        """Count one more socket; ``leave`` must follow. Raises Overloaded, and then nothing was counted."""
        if self.sockets_count >= self._limits.sockets_max:
            raise _full()
        network = network_of(address)
        self._check_address(network)
        self._check_rate(self._opens, network, now_ms)
        self._at_address[network] += 1
        self.sockets_count += 1

    def leave(self, address: str) -> None:
        """Count one socket less."""
        network = network_of(address)
        self._at_address[network] -= 1
        if not self._at_address[network]:
            del self._at_address[network]
        self.sockets_count -= 1

    def begin(self, business: str, limits: BusinessLimits, now_ms: int, told: int) -> None:
        """Count one more session; ``end`` must follow. Raises Overloaded, and then nothing was counted.

        Args:
            told: how many sessions of the business run anywhere, as the session replicas told it last.
        """
        self._check_room()
        running = self._check_business(business, limits, now_ms, told)
        wait_s = self._business_opens.take(business, limits.opens_per_minute or 0, now_ms)
        if wait_s:
            raise Overloaded(
                "too many sessions of this business were opened",
                code="too_many_business_opens",
                retry_after_s=float(math.ceil(wait_s)),
            )
        running.sessions += 1
        if limits.sessions_max is not None:
            running.opened_ms.append(now_ms)
        self.sessions_count += 1

    def begin_again(self, business: str) -> None:
        """Count a session that runs already, and is counted for its business; ``end`` must follow. Raises Overloaded."""
        self._check_room()
        self._businesses.setdefault(business, _Running()).sessions += 1
        self.sessions_count += 1

    def end(self, business: str) -> None:
        """Count one session less."""
        self._businesses[business].sessions -= 1
        self.sessions_count -= 1

    def check_token(
        self, address: str, business: str, limits: BusinessLimits, now_ms: int, told: int
    ) -> None:
        """Raise Overloaded when a token asked for now could not be used, or is asked for too often."""
        self._check_room()
        self._check_business(business, limits, now_ms, told)
        network = network_of(address)
        self._check_address(network)
        self._check_rate(self._tokens, network, now_ms)

    def callback_wait_s(self, address: str, now_ms: int) -> float:
        """Count one wish to be called back, room or not; more than 0: this address has too many, and is not counted."""
        return self._callbacks.take(network_of(address), CALLBACKS_PER_MINUTE, now_ms)

    def _check_room(self) -> None:
        if self.draining:
            raise Overloaded(
                "this gateway is going away; another takes over", code="draining", retry_after_s=1
            )
        if self.sessions_count >= self._limits.sessions_max:
            raise _full()

    def _check_business(self, business: str, limits: BusinessLimits, now_ms: int, told: int) -> _Running:
        running = self._businesses.setdefault(business, _Running())
        while running.opened_ms and now_ms - running.opened_ms[0] >= TOLD_WITHIN_MS:
            running.opened_ms.popleft()
        now = max(running.sessions, told + len(running.opened_ms))
        if limits.sessions_max is not None and now >= limits.sessions_max:
            raise Overloaded(
                "this business has as many sessions as it may",
                code="business_full",
                retry_after_s=FULL_RETRY_AFTER_S,
            )
        return running

    def _check_address(self, network: str) -> None:
        if self._limits.address_sockets_max and self._at_address[network] >= self._limits.address_sockets_max:
            raise Overloaded(
                "too many sockets are open from here",
                code="too_many_sockets",
                retry_after_s=FULL_RETRY_AFTER_S,
            )

    def _check_rate(self, rate: Rate, network: str, now_ms: int) -> None:
        wait_s = rate.take(network, self._limits.address_opens_per_minute, now_ms)
        if wait_s:
            raise Overloaded(
                "too many sessions were opened from here",
                code="too_many_opens",
                retry_after_s=float(math.ceil(wait_s)),
            )


def _full() -> Overloaded:
    return Overloaded("all lines are busy", code="full", retry_after_s=FULL_RETRY_AFTER_S)


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv6 host owns its whole /64."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
