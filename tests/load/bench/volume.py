"""What services bear that no caller's sound goes through: tool calls, facts and deliveries, at volume.

Each is one real process on the core of what is measured. Kafka, the database, and who asks or receives are on the other.

Law: a figure counts only with what became of each call, fact and delivery beside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from load.bench.ground import Ground
from load.bench.notify_volume import Delivered, measure_notify
from load.bench.outbox_volume import Relayed, measure_outbox
from load.bench.tools_volume import ToolsAtRate, measure_tools

START_S = 8.0
"""What it takes to make a database and tables, and to start and end a service."""
RATE_SPARE_S = 4.0
"""Beside the calls of one rate: the asker's start, its warm-up, statistics."""
RELAYED_PER_S, DELIVERED_PER_S = 1_000, 60
"""What is expected at the least, to know whether there is time: a slower machine takes longer than was planned."""

ToolName = Literal["analyze_deal", "save_lead"]


@dataclass(frozen=True)
class VolumePlan:
    """How much, and for how long."""

    rates_per_s: tuple[float, ...] = (1, 100, 500, 1000)
    rate_s: float = 4.0
    tools: tuple[ToolName, ...] = ("analyze_deal",)
    """A read; ``save_lead`` has an effect and a fact."""
    outbox_facts: int = 4_000
    outbox_leads: tuple[int, ...] = (200,)
    notify_facts: int = 200
    """With one route; with more so many fewer that all is told twice as often."""
    notify_routes: tuple[int, ...] = (1, 4)
    notify_dead_route: bool = False
    """Once more with one route, and beside it one that leads nowhere."""


FULL_VOLUME = VolumePlan(
    rate_s=15.0,
    tools=("analyze_deal", "save_lead"),
    outbox_facts=10_000,
    outbox_leads=(500, 1),
    notify_facts=1_000,
    notify_dead_route=True,
)


@dataclass
class Found:
    """What was measured so far."""

    tools: list[ToolsAtRate] = field(default_factory=list)
    outbox: list[Relayed] = field(default_factory=list)
    notify: list[Delivered] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        parts = {"tools": self.tools, "outbox": self.outbox, "notify": self.notify}
        return {name: [one.as_dict() for one in ones] for name, ones in parts.items()}

    def __bool__(self) -> bool:
        return bool(self.tools or self.outbox or self.notify)


@dataclass(frozen=True)
class Part:
    """One measurement that may be left out for want of time."""

    title: str
    lasts_s: float
    measure: Callable[[], Awaitable[None]]


def parts(plan: VolumePlan, ground: Ground, found: Found, tell: Callable[[str], None]) -> Iterator[Part]:
    """Yield what there is to measure, in order; each puts what it finds into ``found``."""
    for facts, routes, dead in _notify_runs(plan):
        yield Part(
            f"notify with {routes} route{'s' * (routes > 1)}{' and a dead one' * dead}",
            START_S + facts * routes / DELIVERED_PER_S,
            partial(_notify, ground, found, tell, facts, routes, dead),
        )
    for leads in plan.outbox_leads:
        yield Part(
            f"the relay with facts of {leads} lead{'s' * (leads > 1)}",
            START_S + 2 * plan.outbox_facts / RELAYED_PER_S,
            partial(_outbox, ground, found, tell, plan.outbox_facts, leads),
        )
    for tool in plan.tools:
        yield Part(
            f"tool calls of {tool}",
            START_S + len(plan.rates_per_s) * (plan.rate_s + RATE_SPARE_S),
            partial(_tools, ground, found, tell, plan, tool),
        )


def _notify_runs(plan: VolumePlan) -> Iterator[tuple[int, int, bool]]:
    """Yield facts, routes, and whether one more route leads nowhere."""
    for routes in plan.notify_routes:
        yield (plan.notify_facts if routes == 1 else max(1, 2 * plan.notify_facts // routes)), routes, False
    if plan.notify_dead_route:
        yield plan.notify_facts, 1, True


async def _notify(
    ground: Ground, found: Found, tell: Callable[[str], None], facts: int, routes: int, dead: bool
) -> None:
    one = await measure_notify(ground, facts, routes, dead_route=dead)
    found.notify.append(one)
    cpu = f"{one.cpu_ms_per_delivery} ms of CPU each"
    tell(f"{one.due - one.lost} of {one.due} made, {one.per_s:.0f} a second, {cpu}, {one.twice} twice")


async def _outbox(ground: Ground, found: Found, tell: Callable[[str], None], facts: int, leads: int) -> None:
    one = await measure_outbox(ground, facts, leads)
    found.outbox.append(one)
    wrong = one.arrived
    cpu = f"{one.cpu_ms_per_fact} ms of CPU each"
    tell(f"{one.per_s:.0f} a second, {cpu}, {wrong.lost} lost, {wrong.twice} twice")


async def _tools(
    ground: Ground, found: Found, tell: Callable[[str], None], plan: VolumePlan, tool: str
) -> None:
    def measured(one: ToolsAtRate) -> None:
        found.tools.append(one)
        trip = one.tally.trip_ms
        answers = f"{one.tally.answered} of {one.tally.asked} answered"
        tell(f"{one.rate_per_s:g} a second: {answers}, p50 {trip.p50} ms, p99 {trip.p99} ms")

    await measure_tools(ground, tool, plan.rates_per_s, plan.rate_s, measured)
