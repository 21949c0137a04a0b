"""Plays five minutes in Chromium through a network with 100 ms of jitter, and prints how often it ran dry.

Run from the top of the checkout: ``python tests/browser/playback_jitter.py``. No test: it takes as long as it plays.
Audio comes as the model sends it, 13 times faster than real time, in items of 15 s; ``--pace 1`` sends it just as fast
as it is played, which no model does, and shows the jitter buffer at work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser.chromium import Chromium, Tab
from browser.conftest import listen, speech
from fakes.session_service import FakeLink, FakeSessionService
from harness.fault_proxy import FaultProxy
from harness.processes import Processes
from harness.waiting import until
from parley_common.contracts import audio_link as wire
from parley_gateway.settings import Timing
from unit.gateway.world import running_gateway

CHUNK_SAMPLES = 2_400
ITEM_S = 15


async def send_item(link: FakeLink, item: int, seconds: float, pace: float) -> int:
    """Send one item in chunks of 100 ms; return its samples."""
    samples = int(seconds * wire.SAMPLE_RATE_HZ)
    began_s = asyncio.get_running_loop().time()
    await link.send(wire.Item(item, "assistant", "begins", 0))
    for first in range(0, samples, CHUNK_SAMPLES):
        pcm = b"".join(
            int(6_000 * math.sin(n * 0.09)).to_bytes(2, "little", signed=True)
            for n in range(first, min(samples, first + CHUNK_SAMPLES))
        )
        await link.send_raw(wire.pack_downlink(0, item, first, pcm))
        due_s = began_s + (first + CHUNK_SAMPLES) / wire.SAMPLE_RATE_HZ / pace
        await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))
    await link.send(wire.Item(item, "assistant", "ends", 0, samples))
    return samples


async def play(tab: Tab, link: FakeLink, seconds: float, pace: float) -> None:
    """Play item after item, each when the one before it was heard."""
    for item in range(1, max(2, round(seconds / ITEM_S) + 1)):
        samples = await send_item(link, item, min(ITEM_S, seconds), pace)
        heard = wire.Playout(0, item, samples, samples)
        await until(lambda heard=heard: heard in link.messages, 2 * ITEM_S + 10, f"item {item} to be heard")
        link.messages.clear()


async def main() -> None:
    """Run it and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--jitter-ms", type=float, default=100)
    parser.add_argument("--pace", type=float, default=13)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Processes(Path(name)) as processes:
        folder = Path(name)
        silence = speech(folder / "silence.wav", options.seconds + 60)
        async with (
            FakeSessionService() as service,
            running_gateway(service, timing=Timing(resume_grace_ms=1_000)) as world,
            FaultProxy(world.port) as proxy,
            Chromium.running(processes, folder, silence) as browser,
            browser.tab(f"http://127.0.0.1:{proxy.port}") as tab,
        ):
            await listen(tab)
            proxy.jitter_ms = options.jitter_ms
            await tab.click("parley-widget >> button.main")
            await tab.until("client()?.isConnected", 30)
            await play(tab, await service.attached(), options.seconds, options.pace)
            counted = await tab.js("client().measure()")
            names = ("underruns", "lateFrames", "targetMs", "oddities", "roundTripMs", "sampleRate")
            print(json.dumps({**vars(options), **{key: counted[key] for key in names}}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
