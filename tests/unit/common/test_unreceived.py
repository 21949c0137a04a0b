"""What a client that lost its socket is sent again: all that it may have missed, in order, and not more than is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parley_common.contracts.audio_link import (
    DownLink,
    Error,
    Flush,
    Flushed,
    Have,
    Item,
    Load,
    Notice,
    Pause,
    Playout,
    Resume,
    State,
    Tool,
    Transcript,
    decode_to_client,
    encode,
    pack_downlink,
    unpack_downlink,
)
from parley_common.unreceived import MESSAGES_MAX, Unreceived

EPOCH = 65_536


def pcm(first: int, count: int) -> bytes:
    return b"".join((number % 30_000).to_bytes(2, "little") for number in range(first, first + count))


def frame(item: int, first: int, count: int = 480, epoch: int = EPOCH) -> bytes:
    return pack_downlink(epoch, item, first, pcm(first, count))


def kept(*sent: DownLink | bytes, bytes_max: int = 100_000) -> Unreceived:
    unreceived = Unreceived(bytes_max)
    unreceived.epoch = EPOCH
    send(unreceived, *sent)
    return unreceived


def send(unreceived: Unreceived, *sent: DownLink | bytes) -> None:
    for each in sent:
        if isinstance(each, bytes):
            unreceived.audio(each)
        else:
            unreceived.message(each, encode(each))


def missed(unreceived: Unreceived, *have: Have) -> list[object]:
    entries = unreceived.missed(have)
    return [entry if isinstance(entry, bytes) else decode_to_client(entry) for entry in entries]


BEGINS, ENDS = Item(1, "assistant", "begins", EPOCH), Item(1, "assistant", "ends", EPOCH, 960)


def test_a_client_that_received_nothing_is_sent_everything_in_order() -> None:
    sent = (BEGINS, frame(1, 0), Transcript(1, "assistant", "Hello"), frame(1, 480), ENDS)
    assert missed(kept(*sent)) == list(sent)


def test_what_was_reported_as_received_is_not_sent_again_nor_what_came_before_it() -> None:
    unreceived = kept(
        State("speaking"), BEGINS, frame(1, 0), Transcript(1, "assistant", "Hello"), frame(1, 480)
    )
    unreceived.reported(Playout(EPOCH, 1, 480, 100))
    assert missed(unreceived) == [State("speaking"), Transcript(1, "assistant", "Hello"), frame(1, 480)]


def test_a_frame_of_which_a_part_arrived_is_cut_to_the_sample() -> None:
    unreceived = kept(BEGINS, frame(1, 0), frame(1, 480), ENDS)
    unreceived.reported(Playout(EPOCH, 1, 600, 0))
    assert missed(unreceived) == [frame(1, 600, 360), ENDS]


def test_what_a_client_says_it_has_counts_more_than_its_last_report() -> None:
    unreceived = kept(BEGINS, frame(1, 0), frame(1, 480), ENDS)
    unreceived.reported(Playout(EPOCH, 1, 100, 0))
    assert missed(unreceived, Have(1, 959)) == [frame(1, 959, 1), ENDS]
    assert missed(unreceived, Have(1, 960)) == [ENDS]


def test_a_report_of_a_later_item_means_that_earlier_ones_arrived() -> None:
    second = Item(2, "assistant", "begins", EPOCH)
    unreceived = kept(BEGINS, frame(1, 0), frame(1, 480), ENDS, second, frame(2, 0), frame(2, 480))
    unreceived.reported(Playout(EPOCH, 2, 480, 0))
    assert missed(unreceived) == [frame(2, 480)]


def test_a_report_of_what_was_never_sent_takes_nothing_away() -> None:
    unreceived = kept(BEGINS, frame(1, 0))
    unreceived.reported(Playout(EPOCH, 7, 4_000, 4_000))
    assert missed(unreceived) == [BEGINS, frame(1, 0)]


def test_a_flush_drops_what_it_outdates_and_is_sent_itself() -> None:
    unreceived = kept(BEGINS, frame(1, 0), Pause(), Flush(EPOCH + 1))
    send(unreceived, frame(1, 480), frame(2, 0, epoch=EPOCH + 1))
    assert missed(unreceived) == [BEGINS, Flush(EPOCH + 1), frame(2, 0, epoch=EPOCH + 1)]


def test_the_newest_of_each_subject_is_sent_once_where_it_came_last() -> None:
    unreceived = kept(
        State("thinking"),
        Transcript(1, "user", "one"),
        Notice("reconnecting"),
        State("speaking"),
        Transcript(2, "assistant", "Hi"),
        Transcript(1, "user", "one two", final=True),
        Notice("reconnected"),
        Pause(),
        Resume(),
    )
    assert missed(unreceived) == [
        State("speaking"),
        Transcript(2, "assistant", "Hi"),
        Transcript(1, "user", "one two", final=True),
        Notice("reconnected"),
        Resume(),
    ]


def test_both_ends_of_a_tool_are_sent_and_what_is_of_the_moment_or_the_link_is_not() -> None:
    begins, ends = Tool("save_lead", "begins", "c1"), Tool("save_lead", "ends", "c1", "ok")
    assert missed(kept(begins, Error("rate_limited", "one moment"), Load(1, 2), ends)) == [begins, ends]


def test_an_answered_flush_means_that_all_before_it_arrived() -> None:
    unreceived = kept(BEGINS, Flush(EPOCH + 1), State("listening"))
    assert unreceived.flush_answered(Flushed(EPOCH + 1, 1, 0))
    assert missed(unreceived) == [State("listening")]


def test_a_flush_that_nobody_could_answer_is_answered_with_the_last_report_and_only_once() -> None:
    unreceived = kept(BEGINS, frame(1, 0))
    unreceived.reported(Playout(EPOCH, 1, 480, 240))
    send(unreceived, Flush(EPOCH + 1))
    assert unreceived.answer_flush(EPOCH + 1) == Flushed(EPOCH + 1, 1, 240, in_place=True)
    assert not unreceived.flush_answered(Flushed(EPOCH + 1, 1, 0))
    send(unreceived, Flush(EPOCH + 2))
    assert unreceived.flush_answered(Flushed(EPOCH + 2, 1, 0))


def test_a_flush_answered_in_place_of_a_client_that_is_away_is_sent_again_with_what_came_before() -> None:
    unreceived = Unreceived(10_000)
    send(unreceived, Item(1, "assistant", "begins", EPOCH), Flush(EPOCH + 1))
    assert unreceived.flush_answered(Flushed(EPOCH + 1, 0, 0, in_place=True))
    assert len(unreceived.missed(())) == 2
    assert unreceived.flush_answered(Flushed(EPOCH + 1, 0, 0))
    assert unreceived.missed(()) == []


def test_without_a_report_of_the_flushed_epoch_nothing_was_playing() -> None:
    unreceived = kept(Flush(EPOCH + 1))
    assert unreceived.answer_flush(EPOCH + 1) == Flushed(EPOCH + 1, 0, 0, in_place=True)


def test_too_much_audio_loses_its_oldest_and_is_counted() -> None:
    unreceived = kept(*(frame(1, 480 * number) for number in range(10)), bytes_max=3_000)
    assert missed(unreceived) == [frame(1, 480 * 7), frame(1, 480 * 8), frame(1, 480 * 9)]
    assert unreceived.dropped_count == 7


def test_messages_are_bounded_too() -> None:
    unreceived = kept(*(Transcript(number, "user", "x") for number in range(MESSAGES_MAX + 50)))
    assert missed(unreceived)[0] == Transcript(50, "user", "x")
    assert len(missed(unreceived)) == MESSAGES_MAX


@given(
    st.lists(st.integers(1, 700), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9_000)), max_size=10),
    st.integers(0, 9_000),
)
def test_a_client_that_puts_what_is_sent_again_after_what_it_has_holds_every_item_whole(
    counts: list[int], reports: list[tuple[int, int]], arrived: int
) -> None:
    """Items of up to 3,000 samples are sent; the client received ``arrived`` of all and reported some of it before."""
    frames, whole, number, first = [], {1: 0}, 1, 0
    for count in counts:
        frames.append(frame(number, first, count))
        first += count
        whole[number] = first
        if first > 2_000:
            number, first = number + 1, 0
    holds: dict[int, int] = {}
    for item in sorted(whole):
        holds[item] = min(whole[item], max(0, arrived))
        arrived -= holds[item]
    unreceived = kept(*frames, bytes_max=1_000_000)
    for item, samples in reports:
        if holds.get(item):
            unreceived.reported(Playout(EPOCH, item, min(samples, holds[item]), 0))
    for entry in unreceived.missed([Have(item, samples) for item, samples in holds.items() if samples]):
        assert isinstance(entry, bytes)
        _, item, first, samples = unpack_downlink(entry)
        assert first == holds[item], "neither a hole nor a repeat"
        assert bytes(samples) == pcm(first, len(samples) // 2)
        holds[item] += len(samples) // 2
    assert holds == whole
