"""What each optional duty of Parley costs: the same callers with it and without, in turn, because machines are noisy.

A duty is what a deployment or a business may switch on. Each step starts tools, session service and gateway anew, with
one duty, with none or with all: none, tracing, none, heard text, none and so on, and all of that again. What a duty adds
is its step less the mean of the two without any beside it.

Law: a duty counts as measured only where it was seen to be done, and to be left when it was off.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import psutil

from harness.otlp import OtlpCollector
from load.bench.machine import on_core
from load.bench.steps import START_S, Ladder, Measured, Rung
from load.bench.systems import Backends, Lab, furnish, start_system, start_tools, stop_tools

TOOLS_START_S = 4.0
Services = Mapping[str, float]


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
    """How many callers, for how long, how often."""

    callers: int = 10
    measure_s: float = 8.0
    rounds: int = 2
    duties: tuple[Duty, ...] = (*DUTIES, ALL)

    @property
    def rung(self) -> Rung:
        return Rung(self.callers, self.measure_s, per_s=10)

    @property
    def step_s(self) -> float:
        """How long a step takes, with the start of all processes."""
        return START_S + TOOLS_START_S + self.rung.lasts_s()

    def order(self) -> Iterator[Duty]:
        """Yield what is on in each step: none first and last, and none between any two."""
        yield NONE
        for _ in range(self.rounds):
            for duty in self.duties:
                yield duty
                yield NONE


FULL_DUTIES = DutiesPlan(measure_s=15.0, rounds=3)


@dataclass(frozen=True)
class DutyStep:
    """The callers with one duty, with all or with none."""

    duty: str
    measured: Measured
    seen: Mapping[str, int]
    """By duty, how often it was seen to be done; under ``facts`` those that Kafka has, under ``unsent`` the others."""

    @property
    def cpu_ms(self) -> Services:
        """Return what each service took for a second of session, Kafka too."""
        return {**self.measured.cpu_ms_per_session_s, **self.measured.backends_ms_per_session_s}

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


@dataclass(frozen=True)
class Added:
    """What a duty adds: the mean of its rounds, and each of them."""

    mean: float
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class DutyCost:
    """What one duty costs."""

    duty: str
    cpu_ms: Mapping[str, Added]
    """By service, for each second of session."""
    latency_ms: Mapping[str, Added]
    is_done: bool


def costs(steps: Sequence[DutyStep]) -> list[DutyCost]:
    """Return what each duty adds: each of its steps less the mean of the steps without any just before and after."""
    found: dict[str, list[tuple[DutyStep, list[DutyStep]]]] = {}
    for before, step, after in zip(steps, steps[1:], steps[2:], strict=False):
        if step.duty != NONE.name:
            found.setdefault(step.duty, []).append((step, [before, after]))
    return [
        DutyCost(
            duty=duty,
            cpu_ms=_added([(on.cpu_ms, [off.cpu_ms for off in offs]) for on, offs in rounds]),
            latency_ms=_added([(on.latency_ms, [off.latency_ms for off in offs]) for on, offs in rounds]),
            is_done=all(one.is_done for on, offs in rounds for one in (on, *offs)),
        )
        for duty, rounds in found.items()
    ]


def _added(rounds: Sequence[tuple[Services, Sequence[Services]]]) -> dict[str, Added]:
    names = rounds[0][0]
    deltas = {
        name: tuple(round(on[name] - fmean(off[name] for off in offs), 3) for on, offs in rounds)
        for name in names
    }
    return {name: Added(round(fmean(values), 3), values) for name, values in deltas.items()}


@dataclass
class Duties:
    """The part of a run that measures duties; it has the tools service to itself."""

    lab: Lab
    backends: Backends
    """Whose tools service has ended; its database has its tables."""
    steps: list[DutyStep] = field(default_factory=list)

    async def measure(
        self, plan: DutiesPlan, begins: Callable[[Duty], bool], tell: Callable[[DutyStep], None]
    ) -> None:
        """Go through all steps, until ``begins`` says that there is no time for one more."""
        for number, duty in enumerate(plan.order()):
            if not begins(duty):
                return
            self.steps.append(await self._step(duty, plan.rung, f"duty-{number}-{duty.name}"))
            tell(self.steps[-1])

    async def _step(self, duty: Duty, rung: Rung, name: str) -> DutyStep:
        with on_core(self.lab.cores.rest):
            collector = OtlpCollector()
        with collector:
            backends = await self._started(duty, name, collector.url)
            try:
                log = self.lab.folder / f"log-{name}"
                log.mkdir(parents=True)
                running = await start_system(self.lab, "parley", log, backends)
                stairs = Ladder(self.lab, running, log, backends)
                try:
                    await stairs.begin()
                    measured = await stairs.climb(rung)
                    followers = _links_to_kafka(running.services["gateway"].pid, backends)
                finally:
                    await stairs.close()
            finally:
                stop_tools(backends)
            said = running.services["session"].log().count("turn.completed")
            facts, with_words, unsent = spooled(backends)
            seen = {TRACING.name: len(collector.spans()), HEARD_TEXT.name: with_words, LOGS.name: said}
            return DutyStep(
                duty.name, measured, {**seen, LIMITS.name: followers, "facts": facts, "unsent": unsent}
            )

    async def _started(self, duty: Duty, name: str, collector_url: str) -> Backends:
        """Start a tools service that has the duty, on the tables that are there; the rest is told of it by the value."""
        tables = self.backends.state_dir / "tools.db"
        env = {**NONE.env, **duty.env, "TOOLS_DATABASE_URL": f"sqlite+aiosqlite:///{tables}"}
        env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector_url} if duty.is_traced else {}
        state_dir = self.lab.folder / f"state-{name}"
        furnish(state_dir, duty.business)
        return await start_tools(self.lab, self.backends.broker, state_dir, env)


def spooled(backends: Backends) -> tuple[int, int, int]:
    """Return of a session service that has ended how many facts Kafka has, how many of those have words, how many wait."""
    with closing(sqlite3.connect(backends.state_dir / "session-0.db")) as spool:
        rows = spool.execute("SELECT value, sent_at IS NOT NULL FROM outbox").fetchall()
    sent = [bytes(value) for value, is_sent in rows if is_sent]
    with_words = sum(b'"agent_heard_text":"' in value for value in sent)
    return len(sent), with_words, len(rows) - len(sent)


def _links_to_kafka(pid: int, backends: Backends) -> int:
    """Return how many sockets to Kafka a process holds."""
    port = int(backends.broker.bootstrap_servers.rpartition(":")[2])
    return sum(bool(link.raddr) and link.raddr.port == port for link in psutil.Process(pid).net_connections())


def as_dict(steps: Sequence[DutyStep]) -> dict[str, Any]:
    """Return all of it, for programs."""
    told = [
        {"duty": s.duty, "seen": dict(s.seen), "is_done": s.is_done, "measured": s.measured.as_dict()}
        for s in steps
    ]
    return {
        "costs": [asdict(cost) for cost in costs(steps)],
        "steps": told,
        "not_switched": list(NOT_SWITCHED),
    }
