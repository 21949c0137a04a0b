"""`parley up` from beginning to end: lock, ports, start, table, facts, stop.

Law: whatever ends it, everything it started is stopped first, in reverse order.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from parley_common.errors import DependencyUnavailable, LocalViolation, ParleyError
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
from parley_launcher.embedded_kafka import EmbeddedKafka, answers_metadata
from parley_launcher.facts.follow import follow
from parley_launcher.facts.render import FactReader
from parley_launcher.settings import UpSettings
from parley_launcher.up.lock import instance_lock
from parley_launcher.up.plan import Choices, Plan, ProcessSpec, make_plan
from parley_launcher.up.ports import PortUse, check_ports
from parley_launcher.up.processes import Guard
from parley_launcher.up.progress import Progress
from parley_launcher.up.readiness import Probe, ReadyAnswer, all_ready, http_probe
from parley_launcher.up.supervisor import Bounds, Launch, StartFailed, Supervisor
from parley_launcher.up.table import how_to_talk, what_runs

KAFKA_DEADLINE_S = 20.0
FACTS_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line says."""

    choices: Choices = field(default_factory=Choices)
    facts: bool = True
    ready_file: Path | None = None


def run_up(settings: UpSettings, inherited: Mapping[str, str], options: UpOptions, console: Console) -> None:
    """Run everything until Ctrl-C or SIGTERM.

    Raises:
        ConfigInvalid: a setting is wrong, a port is taken, or another instance runs. Nothing was started.
        StartFailed: a part did not get ready. Everything was stopped again.
    """
    plan = make_plan(settings, inherited, options.choices)
    state_dir = settings.parley.state_dir.absolute()
    with instance_lock(state_dir):
        check_ports(port_uses(plan))
        progress = Progress(console)
        bounds = Bounds(settings.ready_deadline_s, settings.stop_deadline_s, settings.log_max_bytes)
        with Guard() as guard:
            asyncio.run(_Up(plan, options, progress, guard, state_dir / "logs", bounds).run())


def port_uses(plan: Plan) -> list[PortUse]:
    """Return every port that the plan needs free."""
    broker = [PortUse(plan.broker.port, "PARLEY_UP_KAFKA_PORT", "Kafka")] if plan.broker else []
    return broker + [use for spec in plan.processes for use in _port_uses(spec)]


def _port_uses(spec: ProcessSpec) -> list[PortUse]:
    """Workers that are dialled follow the service's own port, others a port of theirs."""
    own = PortUse(spec.port, spec.port_setting, spec.name)
    if spec.port in spec.workers_at:
        return [PortUse(port, own.setting, own.name, after) for after, port in enumerate(spec.workers_at)]
    setting = f"{spec.name.upper()}_WORKER_PORT"
    return [own, *(PortUse(port, setting, own.name, after) for after, port in enumerate(spec.workers_at))]


class _Up:
    def __init__(
        self, plan: Plan, options: UpOptions, progress: Progress, guard: Guard, log_dir: Path, bounds: Bounds
    ) -> None:
        self._plan = plan
        self._options = options
        self._progress = progress
        self._guard = guard
        self._log_dir = log_dir
        self._bounds = bounds
        self._stop = asyncio.Event()
        self._force = asyncio.Event()

    async def run(self) -> None:
        self._on_signals()
        failed: ParleyError | None = None
        async with asyncio.TaskGroup() as group:
            supervisor = Supervisor(group, self._guard, self._log_dir, self._bounds, self._progress)
            try:
                await until_stopped(self._serve(supervisor), self._stop)
            except ParleyError as wrong:
                failed = wrong
            finally:
                await self._stop_all(supervisor)
        if failed:
            if isinstance(failed, StartFailed):
                self._progress.tail(failed.tail)
            raise failed

    def _on_signals(self) -> None:
        def on_signal() -> None:
            (self._force if self._stop.is_set() else self._stop).set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)

    async def _serve(self, supervisor: Supervisor) -> None:
        self._progress.say("starting Parley (Ctrl-C stops it)", "bold")
        with self._progress:
            await _start_all(self._plan, supervisor, self._progress)
        if self._options.ready_file:
            write_ready_file(self._options.ready_file, self._plan, supervisor)
        self._progress.console.print(what_runs(self._plan, supervisor.keepers))
        for line in how_to_talk(self._plan, sys.argv[0]):
            self._progress.console.print(line)
        if self._options.facts:
            await self._show_facts()
        await self._stop.wait()

    async def _show_facts(self) -> None:
        reader = FactReader()
        self._progress.say("facts as they pass Kafka:", "bold")
        while True:
            with suppress(DependencyUnavailable):
                async with follow(self._plan.kafka) as records:
                    async for record in records:
                        self._progress.console.print(reader.read(record).text())
            await asyncio.sleep(FACTS_AGAIN_S)

    async def _stop_all(self, supervisor: Supervisor) -> None:
        if self._options.ready_file:
            with suppress(OSError):
                self._options.ready_file.unlink(missing_ok=True)
        if supervisor.keepers:
            self._progress.say("stopping (Ctrl-C again forces it)", "bold")
        await supervisor.stop_all(self._force)
        self._progress.say("stopped", "dim")


async def until_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Run ``work`` until it ends or ``stop`` is set; what it raises goes to the caller."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(_caught(work))
        stopping = group.create_task(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        stopping.cancel()
    if not working.cancelled() and (wrong := working.result()):
        raise wrong


async def _caught(work: Coroutine[Any, Any, None]) -> ParleyError | None:
    """Turn an error of ours into a value, so that a task group does not wrap it."""
    try:
        await work
    except ParleyError as wrong:
        return wrong
    except BaseExceptionGroup as group:
        ours, others = group.split(ParleyError)
        if others or ours is None:
            raise
        return _first(ours)
    return None


def _first(group: BaseExceptionGroup[ParleyError]) -> ParleyError:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, ParleyError) else LocalViolation(repr(first))


# -- starting -------------------------------------------------------------------------------------


async def _start_all(plan: Plan, supervisor: Supervisor, progress: Progress) -> None:
    """Start what waits for nothing side by side, then the services."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_start_kafka(plan, supervisor, progress))
        group.create_task(_migrate(plan, supervisor, progress))
        if plan.understudy:
            group.create_task(_keep(plan.understudy, plan, supervisor, progress))
    async with asyncio.TaskGroup() as group:
        for spec in plan.services:
            group.create_task(_keep(spec, plan, supervisor, progress))


async def _start_kafka(plan: Plan, supervisor: Supervisor, progress: Progress) -> None:
    broker = plan.broker
    if broker:
        with progress.step("kafka", f"{broker.bootstrap_servers} (embedded, development only)"):
            env = {**plan.inherited, **broker.env()}
            await supervisor.keep(Launch("kafka", broker.argv(), env, _kafka_probe(broker)))
    else:
        with progress.step("kafka", f"{plan.kafka.bootstrap_servers} (KAFKA_BOOTSTRAP_SERVERS)"):
            await _wait_for_kafka(plan.kafka)
    with progress.step("topics"):
        await apply_topics(plan.kafka)


def _kafka_probe(broker: EmbeddedKafka) -> Probe:
    async def probe() -> ReadyAnswer:
        return ReadyAnswer(await broker.answers(), "no answer to a metadata request yet")

    return probe


async def _wait_for_kafka(kafka: KafkaSettings) -> None:
    """Wait for a Kafka of the user's; a secured one is left to the client that applies the topics."""
    if kafka.security_protocol != "PLAINTEXT":
        return
    try:
        async with asyncio.timeout(KAFKA_DEADLINE_S):
            while not await answers_metadata(kafka.bootstrap_servers):  # noqa: ASYNC110  (nothing would set an event)
                await asyncio.sleep(0.2)
    except TimeoutError as late:
        raise DependencyUnavailable(
            f"Kafka at {kafka.bootstrap_servers} did not answer within {KAFKA_DEADLINE_S:g} s",
            remedy="start it, or unset KAFKA_BOOTSTRAP_SERVERS for the embedded one",
        ) from late


async def _migrate(plan: Plan, supervisor: Supervisor, progress: Progress) -> None:
    for job in plan.jobs:
        with progress.step(job.name):
            await supervisor.do(Launch(job.name, job.argv, plan.environment_of(job)))


async def _keep(spec: ProcessSpec, plan: Plan, supervisor: Supervisor, progress: Progress) -> None:
    with progress.step(spec.name, spec.url):
        probe = all_ready([http_probe(url) for url in spec.ready_urls])
        await supervisor.keep(Launch(spec.name, spec.argv, plan.environment_of(spec), probe))


# -- telling others -------------------------------------------------------------------------------


def write_ready_file(path: Path, plan: Plan, supervisor: Supervisor) -> None:
    """Write ports and pids, whole or not at all: whoever waits for the file may read it at once."""
    pids = {keeper.name: keeper.pid for keeper in supervisor.keepers}
    body = {
        "ready": True,
        "pid": os.getpid(),
        "kafka": plan.kafka.bootstrap_servers,
        "services": {spec.name: _told(spec, pids.get(spec.name)) for spec in plan.processes},
        "processes": pids,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def _told(spec: ProcessSpec, pid: int | None) -> dict[str, Any]:
    return {"pid": pid, "port": spec.port, "url": spec.url, "workers_at": spec.workers_at}
