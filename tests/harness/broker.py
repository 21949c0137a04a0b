"""What every broker of the harness can do, whatever it is made of.

Blocking on purpose: a broker serves a whole run, not one event loop. A test that must go on meanwhile calls
``await asyncio.to_thread(broker.stop)``.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.waiting import until_blocking
from harness.warden import warden
from parley_launcher.embedded_kafka import answers_metadata

T = TypeVar("T")


class Broker(Protocol):
    """A Kafka that tests may use, and (but for an external one) stop and start again on the same port."""

    @property
    def kind(self) -> str:
        """One of external, docker, apache, embedded."""
        ...

    @property
    def label(self) -> str:
        """What a person should read about it: product, version, way of running."""
        ...

    @property
    def bootstrap_servers(self) -> str: ...

    def start(self) -> None:
        """Start, or start again with the data kept; returns once it answers."""
        ...

    def stop(self) -> None:
        """Stop cleanly; the data and the port are kept."""
        ...

    def kill9(self) -> None:
        """End without warning; ``start`` brings it back on what its disk holds."""
        ...

    def freeze(self) -> None:
        """Keep its sockets open and answer nothing."""
        ...

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        ...

    def close(self) -> None:
        """Stop for good and remove the data; idempotent."""
        ...


class CannotStart(Exception):
    """This kind of broker cannot be had here; the message says why."""


def wait_answers(
    bootstrap_servers: str, deadline_s: float, *, alive: Callable[[], bool] = lambda: True
) -> None:
    """Block until a broker answers a metadata request; fails at once when ``alive`` says that it has ended."""

    def answered() -> bool:
        if not alive():
            raise AssertionError("it ended at its start")
        return in_its_own_loop(lambda: answers_metadata(bootstrap_servers))

    until_blocking(answered, deadline_s, f"Kafka at {bootstrap_servers} to answer")


def in_its_own_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end from anywhere, also from inside a running loop (which waits meanwhile)."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


def new_folder() -> Path:
    """Make an empty folder for one broker's data, log and settings."""
    folder = Path(tempfile.mkdtemp(prefix="parley-kafka-"))
    warden.clear(folder)
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a broker's folder."""
    shutil.rmtree(folder, ignore_errors=True)
