"""A parent and its workers: started, started again, stopped, and gone when the parent is, however that goes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from harness.processes import Proc, Processes
from harness.waiting import until
from parley_common.errors import ConfigInvalid
from parley_common.workers import WORKERS_MAX, Workers, worker_index, worker_ports

PARENT = """
import sys
from parley_common.settings import ParleySettings
from parley_common.workers import Workers, run_workers
argv = (sys.executable, "-c", sys.argv[1])
run_workers(Workers("shop", 2, argv, float(sys.argv[2])), ParleySettings(log_format="json"))
"""
WORKER = """
import signal, sys, time
from parley_common.workers import begin_worker, worker_index
index = worker_index(sys.argv[1:])
stopped = []
"""
RUNS = """
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
begin_worker(index, 1.0)
print(f"worker {index} runs", flush=True)
while not stopped:
    time.sleep(0.02)
print(f"worker {index} ended", flush=True)
"""
DEAF = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
begin_worker(index, 0.2)
print(f"worker {index} runs", flush=True)
while True:
    time.sleep(1)
"""
REFUSES = (
    """
if index == 1:
    print("shop: SHOP_PORT: port 1 is taken", flush=True)
    sys.exit(78)
"""
    + RUNS
)
LOGS = """
import structlog
from parley_common.settings import ParleySettings
from parley_common.telemetry import configure_logs
begin_worker(index, 1.0)
configure_logs(ParleySettings(log_format="json"), "shop")
structlog.get_logger("shop").info("shop.opened")
"""

Start = Callable[..., Proc]


@pytest.fixture
def start(processes: Processes) -> Start:
    """``start(worker's program, grace_s)``: a parent of two."""

    def start_one(worker: str, grace_s: float = 10.0) -> Proc:
        return processes.start([sys.executable, "-c", PARENT, WORKER + worker, str(grace_s)], name="shop")

    return start_one


async def run(proc: Proc) -> None:
    for index in range(2):
        await proc.wait_log(f"worker {index} runs")


def workers_of(proc: Proc) -> dict[int, int]:
    """The process id of each worker by its index."""
    children = psutil.Process(proc.pid).children()
    return {int(child.cmdline()[-1]): child.pid for child in children if child.is_running()}


def said(proc: Proc, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in proc.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


async def test_workers_are_told_their_index_and_all_end_when_the_parent_is_told_to(start: Start) -> None:
    proc = start(RUNS)
    await run(proc)
    assert sorted(workers_of(proc)) == [0, 1]
    assert await proc.terminate() == 0
    assert proc.survivors() == []
    assert {line for line in proc.log().splitlines() if line.endswith("ended")} == {
        "worker 0 ended",
        "worker 1 ended",
    }
    assert [line["count"] for line in said(proc, "workers.started")] == [2]


async def test_ctrl_c_which_reaches_all_of_them_ends_all_of_them(start: Start) -> None:
    proc = start(RUNS.replace("signal.SIGTERM", "signal.SIGINT") + "time.sleep(0.1)")
    await run(proc)
    os.killpg(proc.pid, signal.SIGINT)
    assert await proc.wait_exit(10) == 0
    assert proc.survivors() == []


async def test_a_worker_that_crashes_is_started_again_and_the_other_is_left_alone(start: Start) -> None:
    proc = start(RUNS)
    await run(proc)
    before = workers_of(proc)
    os.kill(before[0], signal.SIGKILL)
    await until(lambda: proc.log().count("worker 0 runs") == 2, 20, "the worker to be started again")
    after = workers_of(proc)
    assert after[0] != before[0]
    assert after[1] == before[1]
    (line,) = said(proc, "worker.ended")
    assert (line["worker"], line["exit_code"], line["level"]) == (0, -9, "warning")
    assert await proc.terminate() == 0


async def test_a_worker_that_crashes_again_and_again_is_waited_for_longer(start: Start) -> None:
    proc = start("sys.exit(3)")
    await until(lambda: len(said(proc, "worker.ended")) >= 4, 30, "two ends of each worker")
    waits = [line["again_in_s"] for line in said(proc, "worker.ended") if line["worker"] == 0]
    assert waits[:2] == [0.5, 1.0]
    assert await proc.terminate() == 0


async def test_what_one_worker_refuses_ends_all_with_78_and_its_line_alone(start: Start) -> None:
    proc = start(REFUSES)
    assert await proc.wait_exit(20) == 78
    assert proc.survivors() == []
    assert proc.log().count("SHOP_PORT") == 1
    assert said(proc, "worker.ended") == []


async def test_a_worker_that_does_not_end_within_its_grace_is_killed_and_said(start: Start) -> None:
    proc = start(DEAF, 0.3)
    await run(proc)
    assert await proc.terminate() == 1
    assert proc.survivors() == []
    assert {line["worker"] for line in said(proc, "worker.killed")} == {0, 1}


@pytest.mark.parametrize("worker", [RUNS, DEAF], ids=["listening", "deaf"])
async def test_no_worker_outlives_a_parent_that_is_killed(start: Start, worker: str) -> None:
    proc = start(worker)
    await run(proc)
    assert len(proc.survivors()) == 3
    await asyncio.to_thread(proc.kill9, leader_only=True)
    await until(lambda: not proc.survivors(), 20, "the workers to be gone")
    assert proc.log().count("ended") == (2 if worker is RUNS else 0)


def test_a_line_of_a_workers_log_is_one_write_and_says_whose_it_is() -> None:
    # Datagrams keep writes apart, as a pipe that several workers write to does not.
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with (
        ours,
        subprocess.Popen(
            [sys.executable, "-u", "-c", WORKER + LOGS, "worker", "1"], stdin=subprocess.PIPE, stderr=its
        ) as worker,
    ):
        its.close()
        ours.settimeout(20)
        written = ours.recv(65_536).decode()
        worker.communicate(timeout=20)
    assert written.endswith("\n")
    line = json.loads(written)
    assert (line["event"], line["service"], line["worker"]) == ("shop.opened", "shop", 1)


def test_a_command_line_says_which_worker_it_is() -> None:
    workers = Workers("shop", 2, ("python", "-m", "shop"), 10.0)
    assert workers.argv_of(1) == ("python", "-m", "shop", "worker", "1")
    assert worker_index(workers.argv_of(1)[3:]) == 1
    assert worker_index([]) is None
    assert worker_index(["render", "1"]) is None
    assert worker_index(["worker", "one"]) is None


def test_workers_have_ports_one_after_the_other_and_no_more_than_there_are() -> None:
    assert worker_ports(8081, 3, "SHOP_PORT") == (8081, 8082, 8083)
    assert len(worker_ports(65_535 - WORKERS_MAX + 1, WORKERS_MAX, "SHOP_PORT")) == WORKERS_MAX
    with pytest.raises(ConfigInvalid, match="SHOP_PORT"):
        worker_ports(65_535, 2, "SHOP_PORT")
