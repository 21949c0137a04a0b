"""A session outlives its gateway: the client goes on at another in mid-sentence, or the grace passes and it ends once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fakes.conversation import Conversation, Line, conversation
from parley_common.contracts.audio_link import LINK_REPLACED, Have
from parley_common.errors import PeerViolation
from parley_session.core.effects import EndSession

GRACE_MS = 30_000
STORY = Line("Tell me a story.", typed=True)


class Living:
    """A session that is run step by step, its links beating."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk
        self.task: asyncio.Task[EndSession] = asyncio.create_task(talk.conductor.run())

    async def until(self, done: Callable[[], bool], max_ms: int = 120_000) -> None:
        talk, ends_ms = self.talk, self.talk.clock.now_ms() + max_ms
        while not done():
            assert talk.clock.now_ms() < ends_ms, "waited in vain"
            lasts_ms = talk.client.tick()
            talk.conductor.check_link(talk.clock.now_ms(), GRACE_MS)
            await talk.clock.advance(lasts_ms)

    async def for_ms(self, duration_ms: int) -> None:
        ends_ms = self.talk.clock.now_ms() + duration_ms
        await self.until(lambda: self.task.done() or self.talk.clock.now_ms() >= ends_ms)

    async def resume(self) -> asyncio.Task[None]:
        client = self.talk.client
        assert client.playout is not None
        have = [Have(item.number, item.received) for item in client.playout.items]
        task = asyncio.create_task(self.talk.conductor.resume(client.dial_again(), have))
        await asyncio.sleep(0)
        return task

    async def hang_up(self) -> EndSession:
        await self.until(lambda: self.talk.client.is_done)
        self.talk.client.hang_up()
        await self.until(self.task.done)
        return self.task.result()


def has_begun_to_hear(talk: Conversation) -> Callable[[], bool]:
    return lambda: talk.client.playout is not None and talk.client.playout.played_samples > 4_800


@pytest.mark.parametrize("code", [1006, 4002])
@pytest.mark.parametrize("away_ms", [0, 400, 9_000, 25_000])
async def test_a_session_whose_gateway_is_gone_goes_on_at_another_in_mid_sentence(
    code: int, away_ms: int
) -> None:
    talk = conversation([STORY, Line("And then, what happened?")])
    living = Living(talk)
    await living.until(has_begun_to_hear(talk))
    talk.client.gateway_closes(code)
    await living.for_ms(away_ms)
    link = await living.resume()
    end = await living.hang_up()
    await asyncio.wait_for(link, 5)
    assert talk.client.resumed_at is not None
    assert talk.client.playout is not None
    assert not talk.client.playout.oddities.get("gap"), "no sample is missing"
    assert all(item.played == item.samples for item in talk.client.playout.items), "all was heard to its end"
    assert (end.reason, end.turns, len(talk.dials), len(talk.facts.ends)) == ("caller", 2, 1, 1)
    assert "And then" in " ".join(talk.client.shown.said("assistant"))


async def test_what_its_caller_says_next_is_numbered_from_where_the_session_stands() -> None:
    talk = conversation([Line("What is DSCR?")])
    living = Living(talk)
    await living.until(has_begun_to_hear(talk))
    await living.resume()
    await living.until(lambda: talk.client.resumed_at is not None)
    assert talk.client.resumed_at is not None
    assert 0 < talk.client.resumed_at.uplink_sample <= talk.client._sample
    await living.hang_up()


async def test_of_two_gateways_the_newest_has_the_session_and_the_other_is_told() -> None:
    talk = conversation([STORY])
    living = Living(talk)
    await living.until(has_begun_to_hear(talk))
    first = talk.client.dial_again()
    old = asyncio.create_task(talk.conductor.resume(first, ()))
    await asyncio.sleep(0)
    newest = await living.resume()
    await living.until(lambda: first.close_code == LINK_REPLACED)
    await asyncio.wait_for(old, 5)
    assert (await living.hang_up()).reason == "caller"
    await asyncio.wait_for(newest, 5)


async def test_a_session_that_nobody_comes_back_for_ends_after_the_grace_and_once() -> None:
    talk = conversation([STORY])
    living = Living(talk)
    await living.until(has_begun_to_hear(talk))
    talk.client.gateway_closes(1006)
    await living.for_ms(GRACE_MS - 1_000)
    assert not living.task.done()
    await living.for_ms(5_000)
    assert living.task.result().reason == "lost"
    assert len(talk.facts.ends) == 1
    with pytest.raises(PeerViolation) as refused:
        await talk.conductor.resume(talk.client.dial_again(), ())
    assert refused.value.stable_code == "resume_unknown"


async def test_a_silent_gateway_is_given_up_like_one_that_is_gone() -> None:
    talk = conversation([STORY])
    living = Living(talk)
    await living.until(has_begun_to_hear(talk))
    talk.client.link.is_cut_off = True
    talk.conductor.check_link(talk.clock.now_ms() + 2_000, GRACE_MS)
    link = await living.resume()
    assert (await living.hang_up()).reason == "caller"
    await asyncio.wait_for(link, 5)


async def test_a_gateway_that_knows_its_client_to_be_gone_ends_the_session_at_once() -> None:
    talk = conversation([STORY])
    living = Living(talk)
    await living.until(has_begun_to_hear(talk))
    talk.client.gateway_closes(4001)
    await living.for_ms(1_000)
    assert living.task.result().reason == "lost"
