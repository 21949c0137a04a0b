"""Who is no longer there, and what the others are told: beats, pings, hang-ups, lost sockets, draining."""

from __future__ import annotations

import asyncio

import pytest

from fakes.session_service import FakeSessionService
from harness.fault_proxy import FaultProxy
from harness.waiting import until
from parley_common.contracts.audio_link import (
    Hangup,
    Notice,
    Open,
    Ping,
    Pong,
    Ready,
    State,
    pack_downlink,
)
from unit.gateway.world import QUICK, running_gateway


async def test_both_sides_beat_and_a_quiet_session_lives_on() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        for count in range(1, 13):
            await until(lambda seen=count: link.beats_count > seen, why="the next beat")
            await caller.say(Ping(float(count)))
            assert (await caller.expect(Pong)).t_ms == count
        assert link.close_code is None


async def test_beats_begin_before_the_replica_says_ready() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        service.is_mute = True
        async with world.caller() as caller:
            await caller.send('{"type":"open","token":"' + world.token() + '"}')
            link = await service.attached()
            await until(lambda: link.beats_count >= 2, why="two beats")


async def test_a_session_service_that_stops_beating_is_lost() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        link.is_beating = False
        async with asyncio.TaskGroup() as group:
            pinging = group.create_task(_ping(caller.say))
            assert await caller.refused() == ("session_lost", 1011)
            pinging.cancel()


async def test_audio_counts_as_a_beat() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        link.is_beating = False
        for number in range(12):
            await until(lambda seen=number: link.beats_count > seen, why="the next beat of the gateway")
            await link.send_raw(pack_downlink(0, 1, number * 480, bytes(960)))
            await caller.say(Ping())
        assert len(await caller.receive_frames(12)) == 12


async def test_a_killed_session_service_is_lost_at_once() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        link.abort()
        assert await caller.refused() == ("session_lost", 1011)


async def test_a_session_service_that_closes_without_a_word_is_lost() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        await link.send(State("speaking"))
        await link.close(1001)
        assert await caller.refused() == ("session_lost", 1011)


async def test_a_session_service_that_breaks_the_protocol_and_goes_on_talking_is_lost() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        link.stop_reading()
        link._socket.transport.write(b"\x8f\x00")
        async with asyncio.TaskGroup() as group:
            pinging = group.create_task(_ping(caller.say))
            assert await caller.refused() == ("session_lost", 1011)
            pinging.cancel()
        link.read_again()


async def test_a_client_that_says_nothing_is_lost_and_so_its_session_ends() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        assert await caller.refused() == ("client_lost", 1008)
        assert (await link.closed(), link.close_reason) == (4001, "client_lost")


async def test_a_half_open_client_is_lost_and_its_socket_given_up() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        FaultProxy(world.port) as network,
        world.session(port=network.port) as (_, link),
    ):
        network.half_open()
        assert await link.closed() == 4001
        await until(lambda: not world.gateway.admission.sockets_count, why="the socket to be given up")
        network.cut()


async def test_a_client_whose_network_breaks_is_lost() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        FaultProxy(world.port) as network,
        world.session(port=network.port) as (_, link),
    ):
        network.cut()
        assert await link.closed() == 4001


@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_client_that_closes_its_socket_has_hung_up(code: int) -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        await caller.socket.close(code)
        assert (await link.closed(), link.close_reason) == (4000, "caller_hung_up")


async def test_a_session_that_does_not_answer_a_hang_up_is_closed_all_the_same() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        service.ends_on_hangup = False
        await caller.say(Hangup())
        assert await caller.closed() == 1000
        assert await link.closed() == 4000


async def test_draining_asks_clients_to_move_and_closes_those_that_stay_so_that_they_resume_elsewhere() -> (
    None
):
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(world.gateway.drain(grace_s=0.2))
        assert (await caller.expect(Notice)).code == "move"
        assert (await caller.expect(Notice)).code == "move"
        assert await caller.closed() == 1012
        assert (await link.closed(), link.close_reason) == (4002, "gateway_draining")


async def test_a_session_that_opens_while_the_gateway_drains_is_asked_to_move_at_once() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        service.is_mute = True
        await caller.say(Open(token=world.token()))
        link = await service.attached()
        world.gateway.admission.draining = True
        await link.send(Ready(link.attach.session_id, ""))
        assert (await caller.expect(Notice)).code == "move"


async def test_draining_is_over_as_soon_as_the_last_client_has_left() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, _),
        asyncio.timeout(3),
        asyncio.TaskGroup() as group,
    ):
        draining = group.create_task(world.gateway.drain(grace_s=60))
        await caller.expect(Notice)
        await caller.say(Hangup())
        await draining


async def _ping(say: object) -> None:
    while True:
        await say(Ping())  # type: ignore[operator]
        await asyncio.sleep(QUICK.client_lost_after_ms / 4000)
