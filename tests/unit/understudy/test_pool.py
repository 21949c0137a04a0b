"""The pool of workers: bounded, replaced when they die, and never a hang. The workers here are small scripts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from harness.waiting import until
from parley_common.errors import DependencyUnavailable, Overloaded
from parley_understudy.pool import Pool, PoolSize

WORKER = """
import msgspec, os, pathlib, struct, sys, time
def send(value):
    body = msgspec.msgpack.encode(value)
    sys.stdout.buffer.write(struct.pack("<I", len(body)) + body); sys.stdout.buffer.flush()
send([True, ""])
while len(head := sys.stdin.buffer.read(4)) == 4:
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(struct.unpack("<I", head)[0]))
    if job[0] == "die": os._exit(1)
    if job[0] == "die once" and not pathlib.Path(job[1]).exists():
        pathlib.Path(job[1]).touch(); os._exit(1)
    if job[0] == "hang": time.sleep(60)
    if job[0] == "garbage": sys.stdout.buffer.write(b"\\x03\\0\\0\\0\\xc1\\xc1\\xc1"); sys.stdout.buffer.flush(); continue
    if job[0] == "wait for":
        pathlib.Path(job[1] + " begun").touch()
        while not pathlib.Path(job[1]).exists(): time.sleep(0.002)
    send([job[0] != "fail", job[0]])
"""


@asynccontextmanager
async def pool(*, workers: int = 1, queue_limit: int = 4, deadline_s: float = 10.0) -> AsyncIterator[Pool]:
    running = Pool(PoolSize(workers, queue_limit, deadline_s), (sys.executable, "-c", WORKER))
    async with asyncio.TaskGroup() as group:
        tenders = await running.start(group)
        assert len(tenders) == workers
        yield running
        for tender in tenders:
            tender.cancel()


async def test_jobs_are_answered_by_all_workers() -> None:
    async with pool(workers=2, queue_limit=20) as running:
        answers = await asyncio.gather(*(running.do([str(number)]) for number in range(12)))
    assert answers == [str(number) for number in range(12)]


async def test_a_job_whose_worker_dies_is_given_to_a_new_one(tmp_path: Path) -> None:
    async with pool() as running:
        assert await running.do(["die once", str(tmp_path / "died")]) == "die once"
        assert running.restarts_count == 1


@pytest.mark.parametrize("deadly", ["die", "garbage"])
async def test_a_job_that_kills_two_workers_is_given_up_and_the_next_is_served(deadly: str) -> None:
    async with pool() as running:
        with pytest.raises(DependencyUnavailable, match="two workers died"):
            await running.do([deadly])
        assert await running.do(["next"]) == "next"
        assert running.restarts_count == 2


async def test_a_job_that_fails_costs_no_worker() -> None:
    async with pool() as running:
        with pytest.raises(DependencyUnavailable, match="fail"):
            await running.do(["fail"])
        assert running.restarts_count == 0


async def test_a_full_queue_refuses_at_once(tmp_path: Path) -> None:
    async with pool(queue_limit=2) as running, asyncio.TaskGroup() as group:
        gate = ["wait for", str(tmp_path / "gate")]
        group.create_task(running.do(gate))
        await until((tmp_path / "gate begun").exists, why="the worker to take the first job")
        waiting = [group.create_task(running.do(gate)) for _ in range(2)]
        await until(lambda: running.waiting_count == 2, why="a full queue")
        with pytest.raises(Overloaded):
            await running.do(["one too many"])
        (tmp_path / "gate").touch()
        assert await asyncio.gather(*waiting) == ["wait for", "wait for"]


async def test_a_job_that_hangs_fails_by_its_deadline_and_its_worker_is_replaced() -> None:
    async with pool(deadline_s=0.3) as running:
        with pytest.raises(DependencyUnavailable, match="in time"):
            await running.do(["hang"])
        await until(lambda: running.restarts_count >= 1, why="a new worker")


async def test_a_job_that_nobody_waits_for_is_not_begun(tmp_path: Path) -> None:
    async with pool() as running, asyncio.TaskGroup() as group:
        first = group.create_task(running.do(["wait for", str(tmp_path / "gate")]))
        await until((tmp_path / "gate begun").exists, why="the worker to take the first job")
        abandoned = group.create_task(running.do(["die"]))
        await until(lambda: running.waiting_count == 1, why="the second job to wait")
        abandoned.cancel()
        (tmp_path / "gate").touch()
        await first
        assert await running.do(["next"]) == "next"
        assert running.restarts_count == 0


async def test_no_process_is_left_when_the_pool_ends() -> None:
    others = set(psutil.Process().children())
    async with pool(workers=2) as running:
        await running.do(["any"])
        workers = set(psutil.Process().children()) - others
        assert len(workers) == 2
    assert not [worker for worker in workers if worker.is_running()]


UNABLE = """
import msgspec, struct, sys
body = msgspec.msgpack.encode([False, "no models"])
sys.stdout.buffer.write(struct.pack("<I", len(body)) + body)
"""


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ((sys.executable, "-c", UNABLE), "no models"),
        ((sys.executable, "-c", "pass"), "did not get ready"),
        (("/nowhere/python",), "cannot be started"),
    ],
)
async def test_workers_that_cannot_work_are_an_error_at_the_start_that_says_why(
    command: tuple[str, ...], reason: str
) -> None:
    async with asyncio.TaskGroup() as group:
        with pytest.raises(DependencyUnavailable, match=reason):
            await Pool(PoolSize(2, 4, 5.0), command).start(group)
