"""Detectors, G.711 and the models themselves, on speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parley_common.audio import as_samples, level_dbfs, read_wav, silence
from parley_understudy import ears, voice
from parley_understudy.g711 import decoded, encoded
from parley_understudy.light_voice import speech_like
from parley_understudy.listener import Listener
from parley_understudy.turns import Started, Stopped, TurnRules
from parley_understudy.vad import EarshotDetector, EnergyDetector

CALLER = Path(__file__).parents[2] / "contract" / "audio" / "caller_08_short_yes.wav"
RULES = TurnRules(0.5, 300, 500, creates=True, interrupts=True, idle_timeout_ms=None)
RANDOM = np.random.default_rng(3)


def noise(duration_ms: int, dbfs: float) -> bytes:
    level = 10 ** (dbfs / 20) * 32768
    return (RANDOM.standard_normal(duration_ms * 24) * level).astype("<i2").tobytes()


def turns(detector: type, pcm: bytes) -> list[tuple[float, float]]:
    listener = Listener(detector)
    events = [event for at in range(0, len(pcm), 960) for event in listener.feed(pcm[at : at + 960], RULES)]
    starts = [event.sample / 24 for event in events if isinstance(event, Started)]
    return list(
        zip(starts, [event.sample / 24 for event in events if isinstance(event, Stopped)], strict=True)
    )


@pytest.mark.parametrize("detector", [EnergyDetector, pytest.param(EarshotDetector, marks=pytest.mark.voice)])
@pytest.mark.parametrize("background_dbfs", [None, -60, -48])
def test_one_utterance_is_one_turn_about_where_it_is(detector: type, background_dbfs: float | None) -> None:
    spoken = read_wav(CALLER)
    pcm = silence(1000) + spoken + silence(1500)
    if background_dbfs is not None:
        mixed = as_samples(pcm).astype(int) + as_samples(noise(len(pcm) // 48, background_dbfs))
        pcm = np.clip(mixed, -32768, 32767).astype("<i2").tobytes()
    ((start_ms, stop_ms),) = turns(detector, pcm)
    assert 900 <= start_ms <= 1250
    assert 1000 + len(spoken) / 48 - 300 <= stop_ms <= 1000 + len(spoken) / 48 + 700


@pytest.mark.parametrize("dbfs", [-96, -60, -45, -32])
def test_steady_noise_of_any_level_opens_no_turn(dbfs: float) -> None:
    assert turns(EnergyDetector, noise(8000, dbfs)) == []


def test_one_sentence_of_the_light_voice_is_one_turn() -> None:
    pcm = silence(600) + speech_like("Is the house on the hill still for sale?", "x", 1.0) + silence(900)
    assert len(turns(EnergyDetector, pcm)) == 1


def test_a_word_that_begins_with_the_session_is_a_turn_too() -> None:
    assert len(turns(EnergyDetector, speech_like("Yes.", "x", 1.0) + silence(900))) == 1


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_speech_survives_g711(kind: str) -> None:
    spoken = read_wav(CALLER)
    wire = encoded(spoken, kind)
    assert len(wire) == pytest.approx(len(spoken) / 48 * 8, abs=2)
    back = decoded(wire, kind)
    assert level_dbfs(back) == pytest.approx(level_dbfs(spoken), abs=1.0)
    assert encoded(decoded(wire, kind), kind)[100:-100] != bytes(len(wire) - 200)


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        ("audio/pcmu", {0xFF: 0, 0x7F: 0, 0x00: -32124, 0x80: 32124, 0xFE: 8}),
        ("audio/pcma", {0xD5: 8, 0x55: -8, 0xAA: 32256, 0x2A: -32256}),
    ],
)
def test_g711_codes_have_the_standards_values(kind: str, codes: dict[int, int]) -> None:
    from parley_understudy.g711 import _table

    assert {code: int(_table(kind)[code]) for code in codes} == codes


@pytest.mark.voice
def test_the_ears_hear_a_caller_also_over_the_telephone() -> None:
    spoken = read_wav(CALLER)
    assert ears.transcribe(spoken) == "Yes, that's correct."
    assert ears.transcribe(decoded(encoded(spoken, "audio/pcmu"), "audio/pcmu")) == "Yes, that's correct."


@pytest.mark.voice
@pytest.mark.parametrize("pcm", [b"", silence(50), silence(3000), noise(2000, -70)])
def test_the_ears_hear_nothing_in_nothing(pcm: bytes) -> None:
    assert ears.transcribe(pcm) == ""


@pytest.mark.voice
def test_a_turn_longer_than_the_encoder_likes_is_heard_to_its_end() -> None:
    text = ears.transcribe((read_wav(CALLER) + silence(900)) * 12)
    assert text.lower().count("correct") >= 11


@pytest.mark.voice
@pytest.mark.parametrize("speaker", sorted(voice.SPEAKERS))
def test_what_the_voice_says_the_ears_understand(speaker: str) -> None:
    pcm = voice.render("My name is Daniel Cooper.", speaker=speaker)
    assert ears.transcribe(pcm) == "My name is Daniel Cooper."
    assert voice.render("My name is Daniel Cooper.", speaker=speaker) == pcm


@pytest.mark.voice
def test_a_spelled_address_comes_through_voice_and_ears() -> None:
    heard = ears.transcribe(voice.render("My e-mail is daniel.cooper@example.com."))
    assert "daniel" in heard.lower()
    assert "example" in heard.lower()
    assert voice.render("") == b""
