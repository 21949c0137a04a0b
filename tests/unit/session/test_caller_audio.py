"""Caller audio on its way upstream: forwarded, held, dropped, kept for a loss, measured where that is asked for."""

from __future__ import annotations

from parley_common.audio import ms_to_bytes
from parley_session.caller_audio import CallerAudio
from parley_understudy.light_voice import speech_like

FRAME_MS = 20


def frame(mark: int) -> memoryview:
    """Return 20 ms in which every sample is ``mark``."""
    return memoryview(mark.to_bytes(2, "little") * (ms_to_bytes(FRAME_MS) // 2))


def frame_samples() -> int:
    return ms_to_bytes(FRAME_MS) // 2


class Upstream:
    """What reached upstream, as the mark of each frame."""

    def __init__(self, *, levels: bool = False) -> None:
        self.got: list[int] = []
        self.levels: list[bool] = []
        self.audio = CallerAudio(self.take, self.levels.append if levels else None)

    def take(self, pcm: bytes | memoryview) -> None:
        self.got.append(int.from_bytes(bytes(pcm[:2]), "little"))

    def hear(self, *marks: int) -> None:
        for mark in marks:
            self.audio.hear(frame(mark))


def test_what_is_held_goes_out_in_order_once_it_may() -> None:
    u = Upstream()
    u.hear(1, 2)
    assert u.got == []
    u.audio.set_policy("forward")
    u.hear(3)
    assert u.got == [1, 2, 3]


def test_what_was_held_before_it_was_to_be_dropped_is_dropped() -> None:
    u = Upstream()
    u.hear(1)
    u.audio.set_policy("drop")
    u.hear(2)
    u.audio.set_policy("forward")
    assert u.got == []


def test_what_is_held_is_bounded_and_the_oldest_goes() -> None:
    u = Upstream()
    u.hear(*range(1, 1_102))  # 22 s
    u.audio.set_policy("forward")
    assert len(u.got) == 1_000
    assert u.got[-1] == 1_101


def test_positions_count_what_this_connection_was_sent() -> None:
    u = Upstream()
    u.audio.set_policy("forward")
    u.hear(1, 2, 3)
    assert u.audio.position_ms == 60
    u.audio.begin_connection()
    assert u.audio.position_ms == 0


def test_speech_that_was_lost_is_appended_again_from_where_it_began_before_what_was_held() -> None:
    u = Upstream()
    u.audio.set_policy("forward")
    u.hear(1, 2, 3, 4, 5)
    u.audio.set_policy("hold")
    u.hear(6)
    u.audio.begin_connection()
    u.audio.replay(60, since_heard=True)
    u.audio.set_policy("forward")
    assert u.got == [1, 2, 3, 4, 5, 4, 5, 6]
    assert u.audio.position_ms == 60


def test_without_known_speech_what_upstream_may_not_have_got_is_appended_again() -> None:
    u = Upstream()
    u.audio.set_policy("forward")
    u.hear(*range(1, 101))
    u.audio.upstream_spoke()
    u.hear(*range(101, 111))
    u.audio.begin_connection()
    u.got.clear()
    u.audio.replay(None, since_heard=True)
    assert u.got == list(range(76, 111)), "from half a second before upstream last spoke"


def test_at_a_roll_over_only_the_last_half_second_is_said_again() -> None:
    u = Upstream()
    u.audio.set_policy("forward")
    u.hear(*range(1, 101))
    u.audio.begin_connection()
    u.got.clear()
    u.audio.replay(None, since_heard=False)
    assert u.got == list(range(76, 101))


def test_audio_is_said_again_once_and_not_after_the_next_loss_too() -> None:
    u = Upstream()
    u.audio.set_policy("forward")
    u.hear(1, 2)
    u.audio.begin_connection()
    u.audio.replay(0, since_heard=True)
    u.got.clear()
    u.audio.replay(0, since_heard=True)
    assert u.got == []


def test_a_connection_that_was_sent_nothing_keeps_what_the_one_before_it_lost() -> None:
    u = Upstream()
    u.audio.set_policy("forward")
    u.hear(1, 2)
    u.audio.begin_connection()
    u.audio.begin_connection()
    u.got.clear()
    u.audio.replay(0, since_heard=True)
    assert u.got == [1, 2]


def test_what_has_reached_upstream_is_let_go_but_for_the_last_second() -> None:
    u = Upstream()
    u.audio.set_policy("forward")
    u.hear(*range(1, 201))
    u.audio.upstream_heard(150 * frame_samples())
    u.audio.forget(None)
    u.audio.begin_connection()
    u.got.clear()
    u.audio.replay(0, since_heard=True)
    assert u.got == list(range(101, 201)), "a word that had begun may not have been noticed yet"


def test_what_would_be_said_again_is_kept_however_long_ago_upstream_heard_it() -> None:
    u = Upstream()
    u.audio.set_policy("forward")
    u.hear(*range(1, 201))
    u.audio.upstream_spoke()
    u.audio.forget(400)
    u.audio.begin_connection()
    u.got.clear()
    u.audio.replay(400, since_heard=True)
    assert u.got == list(range(21, 201))


def test_nothing_is_let_go_that_upstream_has_not_answered_to() -> None:
    u = Upstream()
    u.audio.set_policy("forward")
    u.hear(*range(1, 201))
    u.audio.forget(None)
    u.audio.begin_connection()
    u.got.clear()
    u.audio.replay(None, since_heard=True)
    assert u.got == list(range(1, 201))


def test_the_level_changes_when_sound_begins_and_160_ms_after_it_ended() -> None:
    u = Upstream(levels=True)
    speech = speech_like("hello there everybody", "caller", 1.0)
    loud = speech[ms_to_bytes(60) : ms_to_bytes(100)]
    u.hear(0, 0)
    u.audio.hear(memoryview(loud))
    assert u.levels == [True]
    u.hear(*[0] * 7)
    assert u.levels == [True]
    u.hear(0)
    assert u.levels == [True, False]
