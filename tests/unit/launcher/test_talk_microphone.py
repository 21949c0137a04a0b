"""The microphone streams real time in 20 ms frames and counts only what it sends."""

from __future__ import annotations

from fakes.gateway import pattern
from parley_common import audio
from parley_common.contracts import audio_link as wire
from parley_launcher.talk.microphone import CATCH_UP_FRAMES_MAX, Microphone


def sent(frames: list[bytes]) -> list[tuple[int, bytes]]:
    return [(first, bytes(pcm)) for first, pcm in map(wire.unpack_uplink, frames)]


def test_silence_is_streamed_when_nothing_is_said() -> None:
    microphone = Microphone()
    microphone.frames_due(0)

    assert sent(microphone.frames_due(59)) == [(0, audio.silence(20)), (480, audio.silence(20))]


def test_what_is_said_goes_out_in_real_time_and_the_last_frame_is_filled_up() -> None:
    microphone = Microphone()
    microphone.frames_due(0)
    said = pattern(1, 0, 500)
    microphone.say(said)

    assert microphone.is_saying
    first, second = sent(microphone.frames_due(40))
    assert first == (0, said[:960])
    assert second == (480, said[960:].ljust(960, b"\0"))
    assert not microphone.is_saying


def test_muted_nothing_is_sent_and_numbers_go_on_without_a_gap_afterwards() -> None:
    microphone = Microphone()
    microphone.frames_due(0)
    microphone.frames_due(20)
    microphone.muted = True
    microphone.say(pattern(1, 0, 480))
    assert microphone.frames_due(500) == []
    microphone.muted = False
    microphone.frames_due(600)

    assert sent(microphone.frames_due(620)) == [(480, audio.silence(20))]


def test_what_was_sent_stands_on_the_time_line_where_it_was_said() -> None:
    microphone = Microphone()
    microphone.frames_due(0)
    microphone.muted = True
    microphone.frames_due(90)
    microphone.muted = False
    microphone.frames_due(100)
    said = pattern(1, 0, 480)
    microphone.say(said)
    microphone.frames_due(120)

    assert microphone.heard_pcm() == audio.silence(100) + said


def test_after_a_stall_at_most_a_second_is_sent_at_once() -> None:
    microphone = Microphone()
    microphone.frames_due(0)

    assert len(microphone.frames_due(5_000)) == CATCH_UP_FRAMES_MAX
    assert microphone.frames_left_out_count == 200
    assert len(microphone.frames_due(5_020)) == 1


def test_without_audio_kept_it_sends_the_same() -> None:
    microphone = Microphone(keep_audio=False)
    microphone.frames_due(0)

    assert len(microphone.frames_due(40)) == 2
    assert microphone.heard_pcm() == b""
