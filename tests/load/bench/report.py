"""What a run says: JSON for programs, a Markdown page for people. It computes nothing that was not measured.

The rows of services at volume and of duties are made in report_parts.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from load.bench import duties, machine
from load.bench.judge import Spread
from load.bench.plot import svg
from load.bench.report_parts import duty_lines, volume_lines
from load.bench.run import Run, largest, tried
from load.bench.steps import Measured

TITLES = {
    "parley": "Parley, gateway and session service on one core",
    "relay": "the smallest correct relay (picows, uvloop)",
    "echo": "a bare echo (picows, uvloop)",
    "gateway": "the gateway alone",
    "session": "the session service alone",
}


def as_json(run: Run, at: datetime) -> dict[str, Any]:
    """Return everything that was measured."""
    return {
        "at": at.isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "cores": {"system": run.lab.cores.system, "rest": run.lab.cores.rest},
        "upstream": run.lab.upstream,
        "kafka": run.kafka,
        "lasted_s": round(run.passed_s, 1),
        "load_1m": [run.load_1m, round(os.getloadavg()[0], 2)],
        "largest": {name: _largest(run, name) for name in systems_of(run)},
        "noise": noise(run.measured),
        "remarks": run.remarks,
        "measured": [one.as_dict() for one in run.measured],
        "volume": run.volume.as_dict(),
        "duties": duties.as_dict(run.duty_pairs),
    }


def systems_of(run: Run) -> list[str]:
    """Return the systems that were measured, in order."""
    return list(dict.fromkeys(one.system for one in run.measured))


def _largest(run: Run, system: str) -> dict[str, Any]:
    counts = tried(run.measured, system)
    tops = {str(n): f"{passed}/{tries}" for n, (passed, tries) in sorted(counts.items())}
    return {"callers": largest(counts), "passed_of_tries": tops}


def noise(measured: Iterable[Measured]) -> dict[str, Any]:
    """Return how the baselines at a few callers differed between the begin and the end of the run."""
    found: dict[str, Any] = {}
    for system in ("echo", "relay"):
        mine = [one for one in measured if one.system == system]
        few = [one for one in mine if one.rung.callers == mine[0].rung.callers]
        if len(few) < 2:
            continue
        first, last = _first_hop(few[0]), _first_hop(few[-1])
        found[system] = {"p50_ms": [first.p50, last.p50], "p99_ms": [first.p99, last.p99]}
    return found


def _first_hop(one: Measured) -> Spread:
    return one.figures.round_ms if one.system == "echo" else one.figures.up_ms


def markdown(run: Run, at: datetime) -> str:
    """Return the page for people."""
    what, load = machine.describe(), os.getloadavg()[0]
    lines = [
        f"# Bench of {at:%Y-%m-%d %H:%M}",
        "",
        f"{what['cpu']}, {what['cores']} cores, {what['memory_gb']} GB, Linux {what['kernel']}, Python {what['python']}.",
        f"Upstream: {run.lab.upstream}. Kafka: {run.kafka}. The run took {run.passed_s:.0f} s.",
        f"Load average as it began {run.load_1m:.2f}, at the end {load:.2f}.",
        "",
        *(_session_lines(run) if "sessions" in run.plan.parts else ()),
        *volume_lines(run.volume),
        *duty_lines(run.duty_pairs),
        "## How far to trust it",
        "",
        *_trust(run),
    ]
    return "\n".join(lines) + "\n"


def _session_lines(run: Run) -> list[str]:
    lines = [
        "Added latency in ms, p50 / p99 / p99.9. CPU in ms per session-second, memory in KB per session.",
        "",
        *_table(run.measured),
        "",
        "## Other figures",
        "",
        *_more(run.measured),
        "",
        "## The largest number of callers, p99 under 50 ms and nothing dropped",
        "",
    ]
    for system in systems_of(run):
        found = _largest(run, system)
        tries = ", ".join(f"{n}: {counts}" for n, counts in found["passed_of_tries"].items())
        lines.append(f"- {TITLES[system]}: {found['callers'] or 'none'} (passed of tries: {tries})")
    return [*lines, ""]


def _table(measured: Iterable[Measured]) -> list[str]:
    rows = [
        "| system | callers | up | down | barge-in to stop | CPU | memory | lost | late after stop | holds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        f = one.figures
        up = f.round_ms if one.system == "echo" else f.up_ms
        down = "(both ways)" if one.system == "echo" else _spread(f.down_ms)
        cpu = " + ".join(f"{ms:.1f}" for ms in one.cpu_ms_per_session_s.values())
        memory = " + ".join(f"{kb:.0f}" for kb in one.memory_kb_per_session.values())
        lost, stop = f"{f.lost} of {f.expected}", f"{f.late_after_stop}"
        cells = [one.system, one.rung.callers, _spread(up), down, _spread(f.barge_in_ms), cpu, memory]
        rows.append("| " + " | ".join(map(str, [*cells, lost, stop, "yes" if one.is_good else "no"])) + " |")
    return rows


def _spread(spread: Spread) -> str:
    if not spread.count:
        return "–"
    return " / ".join(f"{value:.2f}" for value in (spread.p50, spread.p99, spread.p999) if value is not None)


def _more(measured: Iterable[Measured]) -> list[str]:
    rows = [
        "| system | callers | truncation error | tool round trip | token | dial | open to ready | barge-ins |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        f = one.figures
        if one.system == "echo":
            continue
        spreads = (f.truncation_error_ms, f.tool_ms, f.token_ms, f.connect_ms, f.ready_ms)
        cells = [one.system, one.rung.callers, *map(_spread, spreads), f.barge_ins]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return rows


def _trust(run: Run) -> list[str]:
    lines = []
    if run.measured:
        lines += [
            "| system | callers | generator late p99, CPU % | upstream | backends CPU % | cores busy % | doubts |",
            "|---|---|---|---|---|---|---|",
        ]
    for one in run.measured:
        generator = f"{one.generator_late_ms:.2f} ms, {one.generator_pct:.0f}"
        upstream = f"{one.upstream_late_ms:.2f} ms, {one.upstream_pct:.0f}"
        busy = f"{one.core_pct['system']:.0f} and {one.core_pct['rest']:.0f}"
        cells = [one.system, one.rung.callers, generator, upstream, f"{one.backends_pct:.0f}", busy]
        cells.append("; ".join(one.doubts))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [""] if run.measured else []
    for system, values in noise(run.measured).items():
        (p50, p50_last), (p99, p99_last) = values["p50_ms"], values["p99_ms"]
        lines.append(f"- {system} first and last: p50 {p50} and {p50_last} ms, p99 {p99} and {p99_last} ms")
    lines.append(f"- what else ran, by the most it took of a core during a step: {_others(run)}")
    if not run.lab.cores.are_apart:
        lines.append("- there was one core for everything: latencies are those of a machine that is shared")
    return lines + [f"- {remark}" for remark in dict.fromkeys(run.remarks)]


def _others(run: Run) -> str:
    """Name who else ran during any step, the busiest first."""
    steps = [one.others for one in (*run.measured, *(pair.on.measured for pair in run.duty_pairs))]
    steps += [one.around.others for one in (*run.volume.tools, *run.volume.outbox, *run.volume.notify)]
    most: dict[str, int] = {}
    for step in steps:
        for name, share in step.items():
            most[name] = max(share, most.get(name, 0))
    busy = sorted(most.items(), key=lambda other: -other[1])
    return ", ".join(f"{name} {share} %" for name, share in busy) or "nothing over 1 %"


def write(run: Run, folder: Path, at: datetime) -> None:
    """Write bench.json, bench.md and, where sessions were measured, bench.svg into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(as_json(run, at), indent=1) + "\n", "utf-8")
    (folder / "bench.md").write_text(markdown(run, at), "utf-8")
    if run.measured:
        (folder / "bench.svg").write_text(svg(run.measured), "utf-8")
