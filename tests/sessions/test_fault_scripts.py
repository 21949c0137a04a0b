"""Two hundred seeded fault scripts: whatever upstream does, callers are answered or told, and a session ends once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fakes.conversation import Client, Conversation, Line, conversation
from parley_session.core.config import Limits

SCRIPTS = 200
SERVER_EVENTS = (
    "session.created",
    "session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "response.created",
    "response.output_item.added",
    "response.output_audio.delta",
    "response.output_audio_transcript.delta",
    "response.output_audio.done",
    "response.output_item.done",
    "response.done",
)
CLIENT_EVENTS = (
    "session.update",
    "conversation.item.create",
    "response.create",
    "conversation.item.truncate",
)
LINES = (
    Line("What is DSCR?"),
    Line("Please look up the rate.", typed=True),
    Line("Tell me a story."),
    Line("And what about insurance?", into_ms=1_500),
    Line("Thank you very much.", typed=True),
)
LIMITS = Limits(
    session_max_ms=10**9,
    idle_hangup_ms=None,
    reconnect_ms=20_000,
    upstream_silent_ms=8_000,
    rollover_ms=60_000,
)


def script(dice: random.Random) -> dict[str, Any]:
    """Return a script of one to four faults, all kinds of them, each at some moment of a session."""
    return {"seed": dice.randrange(10**6), "rules": [_rule(dice) for _ in range(dice.randint(1, 4))]}


def _rule(dice: random.Random) -> dict[str, Any]:
    kind = dice.choice(("server", "server", "response", "client", "moment"))
    if kind == "server":
        when: Any = {"server": dice.choice(SERVER_EVENTS), "nth": dice.randint(1, 4)}
        acts = [
            "drop",
            "silence",
            "duplicate",
            "swap",
            "lose",
            "malformed",
            {"delay_ms": dice.randint(1, 3_000)},
        ]
        acts += [{"close": dice.choice((1001, 1006 - 5, 1011, 1012))}, {"error": "server_error"}]
        acts += [{"send": {"type": "response.something.new", "x": 1}}]
        if when["server"] == "response.output_audio.delta":
            acts.append("odd_audio")
        if when["server"] == "input_audio_buffer.committed":
            acts += [{"transcript": t} for t in ("missing", "failed", "after_next", {"late_ms": 4_000})]
    elif kind == "response":
        when = {"response": dice.randint(1, 5)}
        acts = [{"fail": code} for code in ("server_error", "insufficient_quota")]
        acts += [{"fail": {"code": "rate_limit_exceeded", "retry_after_s": dice.choice((0.5, 3, 600))}}]
        acts += [{"incomplete": why} for why in ("content_filter", "max_output_tokens")]
        acts += [{"cancel": "turn_detected"}, {"late_deltas": 3}, {"messages": 3}]
        acts += [{"call": {"name": "look_up", "arguments": {"what": "x"}}}]
    elif kind == "client":
        when = {"client": dice.choice(CLIENT_EVENTS), "nth": dice.randint(1, 3)}
        acts = ["drop", "lose", "expire", {"error": "invalid_value"}]
        acts += ["collide"] if when["client"] == "response.create" else []
    else:
        when = {"at_ms": dice.randint(100, 40_000)}
        acts = ["drop", "silence", "expire", {"close": 1011}]
    return {"when": when, "do": dice.choice(acts)}


@pytest.mark.parametrize("batch", range(10))
async def test_callers_are_answered_or_told_and_every_session_ends_once(batch: int) -> None:
    for seed in range(batch * SCRIPTS // 10, (batch + 1) * SCRIPTS // 10):
        dice = random.Random(seed)
        scripts = [script(dice) for _ in range(dice.randint(1, 3))]
        talk = conversation(LINES, limits=LIMITS, faults=scripts, seed=seed)
        end = await talk.run(600_000)
        story = f"seed {seed}: {scripts}: {end}: {talk.client.shown}"
        assert end.reason in {"caller", "failed"}, story
        assert end.reason == "caller" or (end.code and end.code in talk.client.shown.errors), story
        assert len(talk.facts.ends) == 1, story
        assert end.reason == "failed" or unanswered(talk) == [], story
        nothing_beyond_what_was_received(talk.client, story)


def unanswered(talk: Conversation) -> list[str]:
    """Return what the caller said that neither an answer nor an error followed."""
    shown = talk.client.shown
    if shown.errors:
        return []
    items = [t for _, t in sorted(shown.transcripts.items())]
    said = [i for i, t in enumerate(items) if t.role == "user" and t.text]
    followed = {i for i in said if any(t.role == "assistant" and t.text for t in items[i + 1 :])}
    return [items[i].text for i in said if i not in followed]


def nothing_beyond_what_was_received(client: Client, story: str) -> None:
    assert client.playout is not None or client.shown.errors, story
    for item in client.playout.items if client.playout else ():
        assert item.played <= item.received, story
