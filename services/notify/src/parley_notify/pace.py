"""Decides which destinations may be bothered now: how often, by how many at once, and not before they asked.

Time is an argument. It holds one process's view: replicas pace themselves, each for itself.

Law: no destination holds every worker, however long it stays silent.
"""

from __future__ import annotations

from dataclasses import dataclass

HOLD_MAX_S = 3_600.0
"""One delivery's answer may hold its whole destination at most so long."""


@dataclass(slots=True)
class _Lane:
    in_flight: int = 0
    free_at_ms: float = 0.0


class Pace:
    """The destinations in use, by host."""

    def __init__(self, *, rate_per_s: float, in_flight_max: int) -> None:
        self._gap_ms = 1_000 / rate_per_s
        self._in_flight_max = in_flight_max
        self._lanes: dict[str, _Lane] = {}

    def busy(self, now_ms: float) -> list[str]:
        """Return the hosts to which nothing may be sent now."""
        self._forget(now_ms)
        return [host for host, lane in self._lanes.items() if not self._is_free(lane, now_ms)]

    def free_at_ms(self, now_ms: float) -> float | None:
        """Return when the next host that only waits for its time is free; null when none does."""
        times = [lane.free_at_ms for lane in self._lanes.values() if lane.in_flight < self._in_flight_max]
        return min((at_ms for at_ms in times if at_ms > now_ms), default=None)

    def begin(self, host: str, now_ms: float) -> None:
        """Note that an attempt begins."""
        lane = self._lanes.setdefault(host, _Lane())
        lane.in_flight += 1
        lane.free_at_ms = max(lane.free_at_ms, now_ms + self._gap_ms)

    def end(self, host: str, now_ms: float, *, hold_s: float = 0.0) -> None:
        """Note that an attempt ended; for ``hold_s`` from now the host wants nothing."""
        lane = self._lanes[host]
        lane.in_flight -= 1
        lane.free_at_ms = max(lane.free_at_ms, now_ms + min(hold_s, HOLD_MAX_S) * 1_000)

    def _is_free(self, lane: _Lane, now_ms: float) -> bool:
        return lane.in_flight < self._in_flight_max and lane.free_at_ms <= now_ms

    def _forget(self, now_ms: float) -> None:
        idle = [h for h, lane in self._lanes.items() if not lane.in_flight and lane.free_at_ms <= now_ms]
        for host in idle:
            del self._lanes[host]
