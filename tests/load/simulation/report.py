"""What a simulation says: Markdown for people, JSON for programs. Every figure comes from the run that is told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from load.simulation.engine import Outcome, Simulation
from load.simulation.inputs import Inputs
from load.simulation.sizing import ceilings, mean_age_s, mesh_ms_per_s, rates, size, tokens_per_s

LOADS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
SIZES = (1_000, 10_000, 100_000)
ROWS = 12
COLUMNS = {
    "sessions": ("sessions", 1),
    "gateways %": ("gateway processor", 100),
    "replicas %": ("session processor", 100),
    "tools %": ("tools processes", 100),
    "notify %": ("notify processes", 100),
    "databases %": ("databases", 100),
    "Kafka %": ("Kafka brokers", 100),
    "upstream tokens %": ("upstream tokens", 100),
    "tool p50, ms": ("tool p50, ms", 1),
    "p99, ms": ("tool p99, ms", 1),
    "calls queued": ("calls queued", 1),
    "deliveries due": ("deliveries due", 1),
    "fullest spool, facts": ("fullest spool", 1),
    "refused": ("refused", 1),
    "lost": ("lost", 1),
    "resumed": ("resumed", 1),
    "rolled over": ("rolled over", 1),
}
Broken = tuple[str, float, float]
"""A resource, its use at the load it was sized for, and the sessions at which it is full."""


def free_of_mesh(inputs: Inputs) -> Inputs:
    """Return the same, but that gateways and replicas know each other at no cost."""
    free = dict.fromkeys(
        ("probe_gateway_cpu_ms", "probe_session_cpu_ms", "placement_cpu_us_per_replica"), 0.0
    )
    return inputs.but(**free, usage_record_bytes=0, usage_cpu_ms_per_s=((0, 0), (1, 0)))


def breaks_first(inputs: Inputs, seed: int) -> list[Broken]:
    """Return what fills in which order.

    The same deployment bears 0.25 to 2 times the sessions, at peak, with open doors and nothing going wrong.
    """
    runs = []
    for load in LOADS:
        world = replace(inputs.world, sessions=round(inputs.world.sessions * load)).calm()
        use = Simulation(replace(inputs, world=world), seed, has_doors=False).run().use
        runs.append({name: sum(values) / len(values) for name, values in use.items()})
    found = []
    for name in runs[0]:
        used = [run[name] for run in runs]
        found.append((name, used[LOADS.index(1.0)], full_at(used) * inputs.world.sessions))
    return sorted(found, key=lambda each: each[2])


def full_at(used: Sequence[float]) -> float:
    """Return the load at which use reaches 1: between two that were run, else beyond them; below them in proportion."""
    high = next((n for n, use in enumerate(used) if use >= 1), len(used) - 1)
    if not high:
        return LOADS[0] / used[0]
    slope = (used[high] - used[high - 1]) / (LOADS[high] - LOADS[high - 1])
    return LOADS[high] + (1 - used[high]) / slope if slope > 0 else math.inf


def sizes(inputs: Inputs) -> list[list[object]]:
    """Return the rows of the sizing table; the last is what the largest would need were knowing each other free."""
    kinds = [(f"{n:,}", n, inputs) for n in SIZES]
    kinds.append((f"{SIZES[-1]:,}, were probes and usage reports free", SIZES[-1], free_of_mesh(inputs)))
    rows = []
    for title, sessions, told in kinds:
        d, world, each = size(told, sessions), told.world, rates(told.world)
        memory_gb = sessions * (told.measured.session_memory_kb + told.measured.gateway_memory_kb) / 1024**2
        tokens_m = sessions * 60 * tokens_per_s(world, mean_age_s(world)) / 1e6
        counts = [
            d.cells,
            d.gateways,
            d.session_replicas,
            d.tools_processes,
            d.notify_processes,
            d.call_partitions,
        ]
        amounts = [f"{memory_gb:.0f}", f"{tokens_m:,.0f}", f"{sessions * 60 * each.responses / 1000:,.0f}"]
        rows.append([title, *counts, d.brokers, d.databases, *amounts])
    return rows


def table(head: str, rows: Iterable[Iterable[object]]) -> list[str]:
    names = head.split(" | ")
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def over_time(outcome: Outcome) -> list[str]:
    """Return the run as a table: the most of each stretch of time."""
    tracks, whole_s = outcome.use | outcome.steps, len(outcome.steps["sessions"])
    length, rows = max(1, whole_s // ROWS), []
    for first in range(0, whole_s - length + 1, length):
        most = (scale * max(tracks[name][first : first + length]) for name, scale in COLUMNS.values())
        rows.append([f"{first / 60:g}–{(first + length) / 60:g}", *(f"{value:,.0f}" for value in most)])
    return table(" | ".join(["minutes", *COLUMNS]), rows)


def markdown(outcome: Outcome, broken: Sequence[Broken], seed: int, took_s: float) -> str:
    """Return the page for people."""
    inputs, d, w = outcome.inputs, outcome.inputs.deployment, outcome.inputs.world
    mesh = mesh_ms_per_s(inputs, d.gateways / d.cells, d.session_replicas / d.cells)
    facts = [
        f"measured on {inputs.measured.measured_on}; every input: `--inputs`, or the JSON; it took {took_s:.0f} s",
        f"{d.cells} cells, {d.brokers} brokers, databases: {d.databases}",
        f"{d.gateways:,} gateways of up to {d.gateway_sessions_max} sessions each",
        f"{d.session_replicas:,} session replicas of up to {d.session_sessions_max}",
        f"{d.tools_processes} tools processes, {d.notify_processes} of notify",
        f"of each second a gateway spends {mesh[0]:.0f} ms on knowing its cell, a replica {mesh[1]:.0f} ms",
        f"a session as old as the mean uses {60 * tokens_per_s(w, mean_age_s(w)):,.0f} tokens a minute",
    ]
    sums = sorted((name, f"{count:,}") for name, count in outcome.sums.items())
    fills = ((name, f"{100 * used:,.1f}", f"{full:,.0f}") for name, used, full in broken)
    bounds = ((name, f"{sessions:,}") for name, sessions in ceilings(inputs))
    sizing = "sessions | cells | gateways | session replicas | tools | notify | calls partitions per cell | brokers | "
    sizing += "databases | memory of sessions, GB | tokens a minute, M | requests a minute, k"
    parts = {
        "Over time: the most of each stretch; refused to rolled over are sums": over_time(outcome),
        "What became of it": table("what | count", sums),
        "What breaks first, with open doors and nothing else wrong": table(
            "resource | used at the load it was sized for, % | full at so many sessions", fills
        ),
        "What bounds one of it, whatever is added": table("ceiling | sessions", bounds),
        "Sizing": table(sizing, sizes(inputs)),
    }
    lines = [f"# {w.sessions:,} sessions, simulated for {w.duration_s / 60:g} minutes, seed {seed}", ""]
    lines += [f"- {fact}" for fact in facts]
    for title, part in parts.items():
        lines += ["", f"## {title}", "", *part]
    return "\n".join(lines) + "\n"


def as_json(outcome: Outcome, broken: Sequence[Broken], seed: int) -> dict[str, Any]:
    """Return the same and more for programs; the course of the run once a minute."""
    tracks = outcome.use | outcome.steps
    full = ((name, used, None if math.isinf(at) else round(at)) for name, used, at in broken)
    return {
        "seed": seed,
        "inputs": asdict(outcome.inputs),
        "sums": outcome.sums,
        "peaks": {name: max(values) for name, values in tracks.items()},
        "each_minute": {name: values[::60] for name, values in tracks.items()},
        "breaks_first": [{"resource": name, "use": used, "full_at_sessions": at} for name, used, at in full],
        "ceilings": dict(ceilings(outcome.inputs)),
        "sizes": {str(sessions): asdict(size(outcome.inputs, sessions)) for sessions in SIZES},
    }
