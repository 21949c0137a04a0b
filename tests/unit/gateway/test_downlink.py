"""The downlink queue: order, the flush that overtakes, and its bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parley_common.contracts.audio_link import downlink_epoch, pack_downlink
from parley_gateway.clients.downlink import DownlinkQueue


def frame(epoch: int, number: int = 0, samples: int = 480) -> bytes:
    return pack_downlink(epoch, 1, number * samples, bytes(2 * samples))


def drain(queue: DownlinkQueue) -> list[bytes | str]:
    entries = []
    while (entry := queue.pop()) is not None:
        entries.append(entry)
    return entries


def test_audio_and_messages_leave_in_the_order_in_which_they_came() -> None:
    queue = DownlinkQueue(10_000)
    queue.text("item begins")
    queue.audio(frame(0, 0))
    queue.text("transcript")
    queue.audio(frame(0, 1))
    assert drain(queue) == ["item begins", frame(0, 0), "transcript", frame(0, 1)]


def test_a_flush_drops_the_audio_it_outdates_and_keeps_messages_in_order() -> None:
    queue = DownlinkQueue(10_000)
    queue.text("a")
    queue.audio(frame(1, 0))
    queue.text("b")
    queue.audio(frame(2, 0))
    queue.flush(2, "flush")
    assert drain(queue) == ["a", "b", frame(2, 0), "flush"]
    assert queue.stale_count == 1


def test_audio_of_an_older_epoch_that_comes_after_the_flush_is_dropped_and_counted() -> None:
    queue = DownlinkQueue(10_000)
    queue.flush(65_537, "flush")
    assert queue.audio(frame(65_536))
    assert queue.audio(frame(65_537))
    assert drain(queue) == ["flush", frame(65_537)]
    assert queue.stale_count == 1


def test_a_flush_older_than_the_last_one_revives_nothing() -> None:
    queue = DownlinkQueue(10_000)
    queue.flush(5, "five")
    queue.flush(3, "three")
    queue.audio(frame(4))
    assert drain(queue) == ["five", "three"]


def test_a_full_queue_takes_neither_audio_nor_messages() -> None:
    queue = DownlinkQueue(2_000)
    assert [queue.audio(frame(0)) for _ in range(3)] == [True, True, False]
    assert not queue.text("x" * 100)
    assert queue.text("x" * 10)


def test_a_full_queue_still_drops_stale_audio_without_complaint() -> None:
    queue = DownlinkQueue(1_000)
    queue.flush(1, "flush")
    queue.audio(frame(1))
    assert queue.audio(frame(0))


def test_a_flush_makes_room() -> None:
    queue = DownlinkQueue(1_000)
    queue.audio(frame(0))
    assert not queue.audio(frame(0, 1))
    queue.flush(1, "flush")
    assert queue.audio(frame(1))


def test_a_closing_message_goes_out_whatever_waits() -> None:
    queue = DownlinkQueue(1_000)
    queue.audio(frame(0))
    queue.drop_audio()
    queue.last_text("x" * 2_000)
    assert drain(queue) == ["x" * 2_000]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("audio"), st.integers(0, 6), st.integers(1, 400)),
        st.tuples(st.just("text"), st.integers(0, 300), st.just(0)),
        st.tuples(st.just("flush"), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("pop"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@given(actions)
def test_no_stale_audio_ever_leaves_and_the_count_of_bytes_is_always_true(
    did: list[tuple[str, int, int]],
) -> None:
    queue, epoch, held = DownlinkQueue(3_000), 0, 0
    for what, number, samples in did:
        if what == "audio":
            queue.audio(frame(number, samples=samples))
        elif what == "text":
            queue.text("x" * number)
        elif what == "flush":
            epoch = max(epoch, number)
            queue.flush(number, "flush")
        elif isinstance(entry := queue.pop(), bytes):
            assert downlink_epoch(entry) >= epoch
        held = max(held, queue.queued_bytes)
    assert held <= 3_000 + len("flush") * len(did)
    assert queue.queued_bytes == sum(len(entry) for entry in drain(queue))
    assert queue.queued_bytes == 0
