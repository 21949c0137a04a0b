"""Clients that send what they should not: an error each time, and the session goes on where that makes sense."""

from __future__ import annotations

import pytest

from fakes.session_service import FakeSessionService
from harness.waiting import until
from parley_common.contracts.audio_link import FRAME_MAX_BYTES, Error, Open, Text, encode
from unit.gateway.world import running_gateway


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\0\0\0\0\0", "odd_frame"),
        (b"", "odd_frame"),
        ("{", "invalid_json"),
        ('{"type":"shout"}', "unknown_type"),
        ('{"type":"beat"}', "unknown_type"),
        ('{"type":"playout","epoch":-1,"item":1,"received":0,"played":0}', "invalid_message"),
        (encode(Text("x" * 4_001)), "text_too_long"),
        (encode(Open(token="t")), "already_open"),
    ],
)
async def test_bad_input_gets_an_error_and_the_session_goes_on(data: str | bytes, code: str) -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        await caller.send(data)
        error = await caller.expect(Error)
        assert (error.code, error.fatal) == (code, False)
        await caller.say(Text("still here"))
        await until(lambda: link.messages, why="the text after the bad input")
        assert link.messages == [Text("still here")]
        assert link.frames == []


async def test_bad_input_again_and_again_ends_the_session() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        for _ in range(21):
            await caller.send("{")
        assert await caller.closed() == 1008
        errors = [message for message in caller.messages if isinstance(message, Error)]
        assert [error.code for error in errors] == ["invalid_json"] * 20 + ["too_many_violations"]
        assert errors[-1].fatal
        assert await link.closed() == 4001


@pytest.mark.parametrize(
    "data", [bytes(FRAME_MAX_BYTES + 2), '{"type":"text","text":"' + "x" * FRAME_MAX_BYTES + '"}']
)
async def test_an_oversize_frame_is_answered_and_closes(data: str | bytes) -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        await caller.send(data)
        assert await caller.refused() == ("frame_too_large", 1009)
        assert await link.closed() == 4001


async def test_a_frame_beyond_all_bounds_closes_at_once() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        await caller.send(bytes(8 * FRAME_MAX_BYTES))
        assert await caller.closed() == 1009
        assert await link.closed() == 4001
