"""The judge finds what is planted: a lost frame, a late one, a barge-in that did not stop, a false truncation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from load.bench import stamps, turns
from load.bench.calls import Playout
from load.bench.judge import Figures, judge
from load.bench.logs import Log, Read, read_log
from load.bench.run import next_to_try
from parley_common import audio

WINDOW = {"since": 0, "began": 1_000_000, "over": 9_000_000}
SPOKE_US = 4_000_000


def frames(*rows: tuple[int, int, int]) -> Any:
    return np.array(rows, dtype=np.uint64).reshape(-1, 3)


def seq(number: int) -> int:
    return stamps.seq_of(7, number)


class World:
    """One caller and one answer of ten frames that is spoken over, all as it should be; a test spoils one thing."""

    def __init__(self) -> None:
        self.up = [(1_000_000 + 20_000 * n, seq(n), 300) for n in range(50)]
        self.down = [(3_800_000 + 20_000 * n, seq(100 + n), 400) for n in range(10)]
        self.said = [
            {"what": "speaks", "caller": 7, "t": SPOKE_US},
            {"what": "flush", "caller": 7, "t": SPOKE_US + 900, "seq": seq(109), "played": 4_800},
        ]
        self.upstream = [
            {"what": "response", "caller": 7, "number": 3, "first": 100, "t": 3_800_000},
            {"what": "speech", "caller": 7, "t": SPOKE_US + 300, "over": 3, "frames": 10},
            {
                "what": "response_over",
                "caller": 7,
                "number": 3,
                "frames": 10,
                "status": "cancelled",
                "t": SPOKE_US,
            },
            {"what": "truncate", "caller": 7, "number": 3, "ms": 200, "t": SPOKE_US + 2_000},
        ]

    def judged(self) -> Figures:
        step = {**WINDOW, "sent": [[7, 0, 50]], "live": 1}
        return judge(step, Read(frames(*self.down), self.said), Read(frames(*self.up), self.upstream))


def test_a_step_in_which_all_went_well_is_whole_and_its_figures_are_those_of_its_frames() -> None:
    found = World().judged()
    assert found.is_whole
    assert (found.up_ms.p50, found.down_ms.p50, found.barge_in_ms.p50) == (0.3, 0.4, 0.9)
    assert found.truncation_error_ms.worst == 0.0
    assert (found.expected, found.barge_ins) == (60, 1)


def test_a_frame_that_upstream_never_heard_is_lost() -> None:
    world = World()
    del world.up[20]
    assert (world.judged().lost_up, world.judged().is_whole) == (1, False)


def test_a_hole_in_an_answer_is_a_loss_and_its_missing_end_is_not_when_it_was_spoken_over() -> None:
    world = World()
    del world.down[4]
    assert world.judged().lost_down == 1
    world = World()
    del world.down[7:]
    world.said[1] |= {"seq": seq(106)}
    assert world.judged().lost_down == 0


def test_the_missing_end_of_an_answer_that_nobody_spoke_over_is_lost() -> None:
    world = World()
    del world.down[7:]
    world.upstream[2] |= {"status": "completed"}
    assert world.judged().lost_down == 3


def test_a_frame_that_comes_after_the_flush_is_late_though_it_was_sent_before() -> None:
    world = World()
    world.down[9] = (3_980_000, seq(109), 30_000)
    assert world.judged().late_after_stop == 1


def test_a_barge_in_without_a_flush_did_not_stop_the_agent() -> None:
    world = World()
    del world.said[1]
    found = world.judged()
    assert (found.barge_ins, found.not_stopped, found.is_whole) == (1, 1, False)


def test_a_flush_after_the_caller_spoke_again_stopped_nothing() -> None:
    world = World()
    world.said[0:1] = [world.said[0], {"what": "speaks", "caller": 7, "t": SPOKE_US + 500}]
    assert world.judged().not_stopped == 1


def test_a_truncation_is_as_wrong_as_it_is_far_from_what_was_played() -> None:
    world = World()
    world.upstream[3] |= {"ms": 180}
    assert world.judged().truncation_error_ms.worst == 20.0


def test_a_frame_twice_or_after_a_later_one_is_out_of_order() -> None:
    world = World()
    world.up[10], world.up[11] = world.up[11], world.up[10]
    assert world.judged().out_of_order == 1


@pytest.mark.parametrize("kind", ["cut_off", "gap", "foreign", "error"])
def test_whatever_else_went_wrong_spoils_the_step(kind: str) -> None:
    world = World()
    world.said.append({"what": kind, "caller": 7, "t": 5_000_000})
    assert (world.judged().trouble, world.judged().is_whole) == ({kind: 1}, False)


def test_the_bench_writes_the_stamp_that_the_project_reads() -> None:
    for number, t_us in ((0, 0), (stamps.seq_of(stamps.CALLERS_MAX, 77), 123_456_789_012)):
        frame = stamps.write(number, t_us) + stamps.SILENCE
        assert frame == audio.write_stamp(bytes(stamps.FRAME_BYTES), number, t_us)
        assert stamps.read(frame) == (number, t_us) == audio.find_stamps(frame)[0][1:]


def test_a_stamp_with_a_wrong_bit_is_no_stamp() -> None:
    whole = bytearray(stamps.write(5, 6))
    whole[200] ^= 1
    assert stamps.read(bytes(whole)) is None


def test_speech_is_loud_and_says_what_it_says() -> None:
    speech = stamps.write(1, 2) + stamps.tone()
    assert (len(speech), stamps.is_loud(speech)) == (stamps.FRAME_BYTES, True)
    assert audio.read_text_tags(speech) == ["Tell me a story."]
    assert not stamps.is_loud(stamps.write(1, 2) + stamps.SILENCE)


def test_a_caller_speaks_once_a_turn_whatever_it_hears() -> None:
    caller = turns.Caller(number=3, turn_frames=100)
    began = [n for n in range(500) if caller.speech_frame(n) == 0]
    assert {b - a for a, b in pairwise(began)} == {100}
    assert sum(caller.speech_frame(n) is not None for n in range(100, 200)) == turns.SPEECH_FRAMES


def test_a_loudspeaker_plays_no_more_than_it_has_and_no_faster_than_time() -> None:
    playout = Playout()
    playout.begin(1)
    playout.add(2_400, 1_000_000)
    assert (playout.played(1_000_000), playout.played(1_050_000), playout.played(2_000_000)) == (
        0,
        1_200,
        2_400,
    )
    playout.add(480, 2_000_000)  # after a gap
    assert playout.played(2_010_000) == 2_640


def test_what_was_written_down_is_read_back(tmp_path: Any) -> None:
    log = Log(tmp_path, "one")
    log.frame.extend((1, 2, 3))
    log.note("flush", caller=1)
    log.close()
    read = read_log(tmp_path, "one")
    assert read.frames.tolist() == [[1, 2, 3]]
    assert read.notes == [{"what": "flush", "caller": 1}]


def test_the_search_halves_the_gap_and_then_tries_the_best_again_until_it_fails() -> None:
    assert next_to_try({10: (1, 1), 50: (1, 1), 150: (0, 1)}, 25, 3) == 100
    assert next_to_try({50: (1, 1), 75: (0, 1)}, 25, 3) == 50
    assert next_to_try({50: (3, 3), 75: (0, 1)}, 25, 3) is None
    assert next_to_try({50: (1, 1), 75: (1, 2)}, 25, 3) == 50
    assert next_to_try({50: (0, 1)}, 25, 3) is None
