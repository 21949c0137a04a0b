"""Several workers as real processes: they share a port or have one each, outlive each other, and not their parent."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from fakes.session_service import FakeSessionService
from harness import ports
from harness.broker import Broker
from harness.processes import Proc, Processes
from harness.running import RunningParley
from harness.waiting import until
from parley_common.contracts.audio_link import SUBPROTOCOL, Error, Notice, Open, Ready
from unit.gateway.world import Caller

TRIES_MAX = 40
"""The kernel deals connections out by their addresses: that one of two gets none of so many does not happen."""
BUSINESS = """\
name: cap
title: Cap Lending
fictional: true
agent:
  name: Cap
"""


@pytest.fixture
def row() -> Iterator[Callable[[], int]]:
    """``row()`` is the first of two ports in a row that nobody else is given."""
    taken: list[int] = []

    def take() -> int:
        while True:
            first = ports.free_port()
            if ports._lock(first + 1) and ports._can_bind(first + 1):
                taken.extend((first, first + 1))
                return first
            ports.release(first)
            ports.release(first + 1)

    yield take
    for number in taken:
        ports.release(number)


async def metric(port: int, name: str) -> float:
    """The sum of a metric of one worker over its labels."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def dial(url: str) -> connect:
    """A client that reads whatever comes, also what no test asks for."""
    return connect(url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, proxy=None, max_queue=None)


def pid_of_worker(parent: int, index: int) -> int:
    children = psutil.Process(parent).children()
    return next(child.pid for child in children if child.cmdline()[-2:] == ["worker", str(index)])


@dataclass
class Gateways:
    """A gateway of two workers in front of a session service."""

    proc: Proc
    url: str
    worker_ports: tuple[int, int]

    async def wait_ready(self) -> None:
        for port in self.worker_ports:
            await self.proc.wait_ready(f"http://127.0.0.1:{port}/readyz")

    async def each(self, name: str) -> list[float]:
        return [await metric(port, name) for port in self.worker_ports]

    async def held(self, count: int) -> list[float]:
        """Return how many sessions each worker holds, once they hold that many together."""
        counts: list[float] = []

        async def counted() -> bool:
            counts[:] = await self.each("parley_gateway_sessions_count")
            return sum(counts) == count

        await until(counted, 10, f"{count} sessions at both together")
        return counts

    @asynccontextmanager
    async def session(self) -> AsyncIterator[tuple[Caller, Ready]]:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = (await http.post(f"{self.url}/v1/tokens", json={"business": "cap"})).json()
        async with self.opened(Open(token=answer["token"])) as opened:
            yield opened

    @asynccontextmanager
    async def opened(self, opening: Open) -> AsyncIterator[tuple[Caller, Ready]]:
        async with dial(self.url.replace("http", "ws") + "/v1/audio") as client:
            caller = Caller(client)
            await caller.say(opening)
            yield caller, await caller.expect(Ready)


@pytest.fixture
def start(
    processes: Processes, port: Callable[[], int], row: Callable[[], int], tmp_path: Path
) -> Callable[..., Gateways]:
    """``start(service_url, **settings)``: a gateway of two workers."""
    folder = tmp_path / "businesses" / "cap"
    folder.mkdir(parents=True)
    (folder / "business.yaml").write_text(BUSINESS)
    (folder / "prompt.md").write_text("You are Cap. Be brief.")

    def start_one(service_url: str, **env: str) -> Gateways:
        number, first = port(), row()
        settings = {
            "GATEWAY_PORT": str(number),
            "GATEWAY_WORKERS": "2",
            "GATEWAY_WORKER_PORT": str(first),
            "GATEWAY_SESSION_SERVICES": service_url,
            "GATEWAY_DRAIN_GRACE_S": "0.5",
            "PARLEY_BUSINESSES_DIR": str(folder.parent),
            **env,
        }
        proc = processes.start([sys.executable, "-m", "parley_gateway.app"], name="gateway", env=settings)
        return Gateways(proc, f"http://127.0.0.1:{settings['GATEWAY_PORT']}", (first, first + 1))

    return start_one


# -- a gateway of two workers ---------------------------------------------------------------------


async def test_two_workers_share_one_port_have_metrics_each_and_end_as_one(
    start: Callable[..., Gateways],
) -> None:
    async with FakeSessionService() as service, AsyncExitStack() as open_sessions:
        gateways = start(service.url)
        await gateways.wait_ready()
        callers: list[Caller] = []
        while not all(await gateways.held(len(callers))):
            assert len(callers) < TRIES_MAX
            caller, _ = await open_sessions.enter_async_context(gateways.session())
            callers.append(caller)
        assert len(callers) == service.attach_count
        gateways.proc._popen.terminate()
        for caller in callers:
            assert (await caller.expect(Notice)).code == "move"
            assert await caller.closed() == 1012
        assert await gateways.proc.wait_exit(10) == 0
        assert gateways.proc.survivors() == []


async def test_the_session_of_a_worker_that_is_killed_goes_on_at_the_other_and_the_worker_is_started_again(
    start: Callable[..., Gateways],
) -> None:
    async with FakeSessionService() as service:
        gateways = start(service.url)
        await gateways.wait_ready()
        async with gateways.session() as (caller, ready):
            index = (await gateways.held(1)).index(1)
            os.kill(gateways.proc.pid, signal.SIGSTOP)  # so that it starts no other before the client is back
            os.kill(pid_of_worker(gateways.proc.pid, index), signal.SIGKILL)
            assert await caller.closed() == 1006
            async with gateways.opened(Open(resume=ready.resume)) as (_, again):
                assert again.session == ready.session
                assert service.link.attach.resume
                other = gateways.worker_ports[1 - index]
                assert await metric(other, "parley_gateway_sessions_resumed_total") == 1
                os.kill(gateways.proc.pid, signal.SIGCONT)
                await gateways.wait_ready()
                assert await gateways.held(1) == [index, 1 - index]
        assert "worker.ended" in gateways.proc.log()
        assert await gateways.proc.terminate() == 0


async def test_a_client_may_come_back_to_another_worker_while_the_first_still_holds_its_session(
    start: Callable[..., Gateways],
) -> None:
    async with FakeSessionService() as service:
        gateways = start(service.url)
        await gateways.wait_ready()
        async with gateways.session() as (caller, ready):
            caller.socket.transport.abort()
        came_back_to: set[int] = set()
        token = ready.resume
        for _ in range(TRIES_MAX):
            before = await gateways.each("parley_gateway_sessions_resumed_total")
            async with gateways.opened(Open(resume=token)) as (caller, again):
                assert again.session == ready.session
                after = await gateways.each("parley_gateway_sessions_resumed_total")
                came_back_to |= {at for at in range(2) if after[at] > before[at]}
                token = again.resume
                caller.socket.transport.abort()
            if len(came_back_to) == 2:
                break
        assert came_back_to == {0, 1}
        assert await gateways.proc.terminate() == 0


async def test_no_worker_outlives_a_parent_that_is_killed(start: Callable[..., Gateways]) -> None:
    async with FakeSessionService() as service:
        gateways = start(service.url)
        await gateways.wait_ready()
        async with gateways.session() as (caller, _):
            assert len(gateways.proc.survivors()) == 3
            await asyncio.to_thread(gateways.proc.kill9, leader_only=True)
            assert (await caller.expect(Notice)).code == "move"
            await until(lambda: not gateways.proc.survivors(), 20, "the workers to be gone")


@pytest.mark.parametrize("setting", ["GATEWAY_PORT", "GATEWAY_WORKER_PORT"])
async def test_a_port_that_others_have_ends_it_with_one_line_even_if_they_would_share_it(
    start: Callable[..., Gateways], row: Callable[[], int], setting: str
) -> None:
    first = row()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", first + (setting == "GATEWAY_WORKER_PORT")))
        other.listen()
        proc = start("ws://127.0.0.1:1", **{setting: str(first)}).proc
        assert await proc.wait_exit() == 78
    (line,) = proc.log().splitlines()
    assert line.startswith(f"gateway: {setting}: port ")
    assert "is taken" in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_TOKEN_KEYS", "name:short"),
        ("GATEWAY_WORKERS", "0"),
        ("GATEWAY_WORKER_PORT", "65535"),
        ("GATEWAY_PORT", "0"),
        ("PARLEY_BUSINESSES_DIR", "/nowhere"),
    ],
)
async def test_a_wrong_setting_ends_it_with_one_line_before_any_worker_begins(
    start: Callable[..., Gateways], variable: str, value: str
) -> None:
    proc = start("ws://127.0.0.1:1", **{variable: value}).proc
    assert await proc.wait_exit() == 78
    (line,) = proc.log().splitlines()
    assert variable in line


# -- all of Parley, two workers each --------------------------------------------------------------


@pytest.fixture
def parley(
    processes: Processes, kafka_broker: Broker, row: Callable[[], int], tmp_path: Path
) -> Iterator[RunningParley]:
    running = RunningParley(
        processes,
        tmp_path / "state",
        kafka_broker,
        "--only=session,gateway",
        UNDERSTUDY_LIGHT="true",
        SESSION_CATALOG_WAIT_MS="0",
        SESSION_WORKERS="2",
        SESSION_PORT=str(row()),
        GATEWAY_WORKERS="2",
        GATEWAY_WORKER_PORT=str(row()),
    )
    yield running
    assert running.stop() in {0, 130}
    assert running.proc.survivors() == []


@pytest.mark.timeout(300)
async def test_parley_up_runs_two_session_workers_that_both_get_sessions_and_keep_them_when_a_gateway_dies(
    parley: RunningParley,
) -> None:
    first = int(parley.env["SESSION_PORT"])
    gateways = Gateways(parley.proc, parley.url, (0, 0))
    async with AsyncExitStack() as open_sessions:
        sessions: list[tuple[Caller, Ready]] = []
        while not all([await metric(port, "parley_sessions") for port in (first, first + 1)]):
            assert len(sessions) < TRIES_MAX
            sessions.append(await open_sessions.enter_async_context(gateways.session()))
        counts = [int(await metric(port, "parley_sessions")) for port in (first, first + 1)]
        assert sum(counts) == len(sessions)
        assert f"ws://127.0.0.1:{first + 1}" in parley.proc.log()
        for pid in [pid_of_worker(parley.pids["gateway"], index) for index in range(2)]:
            os.kill(pid, signal.SIGKILL)
        for caller, _ in sessions:
            assert await caller.closed() == 1006
        await parley.proc.wait_ready(f"{parley.url}/readyz")
        for _, ready in sessions:
            _, again = await open_sessions.enter_async_context(gateways.opened(Open(resume=ready.resume)))
            assert again.session == ready.session
        assert [int(await metric(port, "parley_sessions")) for port in (first, first + 1)] == counts
        assert await _replayed(gateways) <= 2
    started = await parley.facts("parley.session.events")
    replicas = {fact.value["replica"] for fact in started if fact.type == "parley.session.started.v1"}
    assert replicas >= {"session-0", "session-0-1"}
    assert (parley.state_dir / "session-0-1.db").is_file()


async def _replayed(gateways: Gateways) -> int:
    """How many sessions a token opens that is shown again and again."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = (await http.post(f"{gateways.url}/v1/tokens", json={"business": "cap"})).json()
    opened = 0
    for _ in range(8):
        async with dial(answer["url"]) as client:
            caller = Caller(client)
            await caller.say(Open(token=answer["token"]))
            while not isinstance(first := await caller.next(), Ready | Error):
                pass
            opened += isinstance(first, Ready)
    return opened
