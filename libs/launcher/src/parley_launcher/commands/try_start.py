"""Where `parley try` finds a Parley to talk to: the one that runs, else one of its own for this business alone.

Its own has free ports, a state that is gone afterwards and the understudy as its model, whatever keys are set: trying
costs nothing and reaches nobody. It is a `parley up` in a process that cannot outlive this one.

Law: what is started here is stopped here.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from parley_common.errors import DependencyUnavailable, Permanent
from parley_common.settings import KafkaSettings
from parley_launcher.settings import environment, load_kafka_settings, load_up_settings
from parley_launcher.talk.door import get_ticket
from parley_launcher.up import child

ANSWER_DEADLINE_S = 2.0
TAKEN_IN_DEADLINE_S = 4.0
"""Services that follow the folders look at them every second or two."""
TAKEN_IN_EVERY_S = 0.5
START_DEADLINE_S = 150.0
STOP_DEADLINE_S = 30.0
LOOK_EVERY_S = 0.1
LOG_LINES = 15
PARTS = "session,tools,gateway"
"""The understudy comes with the session service; notify is left out, so that nobody gets a letter of a try."""
PORTS = (
    "GATEWAY_PORT",
    "SESSION_PORT",
    "TOOLS_PORT",
    "NOTIFY_PORT",
    "UNDERSTUDY_PORT",
    "PARLEY_UP_KAFKA_PORT",
)
NOT_PASSED_ON = (
    "OPENAI_API_KEY",
    "SESSION_UPSTREAM_",
    "GATEWAY_SESSION_SERVICES",
    "GATEWAY_WORKER",
    "SESSION_WORKERS",
    "NOTIFY_",
    "TOOLS_DATABASE_URL",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A Parley that is ready and knows the business."""

    url: str
    kafka: KafkaSettings


def runs_at(url: str) -> bool:
    """Tell whether a gateway answers there and is ready."""
    try:
        with httpx.Client(trust_env=False, timeout=ANSWER_DEADLINE_S) as client:
            return client.get(f"{url}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


async def running_place(url: str, business: str) -> Place | None:
    """Return the Parley that runs at ``url`` once it knows the business; null when it does not take it in.

    Raises what `parley talk` raises for a gateway that is in trouble or refuses.
    """
    deadline = time.monotonic() + TAKEN_IN_DEADLINE_S
    while True:
        try:
            await get_ticket(url, business)
        except Permanent as wrong:
            if wrong.stable_code != "unknown_business":
                raise
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(TAKEN_IN_EVERY_S)
        else:
            return Place(url, load_kafka_settings())


@contextmanager
def fresh_place(folder: Path) -> Iterator[Place]:
    """Start a Parley for the business in ``folder`` alone, and stop it afterwards.

    Raises:
        DependencyUnavailable: a part of it did not start; what it said is in the message's file.
    """
    base = load_up_settings().parley.state_dir.absolute()
    base.mkdir(parents=True, exist_ok=True)
    state = Path(tempfile.mkdtemp(prefix=f"try-{folder.name}-", dir=base))
    process = _start(folder, state)
    try:
        ready = _wait(process, state)
        yield _place(ready)
    except DependencyUnavailable:
        _stop(process)
        raise
    except BaseException:
        _stop(process)
        shutil.rmtree(state, ignore_errors=True)
        raise
    _stop(process)
    shutil.rmtree(state, ignore_errors=True)


def _start(folder: Path, state: Path) -> subprocess.Popen[bytes]:
    businesses = state / "businesses"
    businesses.mkdir()
    (businesses / folder.name).symlink_to(folder.absolute())
    own = {name: str(port) for name, port in zip(PORTS, _free_ports(len(PORTS)), strict=True)}
    own |= {"PARLEY_STATE_DIR": str(state), "PARLEY_BUSINESSES_DIR": str(businesses)}
    command = [sys.executable, "-m", "parley_launcher", "up", "--light", "--no-facts", "--only", PARTS]
    with (state / "up.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own program
            [
                sys.executable,
                child.__file__,
                str(os.getpid()),
                *command,
                "--json-ready",
                str(_ready_file(state)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**passed_on(environment()), **own, "NO_COLOR": "1", "COLUMNS": "200"},
            start_new_session=True,
        )


def passed_on(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would make a try cost money, write letters, or touch a database in use."""
    return {name: value for name, value in inherited.items() if not name.startswith(NOT_PASSED_ON)}


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def _ready_file(state: Path) -> Path:
    return state / "ready.json"


def _wait(process: subprocess.Popen[bytes], state: Path) -> Path:
    deadline = time.monotonic() + START_DEADLINE_S
    while not _ready_file(state).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            log = state / "up.log"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
            raise DependencyUnavailable(
                "Parley did not start:\n" + "\n".join(f"  {line}" for line in lines if line.strip()),
                remedy=f"all of it is in {log} and {state / 'logs'}",
            )
        time.sleep(LOOK_EVERY_S)
    return _ready_file(state)


def _place(ready_file: Path) -> Place:
    ready = json.loads(ready_file.read_text(encoding="utf-8"))
    kafka = load_kafka_settings().model_copy(update={"bootstrap_servers": ready["kafka"]})
    return Place(ready["services"]["gateway"]["url"], kafka)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
