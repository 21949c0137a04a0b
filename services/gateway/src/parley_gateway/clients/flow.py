"""How much one client may send: bytes and messages a second, with a burst of some seconds.

A client that was away, or whose thread slept, sends in one what it recorded meanwhile; nobody speaks much faster than
time for long. Pure: time is an argument. Law: two subtractions per frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from parley_common.errors import PeerViolation

BURST_S = 20
"""What may come at once, in seconds' worth: a widget keeps 10 s of microphone while its socket is away."""


@dataclass(frozen=True, slots=True)
class FlowLimits:
    """Per socket; 0 is no limit. Caller audio is 48,000 bytes in 25 to 50 frames a second."""

    bytes_per_s: int = 0
    messages_per_s: int = 0


NO_LIMITS = FlowLimits()


class Flow:
    """The buckets of one socket."""

    __slots__ = ("_bytes", "_limits", "_messages", "_seen_ms")

    def __init__(self, limits: FlowLimits, now_ms: int) -> None:
        self._limits = limits
        self._bytes = float(limits.bytes_per_s * BURST_S)
        self._messages = float(limits.messages_per_s * BURST_S)
        self._seen_ms = now_ms

    def take(self, size: int, now_ms: int) -> bool:
        """Count one frame of ``size`` bytes, or characters. False: it is too much."""
        limits = self._limits
        if now_ms != self._seen_ms:
            passed_s = (now_ms - self._seen_ms) / 1000
            self._seen_ms = now_ms
            self._bytes = min(self._bytes + passed_s * limits.bytes_per_s, limits.bytes_per_s * BURST_S)
            self._messages = min(
                self._messages + passed_s * limits.messages_per_s, limits.messages_per_s * BURST_S
            )
        self._bytes -= size
        self._messages -= 1
        is_flood = (limits.bytes_per_s and self._bytes < 0) or (limits.messages_per_s and self._messages < 0)
        return not is_flood


def flooding() -> PeerViolation:
    """Return the refusal of a client that sends too much; it closes."""
    return PeerViolation(
        "this client sends more than a microphone and a person can", code="too_fast", close_code=1013
    )
