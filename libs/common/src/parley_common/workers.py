"""Workers: one service as several processes of one machine, one per core, each whole and with a port of its own.

A parent starts them, starts again what crashes, hands a wish to stop on and waits for all. It serves nothing, and each
worker is started as ``<program> worker <index>`` with the parent's environment: what is a worker's own follows from its
index and is its settings' to say.

Each worker's standard input is a pipe that only the parent can write to and never does: its end means that the parent is
gone, however it went. A pipe, because it is there before the worker runs, is the same on every system, and leaves the
worker its grace; the kernel's own signal at a parent's death is Linux alone and tied to the thread that started the child.

Law: no worker outlives its parent; what a worker refuses at its start (78) ends all of them, once and for good.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import structlog

from parley_common.errors import ConfigInvalid
from parley_common.settings import ParleySettings
from parley_common.telemetry import configure_logs

WORKERS_MAX = 64
PORT_MAX = 65_535
RESTART_FIRST_S = 0.5
RESTART_WAIT_MAX_S = 15.0
FORGIVEN_AFTER_S = 60.0
"""A worker that ran so long and ends begins anew with the shortest wait."""
_CLEAN = (0, -signal.SIGTERM)
"""How a worker ends that was told to; by the signal itself when it was told before it listened for it."""

log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class Workers:
    """What a parent runs: ``count`` times ``argv``, each of which ends within ``grace_s`` when told to."""

    service: str
    count: int
    argv: tuple[str, ...]
    grace_s: float

    def argv_of(self, index: int) -> tuple[str, ...]:
        """Return the command line of one worker."""
        return (*self.argv, "worker", str(index))


def worker_index(arguments: Sequence[str]) -> int | None:
    """Return which worker a command line starts; null when it starts a whole service."""
    match arguments:
        case ["worker", index] if index.isdecimal():
            return int(index)
    return None


def worker_ports(first: int, count: int, setting: str) -> tuple[int, ...]:
    """Return the ports of workers, in their order, from ``first`` on. Raises ConfigInvalid when there are not so many."""
    if first + count - 1 > PORT_MAX:
        raise ConfigInvalid(
            f"{setting}: {count} workers need the ports from {first} on", remedy=f"set {setting} lower"
        )
    return tuple(range(first, first + count))


def run_workers(workers: Workers, settings: ParleySettings) -> NoReturn:
    """Run the workers as this process's whole life, and exit.

    With 0 when all ended as they were told to, 78 when one refused its settings, else 1.
    """
    configure_logs(settings, workers.service)
    sys.exit(asyncio.run(_Parent(workers).run()))


def begin_worker(index: int, grace_s: float) -> None:
    """Have this process name itself in its logs, and end when its parent is gone: gracefully, or ``grace_s`` later.

    Workers write to one pipe: a line is one write, or another worker's could come between it and its end.
    """
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(line_buffering=True, write_through=False)
    structlog.contextvars.bind_contextvars(worker=index)
    # A thread, not a task: a loop that is stuck must not keep a worker alive that nobody can reach any more.
    threading.Thread(target=_end_with_parent, args=(grace_s,), name="parent", daemon=True).start()


def _end_with_parent(grace_s: float) -> None:
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os._exit(1)


class _Parent:
    """All workers of one service."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._stop = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Keep every worker running until told to stop, or one refuses; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        parents_end, our_end = os.pipe()
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(self._workers.count):
                    group.create_task(self._keep(index, parents_end))
                log.info("workers.started", count=self._workers.count)
        finally:
            os.close(our_end)
            os.close(parents_end)
        return self._code

    async def _keep(self, index: int, parents_end: int) -> None:
        wait_s = RESTART_FIRST_S
        while not self._stop.is_set():
            began_s = time.monotonic()
            code = await self._run_once(index, parents_end)
            if self._stop.is_set():
                self._code = self._code or int(code not in _CLEAN)
            elif code == ConfigInvalid.exit_code:
                self._code = code
                self._stop.set()
            else:
                if time.monotonic() - began_s >= FORGIVEN_AFTER_S:
                    wait_s = RESTART_FIRST_S
                log.warning("worker.ended", worker=index, exit_code=code, again_in_s=wait_s)
                await self._stopped_within(wait_s)
                wait_s = min(wait_s * 2, RESTART_WAIT_MAX_S)

    async def _run_once(self, index: int, parents_end: int) -> int | None:
        """Run a worker to its end and return its exit code; null when the system has no room for it."""
        try:
            process = await asyncio.create_subprocess_exec(*self._workers.argv_of(index), stdin=parents_end)
        except OSError as wrong:
            log.error("worker.not_started", worker=index, cause=type(wrong).__name__)
            return None
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(process.wait())
            stopping = group.create_task(self._stop.wait())
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not ended.done():
                await self._end(process, ended, index)
        return ended.result()

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int], index: int) -> None:
        """Ask a worker to end; kill it when its grace is over."""
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait({ended}, timeout=self._workers.grace_s)
        if not ended.done():
            log.error("worker.killed", worker=index, grace_s=self._workers.grace_s)
            with suppress(ProcessLookupError):
                process.kill()

    async def _stopped_within(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._stop.wait()
