"""Whole sessions under a clock that the test moves: the real conductor against the understudy, hours in seconds."""

from __future__ import annotations

from fakes.conversation import Line, conversation
from parley_common.ids import derived_id
from parley_session.core.config import Limits, TurnTaking

FREE = Limits(session_max_ms=10**9, idle_hangup_ms=None)


async def test_a_session_says_hears_calls_and_is_told_once() -> None:
    talk = conversation(
        [Line("What is DSCR?"), Line("Please look up the rate."), Line("Thank you.", typed=True)]
    )
    end = await talk.run(120_000)
    assert (end.reason, end.turns, end.tool_calls) == ("caller", 3, 1)
    assert talk.client.shown.errors == []
    assert talk.client.playout is not None
    assert talk.client.playout.oddities == {}
    said = " ".join(talk.client.shown.said("assistant"))
    assert "You said: What is DSCR?" in said
    assert "It is blue" in said
    assert "You said: Thank you." in said
    ((fact, fact_id),) = talk.facts.ends
    assert fact_id == derived_id("01890000-0000-7000-8000-000000000001", "ended")
    assert (fact.turns, fact.outcome) == (3, "none")


async def test_talking_over_the_agent_is_told_as_heard_and_truncated_to_it() -> None:
    talk = conversation([Line("Tell me a story."), Line("Stop, please.", into_ms=2_000)])
    end = await talk.run(120_000)
    assert (end.reason, end.barge_ins) == ("caller", 1)
    (flush,) = talk.client.flushed
    heard = next(t for t in talk.client.shown.transcripts.values() if t.heard is not None)
    assert heard.item == flush[1]
    assert heard.text.startswith(str(heard.heard))
    assert len(str(heard.heard)) < len(heard.text)
    barged = next(turn for turn in talk.facts.turns if turn.barged_in)
    assert barged.heard_ms == flush[2] // 24


async def test_seventy_minutes_roll_over_twice_and_no_turn_is_lost() -> None:
    """Expiry after 25 minutes, replaced at 24: as on Azure with a minute to spare."""
    lines = [Line(f"Question number {n}, please?", after_ms=90_000) for n in range(1, 46)]
    limits = Limits(session_max_ms=10**9, idle_hangup_ms=None, rollover_ms=24 * 60_000)
    talk = conversation(lines, limits=limits, expiry_s=25 * 60)
    end = await talk.run(4_600_000)
    assert end.duration_ms > 70 * 60_000
    assert (end.reason, end.turns, end.reconnects) == ("caller", len(lines), 0)
    assert len(talk.dials) == 3, "two roll-overs"
    assert talk.client.shown.errors == talk.client.shown.notices == []
    answered = " ".join(talk.client.shown.said("assistant"))
    assert [line.text for line in lines if f"You said: {line.text}" not in answered] == []
    assert len(talk.facts.ends) == 1


async def test_an_expiry_that_comes_in_mid_speech_loses_no_turn() -> None:
    lines = [Line(f"Question number {n}, please?", after_ms=500) for n in range(1, 25)]
    limits = Limits(session_max_ms=10**9, idle_hangup_ms=None, rollover_ms=None)
    talk = conversation(lines, limits=limits, expiry_s=31)
    end = await talk.run(600_000)
    assert (end.reason, talk.client.shown.errors) == ("caller", [])
    assert end.reconnects == len(talk.dials) - 1 >= 3
    answered = " ".join(talk.client.shown.said("assistant"))
    assert [line.text for line in lines if line.text.split(",")[0] not in answered] == []


async def test_a_confirmed_barge_in_holds_against_the_understudy() -> None:
    talk = conversation(
        [Line("Tell me a story."), Line("Wait, I have another question for you.", into_ms=2_000)],
        turn_taking=TurnTaking(barge_in="confirm"),
    )
    end = await talk.run(120_000)
    assert (end.reason, end.barge_ins) == ("caller", 1)
    assert "another question" in " ".join(talk.client.shown.said("assistant"))


async def test_where_barge_in_is_off_the_story_is_heard_to_its_end_and_then_answered() -> None:
    talk = conversation(
        [Line("Tell me a story."), Line("And another question.", into_ms=2_000)],
        turn_taking=TurnTaking(barge_in="off"),
    )
    end = await talk.run(180_000)
    assert (end.reason, end.barge_ins) == ("caller", 0)
    said = talk.client.shown.said("assistant")
    assert said[0].endswith("on a Friday.")
    assert "You said: And another question." in said[-1]
