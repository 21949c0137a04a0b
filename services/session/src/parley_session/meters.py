"""The numbers of a session that the shell measures, by name; labels are businesses and kinds, never anything of a caller.

Tokens and money are counted as the core's totals grow, so that greetings and lost turns are in them.
"""

from __future__ import annotations

from parley_common.contracts import audio_link
from parley_common.telemetry import LATENCY_BUCKETS_MS, Counter, Histogram
from parley_session.core.state import Totals

BARGE_IN_TO_SILENCE_MS = Histogram(
    "parley_barge_in_to_silence_ms",
    "From what took the floor to the client's word that it is silent",
    buckets=LATENCY_BUCKETS_MS,
)
TRUNCATION_ERROR_MS = Histogram(
    "parley_truncation_error_ms",
    "How far what was claimed as heard is from the client's final word",
    buckets=LATENCY_BUCKETS_MS,
)
COST_USD = Counter("parley_cost_usd", "Money spent upstream, where prices are known", ["business"])
TOKENS = Counter(
    "parley_tokens", "Tokens used upstream; cached ones are part of the input", ["business", "kind"]
)
INVALID_RECORDS = Counter(
    "parley_session_records_invalid", "Records of compacted topics that cannot be read, ignored", ["what"]
)
CLIENT_UNDERRUNS = Counter("parley_client_underruns", "Times a client had nothing to play, as clients tell")
CLIENT_LATE_FRAMES = Counter(
    "parley_client_late_frames", "Audio frames that came too late to be played, as clients tell"
)
CLIENT_ROUND_TRIP_MS = Histogram(
    "parley_client_round_trip_ms",
    "From a client's ping to its pong, as clients tell",
    buckets=LATENCY_BUCKETS_MS,
)
CLIENT_COUNT_MAX = 10_000
CLIENT_MS_MAX = 60_000
"""What one client tells is believed up to here, so that none spoils the sum."""

_TOKEN_KINDS = (
    "input_text",
    "input_audio",
    "input_image",
    "cached_text",
    "cached_audio",
    "cached_image",
    "output_text",
    "output_audio",
)


def count_spending(business: str, before: Totals, after: Totals) -> None:
    """Count what a session used between two of its states."""
    COST_USD.labels(business).inc(max(0.0, after.cost_usd - before.cost_usd))
    if after.usage is before.usage:
        return
    for kind in _TOKEN_KINDS:
        used: int = getattr(after.usage, kind) - getattr(before.usage, kind)
        if used > 0:
            TOKENS.labels(business, kind).inc(used)


def count_client_stats(stats: audio_link.Stats) -> None:
    """Count how well a client could play what it was sent."""
    CLIENT_UNDERRUNS.inc(min(stats.underruns, CLIENT_COUNT_MAX))
    CLIENT_LATE_FRAMES.inc(min(stats.late_frames, CLIENT_COUNT_MAX))
    if stats.round_trip_ms is not None and stats.round_trip_ms >= 0:
        CLIENT_ROUND_TRIP_MS.observe(min(stats.round_trip_ms, CLIENT_MS_MAX))
