"""All inputs of a simulation: what was measured, what is deployed, and the world around it.

Limits of the code are read from the code. What nobody measured is an assumption, and says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from parley_common.contracts.operations import USAGE_AT_LEAST_EVERY_S
from parley_common.contracts.topics import TOOL_RESULTS, tool_calls_topic
from parley_common.outbox import SHARDS
from parley_gateway.replicas import PROBE_EVERY_MS
from parley_session.settings import SessionSettings

PROBES_PER_S = 1000 / PROBE_EVERY_MS
TOLD_PER_S = 1 / USAGE_AT_LEAST_EVERY_S
TIERS = {
    1: (200, 40_000),
    2: (400, 200_000),
    3: (5_000, 800_000),
    4: (10_000, 4_000_000),
    5: (20_000, 15_000_000),
}
"""Requests and tokens a minute by usage tier of gpt-realtime, -1.5 and -2.1. Source: the models' pages on
developers.openai.com, read in 2026; a request is a response. Azure's quotas are another matter."""


def _session_default(name: str) -> Any:
    return SessionSettings.model_fields[name].default


@dataclass(frozen=True)
class Measured:
    """What was measured: by the bench of 2026-11-26, the rest on the same machine with others at work on it."""

    measured_on: str = "2026-11-26"
    busy_max: float = 0.741
    """Of a core, at the most callers that held (p99 under 50 ms, nothing dropped): the bench's 30."""
    session_cpu_ms_per_s: float = 16.1
    gateway_cpu_ms_per_s: float = 8.6
    session_memory_kb: float = 1_219.0
    gateway_memory_kb: float = 52.0
    tool_base_ms: float = 34.0
    """Round trip of a tool call where nothing queues, p50."""
    session_setup_cpu_ms: float = 7.4
    gateway_setup_cpu_ms: float = 4.0
    placement_cpu_us_per_replica: float = 1.88
    """What a gateway does for each replica it knows when a session opens: rank it, and count its business."""
    probe_gateway_cpu_ms: float = 0.208
    probe_session_cpu_ms: float = 0.26
    usage_cpu_ms_per_s: tuple[tuple[float, float], ...] = ((0, 0), (100, 54), (502, 159.3), (1_500, 305))
    """What reading parley.usage costs each gateway and replica, by records a second."""
    usage_record_bytes: int = 169
    read_calls_per_s: float = 509.0
    """Of one tools process, analyze_deal, PostgreSQL."""
    effect_calls_per_s: float = 118.0
    """The same for save_lead."""
    commits_per_read: float = 1.03
    commits_per_effect: float = 2.14
    """At 100 calls a second of one process: the fuller it is, the more calls share a commit."""
    spool_facts_per_s: float = 469.0
    """What a replica writes to its spool and publishes."""
    relay_facts_per_s: float = 1_891.0
    """What the relay of one tools process publishes from PostgreSQL."""
    deliveries_per_s: float = 116.0
    """Of one notify process, two webhook routes."""
    commits_per_delivery: float = 2.2
    call_bytes: int = 700
    result_bytes: int = 1_248
    fact_bytes: int = 700
    """A mean of docs/contracts/samples, with key and headers."""


@dataclass(frozen=True)
class Deployment:
    """What runs. Each process has a core of its own. A cell is gateways, replicas and a Kafka that know of no other."""

    cells: int = 1
    gateways: int = 1
    session_replicas: int = 1
    tools_processes: int = 1
    notify_processes: int = 1
    brokers: int = 3
    databases: int = 1
    gateway_sessions_max: int = 500
    session_sessions_max: int = 500
    business_sessions_max: int | None = None
    """``limits.sessions_max`` over all cells; null: no limit."""
    call_partitions: int = tool_calls_topic("tools").partitions
    result_partitions: int = TOOL_RESULTS.partitions
    outbox_shards: int = SHARDS
    spool_facts_max: int = _session_default("spool_facts_max")
    resume_grace_s: int = _session_default("resume_grace_s")
    rollover_s: int = _session_default("rollover_min") * 60
    reconnect_s: int = _session_default("reconnect_s")
    tool_attempts_max: int = _session_default("tool_attempts_max")
    tool_deadline_s: float = 5.0
    session_memory_mb: float = 1_024.0
    """Assumption, as are the next three."""
    broker_mb_per_s: float = 100.0
    """In and out, replication included."""
    replication: int = 3
    database_commits_per_s: float = 5_000.0
    replica_back_s: int = 30
    """Assumption: a process that died is back, empty, after this."""
    headroom: float = 0.8
    """Sizing fills everything to this share of what it bears."""
    mesh_share_max: float = 0.2
    """Sizing spends at most this share of a core on what gateways and replicas of a cell tell each other."""


@dataclass(frozen=True)
class World:
    """Who comes, what they do and what goes wrong. All of it is assumption. A null time: it does not happen."""

    sessions: int = 100_000
    """At once, when arrivals are at their peak."""
    duration_s: int = 5_400
    morning_share: float = 0.5
    """Arrivals at the begin, as a share of the peak's; they grow to it within ``morning_s``."""
    morning_s: int = 900
    session_mean_s: float = 300.0
    long_share: float = 0.04
    """So many sessions have another mean, for roll-overs only happen to long ones."""
    long_mean_s: float = 1_800.0
    session_max_s: float = 7_200.0
    businesses: int = 5
    turns_per_min: float = 4.0
    barge_in_share: float = 0.2
    tools_per_turn: float = 0.25
    lead_share: float = 0.2
    """Sessions that leave a lead; each takes ``effects_per_lead`` of the tool calls."""
    effects_per_lead: float = 2.0
    routes_per_lead: float = 2.0
    caller_speaks_share: float = 0.35
    agent_speaks_share: float = 0.45
    prompt_tokens: float = 2_555.0
    """Instructions and tools of a business: the mean of the five here, at 4 characters a token (assumption)."""
    upstream_tokens_per_min: float | None = TIERS[5][1]
    upstream_requests_per_min: float | None = TIERS[5][0]
    lost_return_share: float = 0.8
    lost_return_mean_s: float = 10.0
    refused_return_share: float = 0.5
    refused_return_mean_s: float = 10.0
    resume_mean_s: float = 3.0
    """How long a client takes to come back by another gateway."""
    quiet_mean_s: float = 5.0
    """How long a roll-over that is due waits for a quiet moment."""
    rollover_jitter_s: float = 330.0
    """A tenth of the 55 minutes, as ``rollover_ms`` in profile.py spreads them."""
    in_step_at_s: float | None = 1_200.0
    """When those that ran at the begin, connected in one second, are due to roll over."""
    session_crash_at_s: int | None = 1_800
    gateway_crash_at_s: int | None = 2_100
    crashed_processes: int = 16
    """A machine of so many dies at once."""
    broker_away_at_s: int | None = 2_700
    broker_away_s: int = 300
    upstream_refuses_at_s: int | None = 3_900
    upstream_refuses_s: int = 60
    upstream_cut_share: float = 0.0
    """Of the sessions, those whose connection is cut too when upstream begins to refuse."""

    def calm(self, *, duration_s: int = 300) -> World:
        """Return the same world at its peak from the begin, with nothing going wrong."""
        never = {each.name: None for each in fields(self) if each.name.endswith("_at_s")}
        return replace(self, duration_s=duration_s, morning_share=1.0, morning_s=0, **never)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Inputs:
    """Everything a simulation is told."""

    measured: Measured = field(default_factory=Measured)
    deployment: Deployment = field(default_factory=Deployment)
    world: World = field(default_factory=World)

    def but(self, **changes: Any) -> Self:
        """Return the same with some fields changed, each in the part that has it. Raises ValueError for an unknown name."""
        parts = {}
        for part in ("measured", "deployment", "world"):
            whole = getattr(self, part)
            mine = {each.name: changes.pop(each.name) for each in fields(whole) if each.name in changes}
            parts[part] = replace(whole, **mine)
        if changes:
            raise ValueError(f"no input is called {', '.join(changes)}")
        return replace(self, **parts)


def read_bench(path: Path) -> dict[str, Any]:
    """Return the figures of a bench report: of sessions at the most callers that held, and of services at volume."""
    report = json.loads(path.read_text("utf-8"))
    found: dict[str, Any] = {"measured_on": report["at"][:10]}
    rungs = [one for one in report["measured"] if one["system"] == "parley"]
    if rungs:
        most = report["largest"]["parley"]["callers"] or min(one["rung"]["callers"] for one in rungs)
        held = sorted(
            (one for one in rungs if one["rung"]["callers"] == most), key=lambda one: not one["is_good"]
        )
        cpu, memory = held[0]["cpu_ms_per_session_s"], [one["memory_kb_per_session"] for one in rungs]
        found["busy_max"] = round(min(0.95, most * sum(cpu.values()) / 1000), 3)
        trip_ms = held[0]["figures"]["tool_ms"]["p50"]
        found |= {} if trip_ms is None else {"tool_base_ms": trip_ms}
        for service in ("session", "gateway"):
            found[f"{service}_cpu_ms_per_s"] = cpu[service]
            found[f"{service}_memory_kb"] = max(each[service] for each in memory)
    volume = report.get("volume") or {}
    for tool, kind in (("analyze_deal", "read"), ("save_lead", "effect")):
        rates = [one for one in volume.get("tools", ()) if one["tool"] == tool]
        if rates:
            found[f"{kind}_calls_per_s"] = max(one["tally"]["answered_per_s"] for one in rates)
            commits = [one["commits_per_call"] for one in rates if one["rate_per_s"] >= 50]
            found |= {f"commits_per_{kind}": commits[0]} if commits and commits[0] else {}
    for part, name in (("outbox", "relay_facts_per_s"), ("notify", "deliveries_per_s")):
        if volume.get(part):
            found[name] = max(one["per_s"] for one in volume[part])
    return found


def read_settings(pairs: list[str]) -> dict[str, Any]:
    """Return ``name=value`` pairs as values: JSON, where ``none`` is null. Raises ValueError."""
    found = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not is_pair:
            raise ValueError(f"{pair!r} is not name=value")
        found[name] = json.loads({"none": "null"}.get(value.lower(), value))
    return found
