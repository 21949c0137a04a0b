"""Runs one system up a ladder of callers, and measures each rung: latency, losses, processor time, memory.

A ladder has processes of its own, so that a rung that was too high spoils nothing that comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from load.bench import machine
from load.bench.judge import Figures, judge
from load.bench.logs import Read, read_log
from load.bench.systems import Backends, Generator, Lab, Running, SystemName, start_system, stop_system

START_S = 5.0
"""What it takes to start and end the processes of a ladder."""
ADDED_P99_MAX_MS = 50.0
OWN_LATE_P99_MAX_MS = 5.0
OWN_CPU_MAX_PCT = 90.0
WARM_UP = {"callers": 4, "per_s": 10, "settle_s": 0.5, "measure_s": 1.0, "tail_s": 0.2}


@dataclass(frozen=True)
class Rung:
    """One number of callers, held for so long."""

    callers: int
    measure_s: float = 8.0
    per_s: float = 20.0
    settle_s: float = 1.5
    tail_s: float = 0.8
    """After a step, before it is judged: what is not there by then is lost."""

    def lasts_s(self, from_callers: int = 0) -> float:
        """Return how long it takes, coming from so many callers."""
        return abs(self.callers - from_callers) / self.per_s + self.settle_s + self.measure_s + self.tail_s


@dataclass(frozen=True)
class Measured:
    """What one rung of one system came to."""

    system: SystemName
    rung: Rung
    figures: Figures
    cpu_ms_per_session_s: Mapping[str, float]
    """By service."""
    memory_kb_per_session: Mapping[str, float]
    """By service: its own memory beyond what it had with nobody there, after a few sessions."""
    held_s: float
    """How long the oldest caller of this ladder has been there."""
    core_pct: Mapping[str, float]
    """How busy the system's core and the other one were."""
    generator_pct: float
    upstream_pct: float
    backends_pct: float
    """Of Kafka and the tools service."""
    backends_ms_per_session_s: Mapping[str, float]
    """By name: what they took for each second of session."""
    generator_late_ms: float
    """The worst half second's p99."""
    upstream_late_ms: float
    others: dict[str, int] = field(default_factory=dict)
    """Who else took how much of a core, in percent."""

    @property
    def is_good(self) -> bool:
        """Say whether nothing was dropped and p99 stayed under 50 ms, both ways."""
        return self.figures.is_whole and self.figures.worst_p99_ms() < ADDED_P99_MAX_MS

    @property
    def doubts(self) -> list[str]:
        """Say why the measuring side itself may be the limit; empty when it is not."""
        found = []
        if max(self.generator_late_ms, self.upstream_late_ms) > OWN_LATE_P99_MAX_MS:
            found.append("generator or upstream was late itself")
        if self.core_pct.get("rest", 0) > OWN_CPU_MAX_PCT:
            found.append("the core of generator and upstream was full")
        return found

    def as_dict(self) -> dict[str, Any]:
        whole = {**asdict(self), "is_good": self.is_good, "doubts": self.doubts}
        whole["figures"] = self.figures.as_dict()
        return whole


class Ladder:
    """One system with its upstream and its callers, while it is being measured."""

    def __init__(self, lab: Lab, running: Running, log: Path, backends: Backends | None) -> None:
        self._lab, self._running, self._log = lab, running, log
        self._backends = backends.pids if backends else {}
        self._generator = Generator(lab, running.door, log)
        self._bare: dict[str, int] = {}
        self._first_us = 0

    async def begin(self) -> None:
        """Warm up: a few sessions come and go; what the services hold then is what they hold for nobody."""
        await self._generator.ready()
        await self._generator.step(**WARM_UP)
        await self._generator.step(**{**WARM_UP, "callers": 0, "measure_s": 0.2})
        self._bare = self._memory()

    async def climb(self, rung: Rung) -> Measured:
        """Hold one rung and return what was measured."""
        running, cores = self._running, self._lab.cores
        pids = {name: proc.pid for name, proc in running.services.items()}
        pids |= {"upstream": running.upstream.pid} if running.upstream else {}
        pids |= self._backends
        stood = machine.snapshot()
        step = await self._generator.step(**asdict(rung), pids=pids)
        memory, looked = self._memory(), machine.snapshot()
        self._first_us = self._first_us or step["since"]
        generator = read_log(self._log, "generator")
        upstream = read_log(self._log, "upstream") if running.upstream else None
        lasted_s, took_s = (step["over"] - step["began"]) / 1e6, step["took_s"]
        session_s = max(step["live"], 1) * lasted_s
        busy = machine.busy_pct(stood, looked)
        added_kb = {name: (memory[name] - self._bare[name]) / 1024 for name in running.services}
        return Measured(
            system=running.name,
            rung=rung,
            figures=judge(step, generator, upstream),
            cpu_ms_per_session_s=_per_session_s(took_s, running.services, session_s),
            backends_ms_per_session_s=_per_session_s(took_s, self._backends, session_s),
            memory_kb_per_session={name: round(kb / rung.callers, 1) for name, kb in added_kb.items()},
            held_s=round((step["over"] - self._first_us) / 1e6, 1),
            core_pct={"system": busy[cores.system], "rest": busy[cores.rest]},
            generator_pct=round(100 * took_s["generator"] / lasted_s, 1),
            upstream_pct=round(100 * took_s.get("upstream", 0.0) / lasted_s, 1),
            generator_late_ms=_late_ms(step, generator),
            upstream_late_ms=_late_ms(step, upstream) if upstream else 0.0,
            backends_pct=round(100 * sum(took_s[name] for name in self._backends) / lasted_s, 1),
            others=machine.others(stood, looked, machine.family()),
        )

    def _memory(self) -> dict[str, int]:
        return {name: machine.memory_bytes(proc.pid) for name, proc in self._running.services.items()}

    async def close(self) -> None:
        await self._generator.close()
        stop_system(self._running)


def _per_session_s(took_s: Mapping[str, float], names: Iterable[str], session_s: float) -> dict[str, float]:
    """Return milliseconds of processor time for each second of session, by name."""
    return {name: round(1000 * took_s[name] / session_s, 2) for name in names}


def _late_ms(step: dict[str, Any], log: Read) -> float:
    late = [
        note["p99_us"] for note in log.notes_of("late") if step["began"] <= note["t"] <= step["over"] + 5_000
    ]
    return round(max(late, default=0) / 1000, 2)


async def ladder(
    lab: Lab,
    system: SystemName,
    rungs: Sequence[Rung],
    backends: Backends | None = None,
    *,
    on_rung: Callable[[SystemName, Rung], bool] = lambda _system, _rung: True,
    on_measured: Callable[[Measured], None] = lambda _: None,
) -> list[Measured]:
    """Measure ``system`` on each rung in turn, until one does not hold, or ``on_rung`` will not have it.

    What does not hold with the fewest callers is noise: the next rung tells.
    """
    log = lab.folder / f"log-{len(list(lab.folder.glob('log-*'))) + 1}-{system}"
    log.mkdir(parents=True)
    running = await start_system(lab, system, log, backends)
    stairs = Ladder(lab, running, log, backends)
    found: list[Measured] = []
    try:
        await stairs.begin()
        for rung in rungs:
            if not on_rung(system, rung):
                break
            found.append(await stairs.climb(rung))
            on_measured(found[-1])
            if not found[-1].is_good and rung is not rungs[0]:
                break
    finally:
        await stairs.close()
    return found
