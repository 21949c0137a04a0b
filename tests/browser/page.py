"""A gateway with a session service in the test's hand, its page in a tab, and what a test does and sees there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from browser.chromium import Chromium, Tab
from browser.conftest import listen
from fakes.session_service import FakeLink, FakeSessionService
from parley_common.contracts import audio_link as wire
from parley_gateway.admission import AdmissionLimits
from parley_gateway.clients.ends import HUNG_UP
from parley_gateway.settings import Timing
from unit.gateway.world import World, running_gateway

TALK = "parley-widget >> button.main"
ALERT = "parley-widget >> .alert"
MUTE = "parley-widget >> button[aria-pressed]"
WIDGET = "document.querySelector('parley-widget')"
SHADOW = f"{WIDGET}.shadowRoot"
SECOND = 24_000


@asynccontextmanager
async def at_the_page(
    browser: Chromium, limits: AdmissionLimits | None = None, **tab_options: object
) -> AsyncIterator[tuple[Tab, World]]:
    """A gateway with a fake session service, and its page in a tab."""
    async with (
        FakeSessionService() as service,
        running_gateway(service, timing=Timing(), limits=limits) as world,
        browser.tab(world.http_url, **tab_options) as tab,  # type: ignore[arg-type]
    ):
        await listen(tab)
        yield tab, world
        hang_up_all(world)


def hang_up_all(world: World) -> None:
    """End what still runs: a tab that is closed may break its socket, and a broken one would be waited for."""
    for relay in list(world.gateway.sessions.values()):
        relay.finish(HUNG_UP)


async def connect(tab: Tab, world: World) -> FakeLink:
    """Start talking by the button, as a caller does."""
    count = len(world.service.links)
    await tab.click(TALK)
    await tab.until("client()?.isConnected", 20, "a running session")
    return await world.service.attached(count + 1)


def tone(item: int, first: int, count: int, epoch: int = 0) -> bytes:
    pcm = b"".join(
        int(8_000 * ((n // 40) % 2 * 2 - 1)).to_bytes(2, "little", signed=True) for n in range(count)
    )
    return wire.pack_downlink(epoch, item, first, pcm)


async def play(link: FakeLink, item: int, seconds: float, *, epoch: int = 0) -> int:
    """Send a whole item of tone; return its samples."""
    samples = int(seconds * SECOND)
    await link.send(wire.Item(item, "assistant", "begins", epoch))
    for first in range(0, samples, 12_000):
        await link.send_raw(tone(item, first, min(12_000, samples - first), epoch))
    await link.send(wire.Item(item, "assistant", "ends", epoch, samples))
    return samples


def reports(link: FakeLink, item: int) -> list[tuple[int, int]]:
    return [(m.received, m.played) for m in link.messages if isinstance(m, wire.Playout) and m.item == item]
