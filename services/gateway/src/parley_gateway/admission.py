"""Decides who may open another socket: how full this process is, and how often one address asks.

Pure counters in memory: no clock, no socket, and nothing shared between gateways. Law: the table of addresses
is bounded; the longest unseen is forgotten first, so that a flood costs accuracy, never memory.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass

from parley_common.errors import Overloaded

FULL_RETRY_AFTER_S = 5.0
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What this process bears; ``address_opens_per_minute`` 0 is no limit."""

    sessions_max: int
    address_opens_per_minute: int
    addresses_max: int = 10_000


class Rate:
    """A token bucket per address: a minute's worth at once, then evenly."""

    def __init__(self, per_minute: int, addresses_max: int) -> None:
        self._per_minute = per_minute
        self._addresses_max = addresses_max
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, address: str, now_ms: int) -> float:
        """Take one and return 0, or return the seconds until there is one again."""
        if not self._per_minute:
            return 0.0
        left, seen_ms = self._buckets.pop(address, (float(self._per_minute), now_ms))
        left = min(self._per_minute, left + (now_ms - seen_ms) * self._per_minute / MINUTE_MS)
        wait_s = 0.0 if left >= 1 else (1 - left) * MINUTE_MS / self._per_minute / 1000
        self._buckets[address] = (left if wait_s else left - 1, now_ms)
        if len(self._buckets) > self._addresses_max:
            self._buckets.popitem(last=False)
        return wait_s

    def __len__(self) -> int:
        return len(self._buckets)


class Admission:
    """Counts the client sockets of this process."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._opens = Rate(limits.address_opens_per_minute, limits.addresses_max)
        self._tokens = Rate(limits.address_opens_per_minute, limits.addresses_max)
        self.draining = False
        self.sockets_count = 0

    def enter(self, address: str, now_ms: int) -> None:
        """Count one more socket; ``leave`` must follow. Raises Overloaded, and then nothing was counted."""
        self._check_room()
        self._check_rate(self._opens, address, now_ms)
        self.sockets_count += 1

    def leave(self) -> None:
        """Count one socket less."""
        self.sockets_count -= 1

    def check_token(self, address: str, now_ms: int) -> None:
        """Raise Overloaded when a token asked for now could not be used, or is asked for too often."""
        self._check_room()
        self._check_rate(self._tokens, address, now_ms)

    def _check_room(self) -> None:
        if self.draining:
            raise Overloaded(
                "this gateway is going away; another takes over", code="draining", retry_after_s=1
            )
        if self.sockets_count >= self._limits.sessions_max:
            raise Overloaded("all lines are busy", code="full", retry_after_s=FULL_RETRY_AFTER_S)

    def _check_rate(self, rate: Rate, address: str, now_ms: int) -> None:
        wait_s = rate.take(network_of(address), now_ms)
        if wait_s:
            raise Overloaded(
                "too many sessions were opened from here",
                code="too_many_opens",
                retry_after_s=float(math.ceil(wait_s)),
            )


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv6 host owns its whole /64."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
