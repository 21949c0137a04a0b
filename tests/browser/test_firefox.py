"""The widget in Firefox: it types and comes back there too, and its worklets render what Chromium's do.

Left out, with a line that says so, where there is no Firefox.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from browser.conftest import LISTEN
from browser.firefox import Firefox
from browser.page import hang_up_all
from fakes.session_service import FakeSessionService
from harness.fault_proxy import FaultProxy
from harness.processes import Processes
from harness.waiting import until
from parley_common.contracts import audio_link as wire
from parley_gateway.settings import Timing
from unit.gateway.world import World, running_gateway

pytestmark = pytest.mark.timeout(180)

INPUT = "parley-widget >> input[type=text]"
LOG = "document.querySelector('parley-widget').shadowRoot.querySelector('.log').innerText"
PLAYBACK = """(async () => {
  const context = new OfflineAudioContext(1, 2 * RATE, RATE);
  await context.audioWorklet.addModule('/parley/playback-worklet.js');
  const node = new AudioWorkletNode(context, 'parley-playback', { numberOfInputs: 0, outputChannelCount: [1] });
  const told = [];
  node.port.onmessage = ({ data }) => told.push(data);
  const heard = async (what) => { while (!told.some((t) => t[what])) await new Promise((done) => setTimeout(done, 20)); };
  node.connect(context.destination);
  const frame = new ArrayBuffer(12 + 48000);
  new Uint32Array(frame, 0, 3)[1] = 1;
  new Int16Array(frame, 12).fill(8192);
  node.port.postMessage({ type: 'begins', args: [1, 0] });
  node.port.postMessage(frame, [frame]);
  node.port.postMessage({ type: 'ends', args: [1, 24000] });
  node.port.postMessage({ type: 'stats' });
  await heard('stats');
  const out = (await context.startRendering()).getChannelData(0);
  node.port.postMessage({ type: 'flush', args: [1] });
  await heard('flushed');
  const { oddities } = told.find((t) => t.stats).stats;
  const level = out[RATE / 2];
  const reports = told.filter((t) => t.report).map((t) => t.report);
  const { flushed } = told.find((t) => t.flushed);
  return { oddities, level, reports, flushed, sounding: out.filter((x) => x).length };
})()"""
CAPTURE = """(async () => {
  const context = new OfflineAudioContext(1, RATE, RATE);
  await context.audioWorklet.addModule('/parley/capture-worklet.js');
  const node = new AudioWorkletNode(context, 'parley-capture', { numberOfOutputs: 1, channelCount: 1 });
  const sizes = [];
  node.port.onmessage = ({ data }) => sizes.push(data.frame.byteLength);
  const tone = new OscillatorNode(context);
  tone.connect(node).connect(context.destination);
  tone.start();
  await context.startRendering();
  while (sizes.length < 49) await new Promise((done) => setTimeout(done, 20));
  return sizes;
})()"""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeSessionService() as service, running_gateway(service, timing=Timing()) as world:
        yield world
        hang_up_all(world)


async def test_firefox_types_reads_comes_back_and_renders_in_its_worklets(
    world: World, processes: Processes, tmp_path: Path
) -> None:
    async with FaultProxy(world.port) as network, Firefox.running(processes, tmp_path) as tab:
        await tab.go(f"http://127.0.0.1:{network.port}")
        await tab.js(f"void (() => {{ {LISTEN} }})()")
        await tab.click("parley-widget >> .row.wrap button:not(.main)")
        await tab.until("client()?.isConnected", 30, "a running session")
        link = await world.service.attached()
        assert link.attach.mode == "text"
        await tab.type(INPUT, "Good morning")
        await until(lambda: wire.Text("Good morning") in link.messages, why="the typed text")
        network.cut()
        await tab.until("seen.some((e) => e.code === 'reconnected')")
        await link.send(wire.Transcript(1, "assistant", "There you are again.", final=True))
        await tab.until(f"{LOG}.includes('There you are again.')")
        await tab.js("client().disconnect()")
        await until(lambda: wire.Hangup() in link.messages, why="the end")
        assert await tab.js("seen.filter((e) => e.type === 'error').length") == 0
        assert [c for c in tab.complaints if "/v1/audio" not in c] == []

        for rate_hz in (44_100, 48_000):
            played = await tab.js(PLAYBACK.replace("RATE", str(rate_hz)))
            assert played["oddities"] == {}
            assert played["reports"][-1] == {"epoch": 0, "item": 1, "received": 24_000, "played": 24_000}
            assert abs(played["level"] - 0.25) < 0.001
            assert abs(played["sounding"] - rate_hz) <= 130, "one second, and the ringing of the filter"
            assert played["flushed"] == {"epoch": 1, "item": 0, "played": 0}
            assert set(await tab.js(CAPTURE.replace("RATE", str(rate_hz)))) == {964}
