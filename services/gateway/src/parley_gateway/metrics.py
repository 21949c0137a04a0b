"""The gateway's numbers, by name. Frames are counted in plain integers per session and added here twice a second.

Law: no label has an unbounded set of values: businesses, codes and kinds only.
"""

from __future__ import annotations

from parley_common.telemetry import LATENCY_BUCKETS_MS, Counter, Gauge, Histogram

SESSIONS = Gauge("parley_gateway_sessions_count", "Sessions of this gateway now")
SOCKETS = Gauge("parley_gateway_sockets_count", "Client sockets of this gateway now, opening ones included")
REPLICAS = Gauge("parley_gateway_session_replicas_count", "Session replicas that are ready now")
OPENED = Counter("parley_gateway_sessions_opened", "Sessions opened", ["business"])
ENDED = Counter("parley_gateway_sessions_ended", "Sessions ended", ["business", "reason"])
REFUSED = Counter("parley_gateway_opens_refused", "Sockets and tokens refused", ["code"])
VIOLATIONS = Counter("parley_gateway_client_violations", "Messages and frames refused in sessions", ["code"])
FRAMES = Counter("parley_gateway_frames", "Audio frames forwarded", ["direction"])
BYTES = Counter("parley_gateway_audio_bytes", "Bytes of audio frames forwarded", ["direction"])
STALE = Counter("parley_gateway_stale_frames", "Audio frames dropped because their epoch was over")
UPLINK_DROPPED = Counter(
    "parley_gateway_uplink_frames_dropped", "Caller frames dropped: the replica was behind"
)
UPLINK_JUMPS = Counter("parley_gateway_uplink_jumps", "Sample numbers that did not follow", ["kind"])
LINK_UNREADABLE = Counter(
    "parley_gateway_link_messages_unreadable", "Link messages that nobody here knows or expects"
)
FACTS_UNSEEN = Counter(
    "parley_gateway_facts_unseen", "Facts dropped because a page that watches was too slow"
)
SLOW_CLIENTS = Counter("parley_gateway_slow_clients", "Clients that fell too far behind")
HELD = Gauge("parley_gateway_sessions_held_count", "Sessions whose client is away and may come back")
RESUMED = Counter("parley_gateway_sessions_resumed", "Clients that took up their session again", ["kind"])
KEPT_DROPPED = Counter(
    "parley_gateway_kept_frames_dropped", "Audio frames not kept for a client that may come back: too many"
)
LINK_OPEN_MS = Histogram(
    "parley_gateway_link_open_ms", "From dialling a replica to its ready", buckets=LATENCY_BUCKETS_MS
)
PLACEMENT_MISSES = Counter("parley_gateway_placement_misses", "Replicas tried in vain", ["code"])
_UP_FRAMES, _DOWN_FRAMES = FRAMES.labels("up"), FRAMES.labels("down")
_UP_BYTES, _DOWN_BYTES = BYTES.labels("up"), BYTES.labels("down")
_GAPS, _REPEATS = UPLINK_JUMPS.labels("gap"), UPLINK_JUMPS.labels("repeat")


class Traffic:
    """What one session carried since it was last added to the process's counters."""

    __slots__ = (
        "down_bytes",
        "down_count",
        "dropped_count",
        "gaps",
        "repeats",
        "stale",
        "up_bytes",
        "up_count",
    )

    def __init__(self) -> None:
        self.up_count = self.up_bytes = self.down_count = self.down_bytes = self.dropped_count = 0
        self.gaps = self.repeats = self.stale = 0

    def report(self, gaps: int, repeats: int, stale: int) -> None:
        """Add what is new to the counters; the arguments are totals of the session so far."""
        _UP_FRAMES.inc(self.up_count)
        _DOWN_FRAMES.inc(self.down_count)
        _UP_BYTES.inc(self.up_bytes)
        _DOWN_BYTES.inc(self.down_bytes)
        UPLINK_DROPPED.inc(self.dropped_count)
        self.up_count = self.up_bytes = self.down_count = self.down_bytes = self.dropped_count = 0
        _GAPS.inc(gaps - self.gaps)
        _REPEATS.inc(repeats - self.repeats)
        STALE.inc(stale - self.stale)
        self.gaps, self.repeats, self.stale = gaps, repeats, stale
