"""Hands out TCP ports of 127.0.0.1 that no other test, test worker or test run will be given.

Ports come from below the range the kernel gives to outgoing connections: a server that stops and comes
back on its port finds it free. It does not hold the socket open, so whoever asked can bind at once.

Law: a port is reserved by a file lock until it is released or this process ends.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import random
import socket
import tempfile
from pathlib import Path

LOWEST = 20_000
HIGHEST = 32_000
ATTEMPTS_MAX = 500

# The seeded generator would give every test the same sequence.
_random = random.SystemRandom()
_held: dict[int, int] = {}


def free_port() -> int:
    """Reserve and return a port on which nothing listens."""
    for _ in range(ATTEMPTS_MAX):
        port = _random.randrange(LOWEST, HIGHEST)
        if port not in _held and _lock(port):
            if _can_bind(port):
                return port
            release(port)
    raise AssertionError(f"no free port between {LOWEST} and {HIGHEST} after {ATTEMPTS_MAX} tries")


def release(port: int) -> None:
    """Give ``port`` back; does nothing for one that is not reserved."""
    descriptor = _held.pop(port, None)
    if descriptor is not None:
        os.close(descriptor)


def reserved() -> frozenset[int]:
    """Return the ports that this process holds now."""
    return frozenset(_held)


def is_listening(port: int) -> bool:
    """Say whether something accepts connections on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _lock(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / f"parley-test-ports-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _held[port] = descriptor
    return True


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
