"""The numbers of the tools service, by name; labels are tool names and statuses, never anything of a caller."""

from __future__ import annotations

from parley_common.telemetry import LATENCY_BUCKETS_MS, Counter, Gauge, Histogram

CALLS = Counter("parley_tool_calls", "Tool calls settled, by tool and status", ["tool", "status"])
DURATION_MS = Histogram(
    "parley_tool_call_duration_ms", "A tool's own run, commit included", ["tool"], buckets=LATENCY_BUCKETS_MS
)
IN_FLIGHT = Gauge("parley_tool_calls_in_flight_count", "Calls accepted and not yet settled")
EXPIRED = Counter(
    "parley_tool_calls_expired", "Calls skipped because nobody waits for them any more", ["tool"]
)
REPEATS = Counter(
    "parley_tool_calls_repeated", "Attempts of calls already known, by what was done with them", ["how"]
)
UNDECODABLE = Counter(
    "parley_tool_calls_undecodable", "Records that are no tool call, by what was done", ["how"]
)
LEASES_LOST = Counter("parley_tool_leases_lost", "Runs rolled back because another worker had taken over")
UNANSWERED = Counter(
    "parley_tool_results_unpublished", "Results left to the requester's next attempt, by cause", ["cause"]
)
PAUSES = Counter("parley_tool_consumer_pauses", "Times the consumer paused because in_flight_max was reached")
COMMITS_DROPPED = Counter(
    "parley_tool_commits_dropped", "Commits of partitions that had become another member's"
)
OVERLOADED = Counter(
    "parley_tool_calls_overloaded",
    "Calls turned away because their business held its share already",
    ["business"],
)
