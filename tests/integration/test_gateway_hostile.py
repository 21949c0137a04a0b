"""Clients that send anything at all: generated sequences, and the gateway still serves; each refusal is documented."""

from __future__ import annotations

from fakes.session_service import FakeSessionService
from parley_common.contracts.audio_link import Open, Ready, pack_uplink
from parley_gateway.clients.flow import FlowLimits
from unit.gateway.hostile_clients import Tokens, documented, draw, nothing_left, play
from unit.gateway.world import running_gateway

SEQUENCES_COUNT = 200
FLOW = FlowLimits(bytes_per_s=192_000, messages_per_s=250)


async def test_two_hundred_random_clients_never_stop_the_gateway_and_every_refusal_is_documented() -> None:
    drawn = draw(SEQUENCES_COUNT)
    codes: set[str] = set()
    async with FakeSessionService() as service, running_gateway(service, flow=FLOW) as world:
        used = world.token()
        async with world.caller() as first:
            await first.say(Open(token=used))
            await first.expect(Ready)
            tokens = Tokens(world, used)
            for sequence in drawn:
                codes |= await play(world, tokens, sequence)
        await nothing_left(world)
        async with world.session() as (caller, link):
            await caller.send(pack_uplink(0, bytes(960)))
            assert len(await link.received(1)) == 1
    assert len(drawn) >= SEQUENCES_COUNT // 2
    assert codes <= documented()[0], codes - documented()[0]
    assert {"odd_frame", "invalid_message", "token_used", "open_expected"} <= codes
