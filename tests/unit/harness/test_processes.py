"""Real processes: ready, ended, killed, frozen, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from harness.ports import free_port, is_listening, release
from harness.processes import Processes, machine_environment, open_processes
from harness.waiting import until, until_blocking

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 503); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
IDLE = "import signal, sys; print('up'); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up')\nwhile True: signal.pause()"
)
PARENT = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
    "print('child', child.pid); import signal; signal.pause()"
)
OVERSEEN = """
import pathlib, sys, time
from harness.processes import Processes
from harness.warden import warden
warden.clear(pathlib.Path(sys.argv[2]))
warden.clear(pathlib.Path(sys.argv[1]))
child = Processes(pathlib.Path(sys.argv[1])).start([sys.executable, "-c", "import signal; signal.pause()"], name="child")
print(child.pid, flush=True)
time.sleep(60)
"""


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


async def test_a_server_is_ready_once_its_url_answers_200(processes: Processes) -> None:
    port = free_port()
    proc = processes.start(python(SERVER, str(port)), name="server")
    await proc.wait_ready(f"http://127.0.0.1:{port}/readyz")
    with pytest.raises(AssertionError, match="server to be ready"):
        await proc.wait_ready(f"http://127.0.0.1:{port}/other", deadline_s=0.2)
    assert await proc.terminate() == -signal.SIGTERM
    assert not is_listening(port)
    release(port)


async def test_a_process_that_ends_at_its_start_fails_the_wait_with_its_log(processes: Processes) -> None:
    proc = processes.start(python("print('no such setting'); raise SystemExit(78)"), name="wrong")
    with pytest.raises(AssertionError, match="wrong ended with exit code 78:\nno such setting"):
        await proc.wait_ready("http://127.0.0.1:1/readyz")


async def test_kill_9_ends_the_whole_group_at_once(processes: Processes) -> None:
    proc = processes.start(python(PARENT), name="parent")
    await proc.wait_log("child")
    child = psutil.Process(int(proc.log().split()[1]))
    proc.kill9()
    assert proc.exit_code == -signal.SIGKILL
    await until(lambda: _is_gone(child), 5, "the child to be gone too")


async def test_killing_only_the_leader_leaves_its_children_to_be_found_and_closing_ends_them(
    tmp_path: Path,
) -> None:
    with Processes(tmp_path) as processes:
        proc = processes.start(python(PARENT), name="parent")
        await proc.wait_log("child")
        child = int(proc.log().split()[1])
        proc.kill9(leader_only=True)
        assert proc.survivors() == [child]
    assert _is_gone_or_zombie(child)


async def test_a_frozen_process_answers_nothing_until_it_goes_on(processes: Processes) -> None:
    port = free_port()
    proc = processes.start(python(SERVER, str(port)), name="server")
    url = f"http://127.0.0.1:{port}/readyz"
    await proc.wait_ready(url)
    proc.sigstop()
    with pytest.raises(AssertionError, match="to be ready"):
        await proc.wait_ready(url, deadline_s=0.2)
    proc.sigcont()
    await proc.wait_ready(url)
    release(port)


async def test_a_process_that_ignores_sigterm_fails_the_test_and_is_killed(processes: Processes) -> None:
    proc = processes.start(python(STUBBORN), name="stubborn")
    await proc.wait_log("up")
    with pytest.raises(AssertionError, match="stubborn to end after SIGTERM"):
        await proc.terminate(deadline_s=0.2)
    assert proc.exit_code == -signal.SIGKILL


async def test_waiting_for_a_line_fails_when_the_process_ends_without_it(processes: Processes) -> None:
    proc = processes.start(python("print('other')"), name="short")
    with pytest.raises(AssertionError, match="short ended with exit code 0"):
        await proc.wait_log("never written")
    assert await proc.wait_exit() == 0


def test_nothing_of_the_developers_settings_leaks_into_a_process(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "1")
    show = "import os; print(sorted(k for k in os.environ if k.startswith(('GATEWAY', 'TOOLS'))))"
    proc = processes.start(python(show), name="env", env={"TOOLS_PORT": "2"})
    until_blocking(lambda: not proc.is_running, 5)
    assert proc.log().strip() == "['TOOLS_PORT']"
    assert "GATEWAY_PORT" not in machine_environment()


def test_two_processes_of_one_name_have_logs_of_their_own(processes: Processes) -> None:
    first = processes.start(python("print(1)"), name="twin")
    second = processes.start(python("print(2)"), name="twin")
    assert (first.name, second.name) == ("twin", "twin#2")
    assert first.log_path != second.log_path


def test_closed_processes_are_no_longer_listed_for_failures(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        proc = processes.start(python(IDLE), name="idle")
        assert proc in open_processes()
    assert proc not in open_processes()
    assert not proc.is_running


def test_a_test_run_that_is_killed_leaves_no_process_and_no_data_behind(tmp_path: Path) -> None:
    data = Path(tempfile.mkdtemp(prefix="parley-data-"))
    run = subprocess.Popen(
        python(OVERSEEN, str(tmp_path), str(data)),
        stdout=subprocess.PIPE,
        text=True,
        env={**machine_environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert run.stdout is not None
    with run, run.stdout:
        child = int(run.stdout.readline())
        assert psutil.pid_exists(child)
        os.kill(run.pid, signal.SIGKILL)
    until_blocking(lambda: _is_gone_or_zombie(child), 10, "the warden to end the child")
    until_blocking(lambda: not data.exists(), 10, "the warden to remove the data")
    assert tmp_path.exists(), "a folder that is not the harness's own is never removed"


def _is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def _is_gone_or_zombie(pid: int) -> bool:
    try:
        return _is_gone(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True
