"""`parley up` as a process: what it tells others, and that nothing survives it, however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.ports import free_port
from harness.processes import Proc
from harness.waiting import until

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def up(tmp_path: Path, *args: str, name: str = "up", **env: str) -> AsyncIterator[Proc]:
    """Run `parley up` with the understudy and the embedded broker alone, on ports of its own."""
    environment = {
        "PARLEY_STATE_DIR": str(tmp_path / "state"),
        "PARLEY_UP_KAFKA_PORT": str(free_port()),
        "UNDERSTUDY_PORT": str(free_port()),
        **env,
    }
    argv = [sys.executable, "-m", "parley_launcher", "up", "--only", "understudy", "--light", *args]
    process = Proc(argv, name=name, log_path=tmp_path / f"{name}.log", env=environment)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.close)


async def ready(process: Proc, path: Path) -> dict[str, Any]:
    def written() -> str | None:
        if not process.is_running:
            raise AssertionError(process.log_tail())
        return path.read_text() if path.exists() else None

    told: dict[str, Any] = json.loads(await until(written, 60, "the ready file"))
    return told


def alive(pids: list[int]) -> list[int]:
    return [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]


async def test_it_tells_when_all_runs_restarts_what_crashes_and_stops_all(tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    async with up(tmp_path, "--json-ready", str(file)) as process:
        told = await ready(process, file)
        assert told["pid"] == process.pid
        assert alive(list(told["processes"].values()))

        async with up(tmp_path, name="second") as second:
            assert await second.wait_exit(30) == 78
            assert f"already runs with {tmp_path / 'state'} (process {process.pid})" in second.log()

        os.kill(told["services"]["understudy"]["pid"], signal.SIGKILL)
        await process.wait_log("understudy ended (signal SIGKILL); again in 0.5 s")

        os.kill(process.pid, signal.SIGTERM)
        assert await process.wait_exit(30) == 0

    assert alive(list(told["processes"].values())) == []
    assert not file.exists()
    for words in ("✓ kafka", "✓ topics", "✓ understudy", "Parley runs", "stopped"):
        assert words in process.log()


async def test_killed_by_force_it_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    async with up(tmp_path, "--no-facts", "--json-ready", str(file)) as process:
        told = await ready(process, file)
        os.kill(process.pid, signal.SIGKILL)

        await until(lambda: not alive(list(told["processes"].values())), 15, "everything to be gone")


async def test_a_taken_port_is_found_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        async with up(tmp_path, UNDERSTUDY_PORT=port) as process:
            assert await process.wait_exit(30) == 78

    assert "set UNDERSTUDY_PORT to a free port" in process.log()
    assert not (tmp_path / "state" / "logs").exists()


async def test_ctrl_c_while_it_starts_stops_what_was_started(tmp_path: Path) -> None:
    async with up(tmp_path) as process:
        await process.wait_log("starting Parley", 30)
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        os.kill(process.pid, signal.SIGINT)
        assert await process.wait_exit(30) == 0

    assert alive(children) == []
    assert "Traceback" not in process.log()
