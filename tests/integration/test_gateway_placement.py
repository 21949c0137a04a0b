"""Several session replicas behind one gateway: who gets a session when some are dead, frozen, full or leaving."""

from __future__ import annotations

import asyncio

import pytest

from fakes.session_service import FakeSessionService
from harness.waiting import until
from parley_common.contracts.audio_link import Error, Load, Open, Ready
from parley_gateway.placement import placement
from unit.gateway.world import QUICK, World, running_gateway


def token_for(world: World, url: str) -> str:
    """Return a token of a session whose first choice is the replica at ``url``."""
    for _ in range(200):
        token, grant = world.gateway.tokens.issue("cap", world.gateway.clock.now())
        if placement(grant.session_id, world.gateway.replicas.views())[0] == url:
            return token
    raise AssertionError(f"no session prefers {url}")


async def opened_with(world: World, token: str) -> str:
    """Open a session and return the URL of the replica that has it."""
    async with world.caller() as caller:
        await caller.say(Open(token=token))
        ready = await caller.expect(Ready)
        return world.gateway.tokens.verify_resume(ready.resume, world.gateway.clock.now()).replica


async def test_a_session_goes_to_the_owner_that_placement_names() -> None:
    async with FakeSessionService() as one, FakeSessionService() as two, running_gateway(one, two) as world:
        for service in (one, two):
            await until(lambda: not world.gateway.sessions, why="the session before it to be over")
            assert await opened_with(world, token_for(world, service.url)) == service.url


async def test_a_dead_replica_costs_no_session() -> None:
    async with (
        FakeSessionService() as dead,
        FakeSessionService() as alive,
        running_gateway(dead, alive) as world,
    ):
        token = token_for(world, dead.url)
        await dead.stop()
        assert await opened_with(world, token) == alive.url


async def test_a_replica_that_never_was_there_is_passed_over() -> None:
    async with (
        FakeSessionService() as alive,
        running_gateway(alive, urls=["ws://127.0.0.1:1", alive.url]) as world,
    ):
        assert await opened_with(world, world.token()) == alive.url


async def test_a_frozen_replica_is_left_for_the_next_in_time() -> None:
    async with (
        FakeSessionService() as frozen,
        FakeSessionService() as alive,
        running_gateway(frozen, alive) as world,
    ):
        frozen.is_frozen = True
        assert await opened_with(world, token_for(world, frozen.url)) == alive.url


async def test_a_replica_that_takes_the_link_and_says_nothing_is_left_for_the_next() -> None:
    async with (
        FakeSessionService() as mute,
        FakeSessionService() as alive,
        running_gateway(mute, alive) as world,
    ):
        mute.is_mute = True
        assert await opened_with(world, token_for(world, mute.url)) == alive.url
        await until(lambda: mute.link.close_code is not None, why="the mute replica's link to be dropped")


async def test_a_replica_that_failed_is_tried_last_until_a_probe_says_it_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probes: list[str] = []

    async def never_answers(url: str) -> bool:
        probes.append(url)
        await asyncio.Event().wait()
        return False

    async with (
        FakeSessionService() as mute,
        FakeSessionService() as alive,
        running_gateway(mute, alive) as world,
    ):
        mute.is_mute = True
        monkeypatch.setattr("parley_gateway.replicas.probe", never_answers)
        await until(
            lambda: len(probes) == 2, why="the probes to hang, so that nobody else speaks of readiness"
        )
        assert await opened_with(world, token_for(world, mute.url)) == alive.url
        assert [view.is_ready for view in world.gateway.replicas.views()] == [False, True]


@pytest.mark.parametrize("code", ["overloaded", "draining", "full"])
async def test_a_replica_without_room_sends_the_session_on(code: str) -> None:
    async with (
        FakeSessionService() as full,
        FakeSessionService() as alive,
        running_gateway(full, alive) as world,
    ):
        full.refuses = Error(code, "no room", retry_after_s=7.0)
        assert await opened_with(world, token_for(world, full.url)) == alive.url
        assert full.attach_count == 1


async def test_when_nobody_has_room_the_client_is_told_when_to_come_back() -> None:
    async with FakeSessionService() as one, FakeSessionService() as two, running_gateway(one, two) as world:
        one.refuses = two.refuses = Error("overloaded", "no room", retry_after_s=7.0)
        async with world.caller() as caller:
            await caller.say(Open(token=world.token()))
            error = await caller.expect(Error)
            assert (error.code, error.retry_after_s, await caller.closed()) == ("full", 7.0, 1013)


async def test_a_refusal_that_any_replica_would_repeat_is_not_tried_elsewhere() -> None:
    async with FakeSessionService() as one, FakeSessionService() as two, running_gateway(one, two) as world:
        one.refuses = two.refuses = Error("token_used", "used", fatal=True)
        async with world.caller() as caller:
            await caller.say(Open(token=world.token()))
            assert await caller.refused() == ("token_used", 1008)
        assert one.attach_count + two.attach_count == 1


async def test_a_replica_that_says_it_drains_gets_no_more_sessions_until_it_comes_back() -> None:
    async with (
        FakeSessionService() as leaving,
        FakeSessionService() as staying,
        running_gateway(leaving, staying) as world,
    ):
        token = token_for(world, leaving.url)
        async with world.caller() as caller:
            await caller.say(Open(token=token_for(world, leaving.url)))
            await (await leaving.attached()).send(Load(1, 10, draining=True))
            await until(lambda: world.gateway.replicas.views()[0].is_draining, why="the news of draining")
            assert await opened_with(world, token) == staying.url
        await leaving.stop()
        await until(lambda: world.gateway.replicas.ready_count == 1, why="the probe to fail")
        await leaving.start()
        await until(lambda: world.gateway.replicas.ready_count == 2, why="the probe to succeed")
        assert await opened_with(world, token_for(world, leaving.url)) == leaving.url


async def test_a_busy_owner_is_passed_over_for_the_other_one() -> None:
    async with (
        FakeSessionService() as one,
        FakeSessionService() as two,
        running_gateway(one, two) as world,
        world.caller() as caller,
    ):
        await caller.say(Open(token=token_for(world, one.url)))
        await (await one.attached()).send(Load(9, 10))
        await until(lambda: world.gateway.replicas.views()[0].sessions_count == 9, why="the load")
        assert {await opened_with(world, world.token()) for _ in range(4)} == {two.url}


async def test_the_gateway_is_ready_only_while_some_replica_is() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        await until(lambda: world.readiness.ready, why="ready")
        service.is_ready = False
        await until(lambda: not world.readiness.ready, why="not ready")
        assert service.url in world.readiness.waiting_for["session_service"]
        service.is_ready = True
        await until(lambda: world.readiness.ready, why="ready again")


async def test_the_timing_of_tests_is_quicker_but_of_the_same_order_as_the_protocol() -> None:
    assert QUICK.beat_every_ms < QUICK.link_lost_after_ms < QUICK.client_lost_after_ms
