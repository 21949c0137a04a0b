"""One `parley up` per state directory: a file lock that dies with its holder.

Law: the lock is the kernel's, not the file's existence; what a dead instance left is simply taken over.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parley_common.errors import ConfigInvalid


@contextmanager
def instance_lock(state_dir: Path) -> Iterator[None]:
    """Hold the state directory while the block runs. Raises ConfigInvalid when another instance holds it."""
    path = state_dir / "up.lock"
    descriptor = _open(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise ConfigInvalid(
                f"parley up already runs with {state_dir} (process {_holder(descriptor)})",
                code="already_running",
                remedy="stop it with Ctrl-C, or set PARLEY_STATE_DIR and the ports for a second one",
            ) from held
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as wrong:
        raise ConfigInvalid(
            f"PARLEY_STATE_DIR: {path.parent} cannot be written: {wrong.strerror}",
            remedy="set PARLEY_STATE_DIR to a folder that can",
        ) from wrong


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
