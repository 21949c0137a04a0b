"""A client that lost its socket takes up its session again, in mid-sentence; two sockets never share one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from fakes.session_service import FakeLink, FakeSessionService
from harness.fault_proxy import FaultProxy
from harness.waiting import until
from parley_common.contracts.audio_link import (
    Error,
    Flush,
    Flushed,
    Hangup,
    Have,
    Item,
    Notice,
    Open,
    Ping,
    Playout,
    Pong,
    Ready,
    SetMode,
    Text,
    Transcript,
    pack_downlink,
    pack_uplink,
)
from parley_gateway.admission import AdmissionLimits
from parley_gateway.clients.relay import Relay
from parley_gateway.tokens import ResumeGrant
from unit.gateway.world import PATIENT, Caller, World, running_gateway

EPOCH = 65_536
BEGINS = Item(1, "assistant", "begins", EPOCH)


def frame(number: int, *, item: int = 1, epoch: int = EPOCH) -> bytes:
    return pack_downlink(epoch, item, number * 480, bytes([number % 256]) * 960)


@asynccontextmanager
async def talking(**parts: object) -> AsyncIterator[tuple[World, Caller, FakeLink]]:
    """A session whose agent has begun to speak: the caller received one frame of it."""
    async with FakeSessionService() as service:
        service.ready = replace_epoch(service.ready)
        async with (
            running_gateway(service, **{"timing": PATIENT, **parts}) as world,  # type: ignore[arg-type]
            world.session() as (caller, link),
        ):
            await link.send(BEGINS)
            await link.send_raw(frame(0))
            await caller.receive_frames(1)
            yield world, caller, link
            await link.close()


def replace_epoch(ready: Ready) -> Ready:
    return Ready(ready.session, ready.resume, epoch=EPOCH)


def token_of(caller: Caller) -> str:
    return [message for message in caller.messages if isinstance(message, Ready)][-1].resume


async def lose(world: World, caller: Caller) -> None:
    """Cut the caller's socket without a word, and wait until the gateway holds the session."""
    (relay,) = world.gateway.sessions.values()
    caller.socket.transport.abort()
    await until(lambda: relay.is_held, why="the session to be held")


@asynccontextmanager
async def back(world: World, token: str, *have: Have) -> AsyncIterator[tuple[Caller, Ready]]:
    async with world.caller() as again:
        await again.say(Open(resume=token, have=have or None))
        yield again, await again.expect(Ready)


async def test_a_client_that_lost_its_socket_goes_on_in_mid_sentence() -> None:
    async with talking() as (world, caller, link):
        await caller.send(pack_uplink(0, bytes(960)))
        await caller.say(Playout(EPOCH, 1, 480, 100))
        await until(lambda: link.messages, why="the report")
        await lose(world, caller)
        for number in range(1, 5):
            await link.send_raw(frame(number))
        await link.send(Transcript(1, "assistant", "Good morning", final=True))
        async with back(world, token_of(caller)) as (again, ready):
            assert (ready.session, ready.epoch, ready.uplink_sample) == (link.attach.session_id, EPOCH, 480)
            await again.receive_frames(4)
            assert again.order[1:] == [*(frame(number) for number in range(1, 5))]
            await again.expect(Transcript)
            await again.send(pack_uplink(960, bytes(960)))
            await again.say(Text("and now"))
            await link.send_raw(frame(5))
            assert (await again.receive_frames(5))[-1] == frame(5)
            assert len(await link.received(2)) == 2
            await until(lambda: Text("and now") in link.messages, why="the text")
        assert world.service.attach_count == 1, "the session service heard nothing of it"


async def test_what_a_client_says_it_has_is_not_sent_again() -> None:
    async with talking() as (world, caller, link):
        await link.send_raw(frame(1))
        await caller.receive_frames(2)
        await lose(world, caller)
        await link.send_raw(frame(2))
        async with back(world, token_of(caller), Have(1, 960)) as (again, _):
            await again.receive_frames(1)
            assert again.frames == [frame(2)]


async def test_the_session_goes_on_beating_while_its_client_is_away_and_may_come_back_twice() -> None:
    async with talking() as (world, caller, link):
        await lose(world, caller)
        beats_count = link.beats_count
        await until(lambda: link.beats_count > beats_count + 2, why="beats")
        async with back(world, token_of(caller)) as (again, _):
            await lose(world, again)
            async with back(world, token_of(again)) as (third, _):
                await third.say(Ping(1.0))
                await third.expect(Pong)
        assert world.gateway.admission.sockets_count <= 2


async def test_a_flush_that_nobody_could_answer_is_answered_here_and_overtakes_what_waits() -> None:
    async with talking() as (world, caller, link):
        await caller.say(Playout(EPOCH, 1, 480, 240))
        await until(lambda: link.messages, why="the report")
        await lose(world, caller)
        await link.send_raw(frame(1))
        await link.send(Flush(EPOCH + 1))
        await until(lambda: len(link.messages) == 2, why="the answer to the flush")
        assert link.messages[1] == Flushed(EPOCH + 1, 1, 240, in_place=True)
        fresh = frame(0, item=2, epoch=EPOCH + 1)
        await link.send_raw(fresh)
        async with back(world, token_of(caller)) as (again, ready):
            assert ready.epoch == EPOCH + 1
            await again.receive_frames(1)
            assert again.order[1:] == [Flush(EPOCH + 1), fresh]
            await again.say(Flushed(EPOCH + 1, 1, 300))
            await again.say(Text("after"))
            await until(lambda: Text("after") in link.messages, why="the text")
        assert [m for m in link.messages if isinstance(m, Flushed)] == link.messages[1:2]


async def test_of_two_sockets_with_one_token_the_newest_wins_and_the_other_is_told() -> None:
    async with talking() as (world, caller, link):
        async with back(world, token_of(caller)) as (second, _):
            assert (await caller.expect(Notice)).code == "replaced"
            assert await caller.closed() == 4409
            async with back(world, token_of(caller)) as (third, _):
                assert (await second.expect(Notice)).code == "replaced"
                assert await second.closed() == 4409
                await third.say(Hangup())
                assert await third.closed() == 1000
        await link.closed()
        assert Hangup() in link.messages


async def test_after_the_grace_the_session_ends_as_client_lost_and_cannot_be_resumed() -> None:
    async with talking(timing=replace(PATIENT, resume_grace_ms=500)) as (world, caller, link):
        await lose(world, caller)
        assert (await link.closed(), link.close_reason) == (4001, "client_lost")
        await until(lambda: not world.gateway.sessions, why="the session to be forgotten")
        async with world.caller() as again:
            await again.say(Open(resume=token_of(caller)))
            assert await again.refused() == ("resume_unknown", 1008)


async def test_a_silent_client_is_told_that_it_is_lost_and_may_come_back_all_the_same() -> None:
    async with talking(timing=replace(PATIENT, client_lost_after_ms=600)) as (world, caller, link):
        assert await caller.refused() == ("client_lost", 1008)
        async with back(world, token_of(caller)) as (again, _):
            await again.say(Hangup())
            assert await again.closed() == 1000
        await link.closed()
        assert Hangup() in link.messages


async def test_a_session_that_ends_while_its_client_is_away_is_over() -> None:
    async with talking() as (world, caller, link):
        await lose(world, caller)
        await link.close()
        await until(lambda: not world.gateway.sessions, why="the session to end")
        async with world.caller() as again:
            await again.say(Open(resume=token_of(caller)))
            assert await again.refused() == ("resume_unknown", 1008)


async def test_a_session_of_another_gateway_is_taken_over_and_the_client_there_is_told() -> None:
    async with (
        talking() as (world, caller, _),
        running_gateway(world.service, timing=PATIENT) as other,
        back(other, token_of(caller), Have(1, 480)) as (again, ready),
    ):
        link = await world.service.attached(2)
        assert (link.attach.resume, link.attach.have) == (True, (Have(1, 480),))
        assert (ready.epoch, ready.session) == (EPOCH, link.attach.session_id)
        assert (await caller.expect(Notice)).code == "replaced"
        assert await caller.closed() == 4409
        await link.send_raw(frame(1))
        assert await again.receive_frames(1) == [frame(1)]
        await until(lambda: not world.gateway.sessions, why="the first gateway to forget it")
        assert world.gateway.admission.sessions_count == 0
        assert other.gateway.admission.sessions_count == 1
        async with back(world, token_of(again), Have(1, 960)):
            assert (await again.expect(Notice)).code == "replaced"
            await until(lambda: not other.gateway.sessions, why="the second gateway to forget it")


async def test_a_session_whose_replica_is_gone_may_be_asked_for_again() -> None:
    async with talking() as (world, caller, _), running_gateway(world.service) as other:
        token = token_of(caller)
        await world.service.stop()
        async with other.caller() as again:
            await again.say(Open(resume=token))
            assert await again.refused() == ("service_unavailable", 1013)
            assert other.gateway.admission.sessions_count == 0


async def test_a_text_only_token_stays_text_only_at_another_gateway() -> None:
    async with talking() as (world, caller, link), running_gateway(world.service, timing=PATIENT) as other:
        token = other.gateway.tokens.issue_resume(
            ResumeGrant("cap", link.attach.session_id, world.service.url, 1, exp=2**40, mode="text")
        )
        async with back(other, token) as (again, _):
            await again.say(SetMode("voice"))
            assert (await again.expect(Error)).code == "text_only"
        assert caller.messages


async def test_a_client_comes_back_to_a_full_and_draining_gateway_and_is_asked_to_move() -> None:
    limits = AdmissionLimits(sessions_max=1, address_opens_per_minute=0)
    async with talking(limits=limits) as (world, caller, _):
        await lose(world, caller)
        world.gateway.admission.draining = True
        async with back(world, token_of(caller)) as (again, _):
            assert (await again.expect(Notice)).code == "move"


async def test_a_held_session_ends_with_its_gateway() -> None:
    async with talking() as (world, caller, link):
        await lose(world, caller)
        await world.gateway.drain(grace_s=0.1)
        assert await link.closed() == 4002


@pytest.mark.parametrize("cut", ["cut", "half_open"])
async def test_a_network_that_breaks_in_mid_sentence_costs_no_sample(cut: str) -> None:
    """The agent speaks on while the network is away; the caller ends up with every sample once."""
    async with (
        FakeSessionService() as service,
        running_gateway(service, timing=PATIENT) as world,
        FaultProxy(world.port) as network,
        world.session(port=network.port) as (caller, link),
    ):
        await link.send(BEGINS)
        for number in range(50):
            await link.send_raw(frame(number, epoch=0))
        await caller.receive_frames(20)
        getattr(network, cut)()
        for number in range(50, 100):
            await link.send_raw(frame(number, epoch=0))
        received = len(caller.frames)
        async with back(world, token_of(caller), Have(1, received * 480)) as (again, _):
            await again.receive_frames(100 - received)
            assert caller.frames[:received] + again.frames == [frame(n, epoch=0) for n in range(100)]
            await again.say(Hangup())
            assert await again.closed() == 1000
        caller.socket.transport.abort()


async def test_many_sockets_that_want_one_session_leave_it_to_one_and_nothing_behind() -> None:
    async with talking() as (world, caller, _):
        token = token_of(caller)
        async with AsyncExitStack() as stack:
            rivals = [await stack.enter_async_context(world.caller()) for _ in range(10)]
            async with asyncio.TaskGroup() as group:
                for rival in rivals:
                    group.create_task(rival.say(Open(resume=token)))
            async with asyncio.TaskGroup() as group:
                for rival in rivals:
                    group.create_task(rival.expect(Ready))
            async with back(world, token) as (last, _):
                for rival in rivals:
                    assert await rival.closed() == 4409
                await last.say(Ping(7.0))
                assert await last.expect(Pong) == Pong(7.0)
                await until(lambda: world.gateway.admission.sockets_count == 1, why="one place to be counted")


async def test_a_bug_of_ours_is_told_at_the_second_socket_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError

    async with talking() as (world, caller, link):
        async with back(world, token_of(caller)) as (again, _):
            assert await caller.closed() == 4409
            with monkeypatch.context() as patch:
                patch.setattr(Relay, "_judge", break_down)
                assert await again.refused() == ("local_violation", 1011)
        assert await link.closed() == 1000
        await until(lambda: not world.gateway.sessions, why="the session to be forgotten")
