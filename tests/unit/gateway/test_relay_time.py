"""A session's sense of time: who is judged lost, and when the judge himself was asleep."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from parley_common.websocket import WebSocket
from parley_gateway.clients.relay import Relay, Surroundings
from parley_gateway.session_link import SessionLink
from parley_gateway.settings import Timing

TIMING = Timing()


class JumpyClock:
    """A clock whose sleeps take as long as the test says, one after the other, and then for ever."""

    def __init__(self, *sleeps_ms: int) -> None:
        self._sleeps_ms = list(sleeps_ms)
        self._now_ms = 0
        self.is_done = asyncio.Event()

    def now_ms(self) -> int:
        return self._now_ms

    def now(self) -> datetime:
        return datetime(2026, 3, 2, tzinfo=UTC)

    async def sleep_ms(self, delay_ms: float) -> None:
        if not self._sleeps_ms:
            self.is_done.set()
            await asyncio.Event().wait()
        self._now_ms += self._sleeps_ms.pop(0)


class SilentLink:
    """A link on which nothing was heard since the beginning."""

    def __init__(self) -> None:
        self.heard_ms = 0
        self.beats_count = 0

    def send_text(self, text: str) -> bool:
        self.beats_count += 1
        return True


async def reason_after(*sleeps_ms: int) -> tuple[str | None, int]:
    """Watch over a silent link and a silent client; return how the session ended (null: it lives) and the beats."""
    clock, link = JumpyClock(*sleeps_ms), SilentLink()
    around = Surroundings(TIMING, clock, 1_000, lambda _: "", lambda _: None)
    relay = Relay(_no_socket(), around)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(relay._watch(_as_link(link)))
        await asyncio.wait_for(clock.is_done.wait(), 5)
        watching.cancel()
    return (relay._over.result().reason if relay._over.done() else None), link.beats_count


async def test_a_link_is_lost_after_a_second_and_a_half_of_silence_and_not_before() -> None:
    assert await reason_after(500, 500) == (None, 2)
    assert await reason_after(500, 500, 500) == ("session_lost", 3)


async def test_a_process_that_slept_itself_judges_nobody_by_that() -> None:
    assert await reason_after(20_000) == (None, 1)


async def test_a_process_that_slept_judges_again_once_it_has_read_what_came() -> None:
    assert await reason_after(20_000, 500) == ("session_lost", 2)


@pytest.mark.parametrize("late_ms", [510, 750, 990])
async def test_a_little_lateness_does_not_suspend_the_judgement(late_ms: int) -> None:
    assert (await reason_after(late_ms, late_ms, late_ms))[0] == "session_lost"


def _no_socket() -> WebSocket:
    return WebSocket(message_max_bytes=1)


def _as_link(link: SilentLink) -> SessionLink:
    return link  # type: ignore[return-value]
