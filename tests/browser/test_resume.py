"""A page that lost its socket goes on in mid-sentence, or says clearly that it cannot; the network is in the test's hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from browser.chromium import Chromium, Tab
from browser.conftest import SCREENSHOTS, listen, seen
from browser.page import ALERT, MUTE, SECOND, TALK, connect, hang_up_all, reports, tone
from browser.wire import downlink, received, sent, sockets_count
from fakes.session_service import FakeLink, FakeSessionService
from harness.fault_proxy import FaultProxy
from harness.waiting import until
from parley_common.contracts import audio_link as wire
from parley_gateway.clients.ends import DRAINED
from parley_gateway.settings import Timing
from unit.gateway.world import World, running_gateway

pytestmark = pytest.mark.timeout(120)

STATUS = "parley-widget >> .status"
INPUT = "parley-widget >> input[type=text]"
RENDERED = "client().measure().then((m) => m.items[0].rendered)"


@asynccontextmanager
async def far_page(
    browser: Chromium, timing: Timing | None = None
) -> AsyncIterator[tuple[Tab, World, FaultProxy]]:
    """A gateway, and its page in a tab on the other side of a network."""
    async with (
        FakeSessionService() as service,
        running_gateway(service, timing=timing or Timing()) as world,
        FaultProxy(world.port) as network,
        browser.tab(f"http://127.0.0.1:{network.port}") as tab,
    ):
        await listen(tab)
        yield tab, world, network
        hang_up_all(world)


async def say(link: FakeLink, item: int, first: int, end: int, epoch: int = 0) -> None:
    """Send a part of an item as a tone."""
    for at in range(first, end, 12_000):
        await link.send_raw(tone(item, at, min(12_000, end - at), epoch))


def assert_no_caller_sample_was_lost(link: FakeLink) -> None:
    firsts = [int.from_bytes(frame[:4], "little") for frame in link.frames]
    assert firsts == [480 * n for n in range(len(firsts))]


async def test_a_cut_network_costs_no_sample_either_way_and_playback_never_stops(silent: Chromium) -> None:
    async with far_page(silent) as (tab, world, network):
        link = await connect(tab, world)
        await link.send(wire.State("speaking"))
        await link.send(wire.Item(1, "assistant", "begins", 0))
        await say(link, 1, 0, 3 * SECOND)
        await until(lambda: reports(link, 1), why="playout")
        await network.refuse()
        await tab.until("client().state === 'reconnecting'", 10)
        assert "Reconnecting" in await tab.text(STATUS)
        rendered = await tab.js(RENDERED)
        await tab.until(f"{RENDERED}.then((now) => now > {rendered} + 6000)", 10, "playback to go on")
        # Meanwhile the agent speaks on, and the caller types.
        await say(link, 1, 3 * SECOND, 4 * SECOND)
        await link.send(wire.Item(1, "assistant", "ends", 0, 4 * SECOND))
        await tab.type(INPUT, "Are you still there?")
        await tab.key("Enter")
        await tab.screenshot(SCREENSHOTS / "reconnecting_1440.png")
        assert await tab.js("client().state") == "reconnecting"
        await network.accept()
        await tab.until("client().state === 'speaking'", 20)
        await until(lambda: reports(link, 1)[-1] == (4 * SECOND, 4 * SECOND), 15, "the end of the item")
        count = len(link.frames)
        await until(lambda: len(link.frames) > count + 10, why="the microphone to go on")

        first, again = sent(tab, "open")
        (have,) = again["have"]
        frames = downlink(tab)
        assert have == {"item": 1, "received": 3 * SECOND}
        assert "token" in first
        assert again["resume"] == received(tab, "ready")[0]["resume"]
        assert b"".join(pcm for _, _, pcm in frames) == b"".join(
            tone(1, at, 12_000)[12:] for at in range(0, 4 * SECOND, 12_000)
        )
        counted = await tab.js("client().measure()")
        assert counted["oddities"] == {}
        assert counted["items"][0]["rendered"] == 4 * SECOND
        assert [e["what"] for e in await seen(tab, "playout")] == ["started", "drained"]
        assert_no_caller_sample_was_lost(link)
        assert link.messages.count(wire.Text("Are you still there?")) == 1
        assert await seen(tab, "error") == []
        assert [e["code"] for e in await seen(tab, "notice")] == ["reconnected"]
        assert world.service.attach_count == 1, "the session service heard nothing of it"


async def test_what_the_caller_did_while_away_is_told_in_its_place(silent: Chromium) -> None:
    async with far_page(silent) as (tab, world, network):
        link = await connect(tab, world)
        await link.received(5)
        await network.refuse()
        await tab.until("client().state === 'reconnecting'", 10)
        kept = await tab.js("client().link.sample")
        await tab.until(f"client().link.sample > {kept} + 4800", 10, "the microphone to be kept")
        await tab.click(MUTE)
        await network.accept()
        await until(lambda: wire.Mute(True) in link.messages, 15, "mute")
        told = await tab.js("client().link.sample")
        await until(lambda: len(link.frames) * 480 >= told, why="what was said before it")
        assert_no_caller_sample_was_lost(link)


async def test_a_flush_that_was_missed_silences_the_page_once_it_is_back(silent: Chromium) -> None:
    async with far_page(silent) as (tab, world, network):
        link = await connect(tab, world)
        await link.send(wire.Item(1, "assistant", "begins", 0))
        await say(link, 1, 0, 20 * SECOND)
        await until(lambda: reports(link, 1), why="playout")
        await network.refuse()
        await tab.until("client().state === 'reconnecting'", 10)
        await link.send(wire.Flush(1))
        await until(
            lambda: any(isinstance(m, wire.Flushed) for m in link.messages), why="the gateway's answer"
        )
        await link.send(wire.Item(2, "assistant", "begins", 1))
        await say(link, 2, 0, SECOND // 2, 1)
        await link.send(wire.Item(2, "assistant", "ends", 1, SECOND // 2))
        await network.accept()
        await until(lambda: reports(link, 2) and reports(link, 2)[-1] == (12_000, 12_000), 15, "item 2")
        assert [(e["what"], e["item"]) for e in await seen(tab, "playout")] == [
            ("started", 1),
            ("flushed", 1),
            ("silent", 0),
            ("started", 2),
            ("drained", 0),
        ]
        assert len([m for m in link.messages if isinstance(m, wire.Flushed)]) == 1
        assert (await tab.js("client().measure()"))["oddities"] == {}


async def test_a_page_that_slept_is_told_that_it_was_lost_and_comes_back(silent: Chromium) -> None:
    async with far_page(silent, replace(Timing(), client_lost_after_ms=700)) as (tab, world, network):
        link = await connect(tab, world)
        (relay,) = world.gateway.sessions.values()
        network.stall()
        await until(lambda: relay.is_held, 10, "the gateway to miss its client")
        await network.heal()
        await tab.until("seen.some((e) => e.code === 'reconnected')", 15)
        assert [m["code"] for m in received(tab, "error")] == ["client_lost"]
        assert await seen(tab, "error") == []
        count = len(link.frames)
        await until(lambda: len(link.frames) > count + 5, why="the microphone")
        assert_no_caller_sample_was_lost(link)


async def test_after_the_grace_there_is_one_clear_error_and_a_remedy(silent: Chromium) -> None:
    async with far_page(silent, replace(Timing(), resume_grace_ms=300)) as (tab, world, network):
        link = await connect(tab, world)
        await network.refuse()
        assert await link.closed() == 4001
        await network.accept()
        await tab.until("seen.some((e) => e.type === 'ended')", 15)
        assert [e["code"] for e in await seen(tab, "error")] == ["conversation_lost"]
        assert [e["reason"] for e in await seen(tab, "ended")] == ["conversation_lost"]
        assert "Start again" in await tab.text(ALERT)
        dialled = sockets_count(tab)
        await tab.click(f"{ALERT} button")
        await tab.until("client().isConnected")
        assert sockets_count(tab) == dialled + 1


async def test_a_network_that_stays_away_ends_with_one_clear_error(silent: Chromium) -> None:
    async with far_page(silent) as (tab, world, network):
        await connect(tab, world)
        await tab.js("client().link.ready.limits.resume_grace_ms = 900")
        await network.refuse()
        await tab.until("seen.some((e) => e.type === 'ended')", 15)
        assert [e["code"] for e in await seen(tab, "error")] == ["conversation_lost"]
        assert 2 <= sockets_count(tab) <= 8, "it tried again, ever less often"
        await tab.click(TALK)
        await tab.until("seen.some((e) => e.code === 'gateway_unreachable')", 15)
        await network.accept()
        await tab.click(TALK)
        await tab.until("client().isConnected", 15)


async def test_another_gateway_takes_the_session_over_and_no_sample_is_lost(silent: Chromium) -> None:
    async with far_page(silent) as (tab, world, network), running_gateway(world.service) as other:
        link = await connect(tab, world)
        await link.send(wire.Item(1, "assistant", "begins", 0))
        await say(link, 1, 0, 2 * SECOND)
        await until(lambda: reports(link, 1), why="playout")
        await network.refuse()
        await tab.until("client().state === 'reconnecting'", 10)
        network.target = ("127.0.0.1", other.port)
        await network.accept()
        then = await world.service.attached(2)
        assert then.attach.have == (wire.Have(1, 2 * SECOND),)
        await say(then, 1, 2 * SECOND, 3 * SECOND)
        await then.send(wire.Item(1, "assistant", "ends", 0, 3 * SECOND))
        await until(
            lambda: reports(then, 1) and reports(then, 1)[-1] == (3 * SECOND, 3 * SECOND), 15, "the end"
        )
        await then.received(10)
        # This session service says that it heard nothing yet: what was kept comes again, whole.
        assert_no_caller_sample_was_lost(link)
        assert_no_caller_sample_was_lost(then)
        assert (await tab.js("client().measure()"))["oddities"] == {}
        assert await seen(tab, "error") == []
        hang_up_all(other)


async def test_a_session_that_is_over_when_its_page_comes_back_is_asked_for_once(silent: Chromium) -> None:
    async with far_page(silent) as (tab, world, network):
        link = await connect(tab, world)
        await network.refuse()
        await link.close()
        await until(lambda: not world.gateway.sessions, why="the session to end")
        await tab.until("client().state === 'reconnecting'", 10)
        dialled = network.accepted_count
        await network.accept()
        await tab.until("seen.some((e) => e.type === 'ended')", 15)
        assert [e["code"] for e in await seen(tab, "error")] == ["conversation_lost"]
        assert network.accepted_count == dialled + 1, "it was told for good: no second try"


async def test_of_two_tabs_the_newest_wins_and_the_other_is_told_and_stays_away(silent: Chromium) -> None:
    async with far_page(silent) as (tab, world, network):
        link = await connect(tab, world)
        token = await tab.js("client().link.ready.resume")
        async with silent.tab(f"http://127.0.0.1:{network.port}") as other:
            await other.js(
                "import('/parley/link.js').then(async ({ Link }) => { const none = () => {}; window.link ="
                " new Link({ message: none, frame: none, lost: none, back: none, over: none });"
                f" link.url = '{world.audio_url}'; await link.dial({{ resume: '{token}' }}); }})"
            )
            await tab.until("seen.some((e) => e.type === 'ended')", 10)
            assert [e["code"] for e in await seen(tab, "error")] == ["replaced"]
            assert "another tab" in await tab.text(ALERT)
            await other.js("link.send({ type: 'text', text: 'I am here now' })")
            await until(lambda: wire.Text("I am here now") in link.messages, why="the newest to speak")
            assert sockets_count(tab) == 1
            assert await other.js("link.isLive")
            await other.js("link.hangUp()")


async def test_a_gateway_that_goes_away_is_left_once_the_agent_has_spoken(silent: Chromium) -> None:
    async with far_page(silent) as (tab, world, network), running_gateway(world.service) as other:
        link = await connect(tab, world)
        await tab.js("client().moveWithinMs = 60_000")
        await link.send(wire.Item(1, "assistant", "begins", 0))
        await link.send(wire.State("speaking"))
        await say(link, 1, 0, SECOND)
        await link.send(wire.Item(1, "assistant", "ends", 0, SECOND))
        await tab.until("client().state === 'speaking'")
        network.target = ("127.0.0.1", other.port)
        world.gateway.admission.draining = True
        (relay,) = world.gateway.sessions.values()
        relay.move()
        await until(lambda: reports(link, 1) and reports(link, 1)[-1] == (SECOND, SECOND), 15, "the sentence")
        assert sockets_count(tab) == 1
        await link.send(wire.State("listening"))
        then = await world.service.attached(2)
        await then.received(5)
        assert not world.gateway.sessions
        # It goes away as well: nobody runs in circles, but its end is not the conversation's.
        (relay,) = other.gateway.sessions.values()
        relay.move()
        await until(lambda: len(received(tab, "notice")) == 2, why="the notice")
        count = len(then.frames)
        await until(lambda: len(then.frames) > count + 20, why="the microphone to go on")
        assert sockets_count(tab) == 2
        assert "reconnecting" not in [e["state"] for e in await seen(tab, "state")]
        assert await seen(tab, "error") == []
        network.target = ("127.0.0.1", world.port)
        world.gateway.admission.draining = False
        relay.finish(DRAINED)
        last = await world.service.attached(3)
        await last.received(5)
        assert [e["state"] for e in await seen(tab, "state")][-2:] == ["reconnecting", "listening"]
        assert await seen(tab, "error") == []
