"""Every topic, once: name, key, partitions, cleanup, who writes it and who reads it.

Does not talk to a broker; kafka.py applies this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DEAD_SUFFIX = ".dead"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it must be. ``key`` says in words what orders its records."""

    name: str
    key: str
    partitions: int
    written_by: str
    read_by: str
    cleanup: Literal["delete", "compact"] = "delete"
    retention_ms: int | None = None
    """null for compacted topics."""

    @property
    def config(self) -> dict[str, str]:
        """Return the topic-level broker configuration."""
        if self.cleanup == "compact":
            return {"cleanup.policy": "compact", "delete.retention.ms": str(HOUR_MS)}
        return {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}


TOOL_CATALOG = Topic("parley.tool.catalog", "service/instance", 1, "tool services", "session", "compact")
TOOL_RESULTS = Topic(
    "parley.tool.results",
    "explicit partition",
    64,
    "tool services",
    "session (no group)",
    retention_ms=HOUR_MS,
)
SESSION_EVENTS = Topic(
    "parley.session.events", "session_id", 24, "session", "insights, CRM", retention_ms=7 * DAY_MS
)
LEAD_EVENTS = Topic(
    "parley.lead.events", "lead_id", 24, "tools (outbox)", "notify, CRM", retention_ms=30 * DAY_MS
)
CASE_EVENTS = Topic(
    "parley.case.events", "case_id", 24, "tools (outbox)", "notify, CRM", retention_ms=30 * DAY_MS
)
DELIVERY_EVENTS = Topic(
    "parley.delivery.events", "lead_id or case_id", 24, "notify (outbox)", "insights", retention_ms=7 * DAY_MS
)
USAGE = Topic("parley.usage", "replica:business", 1, "session", "gateways, session", "compact")
SWITCHES = Topic("parley.switches", "business or business/tool", 1, "operators", "session", "compact")

OWN_TOOL_SERVICE = "tools"
"""The name of the tool service in this repository; others announce their own."""


def tool_calls_topic(service: str) -> Topic:
    """Return the topic on which a tool service is called."""
    return Topic(
        f"parley.tool.calls.{service}",
        "session_id",
        24,
        "session",
        f"{service} (group)",
        retention_ms=HOUR_MS,
    )


def dead_letters(topic: Topic) -> Topic:
    """Return the topic for records of ``topic`` that no consumer can process; same keys."""
    return Topic(
        topic.name + DEAD_SUFFIX,
        topic.key,
        3,
        f"consumers of {topic.name}",
        "people",
        retention_ms=30 * DAY_MS,
    )


FACT_TOPICS = (SESSION_EVENTS, LEAD_EVENTS, CASE_EVENTS, DELIVERY_EVENTS)
TOPICS: tuple[Topic, ...] = (
    TOOL_CATALOG,
    tool_calls_topic(OWN_TOOL_SERVICE),
    TOOL_RESULTS,
    *FACT_TOPICS,
    USAGE,
    SWITCHES,
    *(dead_letters(topic) for topic in FACT_TOPICS),
)
