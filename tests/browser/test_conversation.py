"""A caller at the page, with the whole of Parley behind it: talks, interrupts, types, rates, and sees the facts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from browser.chromium import Chromium, Tab
from browser.conftest import SCREENSHOTS, listen, script, seen, speech
from browser.wire import order_sent, received, sent, uplink
from harness.processes import Processes
from harness.running import RunningParley
from harness.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

TALK = "parley-widget >> button.main"
TYPE = "parley-widget >> .row.wrap button:not(.main)"
INPUT = "parley-widget >> input[type=text]"
END = "parley-widget >> button.end"
QUESTION = "What is a bridge loan?"
LINES = "document.querySelector('parley-widget').shadowRoot.querySelectorAll"


def answered(*, after_lines: int) -> str:
    """Return what is true in a page once the agent has answered, and so many lines stood there before."""
    agent = "client().lines.findLastIndex((l) => l.role === 'assistant' && l.final)"
    caller = "client().lines.findIndex((l) => l.role === 'user')"
    return f"{agent} > {caller} && client().lines.length > {after_lines}"


async def test_talking_over_the_agent_silences_it_and_the_page_shows_what_was_heard(
    parley: RunningParley, processes: Processes, tmp_path: Path, remark: Callable[[str], None]
) -> None:
    script(parley, QUESTION)
    microphone = speech(tmp_path / "mic.wav", 3.5, "Sorry, what is a bridge loan please?", 60.0)
    async with Chromium.running(processes, tmp_path, microphone) as browser, browser.tab(parley.url) as tab:
        await listen(tab)
        await tab.click(TALK)
        await tab.until("seen.some((e) => e.what === 'flushed')", 30, "the greeting to be flushed")
        await tab.until(
            f"seen.some((e) => e.type === 'transcript' && e.text === '{QUESTION}' && e.final)", 30
        )
        await tab.until("seen.some((e) => e.type === 'playout' && e.what === 'started' && e.item > 2)", 30)
        # A loaded machine may run the buffer dry: that is counted, and no part of the order that matters here.
        log = [e for e in await seen(tab, "playout") if e["what"] in {"started", "flushed", "silent"}]
        assert [event["what"] for event in log[:4]] == ["started", "flushed", "silent", "started"], log
        greeting, flushed, silent, answer = log[:4]
        assert flushed["item"] == greeting["item"] == 1
        assert answer["epoch"] == flushed["epoch"] == greeting["epoch"] + 1  # type: ignore[operator]
        faded_samples = silent["at"] - flushed["at"]  # type: ignore[operator]
        assert 0 < faded_samples <= 120 + 128, "no more than 5 ms, and the quantum it ends in"
        remark(f"browser: {faded_samples / 24:.1f} ms of audio from the flush at the worklet to silence")

        # The wire: one answer, at once; and what it says was played is the worklet's count less declared latency.
        (answered,) = sent(tab, "flushed")
        counted = await tab.js("client().measure()")
        cut = next(item for item in counted["items"] if item["number"] == 1)
        assert answered == {
            "type": "flushed",
            "epoch": flushed["epoch"],
            "item": 1,
            "played": cut["rendered"] - counted["delay"],
        }
        assert counted["delay"] == counted["latencySamples"] + 32
        assert counted["latencySamples"] == round(counted["latencyS"] * 24_000)
        assert 0 < cut["played"] < cut["received"]
        types = order_sent(tab)
        assert types[types.index("flushed") - 1] == "playout", "the last report of the old epoch goes first"
        assert counted["oddities"] == {}
        remark(f"browser: {counted['underruns']} underruns, {counted['roundTripMs']:.0f} ms round trip")

        # The page: the heard part stands, the rest is struck, and says so to those who do not see it.
        await tab.until(f"{LINES}('s.unheard').length === 1")
        shown = received(tab, "transcript")
        heard = next(line["heard"] for line in shown if line["item"] == 1 and line.get("heard") is not None)
        marked = await tab.js(
            "(([s]) => [s.previousSibling.textContent, s.textContent, s.nextSibling.textContent])"
            f"({LINES}('s.unheard'))"
        )
        greeting_text = next(line["text"] for line in reversed(shown) if line["item"] == 1)
        assert marked[0].rstrip() == heard
        assert marked[0] + marked[1] == greeting_text
        assert "not heard" in marked[2]
        frames = uplink(tab)
        assert [first for first, _ in frames] == [480 * n for n in range(len(frames))]
        assert {len(pcm) for _, pcm in frames} == {960}
        await tab.screenshot(SCREENSHOTS / "barged_in_1440.png")
        await tab.resize(360, 740)
        await tab.screenshot(SCREENSHOTS / "barged_in_360.png")
        assert tab.complaints == []


async def test_by_a_key_the_caller_is_heard_only_while_it_is_held(
    parley: RunningParley, processes: Processes, tmp_path: Path
) -> None:
    script(parley, QUESTION)
    words = "So tell me please what is a bridge loan and what does it cost me to have one"
    microphone = speech(tmp_path / "mic.wav", *[words] * 8)
    async with Chromium.running(processes, tmp_path, microphone) as browser, browser.tab(parley.url) as tab:
        await listen(tab)
        await tab.click("parley-widget >> button.icon")
        await tab.click("parley-widget >> input[type=checkbox]")
        await tab.until("document.querySelector('parley-widget').byKey.checked")
        await tab.click("parley-widget >> button.icon")
        await tab.click(TALK)
        await tab.until("seen.some((e) => e.what === 'started')", 30, "the greeting to play")
        assert uplink(tab) == [], "the key is up: nothing is sent"
        await tab.press("parley-widget >> button.hold")
        await until(lambda: len(uplink(tab)) > 75, 15, "a second and a half of speech")
        assert await tab.text("parley-widget >> button.hold") == "Release to send"
        await tab.release()
        await tab.until(
            f"seen.some((e) => e.type === 'transcript' && e.text === '{QUESTION}' && e.final)", 30
        )
        types = order_sent(tab)
        assert types.index("talk") < types.index("audio")
        assert [m["phase"] for m in sent(tab, "talk")] == ["start", "stop"]
        last_audio = len(types) - 1 - types[::-1].index("audio")
        assert last_audio < len(types) - 1 - types[::-1].index("talk")
        assert uplink(tab)[-1][1] == bytes(960), "silence ends what was said, or no turn detection would"
        assert any(any(pcm) for _, pcm in uplink(tab))
        assert tab.complaints == []


async def test_who_has_no_microphone_types_rates_and_sees_the_facts(
    parley: RunningParley, silent: Chromium
) -> None:
    async with silent.tab(parley.url, width=360, height=740, microphone="denied") as tab:
        await listen(tab)
        await tab.click(TALK)
        await tab.until("seen.some((e) => e.code === 'microphone_denied')")
        assert "blocked" in await tab.text("parley-widget >> .alert")
        assert "address bar" in await tab.text("parley-widget >> .alert")
        await tab.screenshot(SCREENSHOTS / "microphone_denied_360.png")
        await tab.click("parley-widget >> .alert button:last-child")
        await tab.until("client().isConnected && client().mode === 'text'")
        await tab.type(INPUT, QUESTION)
        await tab.key("Enter")
        await tab.until(answered(after_lines=1), 30, "an answer")
        assert uplink(tab) == []
        own = await tab.js("client().lines.find((l) => l.role === 'user').text")
        assert own == QUESTION
        await tab.until("document.getElementById('facts').innerText.includes('turn.completed')", 30)
        kinds = await tab.js("[...document.querySelectorAll('#facts b')].map((b) => b.innerText)")
        assert kinds[0] == "session.started"
        assert "tool.used" in kinds
        await tab.screenshot(SCREENSHOTS / "typed_360.png", full_page=True)

        await tab.click(END)
        await tab.click("parley-widget >> .stars label:nth-child(4)")
        await tab.screenshot(SCREENSHOTS / "rating_360.png")
        await tab.type("parley-widget >> textarea", "Quick and clear.")
        await tab.click("parley-widget >> form button.main:not(.hold)")
        await tab.until("seen.some((e) => e.type === 'ended')")
        assert [(m["rating"], m["comment"]) for m in sent(tab, "feedback")] == [(4, "Quick and clear.")]
        assert order_sent(tab)[-3:] == ["feedback", "stats", "hangup"]
        await tab.until("document.getElementById('facts').innerText.includes('session.ended')", 30)
        facts = await tab.text("#facts")
        assert "rating 4" in facts
        assert tab.complaints == []


async def test_a_gateway_that_is_killed_and_started_again_costs_the_conversation_nothing(
    parley: RunningParley, silent: Chromium
) -> None:
    async with silent.tab(parley.url) as tab:
        await listen(tab)
        await tab.click(TALK)
        await tab.until("seen.some((e) => e.what === 'started')", 30, "the greeting to play")
        parley.kill9("gateway")
        await tab.until("client().state === 'reconnecting'", 10)
        await tab.until("seen.some((e) => e.code === 'reconnected')", 60, "the gateway to be there again")
        await tab.type(INPUT, QUESTION)
        await tab.key("Enter")
        await tab.until(answered(after_lines=2), 30, "an answer")
        greeting = (await tab.js("client().measure()"))["items"][0]
        assert greeting["rendered"] > 0
        assert await seen(tab, "error") == []
        frames = uplink(tab)
        assert len({first for first, _ in frames}) == max(first for first, _ in frames) // 480 + 1, "no gap"
        assert len(sent(tab, "open")) >= 2


async def test_a_session_service_that_is_killed_is_said_clearly_and_talking_again_works(
    parley: RunningParley, silent: Chromium
) -> None:
    async with silent.tab(parley.url) as tab:
        await listen(tab)
        await tab.click(TALK)
        await tab.until("seen.some((e) => e.what === 'started')", 30, "the greeting to play")
        parley.kill9("session")
        await tab.until("seen.some((e) => e.type === 'ended')", 40)
        assert [e["code"] for e in await seen(tab, "error")] == ["conversation_lost"], "one clear word"
        assert "Start again" in await tab.text("parley-widget >> .alert")
        await tab.screenshot(SCREENSHOTS / "lost_1440.png")
        await tab.js("seen.length = 0")
        await until(lambda: talk_again(tab), 40, "the session service to be there again")
        await tab.until("seen.some((e) => e.what === 'started')", 30)
        assert not await tab.is_visible("parley-widget >> .alert")


async def talk_again(tab: Tab) -> bool:
    """Click, and say whether a session runs; the service may not be there yet."""
    await tab.click(TALK)
    await tab.until("client().state !== 'connecting'")
    return bool(await tab.js("client().isConnected"))
