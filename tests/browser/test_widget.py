"""The widget and the client below it, against the real gateway with a session service in the test's hand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from browser.axe import serious_faults
from browser.chromium import Chromium
from browser.conftest import SCREENSHOTS, listen, seen
from browser.page import ALERT, MUTE, SHADOW, TALK, WIDGET, at_the_page, connect, play, reports, tone
from browser.wire import order_sent, sent, uplink
from fakes.session_service import FakeLink, FakeSessionService
from harness.http_server import HttpServer, Reply, Request
from harness.waiting import until
from parley_common.contracts import audio_link as wire
from parley_gateway.admission import AdmissionLimits
from parley_gateway.settings import Timing
from unit.gateway.world import running_gateway

pytestmark = pytest.mark.timeout(120)


async def test_muted_nothing_is_sent_and_sample_numbers_go_on_without_a_gap(silent: Chromium) -> None:
    async with at_the_page(silent) as (tab, world):
        link = await connect(tab, world)
        await link.received(10)
        await tab.click(MUTE)
        await until(lambda: wire.Mute(True) in link.messages, why="mute")
        assert await tab.text(MUTE) == "Unmute"
        assert await tab.text("parley-widget >> .status") == "You are muted"
        count = len(uplink(tab))
        await tab.js(
            "new Promise((done) => { let n = 0; const { hooks } = client().microphone, old = hooks.frame;"
            " hooks.frame = (...frame) => { old(...frame); if (++n > 25) done(); }; })"
        )
        assert len(uplink(tab)) == count, "half a second of microphone, and not one frame of it was sent"
        await tab.click(MUTE)
        await until(lambda: len(uplink(tab)) > count + 5, why="frames after unmuting")
        frames = uplink(tab)
        assert [first for first, _ in frames] == [480 * n for n in range(len(frames))]
        assert order_sent(tab).count("mute") == 2
        assert tab.complaints == []


@pytest.mark.parametrize("rate_hz", [24_000, 44_100, 48_000])
async def test_every_sample_of_an_item_is_reported_played_at_any_device_rate(
    silent: Chromium, rate_hz: int
) -> None:
    async with at_the_page(silent) as (tab, world):
        await tab.js(f"{WIDGET}.chosen = {{ playbackHz: {rate_hz}, captureHz: {rate_hz} }}")
        link = await connect(tab, world)
        samples = await play(link, 1, 1.0)
        await until(lambda: reports(link, 1) and reports(link, 1)[-1] == (samples, samples), 10, "the end")
        played = [played for _, played in reports(link, 1)]
        assert played == sorted(played)
        assert all(0 <= p <= r for r, p in reports(link, 1))
        assert len(played) >= 8, "about every 100 ms"
        counted = await tab.js("client().measure()")
        assert (counted["sampleRate"], counted["oddities"]) == (rate_hz, {})
        frames = await link.received(20)
        assert all(len(frame) == 964 for frame in frames)


async def test_a_pause_holds_playout_and_loses_nothing(silent: Chromium) -> None:
    async with at_the_page(silent) as (tab, world):
        link = await connect(tab, world)
        samples = await play(link, 1, 1.5)
        await until(lambda: reports(link, 1), why="the first report")
        await link.send(wire.Pause())
        await tab.until("client().measure().then((m) => m.isPaused)")
        held = await tab.js("client().measure().then((m) => m.items[0].rendered)")
        handed_out = await tab.js("client().measure().then((m) => m.handedOut)")
        await tab.until(f"client().measure().then((m) => m.handedOut > {handed_out} + 6000)")
        assert await tab.js("client().measure().then((m) => m.items[0].rendered)") == held
        await link.send(wire.Resume())
        await until(lambda: reports(link, 1)[-1] == (samples, samples), 10, "the end")


async def test_audio_of_an_older_epoch_is_dropped_and_a_late_frame_is_counted(silent: Chromium) -> None:
    async with at_the_page(silent) as (tab, world):
        link = await connect(tab, world)
        await link.send(wire.Item(1, "assistant", "begins", 0))
        await link.send_raw(tone(1, 0, 4_800))
        await tab.until("client().measure().then((m) => m.phase === 'starving')", 10, "the buffer to run dry")
        await link.send_raw(tone(1, 4_800, 24_000))
        await tab.until("client().measure().then((m) => m.underruns === 1 && m.targetMs > 60)")
        await link.send(wire.Flush(1))
        await until(lambda: any(isinstance(m, wire.Flushed) for m in link.messages), why="the answer")
        # Stale audio dies in the gateway already; what slips past it dies here.
        await tab.js("client().speaker.post(new Uint32Array([0, 1, 28800, 0]).buffer)")
        await tab.until("client().measure().then((m) => m.oddities.stale_epoch === 1)")
        answers = [m for m in link.messages if isinstance(m, wire.Flushed)]
        assert [(m.epoch, m.item) for m in answers] == [(1, 1)]
        await link.send(wire.Flush(1))
        samples = await play(link, 2, 0.3, epoch=1)
        await until(lambda: reports(link, 2) and reports(link, 2)[-1] == (samples, samples), 10, "item 2")
        assert len([m for m in link.messages if isinstance(m, wire.Flushed)]) == 1, (
            "an epoch is answered once"
        )


async def test_a_full_service_says_when_to_come_back(silent: Chromium) -> None:
    limits = AdmissionLimits(sessions_max=1, address_opens_per_minute=0)
    async with at_the_page(silent, limits) as (tab, world), world.session():
        await tab.click(TALK)
        await tab.until("seen.some((e) => e.code === 'full')")
        assert await tab.text(ALERT) == "All lines are busy.\n\nTry again in 5 s.\n\nTry again"
        assert await tab.js("client().state") == "idle"


async def test_an_expired_token_is_refused_and_the_remedy_works(silent: Chromium) -> None:
    async with at_the_page(silent) as (tab, world):
        past = world.gateway.clock.now() - timedelta(minutes=5)
        token, _ = world.gateway.tokens.issue("cap", past)
        await tab.js(f"{WIDGET}.getTicket = async () => ({{ token: '{token}', url: '{world.audio_url}' }})")
        await tab.click(TALK)
        await tab.until("seen.some((e) => e.code === 'token_expired')")
        assert "Start again" in await tab.text(ALERT)
        await tab.js(f"{WIDGET}.getTicket = undefined")
        await tab.click(f"{ALERT} button")
        await tab.until("client().isConnected")
        assert not await tab.is_visible(ALERT)


async def test_without_a_resume_token_a_lost_line_is_one_clear_error(silent: Chromium) -> None:
    async with at_the_page(silent) as (tab, world):
        link = await connect(tab, world)
        await tab.js("client().link.ready.resume = ''")
        await tab.js("client().link.socket.onclose({ reason: '' })")
        await tab.until("seen.some((e) => e.code === 'connection_lost')")
        assert [e["code"] for e in await seen(tab, "error")] == ["connection_lost"]
        assert [e["reason"] for e in await seen(tab, "ended")] == ["connection_lost"]
        assert "reconnecting" not in [e["state"] for e in await seen(tab, "state")]
        assert await link.closed() in {4000, 4001}


async def test_a_session_that_is_lost_behind_the_gateway_is_said_so(silent: Chromium) -> None:
    async with at_the_page(silent) as (tab, world):
        link = await connect(tab, world)
        link.abort()
        await tab.until("seen.some((e) => e.code === 'conversation_lost')")
        assert await tab.text("parley-widget >> .status") == "The conversation is over."


@pytest.mark.parametrize(
    ("name", "code"),
    [("NotFoundError", "microphone_missing"), ("NotReadableError", "microphone_busy")],
)
async def test_without_a_microphone_the_remedy_is_to_type(silent: Chromium, name: str, code: str) -> None:
    async with at_the_page(silent) as (tab, world):
        await tab.js(
            f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{name}'); }}"
        )
        await tab.click(TALK)
        await tab.until(f"seen.some((e) => e.code === '{code}')")
        await tab.click(f"{ALERT} button:last-child")
        await tab.until("client().isConnected && client().mode === 'text'")
        assert world.service.link.attach.mode == "text"


async def test_an_unplugged_microphone_is_replaced_or_typing_goes_on(silent: Chromium) -> None:
    async with at_the_page(silent) as (tab, world):
        link = await connect(tab, world)
        await tab.js("client().microphone.stream.getAudioTracks()[0].onended()")
        await tab.until("seen.some((e) => e.code === 'microphone_changed')")
        count = len(link.frames)
        await until(lambda: len(link.frames) > count + 5, why="frames of the other microphone")
        await tab.js(
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); }"
        )
        await tab.js("client().microphone.stream.getAudioTracks()[0].onended()")
        await tab.until("seen.some((e) => e.code === 'microphone_unplugged')")
        await tab.type("parley-widget >> input[type=text]", "I am still here")
        await tab.key("Enter")
        await until(lambda: wire.Text("I am still here") in link.messages, why="the typed text")


async def test_sound_that_the_browser_holds_back_comes_with_a_gesture(silent: Chromium) -> None:
    async with at_the_page(silent) as (tab, world):
        link = await connect(tab, world)
        await tab.js("client().speaker.context.suspend()")
        await tab.until(f"{SHADOW}.querySelector('.alert').innerText.includes('holds the sound back')")
        await play(link, 1, 0.4)
        await link.send(wire.Flush(1))
        await until(lambda: any(isinstance(m, wire.Flushed) for m in link.messages), why="the answer")
        answers = [m for m in link.messages if isinstance(m, wire.Flushed)]
        assert [(m.epoch, m.played) for m in answers] == [(1, 0)], "nothing was heard, whatever had arrived"
        await tab.click(f"{ALERT} button")
        await tab.until("client().speaker.context.state === 'running'")
        assert not await tab.is_visible(ALERT)
        samples = await play(link, 2, 0.4, epoch=1)
        await until(lambda: reports(link, 2) and reports(link, 2)[-1] == (samples, samples), 10, "item 2")


async def test_a_page_of_an_allowed_site_opens_a_session_by_one_script_tag(silent: Chromium) -> None:
    pages: dict[str, str] = {}

    def answer(request: Request) -> Reply:
        policy = f"default-src 'none'; script-src {pages['gateway']}; connect-src {pages['gateway']} ws:"
        headers = {"Content-Type": "text/html", "Content-Security-Policy": policy}
        return Reply(200, pages["html"].encode(), headers) if request.path == "/" else Reply(404)

    async with FakeSessionService() as service:
        with HttpServer(answer) as site:
            origins = (site.url.rstrip("/"),)
            async with running_gateway(service, timing=Timing(), allowed_origins=origins) as world:
                pages["gateway"] = world.http_url
                pages["html"] = (
                    "<!doctype html><meta name=viewport content='width=device-width'>"
                    f"<script type=module src='{world.http_url}/parley/widget.js'></script>"
                    "<parley-widget business=cap dir=rtl theme=dark></parley-widget>"
                )
                async with silent.tab(site.url, width=320, height=600) as tab:
                    await listen(tab)
                    link = await connect(tab, world)
                    assert link.attach.caller.page == site.url.rstrip("/") + "/"
                    await link.received(3)
                    await tab.screenshot(SCREENSHOTS / "other_site_rtl_320.png")
                    assert [c for c in tab.complaints if "favicon" not in c] == []


async def test_a_page_of_another_site_is_told_that_it_may_not(silent: Chromium) -> None:
    html = (
        "<!doctype html><script type=module src='{}/parley/widget.js'></script>"
        "<parley-widget business=cap></parley-widget>"
    )
    pages = {}
    with HttpServer(lambda _: Reply(200, pages["html"].encode(), {"Content-Type": "text/html"})) as site:
        async with FakeSessionService() as service, running_gateway(service, timing=Timing()) as world:
            pages["html"] = html.format(world.http_url)
            async with silent.tab(site.url) as tab:
                await listen(tab)
                await tab.click(TALK)
                await tab.until("seen.some((e) => e.type === 'error')")
                assert world.service.links == []
                assert [e["code"] for e in await seen(tab, "error")] == ["origin_not_allowed"]
                assert "GATEWAY_ALLOWED_ORIGINS" in await tab.text(ALERT)


async def test_the_keyboard_alone_starts_mutes_types_and_ends(silent: Chromium) -> None:
    focused = f"{SHADOW}.activeElement?.innerText || {SHADOW}.activeElement?.getAttribute('aria-label')"
    async with at_the_page(silent) as (tab, world):

        async def walk_to(label: str) -> None:
            for _ in range(25):
                if await tab.js(focused) == label:
                    return
                await tab.key("Tab")
            raise AssertionError(f"Tab does not reach {label}")

        await walk_to("Start talking")
        await tab.key("Enter")
        await tab.until("client()?.isConnected", 20)
        await tab.until(f"({focused}) === 'Mute'", 5, "the focus to follow")
        await tab.key(" ")
        link = await world.service.attached()
        await until(lambda: wire.Mute(True) in link.messages, why="mute")
        await walk_to("End")
        await tab.key("Enter")
        await until(lambda: wire.Hangup() in link.messages, why="the end")
        await tab.until("client().state === 'ended'")


async def test_a_held_space_bar_talks(silent: Chromium) -> None:
    async with at_the_page(silent) as (tab, world):
        await tab.js(f"{WIDGET}.byKey.checked = true")
        link = await connect(tab, world)
        await tab.until(f"{SHADOW}.activeElement?.innerText === 'Hold to talk'", 5, "the focus on the key")
        assert link.frames == []
        await tab.key(" ", phase="down")
        await link.received(5)
        assert await tab.text("parley-widget >> button.hold") == "Release to send"
        await tab.key(" ", phase="up")
        await until(lambda: wire.Talk("stop") in link.messages, why="the key to go up")
        await until(lambda: len(sent(tab, "talk")) == 2, why="the browser to say what it sent")
        assert [m["phase"] for m in sent(tab, "talk")] == ["start", "stop"]


async def fill(link: FakeLink) -> None:
    """A conversation with all that can be shown."""
    said = "A bridge loan is short-term money that carries you until you sell or refinance the property."
    await link.send(wire.Transcript(1, "user", "What is a bridge loan?", final=True))
    await link.send(wire.Tool("search_knowledge_base", "begins", "c1"))
    await link.send(wire.Tool("search_knowledge_base", "ends", "c1", "ok"))
    await link.send(
        wire.Transcript(2, "assistant", said, final=True, heard="A bridge loan is short-term money")
    )
    await link.send(wire.Transcript(3, "user", "And what does it cost?", final=True))
    await link.send(wire.Notice("wrap_up"))
    await link.send(wire.Tool("analyze_deal", "begins", "c2"))
    await link.send(wire.State("using_tool"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_no_serious_fault_in_any_state(silent: Chromium, dark: bool) -> None:
    name = "dark" if dark else "light"
    async with at_the_page(silent) as (tab, world):
        await tab.resize(1440, 900, dark=dark)
        found = {"idle": await serious_faults(tab)}
        await tab.screenshot(SCREENSHOTS / f"idle_1440_{name}.png", full_page=True)
        link = await connect(tab, world)
        await fill(link)
        await tab.until("client().state === 'using_tool'")
        found["talking"] = await serious_faults(tab)
        for width in (1440, 360, 320):
            await tab.resize(width, 900 if width > 400 else 700, dark=dark)
            await tab.js(f"{WIDGET}.scrollIntoView({{ block: 'end' }})")
            await tab.screenshot(SCREENSHOTS / f"talking_{width}_{name}.png")
            assert await tab.js("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        await tab.click("parley-widget >> button.icon[aria-expanded]")
        await tab.until(f"!{WIDGET}.settings.hidden")
        found["settings"] = await serious_faults(tab)
        await tab.screenshot(SCREENSHOTS / f"settings_320_{name}.png")
        await tab.click("parley-widget >> button.icon[aria-expanded]")
        await tab.click("parley-widget >> button.end")
        found["rating"] = await serious_faults(tab)
        await tab.screenshot(SCREENSHOTS / f"rating_320_{name}.png")
        await tab.click("parley-widget >> form button[type=button]")
        await tab.until("client().state === 'ended'")
        await world.service.stop()
        await until(lambda: not world.gateway.replicas.ready_count, why="the service to be missed")
        await tab.click(TALK)
        await tab.until("seen.some((e) => e.code === 'service_unavailable')")
        found["error"] = await serious_faults(tab)
        await tab.screenshot(SCREENSHOTS / f"error_320_{name}.png")
        assert {state: faults for state, faults in found.items() if faults} == {}
