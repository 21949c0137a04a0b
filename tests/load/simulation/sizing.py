"""What sessions ask of each resource, how much of everything they need, and which ceilings no replica lifts. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from load.simulation.inputs import PROBES_PER_S, TIERS, TOLD_PER_S, Deployment, Inputs, Measured, World

CALLER_TOKENS_PER_S, AGENT_TOKENS_PER_S, WORDS_PER_AUDIO_TOKEN = 10, 20, 0.2
"""Source: recordings of the Realtime API; audio heard by the model and audio spoken by it, and its transcript."""
SESSIONS_MAX = 10_000_000


def mean_s(world: World) -> float:
    """Return the mean length of a session."""
    short, long = (capped_mean_s(mean, world) for mean in (world.session_mean_s, world.long_mean_s))
    return (1 - world.long_share) * short + world.long_share * long


def capped_mean_s(mean: float, world: World) -> float:
    """Return the mean of exponential lengths that end at the longest a session may last."""
    return mean * (1 - math.exp(-world.session_max_s / mean))


def mean_age_s(world: World) -> float:
    """Return how long the sessions that run have lasted, on the mean."""
    short = (1 - world.long_share) * world.session_mean_s
    long = world.long_share * world.long_mean_s
    return (short * world.session_mean_s + long * world.long_mean_s) / (short + long)


@dataclass(frozen=True)
class Rates:
    """What one session does a second, on the mean."""

    turns: float
    calls: float
    effects: float
    deliveries: float
    ends: float

    @property
    def responses(self) -> float:
        return self.turns + self.calls


def rates(world: World) -> Rates:
    """Return what one session does a second; leads cannot take more calls than there are."""
    turns, ends = world.turns_per_min / 60, 1 / mean_s(world)
    calls = turns * world.tools_per_turn
    leads = ends * world.lead_share
    effects = min(calls, leads * world.effects_per_lead)
    return Rates(turns, calls, effects, leads * world.routes_per_lead, ends)


def tokens_per_s(world: World, age_s: float) -> float:
    """Return the tokens one session uses a second at an age: each response reads the conversation so far again."""
    heard = world.caller_speaks_share * CALLER_TOKENS_PER_S
    spoken = world.agent_speaks_share * AGENT_TOKENS_PER_S
    history = (heard + spoken * (1 - world.barge_in_share / 2)) * age_s
    return rates(world).responses * (world.prompt_tokens + history) + spoken * (1 + WORDS_PER_AUDIO_TOKEN)


def usage_ms_per_s(measured: Measured, records_per_s: float) -> float:
    """Return what reading so many usage records costs: between what was measured, beyond it at its last slope."""
    points = measured.usage_cpu_ms_per_s
    (near_per_s, near_ms), (far_per_s, far_ms) = points[-2:]
    slope = (far_ms - near_ms) / (far_per_s - near_per_s)
    between = float(np.interp(records_per_s, [each[0] for each in points], [each[1] for each in points]))
    return between + max(0.0, records_per_s - far_per_s) * slope


def mesh_ms_per_s(inputs: Inputs, gateways: float, replicas: float) -> tuple[float, float]:
    """Return what a gateway and a session replica spend on knowing the others of their cell."""
    measured = inputs.measured
    told = usage_ms_per_s(measured, replicas * inputs.world.businesses * TOLD_PER_S)
    return (
        told + replicas * PROBES_PER_S * measured.probe_gateway_cpu_ms,
        told + gateways * PROBES_PER_S * measured.probe_session_cpu_ms,
    )


def calls_per_s_of_process(inputs: Inputs) -> float:
    """Return how many calls a tools process answers a second, of the mix that sessions ask for."""
    each, measured = rates(inputs.world), inputs.measured
    share = each.effects / each.calls if each.calls else 0.0
    return 1 / (share / measured.effect_calls_per_s + (1 - share) / measured.read_calls_per_s)


def gateway_setup_ms(measured: Measured, replicas: float) -> float:
    """Return what a session that opens costs its gateway, which ranks all replicas of its cell."""
    return measured.gateway_setup_cpu_ms + measured.placement_cpu_us_per_replica * replicas / 1000


def facts_per_s(world: World, sessions: float) -> float:
    """Return the facts of so many sessions, of what their tools did, and of deliveries."""
    each = rates(world)
    return sessions * (each.turns + each.calls + 2 * each.ends + each.effects + each.deliveries)


def commits_per_s(measured: Measured, calls: float, effects: float, deliveries: float) -> float:
    """Return what the databases commit a second."""
    told = measured.commits_per_effect * effects + measured.commits_per_delivery * deliveries
    return measured.commits_per_read * (calls - effects) + told


def kafka_mb_per_s(inputs: Inputs, calls: float, facts: float) -> float:
    """Return what the brokers of all cells move a second: written, copied, and read by all who read it."""
    m, d = inputs.measured, inputs.deployment
    usage = d.session_replicas * inputs.world.businesses * TOLD_PER_S * m.usage_record_bytes
    results = calls * m.result_bytes
    written = calls * m.call_bytes + results + facts * m.fact_bytes + usage
    readers = max(1.0, d.session_replicas / d.cells / d.result_partitions)
    told = usage * (d.gateways + d.session_replicas) / d.cells
    read = calls * m.call_bytes + results * readers + facts * m.fact_bytes + told
    return (written * (2 * d.replication - 1) + read) / 1e6


def size(inputs: Inputs, sessions: int) -> Deployment:
    """Return the deployment for so many sessions: as few cells as the mesh allows, no spares."""
    for cells in range(1, sessions + 1):
        found = _cell(inputs, sessions / cells)
        if found is not None:
            return _whole(inputs, found, cells, sessions)
    raise ValueError("a core bears no session")


def _cell(inputs: Inputs, sessions: float) -> tuple[int, int] | None:
    """Return gateways and session replicas for one cell; null when they would be too busy with each other."""
    m, d = inputs.measured, inputs.deployment
    opens = sessions * rates(inputs.world).ends
    usable, gateways, replicas = m.busy_max * 1000 * d.headroom, 1, 1
    while True:
        mesh = mesh_ms_per_s(inputs, gateways, replicas)
        if max(mesh) > d.mesh_share_max * m.busy_max * 1000:
            return None
        gateway_ms = sessions * m.gateway_cpu_ms_per_s + opens * gateway_setup_ms(m, replicas)
        session_ms = sessions * m.session_cpu_ms_per_s + opens * m.session_setup_cpu_ms
        wanted = math.ceil(gateway_ms / (usable - mesh[0])), math.ceil(session_ms / (usable - mesh[1]))
        if wanted[0] <= gateways and wanted[1] <= replicas:
            return gateways, replicas
        gateways, replicas = max(gateways, wanted[0]), max(replicas, wanted[1])


def _whole(inputs: Inputs, cell: tuple[int, int], cells: int, sessions: int) -> Deployment:
    m, d, each = inputs.measured, inputs.deployment, rates(inputs.world)
    per_cell, (gateways, replicas) = sessions / cells, cell
    mesh = mesh_ms_per_s(inputs, gateways, replicas)
    calls, rate = per_cell * each.calls, calls_per_s_of_process(inputs) * d.headroom
    fits = (n for n in range(1, d.call_partitions + 1) if busiest_share(n, d.call_partitions) * calls <= rate)
    deliveries = per_cell * each.deliveries
    commits = commits_per_s(m, sessions * each.calls, sessions * each.effects, sessions * each.deliveries)
    found = replace(
        d,
        cells=cells,
        gateways=gateways * cells,
        session_replicas=replicas * cells,
        tools_processes=next(fits, d.call_partitions) * cells,
        notify_processes=math.ceil(deliveries / (m.deliveries_per_s * d.headroom)) * cells,
        databases=math.ceil(commits / (d.database_commits_per_s * d.headroom)),
        gateway_sessions_max=int((m.busy_max * 1000 - mesh[0]) / m.gateway_cpu_ms_per_s),
        session_sessions_max=int((m.busy_max * 1000 - mesh[1]) / m.session_cpu_ms_per_s),
    )
    told = facts_per_s(inputs.world, sessions)
    moved = kafka_mb_per_s(replace(inputs, deployment=found), sessions * each.calls, told)
    brokers = math.ceil(moved / cells / (d.broker_mb_per_s * d.headroom))
    return replace(found, brokers=max(d.replication, brokers) * cells)


def busiest_share(processes: int, partitions: int) -> float:
    """Return the share of a topic that the process with the most partitions has."""
    return math.ceil(partitions / processes) / partitions


def largest(fits: Callable[[int], bool]) -> int:
    """Return the largest number that fits, where everything below one that fits does too."""
    low, high = 0, SESSIONS_MAX
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def sessions_of_tier(world: World, requests_per_min: float, tokens_per_min: float) -> int:
    """Return how many sessions keep within an upstream's limits."""
    tokens = 60 * tokens_per_s(world, mean_age_s(world))
    return int(min(tokens_per_min / tokens, requests_per_min / (60 * rates(world).responses)))


def ceilings(inputs: Inputs) -> list[tuple[str, int]]:
    """Return what bounds one Kafka, one database or one account whatever is added to it: name and sessions."""
    world, d, m, each = inputs.world, inputs.deployment, inputs.measured, rates(inputs.world)
    alone = replace(inputs, deployment=replace(d, mesh_share_max=d.headroom * 0.999))
    one, answered = (
        commits_per_s(m, each.calls, each.effects, each.deliveries),
        calls_per_s_of_process(inputs),
    )
    found = [
        ("gateways and replicas that know each other, at the most they may spend on it", _cell_max(inputs)),
        ("the same, at all that a core has", _cell_max(alone)),
        (f"{d.call_partitions} partitions of tool calls", d.call_partitions * answered / each.calls),
        (
            f"{d.outbox_shards} shards of the tools' outbox",
            d.outbox_shards * m.relay_facts_per_s / each.effects,
        ),
        (f"one database of {d.database_commits_per_s:,.0f} commits a second", d.database_commits_per_s / one),
        *((f"upstream's tier {n}", sessions_of_tier(world, *limits)) for n, limits in TIERS.items()),
    ]
    return sorted(((name, int(sessions)) for name, sessions in found), key=lambda each: each[1])


def _cell_max(inputs: Inputs) -> int:
    return largest(lambda sessions: _cell(inputs, sessions) is not None)
