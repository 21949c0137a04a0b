"""What browser tests stand on: Chromium with a microphone of the test's choice, and the whole of Parley in light mode.

Screenshots go to .cache/screenshots, for people to look at; nothing compares them.
"""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from browser.chromium import Chromium, Tab, start
from browser.firefox import executable as firefox
from browser.npm import modules
from harness.kafka import kinds_to_try, start_broker
from harness.processes import Processes
from harness.running import RunningParley
from parley_common.audio import SAMPLE_BYTES, SAMPLE_RATE_HZ
from parley_understudy.light_voice import speech_like

SCREENSHOTS = Path(__file__).resolve().parents[2] / ".cache" / "screenshots"
LISTEN = """
window.seen = [];
for (const type of ['state', 'session', 'transcript', 'tool', 'notice', 'error', 'playout', 'audio', 'mute', 'talk',
  'ended']) document.addEventListener(`parley-${type}`, ({ detail: d }) => seen.push({ type, ...(d instanceof Error
    ? { code: d.code, message: d.message, remedy: d.remedy } : d), ...(type === 'tool' ? { type } : {}) }));
window.client = () => document.querySelector('parley-widget').client;
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
    left_out = [item for item in items if not firefox() and item.path.name == "test_firefox.py"]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not firefox():
        terminalreporter.write_line(
            "test_firefox.py was left out: no Firefox here: apt-get install firefox-esr"
        )


@pytest.fixture(scope="session", autouse=True)
def npm_packages() -> None:
    """Install what pages are served before any runs: npm takes its time, and a test's servers share its loop."""
    modules()


def speech(path: Path, *parts: float | str) -> Path:
    """Write a microphone's WAV file: numbers are seconds of silence, words are said in a voice that is no words."""
    pcm = b"".join(
        speech_like(part, "ash", 1.0)
        if isinstance(part, str)
        else bytes(int(part * SAMPLE_RATE_HZ) * SAMPLE_BYTES)
        for part in parts
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(SAMPLE_BYTES)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(pcm)
    return path


@pytest.fixture(scope="session")
def parley(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningParley]:
    """The whole of Parley without speech models: what the microphone says is scripted with ``script``."""
    folder = tmp_path_factory.mktemp("parley")
    broker, _ = start_broker(kinds_to_try())
    with Processes(folder) as processes:
        running = RunningParley(processes, folder / "state", broker, "--light")
        yield running
        running.stop()
    broker.close()


def script(parley: RunningParley, *lines: str) -> None:
    """Set what the next turns spoken into any microphone are taken to say."""
    url = f"http://127.0.0.1:{parley.ports['UNDERSTUDY_PORT']}/control/script"
    httpx.delete(url).raise_for_status()
    httpx.post(url, json={"lines": list(lines)}).raise_for_status()


@pytest.fixture(scope="session")
def silent_devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One browser for all tests that need no sound in the microphone; where its DevTools are."""
    folder = tmp_path_factory.mktemp("chromium")
    with Processes(folder) as processes:
        yield start(processes, folder, speech(folder / "silence.wav", 600.0))[1]


@pytest.fixture
async def silent(silent_devtools: str) -> AsyncIterator[Chromium]:
    """A browser whose microphone picks up nothing; each tab is a person of its own."""
    async with Chromium.at(silent_devtools) as browser:
        yield browser


async def listen(tab: Tab) -> None:
    """Remember what the widget tells the page: ``seen``, in the page."""
    await tab.js(LISTEN)


async def seen(tab: Tab, kind: str) -> list[dict[str, object]]:
    """Return what the widget told of one type, in order."""
    told: list[dict[str, object]] = await tab.js(f"seen.filter((e) => e.type === '{kind}')")
    return told
