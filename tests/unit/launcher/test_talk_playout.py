"""The reference playout buffer obeys the protocol's laws, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.gateway import pattern
from parley_common.contracts import audio_link as wire
from parley_launcher.talk.playout import PlayoutBuffer, Run

EPOCH = 1 << 16


def ms(count: int) -> int:
    return count * wire.SAMPLES_PER_MS


def playing(*, item_ms: int = 500, ended: bool = True) -> PlayoutBuffer:
    """Return a buffer that at 0 ms received item 1 of EPOCH, whole."""
    buffer = PlayoutBuffer(origin_ms=0, epoch=EPOCH)
    buffer.begins(1, EPOCH, 0)
    feed(buffer, 1, 0, item_ms, now_ms=0)
    if ended:
        buffer.ends(1, ms(item_ms), 0)
    return buffer


def feed(
    buffer: PlayoutBuffer, item: int, from_ms: int, for_ms: int, *, now_ms: int, epoch: int = EPOCH
) -> int:
    return buffer.frame(epoch, item, ms(from_ms), pattern(item, ms(from_ms), ms(for_ms)), now_ms)


def test_audio_that_comes_at_once_is_played_by_the_clock() -> None:
    buffer = playing(item_ms=500)

    buffer.tick(120)

    (item,) = buffer.items
    assert (item.received, item.played) == (ms(500), ms(120))
    assert not buffer.is_drained


def test_audio_that_comes_late_leaves_silence_where_it_was_missing() -> None:
    buffer = PlayoutBuffer(origin_ms=0, epoch=EPOCH)
    buffer.begins(1, EPOCH, 0)
    feed(buffer, 1, 0, 40, now_ms=10)
    feed(buffer, 1, 40, 40, now_ms=100)
    buffer.tick(200)

    assert buffer.runs == (Run(ms(10), 1, 0, ms(40)), Run(ms(100), 1, ms(40), ms(40)))
    assert buffer.heard_pcm() == bytes(ms(10) * 2) + pattern(1, 0, ms(40)) + bytes(ms(50) * 2) + pattern(
        1, ms(40), ms(40)
    )


def test_items_are_played_in_the_order_of_their_announcement_without_a_gap() -> None:
    buffer = PlayoutBuffer(origin_ms=0, epoch=EPOCH)
    buffer.begins(1, EPOCH, 0)
    buffer.begins(2, EPOCH, 0)
    feed(buffer, 1, 0, 30, now_ms=0)
    buffer.ends(1, ms(30), 0)
    feed(buffer, 2, 0, 30, now_ms=0)
    buffer.tick(100)

    assert buffer.heard_pcm() == pattern(1, 0, ms(30)) + pattern(2, 0, ms(30))


def test_a_report_is_due_every_100_ms_while_playing_and_when_an_item_is_over() -> None:
    buffer = playing(item_ms=250)

    reports = [report for at_ms in range(0, 400, 20) for report in buffer.tick(at_ms)]

    played_ms = [report.played // wire.SAMPLES_PER_MS for report in reports]
    assert played_ms == [0, 100, 200, 250]
    assert {(report.epoch, report.item, report.received) for report in reports} == {(EPOCH, 1, ms(250))}


def test_a_flush_is_answered_with_what_was_played_and_plays_no_more() -> None:
    buffer = playing(item_ms=500)

    answers = buffer.flush(EPOCH + 1, 130)
    buffer.tick(1_000)

    assert answers == (
        wire.Playout(EPOCH, 1, ms(500), ms(130)),
        wire.Flushed(EPOCH + 1, 1, ms(130)),
    )
    assert buffer.heard_pcm() == pattern(1, 0, ms(130))
    assert buffer.items[0].flushed


def test_a_flush_while_nothing_plays_is_answered_with_item_0() -> None:
    assert PlayoutBuffer(origin_ms=0, epoch=EPOCH).flush(EPOCH + 1, 50) == (wire.Flushed(EPOCH + 1, 0, 0),)


def test_a_flush_after_an_item_was_played_whole_does_not_name_it() -> None:
    buffer = playing(item_ms=50)

    assert buffer.flush(EPOCH + 1, 80) == (wire.Flushed(EPOCH + 1, 0, 0),)
    assert not buffer.items[0].flushed


def test_a_flush_in_an_underrun_names_the_item_that_is_not_complete() -> None:
    buffer = playing(item_ms=50, ended=False)

    assert buffer.flush(EPOCH + 1, 80)[-1] == wire.Flushed(EPOCH + 1, 1, ms(50))


def test_audio_of_a_flushed_epoch_that_comes_later_is_dropped() -> None:
    buffer = playing(item_ms=100, ended=False)
    buffer.flush(EPOCH + 1, 40)

    assert feed(buffer, 1, 100, 100, now_ms=50) == 0
    buffer.tick(500)

    assert buffer.played_samples == ms(40)
    assert buffer.oddities == {"stale_epoch": 1}


def test_audio_of_the_new_epoch_is_played_at_once_after_a_flush() -> None:
    buffer = playing(item_ms=500)
    buffer.flush(EPOCH + 1, 100)
    buffer.begins(2, EPOCH + 1, 150)
    feed(buffer, 2, 0, 30, now_ms=150, epoch=EPOCH + 1)
    buffer.tick(300)

    assert buffer.runs[-1] == Run(ms(150), 2, 0, ms(30))


def test_a_flush_that_does_not_raise_the_epoch_is_not_answered() -> None:
    buffer = playing()

    assert buffer.flush(EPOCH, 50) == ()
    buffer.tick(100)

    assert buffer.played_samples == ms(100)
    assert buffer.oddities == {"stale_flush": 1}


def test_pause_holds_playout_and_resume_goes_on_where_it_was() -> None:
    buffer = playing(item_ms=100)
    buffer.pause(40)
    buffer.resume(90)
    buffer.tick(300)

    assert buffer.runs == (Run(0, 1, 0, ms(40)), Run(ms(90), 1, ms(40), ms(60)))


def test_a_flush_ends_a_pause() -> None:
    buffer = playing(item_ms=100)
    buffer.pause(40)
    answers = buffer.flush(EPOCH + 1, 60)
    buffer.begins(2, EPOCH + 1, 70)
    feed(buffer, 2, 0, 10, now_ms=70, epoch=EPOCH + 1)
    buffer.tick(200)

    assert answers[-1] == wire.Flushed(EPOCH + 1, 1, ms(40))
    assert buffer.runs[-1] == Run(ms(70), 2, 0, ms(10))


def test_samples_that_come_twice_are_played_once() -> None:
    buffer = playing(item_ms=40, ended=False)

    assert feed(buffer, 1, 20, 40, now_ms=0) == ms(20)
    buffer.tick(500)

    assert buffer.heard_pcm() == pattern(1, 0, ms(60))
    assert buffer.oddities == {"repeated_samples": 1}


def test_a_frame_beyond_a_hole_is_not_claimed_as_received() -> None:
    buffer = playing(item_ms=40, ended=False)

    assert feed(buffer, 1, 60, 20, now_ms=0) == 0
    assert buffer.items[0].received == ms(40)
    assert buffer.oddities == {"gap": 1}


@pytest.mark.parametrize(("announced", "oddity"), [(60, "ended_short"), (20, "ended_long")])
def test_an_item_whose_length_is_not_what_arrived_is_counted(announced: int, oddity: str) -> None:
    buffer = playing(item_ms=40, ended=False)
    buffer.ends(1, ms(announced), 0)

    assert buffer.oddities == {oddity: 1}


def test_a_clock_that_stands_still_or_runs_back_plays_nothing() -> None:
    buffer = playing()
    buffer.tick(100)
    buffer.tick(50)

    assert buffer.played_samples == ms(100)


def test_without_audio_kept_the_counts_are_the_same() -> None:
    buffer = PlayoutBuffer(origin_ms=0, epoch=EPOCH, keep_audio=False)
    buffer.begins(1, EPOCH, 0)
    feed(buffer, 1, 0, 100, now_ms=0)
    buffer.tick(30)

    assert (buffer.items[0].received, buffer.items[0].played) == (ms(100), ms(30))
    assert buffer.pcm_of(buffer.runs[0]) == b""


# -- against a naive player -----------------------------------------------------------------------


@dataclass
class Naive:
    """A player too simple to be wrong: one sample at a time, looking for the first that is not played."""

    epoch: int = EPOCH
    paused: bool = False
    at: int = 0
    order: list[int] = field(default_factory=list)
    epoch_of: dict[int, int] = field(default_factory=dict)
    received: dict[int, int] = field(default_factory=dict)
    played: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)
    line: dict[int, tuple[int, int]] = field(default_factory=dict)

    def play_until(self, sample: int) -> None:
        while self.at < sample:
            item = next((i for i in self.order if self._playable(i)), None)
            if item is not None and not self.paused:
                self.given_up.update(self.order[: self.order.index(item)])
                self.line[self.at] = (item, self.played[item])
                self.played[item] += 1
            self.at += 1

    def _playable(self, item: int) -> bool:
        return self.epoch_of[item] == self.epoch and self.played[item] < self.received[item]

    def takes(self, item: int) -> bool:
        complete = item in self.ended and self.played[item] == self.received[item]
        return self.epoch_of[item] == self.epoch and item not in self.given_up and not complete


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["begin", "frame", "frame", "frame", "end", "flush", "pause", "resume", "tick", "repeat", "gap"]
        ),
        st.integers(0, 12),
        st.integers(1, 400),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=150, deadline=None)
def test_it_plays_exactly_what_a_naive_player_plays(world: list[tuple[str, int, int]]) -> None:
    buffer, naive = PlayoutBuffer(origin_ms=0, epoch=EPOCH), Naive()
    now_ms = number = 0
    reports: list[wire.Playout] = []
    for what, passes_ms, size in world:
        now_ms += passes_ms
        naive.play_until(ms(now_ms))
        item = naive.order[-1] if naive.order else None
        match what:
            case "begin":
                number += 1
                buffer.begins(number, naive.epoch, now_ms)
                naive.order.append(number)
                naive.epoch_of[number] = naive.epoch
                naive.received[number] = naive.played[number] = 0
            case "frame" | "repeat" | "gap" if item is not None and item not in naive.ended:
                at = naive.received[item]
                first = {"frame": at, "repeat": max(0, at - size // 2), "gap": at + 1}[what]
                took = buffer.frame(naive.epoch_of[item], item, first, pattern(item, first, size), now_ms)
                new = max(0, first + size - at) if what != "gap" and naive.takes(item) else 0
                assert took == new
                naive.received[item] += new
            case "end" if item is not None:
                buffer.ends(item, naive.received[item], now_ms)
                naive.ended.add(item)
            case "flush":
                old_epoch = naive.epoch
                answers = buffer.flush(naive.epoch + 1, now_ms)
                naive.epoch += 1
                naive.paused = False
                flushed = answers[-1]
                assert isinstance(flushed, wire.Flushed)
                assert flushed.epoch == naive.epoch
                if flushed.item:
                    assert naive.epoch_of[flushed.item] == old_epoch
                    assert flushed.played == naive.played[flushed.item]
            case "pause":
                buffer.pause(now_ms)
                naive.paused = True
            case "resume":
                buffer.resume(now_ms)
                naive.paused = False
            case _:
                reports += buffer.tick(now_ms)
        check_laws(buffer, naive)
    check_reports(reports)
    now_ms += 100
    naive.play_until(ms(now_ms))
    buffer.tick(now_ms)
    check_line(buffer, naive)


def check_laws(buffer: PlayoutBuffer, naive: Naive) -> None:
    for item in buffer.items:
        assert item.played <= item.received == naive.received[item.number]
        assert item.played == naive.played[item.number]


def check_reports(reports: list[wire.Playout]) -> None:
    newest: dict[int, wire.Playout] = {}
    for report in reports:
        before = newest.get(report.item, report)
        assert before.played <= report.played <= report.received
        assert before.received <= report.received
        newest[report.item] = report


def check_line(buffer: PlayoutBuffer, naive: Naive) -> None:
    line = {
        run.at_sample + at: (run.item, run.first_sample + at)
        for run in buffer.runs
        for at in range(run.sample_count)
    }
    assert line == naive.line
    pcm = buffer.heard_pcm()
    heard = {
        at: pcm[at * 2 : at * 2 + 2] for at in range(len(pcm) // 2) if pcm[at * 2 : at * 2 + 2] != b"\0\0"
    }
    assert heard == {at: pattern(item, sample, 1) for at, (item, sample) in naive.line.items()}
