"""Starts processes that cannot outlive the launcher, and ends them with everything they started.

Each runs in a session and process group of its own, so that Ctrl-C in the terminal reaches the launcher alone. It does
not restart anything: supervisor.py does.

Law: what is started here is gone when the launcher is gone, whatever ended it (see child.py and guard.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from parley_launcher.up import child, guard
from parley_launcher.up.logs import LineSplitter

READ_BYTES = 65_536
OUTPUT_GRACE_S = 0.5
"""How long the output of a process that ended is still waited for: its workers may hold the pipe."""
GUARD_CLOSE_S = 5.0

OnLine = Callable[[str], None]


class Guard:
    """Our end of the pipe to the process that ends what we leave behind."""

    def __init__(self, term_to_kill_s: float = 5.0) -> None:
        self._term_to_kill_s = term_to_kill_s
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603  (our own script)
            [sys.executable, "-I", "-S", guard.__file__, str(self._term_to_kill_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(self._term_to_kill_s + GUARD_CLOSE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def watch(self, group: int) -> None:
        """Have ``group`` ended when this process dies."""
        self._say(f"+ {group}")

    def forget(self, group: int) -> None:
        """``group`` is gone."""
        self._say(f"- {group}")

    def _say(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()


class Running:
    """One running process and its group."""

    def __init__(self, process: asyncio.subprocess.Process, output_fd: int, guard_link: Guard) -> None:
        self._process = process
        self._output_fd = output_fd
        self._guard = guard_link
        self._group_is_gone = False

    @classmethod
    async def start(cls, argv: Sequence[str], env: Mapping[str, str], guard_link: Guard) -> Running:
        """Start ``argv`` with exactly ``env``. Raises OSError when there is no such program."""
        # A pipe of our own: asyncio's would make wait() last until the last worker that inherited it has closed it.
        output_fd, process_fd = os.pipe()
        try:
            started = await asyncio.create_subprocess_exec(
                *_wrapped(argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=process_fd,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,
            )
        except BaseException:
            os.close(output_fd)
            raise
        finally:
            os.close(process_fd)
        guard_link.watch(started.pid)
        return cls(started, output_fd, guard_link)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def until_exit(self, on_line: OnLine) -> int:
        """Hand every line of output to ``on_line`` until the process has ended; return its exit code.

        What is left of its group is killed: nobody would end it later.
        """
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(on_line))
            code = await self._process.wait()
            await asyncio.wait({reading}, timeout=OUTPUT_GRACE_S)
            reading.cancel()
        self.kill_group()
        self._guard.forget(self.pid)
        return code

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the process alone; it ends its own workers."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill_group(self) -> None:
        """Kill whatever of the group is left; after the process has ended only once, as its number may be reused."""
        if self._group_is_gone:
            return
        self._group_is_gone = self._process.returncode is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _read(self, on_line: OnLine) -> None:
        splitter = LineSplitter()
        reader = asyncio.StreamReader()
        pipe = os.fdopen(self._output_fd, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while chunk := await reader.read(READ_BYTES):
                for line in splitter.feed(chunk):
                    on_line(line)
        finally:
            for line in splitter.feed(b""):
                on_line(line)
            transport.close()


def _wrapped(argv: Sequence[str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(Path(child.__file__)), str(os.getpid()), *argv]


def exit_words(code: int) -> str:
    """Return how a process ended, in words: ``exit 1``, ``signal SIGKILL``."""
    if code >= 0:
        return f"exit {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
