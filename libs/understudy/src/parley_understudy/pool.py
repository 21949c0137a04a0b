"""The pool of worker processes: a bounded queue of jobs, workers that are replaced when they die.

It does not know what jobs mean. A job is given to a second worker when its first one dies, and then given up.

Law: a job is answered, refused at once (the queue is full) or failed by its deadline; it never hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from parley_common.errors import DependencyUnavailable, Overloaded
from parley_understudy.settings import worker_environment
from parley_understudy.worker import LENGTH

_START_DEADLINE_S = 60.0
_STOP_DEADLINE_S = 2.0
_RESTART_DELAY_S = 0.5
_ATTEMPTS = 2
COMMAND = (sys.executable, "-m", "parley_understudy.worker")

log = structlog.get_logger()


@dataclass(frozen=True)
class PoolSize:
    """How many workers, how many jobs may wait, and how long one may take."""

    workers: int
    queue_limit: int
    job_deadline_s: float


@dataclass(slots=True)
class _Job:
    request: list[Any]
    answer: asyncio.Future[Any]
    attempts: int = field(default=0)


class Pool:
    """Worker processes behind one queue."""

    def __init__(self, size: PoolSize, command: tuple[str, ...] = COMMAND) -> None:
        self._size = size
        self._command = command
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(size.queue_limit)
        self.restarts_count = 0

    @property
    def waiting_count(self) -> int:
        """Return how many jobs wait for a worker."""
        return self._jobs.qsize()

    async def do(self, request: list[Any]) -> Any:
        """Return the answer to a job.

        Raises:
            Overloaded: The queue is full.
            DependencyUnavailable: The job failed, took too long, or two workers died of it.
        """
        job = _Job(request, asyncio.get_running_loop().create_future())
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            raise Overloaded("ears and voice are busy", retry_after_s=1.0) from None
        try:
            async with asyncio.timeout(self._size.job_deadline_s):
                return await job.answer
        except TimeoutError:
            raise DependencyUnavailable("ears and voice did not answer in time") from None
        finally:
            job.answer.cancel()

    async def start(self, parent: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start the workers and return the tasks that tend them, once all models are loaded.

        Raises:
            DependencyUnavailable: The models cannot be had here; nothing is left running.
        """
        async with asyncio.TaskGroup() as starting:
            starts = [starting.create_task(_started(self._command)) for _ in range(self._size.workers)]
        workers = [start.result() for start in starts]
        reasons = [each for each in workers if isinstance(each, str)]
        if reasons:
            for worker in workers:
                if isinstance(worker, Process):
                    await _ended(worker)
            raise DependencyUnavailable(reasons[0])
        return [parent.create_task(self._tend(each)) for each in workers if isinstance(each, Process)]

    async def _tend(self, worker: Process) -> None:
        """Feed one worker until cancelled; replace it when it dies or hangs."""
        try:
            while True:
                job = await self._jobs.get()
                while not job.answer.done() and not await self._tried(worker, job):
                    await _ended(worker)
                    worker = await self._replaced()
        finally:
            await _ended(worker)

    async def _tried(self, worker: Process, job: _Job) -> bool:
        """Give a job to a worker. Return False when the worker has to be replaced."""
        job.attempts += 1
        try:
            async with asyncio.timeout(self._size.job_deadline_s):
                await _write(worker, job.request)
                fine, result = await _read(worker)
        except (OSError, EOFError, TimeoutError, msgspec.DecodeError) as died:
            log.warning("worker.lost", attempt=job.attempts, cause=type(died).__name__)
            if job.attempts >= _ATTEMPTS:
                _fail(job, "two workers died of one job")
            return False
        if not fine:
            _fail(job, str(result))
        elif not job.answer.done():
            job.answer.set_result(result)
        return True

    async def _replaced(self) -> Process:
        while True:
            self.restarts_count += 1
            worker = await _started(self._command)
            if isinstance(worker, Process):
                return worker
            log.error("worker.not_started", cause=worker)
            await asyncio.sleep(_RESTART_DELAY_S)


def _fail(job: _Job, message: str) -> None:
    if not job.answer.done():
        job.answer.set_exception(DependencyUnavailable(message))


async def _started(command: tuple[str, ...]) -> Process | str:
    """Return a worker whose models are loaded, or why there is none."""
    try:
        worker = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, env=worker_environment()
        )
    except OSError as failed:
        return f"a worker cannot be started: {failed}"
    try:
        async with asyncio.timeout(_START_DEADLINE_S):
            fine, reason = await _read(worker)
    except (OSError, EOFError, TimeoutError, msgspec.DecodeError) as failed:
        fine, reason = False, f"a worker did not get ready: {type(failed).__name__}"
    except BaseException:
        await _ended(worker)
        raise
    if fine:
        return worker
    await _ended(worker)
    return str(reason)


async def _ended(worker: Process) -> None:
    """Let a worker go: closing its input ends it, killing it does so for certain."""
    if worker.stdin is not None:
        worker.stdin.close()
    try:
        async with asyncio.timeout(_STOP_DEADLINE_S):
            await worker.wait()
    except (TimeoutError, asyncio.CancelledError) as why:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()
        if isinstance(why, asyncio.CancelledError):
            raise


async def _write(worker: Process, request: list[Any]) -> None:
    body = msgspec.msgpack.encode(request)
    assert worker.stdin is not None  # noqa: S101 - it was started with a pipe
    worker.stdin.write(LENGTH.pack(len(body)) + body)
    await worker.stdin.drain()


async def _read(worker: Process) -> tuple[bool, Any]:
    assert worker.stdout is not None  # noqa: S101 - it was started with a pipe
    (size,) = LENGTH.unpack(await worker.stdout.readexactly(LENGTH.size))
    fine, result = msgspec.msgpack.decode(await worker.stdout.readexactly(size))
    return bool(fine), result
