"""Clients that send anything at all: two hundred generated sequences, and the gateway still serves."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from fakes.session_service import FakeSessionService
from harness.waiting import until
from parley_common.contracts.audio_link import (
    Error,
    Feedback,
    Flushed,
    FromClient,
    Hangup,
    Mute,
    Open,
    Ping,
    Playout,
    Ready,
    SetMode,
    Stats,
    Talk,
    Text,
    encode,
    pack_uplink,
)
from unit.gateway.world import Caller, World, running_gateway

SEQUENCES_COUNT = 200
CLOSE_CODES = {1000, 1007, 1008, 1009, 1011, 1013, 4408}
CODES = {
    "already_open",
    "client_lost",
    "frame_too_large",
    "invalid_json",
    "invalid_message",
    "odd_frame",
    "open_expected",
    "open_invalid",
    "open_timeout",
    "resume_unknown",
    "text_too_long",
    "token_expired",
    "token_invalid",
    "token_used",
    "too_many_violations",
    "unknown_type",
    "unsupported_audio",
}
numbers = st.integers(-(2**40), 2**40) | st.integers(0, 3)
messages: st.SearchStrategy[FromClient] = st.one_of(
    st.builds(Text, st.text(max_size=50) | st.just("x" * 4_001)),
    st.builds(SetMode, st.sampled_from(["voice", "text"])),
    st.builds(Talk, st.sampled_from(["start", "stop"])),
    st.builds(Mute, st.booleans()),
    st.builds(Playout, numbers, numbers, numbers, numbers),
    st.builds(Flushed, numbers, numbers, numbers),
    st.builds(Stats, numbers, numbers),
    st.builds(Feedback, st.integers(-1, 7), st.none() | st.text(max_size=20)),
    st.builds(Ping, st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(Open, st.none() | st.text(max_size=20), st.none() | st.text(max_size=20)),
    st.just(Hangup()),
)
payloads = st.one_of(
    messages.map(encode),
    st.builds(pack_uplink, st.integers(0, 2**33), st.binary(max_size=2_000)),
    st.binary(max_size=200),
    st.text(max_size=100),
    st.sampled_from(["open", "attach", "beat", "ready", "flush", "", "\u0000"]).map(
        lambda kind: f'{{"type":"{kind}"}}'
    ),
    st.just("[" * 2_000),
    st.just('{"type":"ping","x":' + "[" * 20_000 + "]" * 20_000 + "}"),
    st.just(bytes(65_538)),
)
opens = st.sampled_from(["valid", "valid", "valid", "used", "none"])
sequences = st.lists(st.tuples(opens, st.lists(payloads, max_size=30), st.booleans()), min_size=1, max_size=3)


async def play(world: World, used: str, sequence: tuple[str, list[str | bytes], bool]) -> None:
    """Send one sequence and read all that comes back until the gateway or the client closes."""
    opening, sent, is_abrupt = sequence
    tokens = {"valid": world.token(), "used": used}
    with suppress(ConnectionClosed):
        async with world.caller() as caller:
            if opening != "none":
                await caller.say(Open(token=tokens[opening]))
            for data in sent:
                await caller.send(data)
            if is_abrupt:
                caller.socket.transport.abort()
                return
            await leave(caller)


async def leave(caller: Caller) -> None:
    with suppress(ConnectionClosed):
        await caller.say(Hangup())
    code = await caller.closed()
    assert code in CLOSE_CODES, code
    codes = {message.code for message in caller.messages if isinstance(message, Error)}
    assert codes <= CODES, codes - CODES


async def test_two_hundred_random_clients_never_stop_the_gateway() -> None:
    drawn: list[tuple[str, list[str | bytes], bool]] = []

    @settings(
        max_examples=SEQUENCES_COUNT,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(sequences)
    def draw(found: list[tuple[str, list[str | bytes], bool]]) -> None:
        drawn.extend(found)

    draw()
    async with FakeSessionService() as service, running_gateway(service) as world:
        used = world.token()
        async with world.caller() as first:
            await first.say(Open(token=used))
            await first.expect(Ready)
            for sequence in drawn[:SEQUENCES_COUNT]:
                await play(world, used, sequence)
        await until(lambda: not world.gateway.admission.sockets_count, why="every socket to be forgotten")
        assert not world.gateway.sessions
        async with world.session() as (caller, link):
            await caller.send(pack_uplink(0, bytes(960)))
            assert len(await link.received(1)) == 1
    assert len(drawn) >= SEQUENCES_COUNT
