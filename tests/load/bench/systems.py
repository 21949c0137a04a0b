"""Starts what is measured, each on its core: Parley's gateway and session service, a relay, an echo, and upstream.

All systems are real processes that are told where to listen by argument or environment, as in production. Kafka and the
tools service run beside the generator: they are not what is measured, but tool calls go through them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from harness.broker import Broker
from harness.kafka import kinds_to_try, start_broker
from harness.ports import free_port, release
from harness.processes import Proc, Processes, machine_environment
from load.bench.calls import Door
from load.bench.machine import Cores, on_core
from load.bench.turns import TURN_S
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
BUSINESS = HERE / "businesses" / "bench"
LENT = TESTS.parent / "businesses" / "cap" / "data" / "products.yaml"
"""What the one tool needs to know: another business's figures do."""
INTERNAL_TOKEN = "bench-internal-token"
READY_S = 60.0
STEP_SPARE_S = 60.0

SystemName = Literal["parley", "relay", "echo", "gateway", "session"]
UpstreamName = Literal["lean", "burst", "understudy"]


@dataclass(frozen=True)
class Backends:
    """Kafka and the tools service, for every Parley of a run."""

    broker: Broker
    tools: Proc
    tools_port: int
    state_dir: Path
    env: Mapping[str, str] = field(default_factory=dict)
    """What every service is told beyond what it needs."""

    @property
    def pids(self) -> dict[str, int]:
        """Return the processes of this machine among them, by name."""
        kafka: Proc | None = getattr(self.broker, "_proc", None)
        return {"tools": self.tools.pid, **({"kafka": kafka.pid} if kafka else {})}


@dataclass(frozen=True)
class Running:
    """A system that is ready, with what it talks to."""

    name: SystemName
    door: Door
    services: Mapping[str, Proc]
    """What is measured, by name."""
    upstream: Proc | None
    ports: list[int]


@dataclass
class Lab:
    """Where processes are started, on which cores."""

    folder: Path
    cores: Cores
    upstream: UpstreamName = "lean"
    turn_s: float = TURN_S
    """How often each caller speaks, and so barges in."""
    processes: Processes = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.processes = Processes(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.close()

    def run(self, core: int, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Proc:
        """Start one process on a core."""
        with on_core(core):
            return self.processes.start([sys.executable, "-m", *argv], name=name, env=env)

    def program(self, core: int, module: str, *arguments: str) -> Proc:
        """Start one of the bench's own programs on a core."""
        name = module.rpartition(".")[2]
        return self.run(core, name, [f"load.bench.{module}", *arguments], {"PYTHONPATH": str(TESTS)})


async def start_backends(lab: Lab, broker: Broker | None = None) -> Backends:
    """Start Kafka, unless one is given, make the topics, and start the tools service on SQLite."""
    state_dir = lab.folder / "state"
    furnish(state_dir)
    if broker is None:
        with on_core(lab.cores.rest):
            broker, _ = start_broker(kinds_to_try())
    await apply_topics(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
    migrating = lab.run(
        lab.cores.rest, "migrate", ["parley_tools.app", "migrate"], _common(state_dir, broker)
    )
    assert await migrating.wait_exit(READY_S) == 0, migrating.log_tail()
    return await start_tools(lab, broker, state_dir, {})


def furnish(state_dir: Path, changes: Mapping[str, Any] | None = None) -> None:
    """Put the bench's business into a state folder; ``changes`` of a section of its business.yaml are merged into it."""
    business = state_dir / "businesses" / "bench"
    shutil.copytree(BUSINESS, business)
    (business / "data").mkdir()
    shutil.copy(LENT, business / "data")
    if changes:
        config = yaml.safe_load((business / "business.yaml").read_text("utf-8"))
        for section, value in changes.items():
            is_merged = isinstance(value, Mapping)
            config[section] = {**config.get(section, {}), **value} if is_merged else value
        (business / "business.yaml").write_text(yaml.safe_dump(config), "utf-8")


async def start_tools(lab: Lab, broker: Broker, state_dir: Path, env: Mapping[str, str]) -> Backends:
    """Start the tools service in a state folder that is furnished, on a database that has its tables."""
    port = free_port()
    whole = {**_common(state_dir, broker), "TOOLS_PORT": str(port), **env}
    tools = lab.run(lab.cores.rest, "tools", ["parley_tools.app"], whole)
    await tools.wait_ready(f"http://127.0.0.1:{port}/readyz", READY_S)
    return Backends(broker, tools, port, state_dir, env)


def stop_tools(backends: Backends) -> None:
    """End the tools service, so that another may take its place in the group at once."""
    backends.tools.stop(15.0)
    backends.tools.close()
    release(backends.tools_port)


def _common(state_dir: Path, broker: Broker) -> dict[str, str]:
    return {
        "PARLEY_STATE_DIR": str(state_dir),
        "PARLEY_BUSINESSES_DIR": str(state_dir / "businesses"),
        "PARLEY_INTERNAL_TOKEN": INTERNAL_TOKEN,
        "PARLEY_LOG_FORMAT": "json",
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "ORT_DISABLE_TELEMETRY": "1",
    }


async def start_system(lab: Lab, name: SystemName, log: Path, backends: Backends | None = None) -> Running:
    """Start a system under test and its upstream; return it ready."""
    ports: list[int] = []

    def port() -> int:
        ports.append(free_port())
        return ports[-1]

    if name == "echo":
        echo = port()
        proc = lab.program(lab.cores.system, "echo", "--port", str(echo))
        await proc.wait_log("ready", READY_S)
        return Running(name, Door(f"ws://127.0.0.1:{echo}/v1/audio"), {"echo": proc}, None, ports)
    upstream_port = port()
    upstream = await _start_upstream(lab, name, upstream_port, log)
    address = f"ws://127.0.0.1:{upstream_port}"
    if name == "relay":
        relay = port()
        proc = lab.program(
            lab.cores.system,
            "relay",
            "--port",
            str(relay),
            "--upstream",
            f"{address}/v1/realtime?model=gpt-realtime",
        )
        await proc.wait_log("ready", READY_S)
        return Running(name, Door(f"ws://127.0.0.1:{relay}/v1/audio"), {"relay": proc}, upstream, ports)
    services: dict[str, Proc] = {}
    session_address = address
    if name != "gateway":
        assert backends is not None
        services["session"], session_address = await _start_session(lab, port(), address, backends)
    if name == "session":
        door = Door(f"{session_address}/v1/link", link_token=INTERNAL_TOKEN)
        return Running(name, door, services, upstream, ports)
    services["gateway"], door = await _start_gateway(lab, port(), session_address, backends)
    return Running(name, door, services, upstream, ports)


async def _start_upstream(lab: Lab, name: SystemName, port: int, log: Path) -> Proc:
    arguments = ["--port", str(port), "--log", str(log)]
    if name == "gateway":
        module = "link_stand"
    elif lab.upstream == "understudy":
        module = "understudy_tap"
    else:
        module = "lean_upstream"
        arguments += ["--burst"] if lab.upstream == "burst" else []
    proc = lab.program(lab.cores.rest, module, *arguments)
    await proc.wait_log("ready", READY_S)
    return proc


async def _start_session(lab: Lab, port: int, upstream: str, backends: Backends) -> tuple[Proc, str]:
    env = {
        **_common(backends.state_dir, backends.broker),
        "SESSION_PORT": str(port),
        "SESSION_SESSIONS_MAX": "4000",
        "SESSION_UPSTREAM_URL": f"{upstream}/v1/realtime",
        **backends.env,
    }
    proc = lab.run(lab.cores.system, "session", ["parley_session.app"], env)
    await proc.wait_ready(f"http://127.0.0.1:{port}/readyz", READY_S)
    return proc, f"ws://127.0.0.1:{port}"


async def _start_gateway(lab: Lab, port: int, sessions: str, backends: Backends | None) -> tuple[Proc, Door]:
    assert backends is not None
    env = {
        **_common(backends.state_dir, backends.broker),
        "GATEWAY_PORT": str(port),
        "GATEWAY_SESSION_SERVICES": sessions,
        "GATEWAY_SESSIONS_MAX": "4000",
        "GATEWAY_ADDRESS_OPENS_PER_MINUTE": "0",
        "GATEWAY_ADDRESS_SOCKETS_MAX": "0",
        **backends.env,
    }
    proc = lab.run(lab.cores.system, "gateway", ["parley_gateway.app"], env)
    await proc.wait_ready(f"http://127.0.0.1:{port}/readyz", READY_S)
    place = f"127.0.0.1:{port}"
    return proc, Door(f"ws://{place}/v1/audio", f"http://{place}/v1/tokens")


class Generator:
    """The process of the callers, told what to do line by line."""

    def __init__(self, lab: Lab, door: Door, log: Path) -> None:
        argv = [sys.executable, "-m", "load.bench.generator", "--url", door.url, "--log", str(log)]
        argv += ["--turn-s", str(lab.turn_s)]
        argv += ["--tokens-url", door.tokens_url] if door.tokens_url else []
        argv += ["--link-token", door.link_token] if door.link_token else []
        env = {**machine_environment(), "PYTHONPATH": str(TESTS), "PYTHONUNBUFFERED": "1"}
        self._errors = (lab.folder / "generator.log").open("ab")
        with on_core(lab.cores.rest):
            self._popen = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=env, text=True
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    async def ready(self) -> None:
        await self._answer(READY_S)

    async def step(self, **order: Any) -> dict[str, Any]:
        """Have the callers do a step; return what there is to judge."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(order) + "\n")
        self._popen.stdin.flush()
        return await self._answer(STEP_SPARE_S + order["measure_s"] + order["callers"] / order["per_s"])

    async def _answer(self, within_s: float) -> dict[str, Any]:
        assert self._popen.stdout is not None
        async with asyncio.timeout(within_s):
            line = await asyncio.to_thread(self._popen.stdout.readline)
        assert line, f"the generator ended with {self._popen.poll()}: see {self._errors.name}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def close(self) -> None:
        """Have all callers hang up, and end."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        try:
            await asyncio.to_thread(self._popen.wait, 20.0)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        self._errors.close()


def stop_system(running: Running) -> None:
    """End a system under test, then its upstream, so that each says goodbye to somebody."""
    for proc in (*reversed(running.services.values()), *((running.upstream,) if running.upstream else ())):
        try:
            proc.stop(15.0)
        except AssertionError:
            proc.close()
        proc.close()
    for held in running.ports:
        release(held)


def is_linux() -> bool:
    """Say whether this machine has what the bench reads and pins with."""
    return hasattr(os, "sched_setaffinity") and Path("/proc/self/stat").exists()
