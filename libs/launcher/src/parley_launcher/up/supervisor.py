"""Keeps processes running: starts each, waits until it is ready, restarts what ends, and stops all in reverse order.

It decides nothing about what is started: plan.py does. It prints nothing: it tells a reporter.

Law: after ``stop_all`` nothing that was started here runs any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from parley_common.errors import ConfigInvalid, Permanent
from parley_launcher.up.logs import EchoBudget, LogFile, Trouble, trouble_in
from parley_launcher.up.processes import Guard, Running, exit_words
from parley_launcher.up.readiness import Probe, ReadyAnswer
from parley_launcher.up.restarts import Restarts

PROBE_EVERY_S = 0.1
TAIL_SHOWN = 12


class Reporter(Protocol):
    """Who is told what happens."""

    def waiting(self, name: str, why: str) -> None:
        """``name`` is not ready yet, because of ``why``."""

    def ended(self, name: str, how: str, tail: Sequence[str], restart_in_s: float) -> None:
        """``name`` ended by itself and is started again in ``restart_in_s``."""

    def trouble(self, name: str, trouble: Trouble, held_back: int) -> None:
        """``name`` printed a warning or error; ``held_back`` were not shown before it."""


class StartFailed(Permanent):
    """A part of the machine did not start; ``tail`` is the end of its log."""

    code = "start_failed"

    def __init__(self, message: str, *, tail: Sequence[str], log_path: Path) -> None:
        super().__init__(message, remedy=f"see {log_path}")
        self.tail = tuple(tail)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how much."""

    ready_deadline_s: float = 120.0
    stop_deadline_s: float = 10.0
    log_max_bytes: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run, and how to tell that it is ready."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    """Everything: nothing else is inherited."""
    probe: Probe | None = None


class Keeper:
    """One process that is to run until it is stopped."""

    def __init__(self, launch: Launch, log: LogFile, reporter: Reporter, guard: Guard) -> None:
        self.name = launch.name
        self.log = log
        self.restart_count = 0
        self.refused: str | None = None
        """Why it cannot ever run as it is configured (exit code 78); null otherwise."""
        self._launch = launch
        self._reporter = reporter
        self._guard = guard
        self._running: Running | None = None
        self._stopping = asyncio.Event()
        self._done = asyncio.Event()
        self._budget = EchoBudget()

    @property
    def pid(self) -> int | None:
        """The process that runs now; null between an end and the next start."""
        return self._running.pid if self._running else None

    async def run(self) -> None:
        """Run the process, again and again, until ``stop``."""
        restarts = Restarts()
        try:
            while not self._stopping.is_set():
                started_s = time.monotonic()
                how = await self._run_once()
                if self._stopping.is_set():
                    return
                restarts, wait_s = restarts.after(time.monotonic() - started_s)
                self._reporter.ended(self.name, how, list(self.log.tail)[-TAIL_SHOWN:], wait_s)
                await self._pause(wait_s)
                self.restart_count += 1
        finally:
            if self._running:
                self._running.kill_group()
            self.log.close()
            self._done.set()

    async def stop(self, deadline_s: float, force: asyncio.Event) -> None:
        """Ask it to stop; kill its group after ``deadline_s``, or at once when ``force`` is set."""
        self._stopping.set()
        if self._running:
            self._running.ask_to_stop()
        async with asyncio.TaskGroup() as group:
            forced = group.create_task(force.wait())
            ended = group.create_task(self._done.wait())
            await asyncio.wait({forced, ended}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if self._running and not ended.done():
                self._running.kill_group()
            await ended
            forced.cancel()

    async def wait_ready(self, deadline_s: float) -> None:
        """Return once the probe says so. Raises StartFailed with what it waited for last, ConfigInvalid on refusal."""
        ends_s = time.monotonic() + deadline_s
        why = "it has not started"
        while time.monotonic() < ends_s:
            if self.refused:
                raise ConfigInvalid(self.refused)
            answer = await self._ask()
            if answer.ready:
                return
            why = answer.why or why
            self._reporter.waiting(self.name, why)
            await asyncio.sleep(PROBE_EVERY_S)
        raise StartFailed(
            f"{self.name} was not ready after {deadline_s:g} s: {why}",
            tail=list(self.log.tail)[-TAIL_SHOWN:],
            log_path=self.log.path,
        )

    async def _ask(self) -> ReadyAnswer:
        if self._running is None:
            return ReadyAnswer(False, f"it ended {self.restart_count + 1} times" if self.log.tail else "")
        return await self._launch.probe() if self._launch.probe else ReadyAnswer(True)

    async def _run_once(self) -> str:
        try:
            self._running = await Running.start(self._launch.argv, self._launch.env, self._guard)
        except OSError as wrong:
            self.log.write(f"{self._launch.argv[0]} cannot be started: {wrong}")
            return str(wrong)
        try:
            if self._stopping.is_set():
                self._running.ask_to_stop()
            code = await self._running.until_exit(self._on_line)
        finally:
            if self._running:
                self._running.kill_group()
            self._running = None
        if code == ConfigInvalid.exit_code:
            self.refused = self.log.tail[-1] if self.log.tail else f"{self.name}: exit {code}"
        return exit_words(code)

    async def _pause(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _on_line(self, line: str) -> None:
        self.log.write(line)
        if trouble := trouble_in(line):
            admitted, held_back = self._budget.admit(time.monotonic())
            if admitted:
                self._reporter.trouble(self.name, trouble, held_back)


class Supervisor:
    """All keepers of one launcher. Its tasks live in the group it is given."""

    def __init__(
        self, group: asyncio.TaskGroup, guard: Guard, log_dir: Path, bounds: Bounds, reporter: Reporter
    ) -> None:
        self._group = group
        self._guard = guard
        self._log_dir = log_dir
        self._bounds = bounds
        self._reporter = reporter
        self._keepers: list[Keeper] = []

    @property
    def keepers(self) -> tuple[Keeper, ...]:
        return tuple(self._keepers)

    async def keep(self, launch: Launch) -> Keeper:
        """Start a process, keep it running from now on, and return once it is ready.

        Raises:
            StartFailed: it was not ready in time.
            ConfigInvalid: it refuses its configuration.
        """
        keeper = Keeper(launch, self._log(launch.name), self._reporter, self._guard)
        self._keepers.append(keeper)
        self._group.create_task(keeper.run())
        await keeper.wait_ready(self._bounds.ready_deadline_s)
        return keeper

    async def do(self, launch: Launch) -> None:
        """Run a process to its end. Raises StartFailed or ConfigInvalid when it fails, or takes too long."""
        log = self._log(launch.name.replace(" ", "-"))
        try:
            async with asyncio.timeout(self._bounds.ready_deadline_s):
                code = await self._run_job(launch, log)
        except TimeoutError as late:
            said = f"{launch.name} was not done after {self._bounds.ready_deadline_s:g} s"
            raise StartFailed(said, tail=list(log.tail)[-TAIL_SHOWN:], log_path=log.path) from late
        finally:
            log.close()
        if code == ConfigInvalid.exit_code and log.tail:
            raise ConfigInvalid(log.tail[-1])
        if code:
            said = f"{launch.name} failed: {exit_words(code)}"
            raise StartFailed(said, tail=list(log.tail)[-TAIL_SHOWN:], log_path=log.path)

    async def stop_all(self, force: asyncio.Event) -> None:
        """Stop everything, last started first, each within its deadline."""
        for keeper in reversed(self._keepers):
            await keeper.stop(self._bounds.stop_deadline_s, force)

    async def _run_job(self, launch: Launch, log: LogFile) -> int:
        try:
            running = await Running.start(launch.argv, launch.env, self._guard)
        except OSError as wrong:
            raise StartFailed(f"{launch.name}: {wrong}", tail=(), log_path=log.path) from wrong
        try:
            return await running.until_exit(log.write)
        finally:
            running.kill_group()
            self._guard.forget(running.pid)

    def _log(self, name: str) -> LogFile:
        return LogFile(self._log_dir / f"{name}.log", self._bounds.log_max_bytes)
