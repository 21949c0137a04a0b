"""Decides which destinations may be bothered now: how often, by how many at once, and not before they asked.

A destination that failed several times in a row has its circuit open: nothing goes there for a while, then one
attempt alone, and only its success lets the others follow.

Time is an argument. It holds one process's view: replicas pace themselves, each for itself.

Law: no destination holds every worker, however long it stays silent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

HOLD_MAX_S = 3_600.0
"""One delivery's answer may hold its whole destination at most so long."""
DOUBLINGS_MAX = 30
AHEAD_MS = 40.0
"""A claim takes what a host may get within so long, and each attempt waits for its moment."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """After ``failures_max`` failures in a row a destination rests ``first_s``, then twice that, up to ``wait_max_s``."""

    failures_max: int = 8
    first_s: float = 1.0
    wait_max_s: float = 60.0


@dataclass(slots=True)
class _Lane:
    in_flight: int = 0
    free_at_ms: float = 0.0
    failures: int = 0
    """In a row, up to now."""
    rests: int = 0
    """In a row, up to now."""
    rests_until_ms: float = 0.0


class Pace:
    """The destinations in use, by host."""

    def __init__(self, *, rate_per_s: float, in_flight_max: int, circuit: Circuit | None = None) -> None:
        self._gap_ms = 1_000 / rate_per_s
        self._in_flight_max = in_flight_max
        self._circuit = circuit or Circuit()
        self._lanes: dict[str, _Lane] = {}

    def busy(self, now_ms: float) -> list[str]:
        """Return the hosts to which nothing may be sent now."""
        self._forget(now_ms)
        return [host for host, lane in self._lanes.items() if not self._is_free(lane, now_ms)]

    @property
    def each_max(self) -> int:
        """Return how many attempts may be claimed at once for a host that nothing is known of."""
        return int(min(self._in_flight_max, 1 + AHEAD_MS // self._gap_ms if self._gap_ms else math.inf))

    def room(self, host: str) -> int:
        """Return how many attempts may be claimed at once for a host that is not busy."""
        lane = self._lanes.get(host)
        return min(self.each_max, self._places(lane) - lane.in_flight) if lane else self.each_max

    def free_at_ms(self, now_ms: float) -> float | None:
        """Return when the next host that only waits for its time is free; null when none does."""
        times = [lane.free_at_ms for lane in self._lanes.values() if lane.in_flight < self._places(lane)]
        return min((at_ms for at_ms in times if at_ms > now_ms), default=None)

    def open_count(self) -> int:
        """Return how many destinations have their circuit open."""
        return sum(self._is_open(lane) for lane in self._lanes.values())

    def begin(self, host: str, now_ms: float) -> float:
        """Note that an attempt begins; return how many milliseconds it has to wait for its moment."""
        lane = self._lanes.setdefault(host, _Lane())
        lane.in_flight += 1
        # A rest that began while this one was claimed is longer; it would hold one of the places.
        wait_ms = min(max(0.0, lane.free_at_ms - now_ms), AHEAD_MS)
        lane.free_at_ms = max(lane.free_at_ms, now_ms + wait_ms + self._gap_ms)
        return wait_ms

    def end(self, host: str, now_ms: float, *, hold_s: float = 0.0, failed: bool = False) -> None:
        """Note that an attempt ended; for ``hold_s`` from now the host wants nothing.

        Args:
            failed: the destination gave no usable answer; a refusal of one delivery is an answer.
        """
        lane = self._lanes[host]
        lane.in_flight -= 1
        lane.free_at_ms = max(lane.free_at_ms, now_ms + min(hold_s, HOLD_MAX_S) * 1_000)
        if not failed:
            lane.failures = lane.rests = 0
            return
        lane.failures += 1
        if self._is_open(lane) and lane.rests_until_ms <= now_ms:  # of many that fail together, one counts
            wait_s = min(
                self._circuit.first_s * 2.0 ** min(lane.rests, DOUBLINGS_MAX), self._circuit.wait_max_s
            )
            lane.rests += 1
            lane.rests_until_ms = now_ms + wait_s * 1_000
            lane.free_at_ms = max(lane.free_at_ms, lane.rests_until_ms)

    def _is_open(self, lane: _Lane) -> bool:
        return lane.failures >= self._circuit.failures_max

    def _places(self, lane: _Lane) -> int:
        return 1 if self._is_open(lane) else self._in_flight_max

    def _is_free(self, lane: _Lane, now_ms: float) -> bool:
        return lane.in_flight < self._places(lane) and lane.free_at_ms <= now_ms

    def _forget(self, now_ms: float) -> None:
        idle = [
            host
            for host, lane in self._lanes.items()
            if not lane.in_flight and lane.free_at_ms <= now_ms and not lane.failures
        ]
        for host in idle:
            del self._lanes[host]
