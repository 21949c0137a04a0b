"""The scripted caller speaks when the agent has finished, or into it on purpose, and never waits for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.gateway import pattern
from parley_common import audio
from parley_launcher.talk.turns import (
    WAIT,
    Answering,
    CallerTurn,
    Finished,
    Greeting,
    NoAnswer,
    Observed,
    Patience,
    Say,
    Talking,
    decide,
    spoken,
    typed,
)

PATIENCE = Patience(quiet_ms=400, greeting_ms=3_000, answer_ms=30_000)
LISTENING = Observed(
    now_ms=0, state="listening", drained=True, played_samples=0, active_at_ms=0, stirred_at_ms=None
)
HELLO = typed("hello")


def seen(**changes: object) -> Observed:
    return replace(LISTENING, **changes)  # type: ignore[arg-type]


def test_the_caller_waits_for_a_greeting_that_may_come() -> None:
    assert decide(Greeting(0), seen(now_ms=2_999), HELLO, PATIENCE) == (Greeting(0), WAIT)


def test_the_caller_begins_when_no_greeting_came() -> None:
    assert decide(Greeting(0), seen(now_ms=3_000), HELLO, PATIENCE)[1] == Say(HELLO)


def test_the_caller_begins_when_the_greeting_was_played_and_it_was_quiet() -> None:
    greeted = seen(stirred_at_ms=10, active_at_ms=1_000)

    assert decide(Greeting(0), replace(greeted, now_ms=1_399), HELLO, PATIENCE)[1] == WAIT
    assert decide(Greeting(0), replace(greeted, now_ms=1_400), HELLO, PATIENCE)[1] == Say(HELLO)


@pytest.mark.parametrize(
    "busy", [{"drained": False}, {"state": "thinking"}, {"state": "speaking"}, {"state": "using_tool"}]
)
def test_the_caller_says_nothing_while_the_agent_holds_the_floor(busy: dict[str, object]) -> None:
    busy_agent = seen(now_ms=9_000, stirred_at_ms=1, active_at_ms=2_000, **busy)

    assert decide(Answering(1_000, 1_000, 0), busy_agent, HELLO, PATIENCE)[1] == WAIT


def test_an_agent_that_still_listens_has_not_answered() -> None:
    just_typed = Answering(since_ms=5_000, said_at_ms=5_000, played_before=0)

    assert decide(just_typed, seen(now_ms=6_000, stirred_at_ms=100), None, PATIENCE)[1] == WAIT


def test_all_is_said_when_the_last_answer_is_over() -> None:
    answered = seen(now_ms=9_000, stirred_at_ms=5_100, active_at_ms=8_600)

    assert decide(Answering(5_000, 5_000, 0), answered, None, PATIENCE)[1] == Finished()


def test_an_agent_that_never_answers_is_given_up() -> None:
    waiting = Answering(since_ms=5_000, said_at_ms=4_000, played_before=0)

    assert decide(waiting, seen(now_ms=35_000, stirred_at_ms=10), None, PATIENCE)[1] == NoAnswer(30_000)


def test_an_answer_that_began_within_a_noisy_file_counts_in_the_end() -> None:
    waiting = Answering(since_ms=5_000, said_at_ms=1_000, played_before=0)

    assert decide(waiting, seen(now_ms=35_000, stirred_at_ms=4_000), None, PATIENCE)[1] == Finished()


def test_a_barge_in_comes_so_far_into_the_audio_of_this_answer() -> None:
    turn = spoken("stop.wav", pattern(1, 0, 4_800), barge_in_ms=300)
    answering = Answering(since_ms=0, said_at_ms=0, played_before=audio.ms_to_samples(1_000))
    speaking = seen(now_ms=900, state="speaking", drained=False, stirred_at_ms=1)

    early = replace(speaking, played_samples=audio.ms_to_samples(1_299))
    late = replace(speaking, played_samples=audio.ms_to_samples(1_300))
    assert decide(answering, early, turn, PATIENCE)[1] == WAIT
    assert decide(answering, late, turn, PATIENCE)[1] == Say(turn)


def test_an_answer_shorter_than_the_barge_in_is_simply_followed() -> None:
    turn = typed("next", barge_in_ms=5_000)
    over = seen(now_ms=2_000, stirred_at_ms=100, active_at_ms=1_000, played_samples=audio.ms_to_samples(700))

    assert decide(Answering(0, 0, 0), over, turn, PATIENCE)[1] == Say(turn)


def test_a_file_is_talked_to_its_end_and_its_answer_counts_from_the_end_of_its_speech() -> None:
    pcm = audio.silence(100) + pattern(1, 0, audio.ms_to_samples(200)) + audio.silence(300)
    turn = spoken("ask.wav", pcm)
    assert (turn.speech_starts_ms, turn.speech_ends_ms) == (100, 300)

    phase, action = decide(Greeting(0), seen(now_ms=3_000), turn, PATIENCE)
    assert (phase, action) == (Talking(3_000, 3_600, 3_300), Say(turn))
    assert decide(phase, seen(now_ms=3_599), None, PATIENCE) == (phase, WAIT)
    assert decide(phase, seen(now_ms=3_600), None, PATIENCE)[0] == Answering(3_300, 3_000, 0)


def test_a_silent_file_counts_as_speech_throughout() -> None:
    turn = spoken("silence.wav", audio.silence(200))

    assert (turn.speech_starts_ms, turn.speech_ends_ms) == (0, 200)
    assert turn == CallerTurn("silence.wav", pcm=audio.silence(200), speech_ends_ms=200)
