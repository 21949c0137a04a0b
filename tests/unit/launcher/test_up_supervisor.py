"""The supervisor keeps real processes running, says what is wrong with them, and leaves none behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from harness.ports import free_port
from harness.processes import machine_environment
from harness.waiting import until
from parley_common.errors import ConfigInvalid, ParleyError
from parley_launcher.up.logs import Trouble
from parley_launcher.up.processes import Guard, exit_words
from parley_launcher.up.readiness import Probe, ReadyAnswer, http_probe, waiting_words
from parley_launcher.up.run import until_stopped
from parley_launcher.up.supervisor import Bounds, Launch, StartFailed, Supervisor

RUNS = "import time; print('running', flush=True); time.sleep(600)"
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('deaf', flush=True)
time.sleep(600)
"""
POLITE = """
import signal, sys, time
def stop(*_):
    with open(sys.argv[2], 'a') as order:
        order.write(sys.argv[1] + '\\n')
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print('running', flush=True)
while True:
    time.sleep(0.05)
"""
PARENT = """
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'])
print('worker', worker.pid, flush=True)
time.sleep(600)
"""
CRASHES_ONCE = """
import pathlib, sys, time
seen = pathlib.Path(sys.argv[1])
if not seen.exists():
    seen.touch()
    print('about to fall')
    sys.exit(3)
print('running', flush=True)
time.sleep(600)
"""
READY_LATER = """
import http.server, sys, time
begins = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = time.monotonic() - begins > float(sys.argv[2])
        body = b'{"ready": true, "waiting_for": []}' if ready else b'{"ready": false, "waiting_for": {"kafka": "no broker"}}'
        self.send_response(200 if ready else 503)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
"""


@dataclass
class Heard:
    """A reporter that remembers."""

    ends: list[tuple[str, str, list[str], float]] = field(default_factory=list)
    troubles: list[tuple[str, Trouble]] = field(default_factory=list)
    waits: list[tuple[str, str]] = field(default_factory=list)

    def waiting(self, name: str, why: str) -> None:
        self.waits.append((name, why))

    def ended(self, name: str, how: str, tail: Sequence[str], restart_in_s: float) -> None:
        self.ends.append((name, how, list(tail), restart_in_s))

    def trouble(self, name: str, trouble: Trouble, held_back: int) -> None:
        self.troubles.append((name, trouble))


@dataclass
class House:
    supervisor: Supervisor
    heard: Heard
    force: asyncio.Event


@asynccontextmanager
async def house(tmp_path: Path, **bounds: float) -> AsyncIterator[House]:
    heard, force = Heard(), asyncio.Event()
    limits = Bounds(**{"ready_deadline_s": 10.0, "stop_deadline_s": 5.0, **bounds})  # type: ignore[arg-type]
    with Guard(term_to_kill_s=0.2) as guard:
        async with asyncio.TaskGroup() as group:
            supervisor = Supervisor(group, guard, tmp_path / "logs", limits, heard)
            try:
                yield House(supervisor, heard, force)
            finally:
                await supervisor.stop_all(force)


def launch(name: str, code: str, *args: str, probe: Probe | None = None) -> Launch:
    return Launch(name, (sys.executable, "-c", code, *args), machine_environment(), probe)


def is_alive(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_service_is_waited_for_until_it_says_that_it_is_ready(tmp_path: Path) -> None:
    port = free_port()
    probe = http_probe(f"http://127.0.0.1:{port}/readyz")
    async with house(tmp_path) as here:
        keeper = await here.supervisor.keep(launch("tools", READY_LATER, str(port), "0.3", probe=probe))
        assert is_alive(keeper.pid)
        pid = keeper.pid

    assert not is_alive(pid)
    assert ("tools", "kafka (no broker)") in here.heard.waits


async def test_a_crash_is_shown_with_the_last_lines_and_the_process_started_again(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        crashing = launch("tools", CRASHES_ONCE, str(tmp_path / "seen"), probe=prints_running(tmp_path))
        keeper = await here.supervisor.keep(crashing)

        assert keeper.restart_count == 1
        assert here.heard.ends == [("tools", "exit 3", ["about to fall"], 0.5)]


def prints_running(tmp_path: Path) -> Probe:
    async def probe() -> ReadyAnswer:
        return ReadyAnswer("running" in (tmp_path / "logs" / "tools.log").read_text(), "silent")

    return probe


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        keeper = await here.supervisor.keep(launch("tools", RUNS))
        killed = keeper.pid
        assert killed is not None
        psutil.Process(killed).kill()
        await until(lambda: keeper.pid not in (None, killed), why="a new process")

        assert here.heard.ends[0][1] == "signal SIGKILL"


async def test_a_process_that_ignores_sigterm_is_killed_after_its_deadline(tmp_path: Path) -> None:
    async with house(tmp_path, stop_deadline_s=0.2) as here:
        keeper = await here.supervisor.keep(launch("tools", DEAF, probe=has_printed(tmp_path, "deaf")))
        pid = keeper.pid
        assert is_alive(pid)

    assert not is_alive(pid)


def has_printed(tmp_path: Path, word: str, name: str = "tools") -> Probe:
    async def probe() -> ReadyAnswer:
        return ReadyAnswer(word in (tmp_path / "logs" / f"{name}.log").read_text())

    return probe


async def test_force_does_not_wait_for_the_deadline(tmp_path: Path) -> None:
    began_s = time.monotonic()
    async with house(tmp_path, stop_deadline_s=60) as here:
        keeper = await here.supervisor.keep(launch("tools", DEAF, probe=has_printed(tmp_path, "deaf")))
        pid = keeper.pid
        here.force.set()

    assert not is_alive(pid)
    assert time.monotonic() - began_s < 20


async def test_a_service_that_never_gets_ready_fails_with_its_reason_and_its_log(tmp_path: Path) -> None:
    port = free_port()
    probe = http_probe(f"http://127.0.0.1:{port}/readyz")
    async with house(tmp_path, ready_deadline_s=1.0) as here:
        with pytest.raises(
            StartFailed, match=r"session was not ready after 1 s: kafka \(no broker\)"
        ) as failed:
            await here.supervisor.keep(launch("session", READY_LATER, str(port), "600", probe=probe))

    assert "logs/session.log" in str(failed.value)


async def test_a_refused_configuration_is_said_at_once_in_the_services_own_words(tmp_path: Path) -> None:
    code = "import sys; print('tools: TOOLS_PORT: no number'); sys.exit(78)"
    async with house(tmp_path, ready_deadline_s=30) as here:

        async def never() -> ReadyAnswer:
            return ReadyAnswer(False)

        with pytest.raises(ConfigInvalid, match="TOOLS_PORT: no number"):
            await here.supervisor.keep(launch("tools", code, probe=never))


async def test_the_workers_of_a_service_go_with_it(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        probe = has_printed(tmp_path, "worker")
        await here.supervisor.keep(launch("tools", PARENT, probe=probe))
        worker = int((tmp_path / "logs" / "tools.log").read_text().split()[1])
        assert is_alive(worker)

    assert not is_alive(worker)


async def test_an_end_is_noticed_even_while_a_worker_holds_the_output(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        keeper = await here.supervisor.keep(launch("tools", PARENT, probe=has_printed(tmp_path, "worker")))
        worker = int((tmp_path / "logs" / "tools.log").read_text().split()[1])
        assert keeper.pid is not None
        psutil.Process(keeper.pid).kill()
        await until(lambda: here.heard.ends, why="the end to be noticed")

        assert not is_alive(worker)


async def test_all_are_stopped_last_started_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    async with house(tmp_path) as here:
        for name in ("kafka", "tools", "gateway"):
            probe = has_printed(tmp_path, "running", name)
            await here.supervisor.keep(launch(name, POLITE, name, str(order), probe=probe))

    assert order.read_text().split() == ["gateway", "tools", "kafka"]


async def test_trouble_that_a_process_prints_is_told(tmp_path: Path) -> None:
    code = """print('{"event": "outbox.stuck", "level": "error", "age_s": 9}', flush=True)\n""" + RUNS
    async with house(tmp_path) as here:
        await here.supervisor.keep(launch("tools", code))
        await until(lambda: here.heard.troubles, why="the trouble to be told")

    assert here.heard.troubles == [("tools", Trouble("error", "outbox.stuck age_s=9"))]


async def test_a_job_is_run_to_its_end(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        await here.supervisor.do(launch("migrate tools", "print('done')"))

    assert (tmp_path / "logs" / "migrate-tools.log").read_text() == "done\n"


async def test_a_job_that_fails_is_said_with_its_log(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        with pytest.raises(StartFailed, match="migrate tools failed: exit 4") as failed:
            await here.supervisor.do(launch("migrate tools", "print('no table'); raise SystemExit(4)"))

    assert failed.value.tail == ("no table",)


async def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async with house(tmp_path, ready_deadline_s=0.5) as here:
        with pytest.raises(StartFailed, match=r"was not done after 0\.5 s"):
            await here.supervisor.do(
                launch("migrate tools", "import os; print(os.getpid(), flush=True)\n" + RUNS)
            )

    pid = int((tmp_path / "logs" / "migrate-tools.log").read_text().split()[0])
    await until(lambda: not is_alive(pid), why="the job to be gone")


# -- a launcher that is killed --------------------------------------------------------------------

LAUNCHER = """
import asyncio, sys
from pathlib import Path
from parley_launcher.up.processes import Guard
from parley_launcher.up.supervisor import Bounds, Launch, Supervisor

class Silent:
    def waiting(self, *_): pass
    def ended(self, *_): pass
    def trouble(self, *_): pass

async def main():
    with Guard(term_to_kill_s=0.3) as guard:
        async with asyncio.TaskGroup() as group:
            supervisor = Supervisor(group, guard, Path(sys.argv[1]), Bounds(), Silent())
            for at, code in enumerate(sys.argv[2:]):
                keeper = await supervisor.keep(Launch(f"child{at}", (sys.executable, "-c", code), {}))
                print(keeper.pid, flush=True)
            print("all", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Yield a launcher in a process of its own, and the processes it started."""
    argv = [sys.executable, "-c", LAUNCHER, str(tmp_path / "logs"), RUNS, DEAF, PARENT]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "all\n"))
        yield process, [int(line) for line in lines]
        process.kill()


async def test_a_launcher_killed_by_force_leaves_nothing_behind(
    launcher: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    process, pids = launcher
    worker_log = tmp_path / "logs" / "child2.log"
    await until(lambda: "worker" in worker_log.read_text(), why="the worker of a service")
    pids.append(int(worker_log.read_text().split()[1]))
    await until(lambda: "deaf" in (tmp_path / "logs" / "child1.log").read_text(), why="the deaf one")
    assert all(map(is_alive, pids))

    process.kill()

    await until(lambda: not any(map(is_alive, pids)), 10.0, "everything to be gone")


async def test_with_the_guard_killed_too_the_services_still_go(
    launcher: tuple[subprocess.Popen[str], list[int]],
) -> None:
    if sys.platform != "linux":
        return  # only Linux tells a child of its parent's death
    process, pids = launcher
    (guard,) = [
        p for p in psutil.Process(process.pid).children() if any("guard.py" in a for a in p.cmdline())
    ]
    guard.kill()
    process.kill()

    await until(lambda: not is_alive(pids[0]), 10.0, "the service to be gone")
    for pid in pids:
        if is_alive(pid):
            psutil.Process(pid).parent()
            for left in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
                left.kill()


# -- small things ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit 0"), (3, "exit 3"), (-signal.SIGSEGV, "signal SIGSEGV"), (-250, "signal 250")],
)
def test_how_a_process_ended_is_said_in_words(code: int, words: str) -> None:
    assert exit_words(code) == words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"waiting_for": ["kafka", "upstream"]}', "kafka, upstream"),
        ('{"waiting_for": {"kafka": "no broker", "db": ""}}', "kafka (no broker), db"),
        ('{"waiting_for": null}', "HTTP 503"),
        ("[]", "HTTP 503"),
        ("oops", "HTTP 503"),
    ],
)
def test_what_is_waited_for_is_said_in_words(body: str, words: str) -> None:
    assert waiting_words(httpx.Response(503, text=body)) == words


async def test_a_service_that_does_not_answer_is_not_ready() -> None:
    answer = await http_probe(f"http://127.0.0.1:{free_port()}/readyz")()

    assert not answer.ready
    assert "no answer yet" in answer.why


async def test_a_stop_ends_the_work_and_an_error_of_the_work_comes_out() -> None:
    stop = asyncio.Event()

    async def fails() -> None:
        raise StartFailed("broken", tail=(), log_path=Path("log"))

    async def fails_inside() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(asyncio.Event().wait())

    for work in (fails, fails_inside):
        with pytest.raises(ParleyError, match="broken"):
            await until_stopped(work(), stop)

    stop.set()
    await until_stopped(_for_ever(), stop)


async def _for_ever() -> None:
    await asyncio.Event().wait()
