"""The uplink: which frames are audio, which numbers follow, which messages make sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_common.contracts.audio_link import (
    FRAME_MAX_BYTES,
    TEXT_MAX_CHARS,
    AudioFormat,
    Feedback,
    Flushed,
    FromClient,
    Open,
    Playout,
    Stats,
    Text,
    encode,
    pack_uplink,
)
from parley_common.errors import PeerViolation
from parley_gateway.clients.uplink import UplinkMeter, check_open, page_of, read_message


def code_of(wrong: pytest.ExceptionInfo[PeerViolation]) -> tuple[str, int]:
    return wrong.value.stable_code, wrong.value.close_code


def test_frames_that_follow_each_other_are_neither_gaps_nor_repeats() -> None:
    meter = UplinkMeter()
    for number in range(10):
        meter.accept(pack_uplink(number * 480, bytes(960)))
    assert (meter.gaps_count, meter.repeats_count) == (0, 0)


def test_a_jump_ahead_is_a_gap_and_a_jump_back_is_a_repeat_once_each() -> None:
    meter = UplinkMeter()
    for first in (0, 960, 1_440, 480, 960):
        meter.accept(pack_uplink(first, bytes(960)))
    assert (meter.gaps_count, meter.repeats_count) == (1, 1)


def test_the_first_frame_may_begin_anywhere() -> None:
    meter = UplinkMeter()
    meter.accept(pack_uplink(123_456, bytes(960)))
    assert (meter.gaps_count, meter.repeats_count) == (0, 0)


def test_sample_numbers_wrap_without_a_gap() -> None:
    meter = UplinkMeter()
    meter.accept(pack_uplink(2**32 - 240, bytes(960)))
    meter.accept(pack_uplink(240, bytes(960)))
    assert (meter.gaps_count, meter.repeats_count) == (0, 0)


@pytest.mark.parametrize("frame", [b"", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\0\0", b"\0" * 101])
def test_a_frame_without_whole_samples_is_odd(frame: bytes) -> None:
    with pytest.raises(PeerViolation) as wrong:
        UplinkMeter().accept(frame)
    assert code_of(wrong) == ("odd_frame", 1008)


def test_a_frame_beyond_the_bound_closes_the_socket() -> None:
    UplinkMeter().accept(bytes(FRAME_MAX_BYTES))
    with pytest.raises(PeerViolation) as wrong:
        UplinkMeter().accept(bytes(FRAME_MAX_BYTES + 2))
    assert code_of(wrong) == ("frame_too_large", 1009)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "invalid_json"),
        ("", "invalid_json"),
        ('{"type": "ping", "x": ' + "[" * 30_000 + "]" * 30_000 + "}", "invalid_json"),
        ("null", "invalid_message"),
        ("[]", "invalid_message"),
        ('{"text": "no type"}', "invalid_message"),
        ('{"type": "shout"}', "unknown_type"),
        ('{"type": "attach", "session_id": "s"}', "unknown_type"),
        ('{"type": "beat"}', "unknown_type"),
        ('{"type": "text"}', "invalid_message"),
        ('{"type": "text", "text": 1}', "invalid_message"),
        ('{"type": "mode", "mode": "telepathy"}', "invalid_message"),
    ],
)
def test_what_is_no_message_has_a_stable_code(text: str, code: str) -> None:
    with pytest.raises(PeerViolation) as wrong:
        read_message(text)
    assert code_of(wrong) == (code, 1008)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Text("x" * (TEXT_MAX_CHARS + 1)), "text_too_long"),
        (Feedback(0), "invalid_message"),
        (Feedback(6), "invalid_message"),
        (Feedback(5, "x" * (TEXT_MAX_CHARS + 1)), "text_too_long"),
        (Playout(0, 1, -1, 0), "invalid_message"),
        (Playout(2**32, 1, 0, 0), "invalid_message"),
        (Flushed(0, 1, -5), "invalid_message"),
        (Stats(underruns=-1), "invalid_message"),
    ],
)
def test_a_message_that_cannot_be_true_is_refused_without_closing(message: FromClient, code: str) -> None:
    with pytest.raises(PeerViolation) as wrong:
        read_message(encode(message))
    assert code_of(wrong) == (code, 1008)


def test_a_message_beyond_the_bound_closes_the_socket() -> None:
    with pytest.raises(PeerViolation) as wrong:
        read_message('{"type":"text","text":"' + "x" * FRAME_MAX_BYTES + '"}')
    assert code_of(wrong) == ("frame_too_large", 1009)


@pytest.mark.parametrize(
    ("opening", "code"),
    [
        (Open(), "open_invalid"),
        (Open(token="t", resume="r"), "open_invalid"),
        (Open(token="t", audio=AudioFormat(rate_hz=48_000)), "unsupported_audio"),
        (Open(token="t", audio=AudioFormat(channels=2)), "unsupported_audio"),
        (Open(token="t", page="p" * 2_001), "open_invalid"),
        (Open(token="t", client="c" * 101), "open_invalid"),
    ],
)
def test_an_open_that_cannot_be_served_says_why(opening: Open, code: str) -> None:
    with pytest.raises(PeerViolation) as wrong:
        check_open(opening)
    assert code_of(wrong) == (code, 1008)


def test_a_page_is_kept_without_what_its_address_may_tell_of_a_person() -> None:
    page = "https://example.com/apply?email=someone@example.com#step-2"
    assert page_of(Open(token="t", page=page)) == "https://example.com/apply"
    assert page_of(Open(token="t", page="https://example.com/#a?b")) == "https://example.com/"
    assert page_of(Open(token="t")) is None


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_input_is_either_accepted_or_a_peer_violation(data: bytes | str) -> None:
    assert verdict(data) in {"accepted", "odd_frame", "invalid_json", "invalid_message", "unknown_type"}


def verdict(data: bytes | str) -> str:
    try:
        read_message(data) if isinstance(data, str) else UplinkMeter().accept(data)
    except PeerViolation as wrong:
        return wrong.stable_code
    return "accepted"
