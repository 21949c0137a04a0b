"""What stands around the voice and the ears: spoken forms, sentences, phrases kept, the light voice, transcripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_common.audio import bytes_to_ms, level_dbfs, read_text_tags
from parley_common.errors import Overloaded
from parley_understudy.ears import cleaned
from parley_understudy.faculties import CallerScript, LightFaculties, Unintelligible
from parley_understudy.light_voice import speech_like
from parley_understudy.phrases import Phrases
from parley_understudy.sentences import json_pieces, sentences, words
from parley_understudy.spoken import spoken_form
from parley_understudy.voice import SPEAKERS, speaker_for


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Write to daniel.cooper@example.com.", "Write to daniel dot cooper at example dot com."),
        ("a_b+7@mail.example.org", "a underscore b plus 7 at mail dot example dot org"),
        ("See https://www.example.com/loans.", "See www dot example dot com slash loans."),
        ("Visit example.com, please.", "Visit example dot com, please."),
        ("Call 555-0142.", "Call 5 5 5, 0 1 4 2."),
        ("Call 415-555-0142, ext. 7", "Call 4 1 5, 5 5 5, 0 1 4 2, extension 7"),
        ("1,200 sq. ft. & more", "1,200 square feet and more"),
        ("$900/mo w/o fees", "$900 per month without fees"),
        ("Case #42", "Case number 42"),
        ("Your code is A1B-22X.", "Your code is A 1 B dash 2 2 X."),
        ("$300,000 at 7.25% by 3:30 PM", "$300,000 at 7.25% by 3:30 PM"),
        ("A W-2 and a DSCR of 1.25", "A W-2 and a DSCR of 1.25"),
        ("", ""),
    ],
)
def test_what_the_voice_would_stumble_over_is_spelled_out(written: str, spoken: str) -> None:
    assert spoken_form(written) == spoken


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Got it. Let me look!  Is that fine?", ["Got it.", " Let me look!", "  Is that fine?"]),
        ("Dr. Smith met J. K. Rowe at 3 p.m. They left.", ["Dr. Smith met J. K. Rowe at 3 p.m. They left."]),
        ("It is 7.25% today. $300 is due.", ["It is 7.25% today.", " $300 is due."]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences_end_where_sentences_end(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


@given(st.text(max_size=600))
def test_sentences_words_and_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text
    assert "".join(words(text)) == text
    assert "".join(json_pieces(text)) == text


def test_a_sentence_without_an_end_is_cut_so_that_first_audio_is_near() -> None:
    endless = "and then we went on, " * 60
    assert max(map(len, sentences(endless))) <= 240
    assert max(map(len, sentences("x" * 1000))) <= 240


@pytest.mark.parametrize(
    ("raw", "text"), [("You", ""), (" you. ", ""), ("You!", ""), ("Thank  you.", "Thank you."), ("", "")]
)
def test_a_lone_you_is_what_the_model_makes_of_nothing(raw: str, text: str) -> None:
    assert cleaned(raw) == text


def test_the_light_voice_is_as_long_and_as_loud_as_speech_and_carries_its_text() -> None:
    text = "I am looking at a duplex that rents for two thousand four hundred."
    pcm = speech_like(text, "marin", 1.0)
    assert bytes_to_ms(len(pcm)) == pytest.approx(len(text) / 15 * 1000, rel=0.15)
    assert -26 < level_dbfs(pcm) < -14
    assert read_text_tags(pcm) == [text]
    speech_like.cache_clear()
    assert speech_like(text, "marin", 1.0) == pcm
    assert len(speech_like(text, "marin", 1.5)) < len(pcm)


@given(st.text(max_size=200))
def test_the_light_voice_can_say_anything(text: str) -> None:
    assert read_text_tags(speech_like(text, "marin", 1.0)) == [text]


async def test_light_ears_read_every_tag_and_admit_when_there_is_none() -> None:
    light = LightFaculties()
    pcm = await light.speak("One.", "marin", 1.0) + await light.speak(" Two.", "marin", 1.0)
    assert await light.hear(pcm) == "One. Two."
    with pytest.raises(Unintelligible):
        await light.hear(bytes(48_000))


def test_every_voice_of_the_api_has_a_speaker() -> None:
    for voice in (
        "alloy",
        "ash",
        "ballad",
        "coral",
        "echo",
        "sage",
        "shimmer",
        "verse",
        "marin",
        "cedar",
        "voice_x",
    ):
        assert speaker_for(voice) in SPEAKERS
    assert speaker_for("deep") == "deep"


def test_phrases_are_found_again_by_text_voice_and_speed(tmp_path: Path) -> None:
    phrases = Phrases(tmp_path / "phrases")
    phrases.keep("Hello.", "heart", 1.0, b"ab")
    assert phrases.find("Hello.", "heart", 1.0) == b"ab"
    assert phrases.find("Hello.", "low", 1.0) is None
    assert phrases.find("Hello.", "heart", 1.1) is None
    assert Phrases(tmp_path / "phrases").find("Hello.", "heart", 1.0) == b"ab", "from disk"
    assert Phrases().find("Hello.", "heart", 1.0) is None


def test_memory_and_disk_are_bounded_and_the_least_used_go_first(tmp_path: Path) -> None:
    phrases = Phrases(memory_bytes=100)
    for name in "abc":
        phrases.keep(name, "v", 1.0, bytes(40))
        phrases.find("a", "v", 1.0)
    assert phrases.find("a", "v", 1.0) is not None
    assert phrases.find("b", "v", 1.0) is None

    Phrases(tmp_path).keep("old", "v", 1.0, bytes(400))
    (tmp_path / "half.partial").write_bytes(b"x")
    assert Phrases(tmp_path, disk_bytes=100).find("old", "v", 1.0) is None
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_still_serves_from_memory(tmp_path: Path) -> None:
    phrases = Phrases(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    phrases.keep("Hello.", "v", 1.0, b"ab")
    assert phrases.find("Hello.", "v", 1.0) == b"ab"


def test_the_callers_script_is_taken_line_by_line_and_is_bounded() -> None:
    script = CallerScript()
    script.add(["one", "two"])
    assert [script.next_line(), len(script), script.next_line(), script.next_line()] == [
        "one",
        1,
        "two",
        None,
    ]
    with pytest.raises(Overloaded):
        script.add(["x"] * 10_001)
