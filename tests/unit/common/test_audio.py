"""PCM helpers: units, level, resampling, WAV files, and the tag in the samples' lowest bits."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_common import audio
from parley_common.audio import InvalidAudio, Resampler

NOISE = (np.random.default_rng(1).standard_normal(24_000 * 3) * 3000).astype("<i2").tobytes()


def tone(frequency_hz: float, rate_hz: int = 24_000, seconds: float = 1.0, peak: float = 0.5) -> bytes:
    t = np.arange(int(rate_hz * seconds)) / rate_hz
    return (np.sin(2 * np.pi * frequency_hz * t) * peak * 32767).astype("<i2").tobytes()


def error_db(ours: bytes, wanted: bytes, skip: int = 200) -> float:
    a, b = audio.as_samples(ours).astype(float), audio.as_samples(wanted).astype(float)
    assert abs(len(a) - len(b)) <= 1
    size = min(len(a), len(b))
    difference = (a[:size] - b[:size])[skip:-skip]
    return float(10 * np.log10((difference**2).mean() / (b[skip:-skip] ** 2).mean() + 1e-12))


def test_bytes_samples_and_milliseconds_convert_without_claiming_audio_that_is_not_there() -> None:
    assert audio.ms_to_bytes(20) == 960
    assert audio.bytes_to_ms(959) == 19
    assert audio.samples_to_ms(479) == 19
    assert audio.ms_to_samples(20) == audio.FRAME_SAMPLES == 480
    assert audio.silence(20) == bytes(960)


@pytest.mark.parametrize(
    ("pcm", "level_dbfs"),
    [(b"", -96), (bytes(960), -96), (tone(1000, peak=1.0), -3.0), (tone(1000, peak=0.1), -23.0)],
)
def test_level_is_rms_against_full_scale_and_finite_for_silence(pcm: bytes, level_dbfs: float) -> None:
    assert audio.level_dbfs(pcm) == pytest.approx(level_dbfs, abs=0.05)


def test_floats_are_clipped_and_pcm_survives_the_way_there_and_back() -> None:
    assert audio.as_samples(audio.from_signal(np.array([2.0, -2.0]))).tolist() == [32767, -32768]
    assert audio.from_signal(audio.as_signal(NOISE)) == NOISE


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(24_000, 16_000), (16_000, 24_000), (24_000, 8_000), (8_000, 24_000)]
)
def test_speech_frequencies_pass_a_resampling_unchanged_and_in_time(from_hz: int, to_hz: int) -> None:
    for frequency_hz in (200, 1000, 3000):
        ours = audio.resample(tone(frequency_hz, from_hz), from_hz, to_hz)
        assert error_db(ours, tone(frequency_hz, to_hz)) < -50, frequency_hz


def test_what_the_lower_rate_cannot_hold_is_filtered_out() -> None:
    assert audio.level_dbfs(audio.resample(tone(9500, peak=1.0), 24_000, 16_000)) < -45


def test_a_stream_is_resampled_the_same_however_it_is_cut() -> None:
    signal = audio.as_signal(NOISE)
    whole = Resampler(24_000, 16_000).feed(signal)
    for size in (1, 7, 480, 769, 10_000):
        engine = Resampler(24_000, 16_000)
        pieces = [engine.feed(signal[at : at + size]) for at in range(0, 20_000, size)]
        cut = np.concatenate(pieces)
        np.testing.assert_allclose(cut, whole[: cut.size], atol=1e-6)


def test_rates_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidAudio):
        audio.resample(NOISE, 0, 24_000)


def test_nothing_resampled_is_nothing() -> None:
    assert audio.resample(b"", 8_000, 24_000) == b""


def wav(raw: bytes, *, rate_hz: int = 24_000, channels: int = 1, width: int = 2) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(raw)
    return target.getvalue()


def test_a_wav_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    audio.write_wav(tmp_path / "a.wav", NOISE)
    assert audio.read_wav(tmp_path / "a.wav") == NOISE
    assert audio.read_wav(str(tmp_path / "a.wav")) == NOISE


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_other_rates_widths_and_channels_become_mono_24_khz(width: int) -> None:
    samples = audio.as_samples(tone(1000, 44_100)).astype(np.int64)
    raw = {
        1: lambda: ((samples >> 8) + 128).astype(np.uint8).tobytes(),
        2: lambda: samples.astype("<i2").tobytes(),
        3: lambda: b"".join(struct.pack("<i", int(each) << 8)[:3] for each in samples),
        4: lambda: (samples << 16).astype("<i4").tobytes(),
    }[width]()
    stereo = b"".join(raw[at : at + width] * 2 for at in range(0, len(raw), width))
    read = audio.read_wav(wav(stereo, rate_hz=44_100, channels=2, width=width))
    assert error_db(read, tone(1000)) < (-30 if width == 1 else -50)


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"not a wav file at all", wav(b""), wav(NOISE[:99])[:30], b"ID3" + bytes(100)]
)
def test_a_file_that_cannot_be_used_is_a_clear_error_with_a_remedy(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(InvalidAudio, match=r"bad\.wav.*ffmpeg"):
        audio.read_wav(tmp_path / "bad.wav")
    with pytest.raises(InvalidAudio, match="does not exist"):
        audio.read_wav(tmp_path / "missing.wav")


@given(text=st.text(max_size=400), begin=st.integers(0, 2000))
def test_any_text_is_found_wherever_the_audio_begins_and_no_sample_changes_by_more_than_one(
    text: str, begin: int
) -> None:
    tagged = audio.write_text_tag(NOISE, text)
    change = audio.as_samples(tagged).astype(int) - audio.as_samples(NOISE)
    assert np.abs(change).max() <= 1
    assert audio.read_text_tags(tagged[begin * 2 :]) == [text]


def test_texts_of_one_clip_come_in_the_order_in_which_they_begin() -> None:
    clip = audio.silence(333).join(
        audio.write_text_tag(NOISE[:19_200], text) for text in ("one", "zwei", "trois")
    )
    assert audio.read_text_tags(clip) == ["one", "zwei", "trois"]


def test_a_text_of_which_a_part_is_missing_is_not_read() -> None:
    tagged = audio.write_text_tag(NOISE[: 960 * 4], "x" * 180)
    assert audio.read_text_tags(tagged) == ["x" * 180]
    assert audio.read_text_tags(tagged[: 960 * 3]) == []


@pytest.mark.parametrize("pcm", [b"", bytes(2), audio.silence(5000), NOISE, b"\x01\x00" * 48_000, tone(440)])
def test_silence_noise_and_tones_give_no_false_tags(pcm: bytes) -> None:
    assert audio.read_text_tags(pcm) == []
    assert audio.find_stamps(pcm) == []


def test_audio_too_short_for_its_text_is_a_clear_error() -> None:
    with pytest.raises(InvalidAudio, match="at least 60 ms"):
        audio.write_text_tag(audio.silence(40), "x" * 100)
    with pytest.raises(InvalidAudio, match="11730 bytes at most"):
        audio.write_text_tag(NOISE, "x" * 20_000)


@given(seq=st.integers(0, 2**32 - 1), t_us=st.integers(0, 2**64 - 1), before=st.integers(0, 1500))
def test_a_stamp_is_found_at_its_very_sample(seq: int, t_us: int, before: int) -> None:
    frame = audio.write_stamp(NOISE[:960], seq, t_us)
    assert len(frame) == 960
    assert audio.find_stamps(NOISE[: before * 2] + frame + NOISE[:700]) == [(before, seq, t_us)]


def test_every_frame_of_a_stamped_stream_is_found() -> None:
    frames = [audio.write_stamp(NOISE[at * 960 : at * 960 + 960], at, at * 20_000) for at in range(50)]
    assert audio.find_stamps(b"".join(frames)) == [(at * 480, at, at * 20_000) for at in range(50)]


def test_a_frame_too_short_for_a_stamp_is_a_clear_error() -> None:
    with pytest.raises(InvalidAudio, match="176 samples"):
        audio.write_stamp(bytes(300), 1, 1)


def test_a_damaged_tag_is_not_believed() -> None:
    frame = audio.as_samples(audio.write_stamp(NOISE[:960], 5, 6)).copy()
    frame[60] ^= 1
    assert audio.find_stamps(frame.tobytes()) == []
