"""What each optional duty of Parley costs: the same callers with it and without, side by side.

A duty is what a deployment or a business may switch on. In each pair two whole Parleys run at once, on the same core and
for the same seconds, one without any duty and one with one of them: what else the machine does takes from both alike.
Their difference is what the duty costs. A pair of two without any shows how far such differences can be trusted; every
pair is run again, with places exchanged. Kafka serves both and is in no figure.

Law: a duty counts as measured only where it was seen to be done, and to be left where it was off.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any
from uuid import uuid4

import psutil

from harness.otlp import OtlpCollector
from harness.topics import Topics
from load.bench.machine import on_core
from load.bench.steps import Ladder, Measured, Rung
from load.bench.systems import Backends, Lab, Running, furnish, start_system, start_tools, stop_tools
from load.bench.turns import TOOL
from parley_common.contracts.topics import tool_calls_topic

PAIR_START_S = 16.0
"""What it takes to start, to warm up and to end the processes of a pair."""


@dataclass(frozen=True)
class Duty:
    """One thing that may be switched on, and how."""

    name: str
    means: str
    env: Mapping[str, str] = field(default_factory=dict)
    business: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_traced: bool = False


NONE = Duty("none", "no optional duty at all", {"PARLEY_LOG_LEVEL": "warning"})
TRACING = Duty("tracing", "spans to an OTLP collector (OTEL_EXPORTER_OTLP_ENDPOINT)", is_traced=True)
HEARD_TEXT = Duty("heard_text", "words in facts (facts.heard_text)", business={"facts": {"heard_text": True}})
LOGS = Duty("logs", "a line for each turn and session (PARLEY_LOG_LEVEL=info)", {"PARLEY_LOG_LEVEL": "info"})
LIMITS = Duty(
    "limits",
    "the gateway follows parley.usage (limits.sessions_max)",
    business={"limits": {"sessions_max": 4_000}},
)
DUTIES = (TRACING, HEARD_TEXT, LOGS, LIMITS)
ALL = Duty(
    "all",
    "all of these",
    {name: value for duty in DUTIES for name, value in duty.env.items()},
    {section: values for duty in DUTIES for section, values in duty.business.items()},
    is_traced=True,
)
NOT_SWITCHED = (
    "always done, so in every figure: facts through the spool to Kafka, usage on parley.usage, metrics, trace ids",
    "not measured by these callers: levels of caller audio where barge_in is confirm, transcription by the model",
    "not built: checkpoints",
)
"""What else a session costs, and why it is in no row."""


@dataclass(frozen=True)
class DutiesPlan:
    """How many callers each of the two has, for how long, how often."""

    callers: int = 10
    measure_s: float = 10.0
    rounds: int = 2
    duties: tuple[Duty, ...] = (NONE, *DUTIES, ALL)

    @property
    def rung(self) -> Rung:
        return Rung(self.callers, self.measure_s, per_s=10)

    @property
    def pair_s(self) -> float:
        """How long a pair takes, with the start of all processes."""
        return PAIR_START_S + self.rung.lasts_s()

    def order(self) -> Iterator[tuple[int, Duty]]:
        """Yield round and duty of each pair."""
        return ((round_, duty) for round_ in range(self.rounds) for duty in self.duties)


FULL_DUTIES = DutiesPlan(measure_s=20.0, rounds=4)


@dataclass(frozen=True)
class Side:
    """One of the two Parleys of a pair."""

    duty: str
    measured: Measured
    seen: Mapping[str, int]
    """By duty, how often it was seen to be done; under ``facts`` those that Kafka has, under ``unsent`` the others."""

    @property
    def cpu_ms(self) -> Mapping[str, float]:
        """Return what each service took for a second of session."""
        tools = self.measured.backends_ms_per_session_s["tools"]
        return {**self.measured.cpu_ms_per_session_s, "tools": tools}

    @property
    def latency_ms(self) -> Mapping[str, float]:
        figures = self.measured.figures
        named = {"up": figures.up_ms, "down": figures.down_ms, "barge-in": figures.barge_in_ms}
        return {f"{name} {q}": getattr(s, q) or 0.0 for name, s in named.items() for q in ("p50", "p99")}

    @property
    def is_done(self) -> bool:
        """Say whether just this duty was seen, and every fact is in Kafka."""
        due = {duty.name for duty in DUTIES} if self.duty == ALL.name else {self.duty} - {NONE.name}
        done = {duty.name for duty in DUTIES if self.seen[duty.name]}
        return done == due and self.seen["facts"] > 0 and not self.seen["unsent"]

    def as_dict(self) -> dict[str, Any]:
        seen = {"seen": dict(self.seen), "is_done": self.is_done}
        return {"duty": self.duty, **seen, "measured": self.measured.as_dict()}


@dataclass(frozen=True)
class Pair:
    """The same callers without any duty, and with one."""

    off: Side
    on: Side


@dataclass(frozen=True)
class Added:
    """What a duty adds: the mean of its rounds, and each of them."""

    mean: float
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class DutyCost:
    """What one duty costs; of none, how far two that are alike differ."""

    duty: str
    cpu_ms: Mapping[str, Added]
    """By service, for each second of session."""
    latency_ms: Mapping[str, Added]
    is_done: bool


def costs(pairs: Sequence[Pair]) -> list[DutyCost]:
    """Return what each duty adds."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(pair.on.duty, []).append(pair)
    return [
        DutyCost(
            duty=duty,
            cpu_ms=_added([(pair.on.cpu_ms, pair.off.cpu_ms) for pair in rounds]),
            latency_ms=_added([(pair.on.latency_ms, pair.off.latency_ms) for pair in rounds]),
            is_done=all(side.is_done for pair in rounds for side in (pair.off, pair.on)),
        )
        for duty, rounds in found.items()
    ]


def _added(rounds: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, Added]:
    deltas = {name: tuple(round(on[name] - off[name], 3) for on, off in rounds) for name in rounds[0][0]}
    return {name: Added(round(fmean(values), 3), values) for name, values in deltas.items()}


class Duties:
    """The part of a run that measures duties; no other tools service has its database meanwhile."""

    def __init__(self, lab: Lab, backends: Backends, pairs: list[Pair]) -> None:
        """``backends`` are those whose tools service has ended, and whose database has its tables."""
        self.pairs = pairs
        self._lab, self._backends = lab, backends
        self._services = tuple(f"bench_{uuid4().hex[:8]}_{place}" for place in (0, 1))
        """By place: each of a pair has a tools service, and so a topic of calls, of its own."""

    async def measure(
        self, plan: DutiesPlan, begins: Callable[[Duty], bool], tell: Callable[[Pair], None]
    ) -> None:
        """Go through all pairs, until ``begins`` says that there is no time for one more."""
        for service in self._services:
            topic = tool_calls_topic(service)
            await Topics(self._backends.broker.bootstrap_servers).create(topic.name, topic.partitions)
        for round_, duty in plan.order():
            if not begins(duty):
                return
            self.pairs.append(await self._pair(duty, plan.rung, round_))
            tell(self.pairs[-1])

    async def _pair(self, duty: Duty, rung: Rung, round_: int) -> Pair:
        name, place = f"duty-{round_}-{duty.name}", round_ % 2
        with on_core(self._lab.cores.rest):
            collector = OtlpCollector()
        with collector:
            off = _Parley(self._lab, self._backends, NONE, f"{name}-off", place, self._services)
            on = _Parley(self._lab, self._backends, duty, f"{name}-on", 1 - place, self._services)
            try:
                await asyncio.gather(off.start(collector.url), on.start(collector.url))
                both = await asyncio.gather(off.climb(rung), on.climb(rung))
            finally:
                await asyncio.gather(off.close(), on.close())
            spans = len(collector.spans())
        return Pair(
            Side(NONE.name, both[0], {TRACING.name: 0, **off.seen()}),
            Side(duty.name, both[1], {TRACING.name: spans, **on.seen()}),
        )


class _Parley:
    """One of the two of a pair: its tools service, its session service, its gateway, its callers."""

    def __init__(
        self, lab: Lab, common: Backends, duty: Duty, name: str, place: int, services: Sequence[str]
    ) -> None:
        self._lab, self._common, self._duty = lab, common, duty
        self._name, self._place, self._service = name, place, services[place]
        self._backends: Backends | None = None
        self._running: Running | None = None
        self._stairs: Ladder | None = None
        self._followers = 0

    async def start(self, collector_url: str) -> None:
        """Start everything, and warm it up."""
        tables = self._common.state_dir / "tools.db"
        env = {
            **NONE.env,
            **self._duty.env,
            "SESSION_ORDINAL": str(self._place),
            "TOOLS_SERVICE": self._service,
            "TOOLS_DATABASE_URL": f"sqlite+aiosqlite:///{tables}",
        }
        env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url} if self._duty.is_traced else {}
        state_dir, log = self._lab.folder / f"state-{self._name}", self._lab.folder / f"log-{self._name}"
        log.mkdir(parents=True)
        furnish(state_dir, {**self._duty.business, "tools": [f"{self._service}.{TOOL}"]})
        self._backends = await start_tools(self._lab, self._common.broker, state_dir, env)
        self._running = await start_system(self._lab, "parley", log, self._backends)
        self._stairs = Ladder(self._lab, self._running, log, self._backends)
        await self._stairs.begin()

    async def climb(self, rung: Rung) -> Measured:
        """Have the callers speak."""
        assert self._stairs is not None
        assert self._running is not None
        measured = await self._stairs.climb(rung)
        self._followers = _links(self._running.services["gateway"].pid, self._common.broker.bootstrap_servers)
        return measured

    async def close(self) -> None:
        """End what was started."""
        if self._stairs is not None:
            await self._stairs.close()
        if self._backends is not None:
            await asyncio.to_thread(stop_tools, self._backends)

    def seen(self) -> dict[str, int]:
        """Return what was seen to be done, but for spans; once all has ended."""
        assert self._running is not None
        assert self._backends is not None
        facts, with_words, unsent = spooled(self._backends.state_dir / f"session-{self._place}.db")
        said = self._running.services["session"].log().count("turn.completed")
        duties = {HEARD_TEXT.name: with_words, LOGS.name: said, LIMITS.name: self._followers}
        return {**duties, "facts": facts, "unsent": unsent}


def spooled(path: Path) -> tuple[int, int, int]:
    """Return of an ended session service's spool how many facts Kafka has, how many of them have words, how many wait."""
    with closing(sqlite3.connect(path)) as spool:
        rows = spool.execute("SELECT value, sent_at IS NOT NULL FROM outbox").fetchall()
    sent = [bytes(value) for value, is_sent in rows if is_sent]
    with_words = sum(b'"agent_heard_text":"' in value for value in sent)
    return len(sent), with_words, len(rows) - len(sent)


def _links(pid: int, servers: str) -> int:
    """Return how many sockets to Kafka a process holds."""
    port = int(servers.rpartition(":")[2])
    return sum(bool(link.raddr) and link.raddr.port == port for link in psutil.Process(pid).net_connections())


def as_dict(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return all of it, for programs."""
    told = [{"off": pair.off.as_dict(), "on": pair.on.as_dict()} for pair in pairs]
    return {"costs": [asdict(cost) for cost in costs(pairs)], "pairs": told, "not_switched": NOT_SWITCHED}
