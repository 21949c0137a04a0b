"""A running session over real sockets: both ways byte for byte, flushes, slow and clumsy clients."""

from __future__ import annotations

import random

import psutil

from fakes.session_service import FakeLink, FakeSessionService
from harness.waiting import until
from parley_common.contracts.audio_link import (
    FRAME_MAX_BYTES,
    Checkpoint,
    Drain,
    Ended,
    Error,
    Feedback,
    Flush,
    Flushed,
    FromClient,
    Hangup,
    Item,
    Load,
    Mute,
    Notice,
    Pause,
    Ping,
    Playout,
    Pong,
    Resume,
    Safe,
    SetMode,
    State,
    Stats,
    Talk,
    Text,
    ToClient,
    Tool,
    Transcript,
    downlink_epoch,
    encode,
    pack_downlink,
    pack_uplink,
)
from parley_gateway.clients.client_writer import ClientWriter
from parley_gateway.clients.relay import Relay
from parley_gateway.metrics import STALE, UPLINK_DROPPED, UPLINK_JUMPS
from unit.gateway.world import Caller, World, running_gateway

QUEUE_BYTES = 256 * 1024
BIG = bytes(FRAME_MAX_BYTES - 12)


def only_session(world: World) -> Relay:
    (relay,) = world.gateway.sessions.values()
    return relay


def writer_of(relay: Relay) -> ClientWriter:
    assert relay._seat is not None
    return relay._seat.writer


async def test_audio_passes_both_ways_byte_for_byte_and_in_order() -> None:
    noise = random.Random(7)
    up = [pack_uplink(number * 480, noise.randbytes(960)) for number in range(200)]
    down = [
        pack_downlink(65_536, 1 + number // 50, number * 480, noise.randbytes(960)) for number in range(200)
    ]
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        for up_frame, down_frame in zip(up, down, strict=True):
            await caller.send(up_frame)
            await link.send_raw(down_frame)
        assert await caller.receive_frames(200) == down
        assert await link.received(200) == up


async def test_the_largest_frames_pass() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        up, down = pack_uplink(0, bytes(FRAME_MAX_BYTES - 4)), pack_downlink(0, 1, 0, BIG)
        await caller.send(up)
        await link.send_raw(down)
        assert await link.received(1) == [up]
        assert await caller.receive_frames(1) == [down]


FROM_CLIENT: list[FromClient] = [
    Text("grüß Gott"),
    SetMode("text"),
    Talk("start"),
    Mute(True),
    Playout(65_536, 1, 960, 480),
    Flushed(65_537, 0, 0),
    Stats(underruns=2, round_trip_ms=31.5),
    Feedback(5, "thank you"),
]
TO_CLIENT: list[ToClient] = [
    State("thinking"),
    Item(1, "assistant", "begins", epoch=65_536),
    Transcript(1, "assistant", "Good morning ☀", final=True, heard="Good"),
    Tool("analyze_deal", "begins", "call_1"),
    Notice("wrap_up", "five minutes left"),
    Error("rate_limited", "one moment", retry_after_s=2.0),
    Pause(),
    Resume(),
    Item(1, "assistant", "ends", samples=48_000),
]


async def test_every_message_of_the_client_reaches_the_session_and_the_other_way_round() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        for message in FROM_CLIENT:
            await caller.say(message)
        await until(lambda: len(link.messages) == len(FROM_CLIENT), why="all messages on the link")
        assert link.messages == FROM_CLIENT
        for answer in TO_CLIENT:
            await link.send(answer)
        while len(caller.messages) < 1 + len(TO_CLIENT):
            await caller.next()
        assert caller.messages[1:] == TO_CLIENT


async def test_audio_and_messages_of_the_session_keep_their_order() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        begins, ends = Item(1, "assistant", "begins"), Item(1, "assistant", "ends", samples=960)
        first, second = pack_downlink(0, 1, 0, bytes(960)), pack_downlink(0, 1, 480, bytes(960))
        await link.send(begins)
        await link.send_raw(first)
        await link.send_raw(second)
        await link.send(ends)
        await caller.receive_frames(2)
        await caller.next()
        assert caller.order[-4:] == [begins, first, second, ends]


async def test_a_ping_is_answered_here_and_the_session_hears_nothing_of_it() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        await caller.say(Ping(12.5))
        assert await caller.expect(Pong) == Pong(12.5)
        await caller.say(Text("after"))
        await until(lambda: link.messages, why="the text")
        assert link.messages == [Text("after")]


async def test_what_concerns_only_the_link_never_reaches_the_client() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        for message in (Checkpoint("b2xk"), Safe(480), Load(7, 20), Drain(), Checkpoint("bmV3")):
            await link.send(message)
        await link.send_raw('{"type":"from_the_future"}')
        await link.send_raw("{")
        await link.send(State("listening"))
        await caller.expect(State)
        assert caller.messages[1:] == [State("listening")]
        assert only_session(world).checkpoint == "bmV3"
        (view,) = world.gateway.replicas.views()
        assert (view.sessions_count, view.capacity) == (7, 20)


async def test_a_message_in_fragments_is_put_together() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        text = encode(State("speaking"))
        await link._socket.send([text[:5], text[5:9], text[9:]])
        assert await caller.expect(State) == State("speaking")


async def stalled(world: World, caller: Caller, link: FakeLink, epoch: int) -> int:
    """Send audio that the caller does not read until some waits in the gateway; return how many frames."""
    queue = writer_of(only_session(world)).queue
    caller.socket.transport.pause_reading()
    for number in range(1, 1_000):
        await link.send_raw(pack_downlink(epoch, 1, number, BIG))
        await taken(world, link, number)
        if len(queue) >= 3:
            return number
    raise AssertionError("the kernel takes everything")


async def taken(world: World, link: FakeLink, number: int) -> None:
    """Wait until the gateway has read all that the session sent: it notes a load as it passes."""
    await link.send(Load(number, 10_000))
    await until(
        lambda: world.gateway.replicas.views()[0].sessions_count == number, why="the gateway to read on"
    )


async def test_a_flush_overtakes_the_audio_it_outdates_and_later_stale_audio_is_dropped() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        before = STALE._value.get()
        relay = only_session(world)
        sent_count = await stalled(world, caller, link, epoch=65_536)
        await link.send(Flush(65_537))
        await link.send_raw(pack_downlink(65_536, 1, 0, bytes(960)))
        fresh = pack_downlink(65_537, 2, 0, bytes(960))
        await link.send_raw(fresh)
        await until(lambda: writer_of(relay).queue.stale_count >= 4, why="stale audio to be dropped")
        caller.socket.transport.resume_reading()
        while not caller.frames or caller.frames[-1] != fresh:
            await caller.next()
        flushed_at = caller.order.index(Flush(65_537))
        assert [entry for entry in caller.order[flushed_at + 1 :] if isinstance(entry, bytes)] == [fresh]
        old_count = sum(downlink_epoch(frame) == 65_536 for frame in caller.frames)
        assert old_count <= sent_count - 3
        await until(lambda: STALE._value.get() >= before + 4, why="the counter")


def server_sockets(world: World) -> list[object]:
    """Return the gateway's own ends of the sockets that are still open."""
    open_now = psutil.Process().net_connections("tcp")
    return [one for one in open_now if one.laddr.port == world.port and one.status != psutil.CONN_LISTEN]


async def test_a_client_that_falls_too_far_behind_is_told_and_closed_and_the_session_ends_as_lost() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service, downlink_queue_bytes=QUEUE_BYTES) as world,
        world.session() as (caller, link),
    ):
        caller.socket.transport.pause_reading()
        await stalled(world, caller, link, epoch=0)
        for number in range(20):
            await link.send_raw(pack_downlink(0, 1, number, BIG))
        await link.closed()
        assert (link.close_code, link.close_reason) == (4001, "client_lost")
        await until(lambda: not server_sockets(world), why="the stuck socket to be given up")
        caller.socket.transport.abort()


async def test_a_client_that_was_slow_but_reads_again_is_told_why_it_is_closed() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service, downlink_queue_bytes=QUEUE_BYTES) as world,
        world.session() as (caller, link),
    ):
        sent_count = await stalled(world, caller, link, epoch=0)
        for number in range(20):
            await link.send_raw(pack_downlink(0, 1, number, BIG))
        await link.closed()
        caller.socket.transport.resume_reading()
        assert await caller.refused() == ("slow_client", 1013)
        assert len(caller.frames) <= sent_count - 3


async def test_a_replica_that_cannot_keep_up_costs_caller_audio_and_never_the_session() -> None:
    before = UPLINK_DROPPED._value.get()
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        link.stop_reading()
        sent = [pack_uplink(number * 30_000, bytes(60_000)) for number in range(300)]
        for number, frame in enumerate(sent):
            await caller.send(frame)
            await caller.say(Ping(number))
            assert await caller.expect(Pong) == Pong(number)
        await until(lambda: UPLINK_DROPPED._value.get() > before, why="frames to be dropped")
        link.read_again()
        await caller.say(Text("after"))
        await until(lambda: link.messages, why="what was sent after")
        assert 0 < len(link.frames) < len(sent)
        assert link.frames == sent[: len(link.frames)]


async def test_gaps_and_repeats_in_sample_numbers_are_counted_and_forwarded_as_they_are() -> None:
    gaps, repeats = UPLINK_JUMPS.labels("gap")._value, UPLINK_JUMPS.labels("repeat")._value
    before = gaps.get(), repeats.get()
    frames = [pack_uplink(first, bytes(960)) for first in (0, 480, 4_800, 480)]
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        for frame in frames:
            await caller.send(frame)
        assert await link.received(4) == frames
        await until(lambda: (gaps.get(), repeats.get()) == (before[0] + 1, before[1] + 1), why="the counters")


async def test_ended_is_forwarded_after_all_audio_and_closes_both_sides() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        for number in range(50):
            await link.send_raw(pack_downlink(0, 1, number * 480, bytes(960)))
        await link.send(Ended("agent_hung_up"))
        assert await caller.closed() == 1000
        assert len(caller.frames) == 50
        assert caller.order[-1] == Ended("agent_hung_up")
        assert await link.closed() == 1000


async def test_a_fatal_error_of_the_session_is_its_last_word() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        await link.send(Error("upstream_lost", "the model cannot be reached", fatal=True))
        assert await caller.refused() == ("upstream_lost", 1011)
        assert sum(isinstance(message, Error) for message in caller.messages) == 1


async def test_hanging_up_ends_with_the_session_s_own_word() -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.session() as (caller, link),
    ):
        await caller.say(Hangup())
        assert await caller.expect(Ended) == Ended("caller_hung_up")
        assert await caller.closed() == 1000
        assert await link.closed() == 1000
