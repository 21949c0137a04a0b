"""What a run does, in which order, and within which time: baselines first and last, Parley between them.

Beside the sessions there are two parts: services at volume, and what optional duties cost.

The time is a budget that is spent step by step; a step that would not fit any more is left out, and the report says so.

Law: the largest number of callers is one that passed most of its tries, and all tries are told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.broker import Broker
from load.bench import volume
from load.bench.duties import FULL_DUTIES, Duties, DutiesPlan, Duty, Pair
from load.bench.ground import Ground
from load.bench.steps import START_S, Measured, Rung, ladder
from load.bench.systems import Backends, Lab, SystemName, start_backends, start_tools, stop_tools
from load.bench.volume import FULL_VOLUME, VolumePlan

Part = Literal["sessions", "volume", "duties"]


@dataclass(frozen=True)
class Plan:
    """How far to look, and for how long."""

    budget_s: float = 540.0
    parts: frozenset[Part] = frozenset({"sessions", "volume"})
    few: int = 10
    """Callers at which latency is told: far from any limit."""
    few_s: float = 12.0
    step: int = 25
    """How many callers are added from rung to rung, and how fine the search ends."""
    callers_max: int = 300
    measure_s: float = 8.0
    hold_s: float = 24.0
    """How long the second rung of Parley is held, for its memory: sessions that have grown to their full size."""
    tries: int = 3
    """How often the largest number is tried."""
    relay: tuple[int, ...] = (50, 100, 200)
    alone: tuple[SystemName, ...] = ("gateway", "session")
    """Services that are measured without the other, at a few callers."""
    searches_alone: bool = False
    """Look for the largest number of each service alone, too."""
    baselines: bool = True
    volume: VolumePlan = field(default_factory=VolumePlan)
    duties: DutiesPlan = field(default_factory=DutiesPlan)
    broker: Broker | None = None


FULL = Plan(
    budget_s=3_600.0,
    parts=frozenset({"sessions", "volume", "duties"}),
    few_s=30.0,
    step=10,
    measure_s=20.0,
    hold_s=40.0,
    tries=5,
    searches_alone=True,
    volume=FULL_VOLUME,
    duties=FULL_DUTIES,
)


@dataclass
class Run:
    """One run, and what it has measured so far."""

    plan: Plan
    lab: Lab
    say: Callable[[str], None]
    measured: list[Measured] = field(default_factory=list)
    volume: volume.Found = field(default_factory=volume.Found)
    duty_pairs: list[Pair] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    kafka: str = ""
    load_1m: float = field(default_factory=lambda: round(os.getloadavg()[0], 2))
    """The machine's load average as it began."""
    _backends: Backends | None = None
    _began_s: float = field(default_factory=time.monotonic)

    @property
    def passed_s(self) -> float:
        return time.monotonic() - self._began_s

    async def whole(self) -> None:
        """Measure everything that the plan names."""
        plan = self.plan
        self.say("starting Kafka and the tools service")
        self._backends = await start_backends(self.lab, plan.broker)
        self.kafka = self._backends.broker.label
        try:
            if "sessions" in plan.parts:
                await self._before_the_search()
            if "volume" in plan.parts:
                await self._volume()
            if "duties" in plan.parts:
                await self._duties()
            if "sessions" in plan.parts:
                await self._searches()
        finally:
            self._backends.tools.close()
            if plan.broker is None:
                self._backends.broker.close()

    async def _before_the_search(self) -> None:
        plan, few = self.plan, self._few()
        if plan.baselines:
            await self._climb("echo", [few])
            await self._climb("relay", [few, *(Rung(n, plan.measure_s) for n in plan.relay)])
        for service in plan.alone:
            await self._climb(service, [few])

    async def _searches(self) -> None:
        """Look for the largest numbers, which takes all the time there is; then the baselines again."""
        plan, few = self.plan, self._few()
        await self._search("parley", few)
        if plan.searches_alone:
            for service in plan.alone:
                await self._search(service, few)
        if plan.baselines:
            await self._climb("relay", [few])
            await self._climb("echo", [few])

    def _few(self) -> Rung:
        return Rung(self.plan.few, self.plan.few_s, per_s=10)

    async def _volume(self) -> None:
        assert self._backends is not None
        ground = Ground(self.lab, self._backends.broker)
        try:
            for part in volume.parts(
                self.plan.volume, ground, self.volume, lambda line: self.say(f"  {line}")
            ):
                if self._has_time(part.title, part.lasts_s):
                    self.say(part.title)
                    await part.measure()
        finally:
            ground.close()

    async def _duties(self) -> None:
        """Measure duties, each with a tools service of its own; then the one for all else is there again."""
        assert self._backends is not None
        stop_tools(self._backends)
        duties = Duties(self.lab, self._backends, self.duty_pairs)
        await duties.measure(self.plan.duties, self._begins_duty, self._tell_duty)
        before = self._backends
        self._backends = await start_tools(self.lab, before.broker, before.state_dir, before.env)

    def _begins_duty(self, duty: Duty) -> bool:
        if not self._has_time(f"duties: {duty.name}", self.plan.duties.pair_s):
            return False
        self.say(f"duties: {duty.name} beside none, {self.plan.duties.callers} callers each")
        return True

    def _tell_duty(self, pair: Pair) -> None:
        parts = [f"{name} {ms:.1f} and {pair.off.cpu_ms[name]:.1f} ms" for name, ms in pair.on.cpu_ms.items()]
        is_done = pair.on.is_done and pair.off.is_done
        self.say(f"  {'as it should be' if is_done else 'not as it should be'}: {', '.join(parts)}")

    async def _climb(self, system: SystemName, rungs: Sequence[Rung]) -> list[Measured]:
        if not self._fits(system, rungs[0]):
            return []
        found = await ladder(
            self.lab,
            system,
            rungs,
            self._backends,
            on_rung=self._begins,
            on_measured=self._tell,
        )
        self.measured += found
        return found

    async def _search(self, system: SystemName, few: Rung) -> None:
        """Climb until it no longer holds, halve the gap, then try the largest number again: where it fails, a lower one."""
        plan = self.plan
        held = Rung(2 * plan.step, plan.hold_s)
        more = range(3 * plan.step, plan.callers_max + 1, plan.step)
        await self._climb(system, [few, held, *(Rung(n, plan.measure_s) for n in more)])
        while (tries := self._next_tries(system)) is not None:
            if not await self._climb(system, [Rung(tries, plan.measure_s)]):
                return

    def _next_tries(self, system: SystemName) -> int | None:
        """Return how many callers to try next; null when the largest number is known well enough."""
        return next_to_try(tried(self.measured, system), self.plan.step, self.plan.tries)

    def _begins(self, system: SystemName, rung: Rung) -> bool:
        if not self._fits(system, rung):
            return False
        self.say(f"{system}: {rung.callers} callers for {rung.measure_s:g} s")
        return True

    def _fits(self, system: SystemName, rung: Rung) -> bool:
        """Say whether there is time for a rung; the baselines at the end keep theirs."""
        what = f"{system} with {rung.callers} callers"
        return self._has_time(what, START_S + rung.lasts_s(), is_last=system in {"relay", "echo"})

    def _has_time(self, what: str, lasts_s: float, *, is_last: bool = False) -> bool:
        has_baselines = self.plan.baselines and "sessions" in self.plan.parts
        kept_s = 2 * (START_S + self._few().lasts_s()) if has_baselines and not is_last else 0
        if self.plan.budget_s - self.passed_s - kept_s >= lasts_s:
            return True
        self.remarks.append(f"no time was left for {what}")
        return False

    def _tell(self, one: Measured) -> None:
        figures = one.figures
        verdict = "holds" if one.is_good else "does not hold"
        parts = [f"p99 {figures.worst_p99_ms():.2f} ms", f"{figures.lost} lost"]
        cpu = sum(one.cpu_ms_per_session_s.values())
        self.say(f"  {verdict}: {', '.join(parts)}, {cpu:.1f} ms of CPU per session-second")


def tried(measured: Sequence[Measured], system: str) -> dict[int, tuple[int, int]]:
    """Return (passed, tried) by number of callers."""
    counts: dict[int, tuple[int, int]] = {}
    for one in measured:
        if one.system == system:
            passed, tries = counts.get(one.rung.callers, (0, 0))
            counts[one.rung.callers] = passed + one.is_good, tries + 1
    return counts


def largest(counts: dict[int, tuple[int, int]]) -> int | None:
    """Return the largest number of callers that passed more than half of its tries; null when none did."""
    return max((n for n, (passed, tries) in counts.items() if 2 * passed > tries), default=None)


def next_to_try(counts: dict[int, tuple[int, int]], step: int, tries: int) -> int | None:
    """Return between what holds and what does not, as long as that gap is wider than ``step``; then the best again."""
    best = largest(counts)
    if best is None:
        return None
    above = min((n for n in counts if n > best), default=None)
    if above is not None and above - best > step:
        return best + (above - best) // 2 // 5 * 5
    return best if counts[best][1] < tries else None
