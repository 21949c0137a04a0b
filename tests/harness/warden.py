"""Clears up after a test run that died before it could: one small process that outlives it.

The run tells the warden on its standard input of each process group (``+ group created``, ``- group``) and of
each folder of data (``folder path``). End of input means that the run is gone, however it went: groups still
listed are killed and folders still there removed. It deliberately judges nothing else: no names, no ports,
no other process.

Law: a group is killed only while its leader is the process that was registered, or is gone; a folder is
removed only when it is one of the harness's own in the system's folder for temporary files.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

SAME_PROCESS_WITHIN_S = 0.5
FOLDER_PREFIX = "parley-"


class Warden:
    """This run's end of the pipe; the process starts at the first registration."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def watch(self, group: int) -> None:
        """Have ``group`` killed if this process dies before ``forget``."""
        with suppress(psutil.NoSuchProcess):
            self._say(f"+ {group} {psutil.Process(group).create_time()}")

    def forget(self, group: int) -> None:
        """Take ``group`` off the list: it has ended."""
        if self._process is not None:
            self._say(f"- {group}")

    def clear(self, folder: Path) -> None:
        """Have ``folder`` removed at the end, if this process has not done so."""
        self._say(f"folder {folder}")

    def _say(self, line: str) -> None:
        if self._process is None:
            # Its own session: the Ctrl-C meant for the test run must not end it first.
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
            )
            atexit.register(self.close)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End the warden; it kills what is still listed."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait(10)


def serve(lines: IO[str]) -> None:
    """Follow ``lines`` to their end, then kill every group still listed."""
    listed: dict[int, float] = {}
    folders: list[Path] = []
    for line in lines:
        match line.split():
            case ["+", group, created]:
                listed[int(group)] = float(created)
            case ["-", group]:
                listed.pop(int(group), None)
            case ["folder", path]:
                folders.append(Path(path))
    for group_id, created_s in listed.items():
        if _still_ours(group_id, created_s):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group_id, signal.SIGKILL)
    for folder in filter(_is_the_harness_own, folders):
        shutil.rmtree(folder, ignore_errors=True)


def _still_ours(leader: int, created_s: float) -> bool:
    try:
        return abs(psutil.Process(leader).create_time() - created_s) < SAME_PROCESS_WITHIN_S
    except psutil.NoSuchProcess:
        return True


def _is_the_harness_own(folder: Path) -> bool:
    return folder.parent == Path(tempfile.gettempdir()) and folder.name.startswith(FOLDER_PREFIX)


warden = Warden()

if __name__ == "__main__":
    serve(sys.stdin)
