"""What the machine is, what it did besides, and what each process took of it. Linux: it reads /proc."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

BUSY_PCT = 1.0
"""Who takes less of a core than this is not named."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """Which core the system under test has, and which everything else."""

    system: int
    rest: int

    @property
    def are_apart(self) -> bool:
        return self.system != self.rest


def choose_cores(system: int | None, rest: int | None) -> Cores:
    """Return two cores of those that this process may use; the same one twice where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    first = allowed[-1] if system is None else system
    others = [core for core in allowed if core != first] or [first]
    return Cores(first, others[0] if rest is None else rest)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Have what is started here run on ``core``, and nowhere else."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> dict[str, object]:
    """Return what the machine is."""
    text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    model = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "")
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def cpu_s(pid: int) -> float:
    """Return the processor time that a process and all its threads have taken."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return 0.0


def memory_bytes(pid: int) -> int:
    """Return the memory that is this process's alone, swapped pages included: what ending it would give back."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines()
        values = {line.partition(":")[0]: line.split()[1] for line in lines[1:]}
        return 1024 * sum(int(values.get(name, 0)) for name in ("Private_Clean", "Private_Dirty", "Swap"))
    return 0


@dataclass(frozen=True)
class Snapshot:
    """What every process has taken so far, and when."""

    at_s: float
    taken_s: Mapping[tuple[int, float], tuple[str, float]]
    busy_s: Mapping[int, float]
    """By core."""


def snapshot() -> Snapshot:
    """Look at all processes of the machine."""
    taken: dict[tuple[int, float], tuple[str, float]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            times = process.cpu_times()
            taken[process.pid, process.create_time()] = (_name(process), times.user + times.system)
    busy = {core: sum(t) - t.idle - t.iowait for core, t in enumerate(psutil.cpu_times(percpu=True))}
    return Snapshot(_uptime_s(), taken, busy)


def others(before: Snapshot, after: Snapshot, ours: set[int]) -> dict[str, int]:
    """Return how much of a core others took between two looks, in percent by name, the busiest first."""
    lasted_s = max(after.at_s - before.at_s, 1e-3)
    shares: dict[str, float] = {}
    for key, (name, taken_s) in after.taken_s.items():
        if key[0] not in ours:
            spent_s = taken_s - before.taken_s.get(key, ("", 0.0))[1]
            shares[name] = shares.get(name, 0.0) + 100 * spent_s / lasted_s
    busy = sorted(((share, name) for name, share in shares.items() if share >= BUSY_PCT), reverse=True)
    return {name: round(share) for share, name in busy}


def family() -> set[int]:
    """Return this process and all that it started, and what those did."""
    own = psutil.Process()
    return {own.pid, *(child.pid for child in own.children(recursive=True))}


def busy_pct(before: Snapshot, after: Snapshot) -> dict[int, float]:
    """Return how busy each core was between two looks."""
    lasted_s = max(after.at_s - before.at_s, 1e-3)
    return {core: round(100 * (after.busy_s[core] - s) / lasted_s, 1) for core, s in before.busy_s.items()}


def _name(process: psutil.Process) -> str:
    """Return what a person would call a process: its program, and for Python which one; no other arguments."""
    words = process.cmdline()
    module = words[words.index("-m") + 1 : words.index("-m") + 2] if "-m" in words else []
    return " ".join([process.name(), *module])


def _uptime_s() -> float:
    return float(Path("/proc/uptime").read_text("utf-8").split()[0])
