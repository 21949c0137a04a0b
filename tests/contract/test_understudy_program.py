"""The understudy as a program: one ready line, an orderly end that leaves nothing, and light mode for want of models."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from harness.waiting import until_blocking

PROGRAM = [sys.executable, "-m", "parley_understudy.app"]


@contextmanager
def program(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def ready_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "understudy ready on ws://127.0.0.1:" in line, (line, process.stderr and process.stderr.read())
    return line


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(how: signal.Signals) -> None:
    with program("--port", "0", "--light") as process:
        assert "light mode was asked for" in ready_line(process)
        process.send_signal(how)
        out, err = process.communicate(timeout=15)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.voice
def test_no_worker_outlives_it_even_when_it_is_killed(tmp_path: Path) -> None:
    with program("--port", "0", "--workers", "1", "--cache-dir", str(tmp_path)) as process:
        assert "full mode" in ready_line(process)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) == 1
        process.kill()
        process.wait(timeout=15)
        until_blocking(lambda: not any(map(_lives, workers)), 15, "the workers to see their input end")


def test_without_models_it_says_so_and_goes_on_in_light_mode(tmp_path: Path) -> None:
    (tmp_path / "hibari").mkdir()
    (tmp_path / "hibari" / "__init__.py").write_text("raise ImportError('no wheel for this platform')")
    with program("--port", "0", "--workers", "1", PYTHONPATH=str(tmp_path)) as process:
        line = ready_line(process)
        assert "light mode" in line
        assert "no wheel for this platform" in line
        port = re.search(r":(\d+)/", line)
        assert port is not None
        answer = httpx.get(f"http://127.0.0.1:{port[1]}/readyz").json()
        assert (answer["status"], answer["mode"]) == ("ready", "light")
        assert "no wheel for this platform" in answer["light_because"]
        process.terminate()
        process.communicate(timeout=15)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        (["--port", "99999"], {}, "UNDERSTUDY_PORT"),
        ([], {"UNDERSTUDY_PORT": "many"}, "UNDERSTUDY_PORT"),
        ([], {"UNDERSTUDY_SPEED": "2"}, "UNDERSTUDY_SPEED is not a setting"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_78(
    arguments: list[str], environment: dict[str, str], complaint: str
) -> None:
    with program(*arguments, **environment) as process:
        _, err = process.communicate(timeout=15)
    assert process.returncode == 78
    assert complaint in err
    assert len(err.strip().splitlines()) == 1


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
