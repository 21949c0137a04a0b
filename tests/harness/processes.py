"""Runs services and brokers as real processes that a test may wait for, stop, kill or freeze.

Each runs in its own process group with a small environment (nothing of the developer's settings leaks in)
and writes to a log file whose end is shown when a test fails. It does not restart anything: that is what
the launcher's supervisor is for.

Law: every process started here is gone when its ``Processes`` closes, or when the test run dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx
import psutil

from harness.waiting import until, until_blocking
from harness.warden import warden

# What a program needs of the machine, as opposed to what configures ours.
PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "JAVA_HOME",
    "LD_LIBRARY_PATH",
    "USER",
    "LOGNAME",
)
TAIL_LINES = 60

_open: list[Proc] = []


def open_processes() -> list[Proc]:
    """Return every process not yet closed, oldest first: what a failing test shows the logs of."""
    return list(_open)


def machine_environment() -> dict[str, str]:
    """Return the part of this process's environment that started processes inherit."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


class Proc:
    """One real process: started at once, ended by ``stop``, ``kill9`` or ``close``."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        run_as: str | None = None,
    ) -> None:
        """Start ``argv``.

        Args:
            env: added to ``machine_environment()``.
            log_path: stdout and stderr are appended there.
            run_as: another system user; only root may ask for one.
        """
        self.name = name
        self.log_path = log_path
        self.argv = list(argv)
        with log_path.open("ab") as log:
            self._popen = self._spawn(log, {**machine_environment(), **(env or {})}, cwd, run_as)
        warden.watch(self.pid)
        _open.append(self)

    def _spawn(
        self, log: IO[bytes], env: dict[str, str], cwd: Path | None, run_as: str | None
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PYTHONUNBUFFERED": "1", **env},
            cwd=cwd,
            user=run_as,
            extra_groups=[] if run_as else None,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code; minus the signal's number when a signal ended it; null while it runs."""
        return self._popen.poll()

    @property
    def is_running(self) -> bool:
        return self.exit_code is None

    def log(self) -> str:
        """Return all that the process has written."""
        return self.log_path.read_text(errors="replace")

    def log_tail(self, lines_max: int = TAIL_LINES) -> str:
        """Return the last lines that it has written."""
        return "\n".join(self.log().splitlines()[-lines_max:])

    async def wait_ready(self, url: str, deadline_s: float = 60.0) -> None:
        """Wait until ``GET url`` answers 200; fail at once, with the log, when the process ends instead."""
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:

            async def ready() -> bool:
                self._fail_if_ended()
                with suppress(httpx.TransportError):
                    return (await client.get(url, timeout=2.0)).status_code == 200
                return False

            await until(ready, deadline_s, f"{self.name} to be ready at {url}")

    async def wait_log(self, text: str, deadline_s: float = 60.0) -> None:
        """Wait until the process has written ``text``; fail at once when it ends without."""

        def written() -> bool:
            if text in self.log():
                return True
            self._fail_if_ended()
            return False

        await until(written, deadline_s, f"{self.name} to write {text!r}")

    async def wait_exit(self, deadline_s: float = 30.0) -> int:
        """Wait until the process has ended by itself; return its exit code."""
        await until(lambda: not self.is_running, deadline_s, f"{self.name} to end")
        return self._popen.wait()

    async def terminate(self, deadline_s: float = 10.0) -> int:
        """Ask the process to end (SIGTERM) and return its exit code; needing a kill fails the test."""
        return await asyncio.to_thread(self.stop, deadline_s)

    def stop(self, deadline_s: float = 10.0, *, by: signal.Signals = signal.SIGTERM) -> int:
        """Do what ``terminate`` does, blocking. Only the process itself is asked, not its children."""
        with suppress(ProcessLookupError):
            self._popen.send_signal(by)
            self._popen.send_signal(signal.SIGCONT)
        try:
            until_blocking(lambda: not self.is_running, deadline_s, f"{self.name} to end after {by.name}")
        except AssertionError:
            self.kill9()
            raise
        return self._popen.wait()

    def kill9(self, *, leader_only: bool = False) -> None:
        """Kill without warning: the whole process group, or only the process itself (orphaning its children)."""
        if leader_only:
            self._popen.kill()
        else:
            self._signal(signal.SIGKILL)
        self._popen.wait(10)

    def sigstop(self) -> None:
        """Freeze the process group: sockets stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def sigcont(self) -> None:
        """Let a frozen process group go on."""
        self._signal(signal.SIGCONT)

    def survivors(self) -> list[int]:
        """Return the ids of the live processes of its group: itself and the children it has not ended."""
        self._popen.poll()
        return [process.pid for process in psutil.process_iter() if _lives_in(process, self.pid)]

    def close(self) -> None:
        """Kill what still runs and forget the process; idempotent."""
        if self in _open:
            self.kill9()
            until_blocking(lambda: not self.survivors(), 10, f"the process group of {self.name} to be gone")
            warden.forget(self.pid)
            _open.remove(self)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _fail_if_ended(self) -> None:
        if not self.is_running:
            raise AssertionError(f"{self.name} ended with exit code {self.exit_code}:\n{self.log_tail()}")


def _lives_in(process: psutil.Process, group: int) -> bool:
    # A zombie whose parent does not collect it (a container without init) is as good as gone.
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    return False


class Processes:
    """The processes of one test, one module or one broker; closing it ends them, the newest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._procs: list[Proc] = []

    def start(
        self, argv: Sequence[str], *, name: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Proc:
        """Start ``argv``; its log is ``name.log`` (``name-2.log`` for a second one) in the folder."""
        same = sum(proc.name.split("#")[0] == name for proc in self._procs)
        suffix = f"#{same + 1}" if same else ""
        log_path = self._folder / f"{name}{suffix.replace('#', '-')}.log"
        proc = Proc(argv, name=name + suffix, log_path=log_path, env=env, cwd=cwd)
        self._procs.append(proc)
        return proc

    def close(self) -> None:
        """End every process that still runs."""
        while self._procs:
            self._procs.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
