"""A business that the understudy has never met, with tools of its own: it works by text and by voice.

The tools, their words and their schemas occur nowhere else; whatever the brain makes of them, it reads from what the
session was given.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.understudy_running import Talk, talk, understudy
from parley_common.audio import silence
from parley_common.clock import ManualClock
from parley_understudy.brain import decide
from parley_understudy.light_voice import speech_like

INSTRUCTIONS = "You are Finn, who answers the phone for Pelican Kayak Rentals. Be brief."
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": "water_conditions",
        "description": "Tell how the water is: waves, wind and temperature at one of our beaches.",
        "parameters": {
            "type": "object",
            "properties": {
                "beach": {
                    "type": "string",
                    "enum": ["north", "south", "harbor"],
                    "description": "Which beach.",
                }
            },
            "required": ["beach"],
        },
    },
    {
        "type": "function",
        "name": "reserve_kayaks",
        "description": "Reserve kayaks for a group on a day.",
        "parameters": {
            "type": "object",
            "properties": {
                "kayak": {
                    "type": "string",
                    "enum": ["single", "double"],
                    "description": "Single or double kayak.",
                },
                "paddlers": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 12,
                    "description": "How many will paddle.",
                },
                "day": {"type": "string", "format": "date", "description": "The day, YYYY-MM-DD."},
            },
            "required": ["kayak", "paddlers", "day"],
        },
    },
    {
        "type": "function",
        "name": "report_lost_item",
        "description": "Report something that a guest lost on the water or left behind, so that staff look for it.",
        "parameters": {
            "type": "object",
            "properties": {
                "item": {"type": "string", "description": "What was lost, and what it looks like."},
                "name": {"type": "string", "description": "The guest's name."},
                "phone": {"type": "string", "description": "The guest's phone number."},
            },
            "required": ["item", "name", "phone"],
        },
    },
]
RESULTS: dict[str, Any] = {
    "water_conditions": {"waves_ft": 2, "wind": "light"},
    "reserve_kayaks": {"reservation": "K-204", "status": "reserved"},
    "report_lost_item": {"ticket": "L-17", "status": "open"},
}
LINES: list[tuple[str, list[tuple[str, dict[str, Any]]], str]] = [
    ("How is the water at the south beach?", [("water_conditions", {"beach": "south"})], "light"),
    ("I would like to reserve a double kayak for four people.", [], "day"),
    (
        "On January 10.",
        [("reserve_kayaks", {"kayak": "double", "paddlers": 4, "day": "2026-01-10"})],
        "K-204",
    ),
    ("Also I lost my sunglasses.", [], "name"),
    ("My name is Priya Nair.", [], "phone"),
    ("It is 415 555 0137.", [], "Priya Nair"),
    (
        "Yes, that's right.",
        [("report_lost_item", {"item": "sunglasses", "name": "Priya Nair", "phone": "415-555-0137"})],
        "L-17",
    ),
]
"""What the caller says, what is called with which arguments, and a word of the answer."""


class Desk:
    """The business's side of a session: answers calls and asks for what comes next, as any client does."""

    def __init__(self, conversation: Talk) -> None:
        self._conversation = conversation

    async def answered(self) -> tuple[list[tuple[str, dict[str, Any]]], str]:
        """Return the calls of this turn, made and answered, and the words that end it."""
        calls: list[tuple[str, dict[str, Any]]] = []
        while True:
            done = await self._conversation.until("response.done")
            assert done["response"]["status"] == "completed"
            output = done["response"]["output"]
            made = [item for item in output if item["type"] == "function_call"]
            if not made:
                (part,) = output[-1]["content"]
                return calls, part.get("transcript") or part["text"]
            for item in made:
                calls.append((item["name"], json.loads(item["arguments"])))
                result: Any = {
                    "type": "function_call_output",
                    "call_id": item["call_id"],
                    "output": json.dumps(RESULTS[item["name"]]),
                }
                await self._conversation.connection.conversation.item.create(item=result)
            await self._conversation.connection.response.create()


async def test_it_works_by_text() -> None:
    async with (
        understudy(brain=decide, clock=ManualClock(), pace=0) as running,
        talk(running, output_modalities=["text"], instructions=INSTRUCTIONS, tools=TOOLS) as conversation,
    ):
        desk = Desk(conversation)
        for says, calls, word in LINES:
            item: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": says}]}
            await conversation.connection.conversation.item.create(item=item)
            await conversation.connection.response.create()
            called, answer = await desk.answered()
            assert called == calls, says
            assert word in answer, says


@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
async def test_it_works_by_voice(kind: str) -> None:
    turns = {"input": {"turn_detection": {"type": kind}}}
    async with (
        understudy(brain=decide, clock=ManualClock(), pace=0) as running,
        talk(running, audio=turns, instructions=INSTRUCTIONS, tools=TOOLS) as conversation,
    ):
        desk = Desk(conversation)
        for says, calls, word in LINES:
            await conversation.microphone(
                silence(300) + speech_like(says, "caller", 1.0) + silence(900), speed=200
            )
            called, answer = await desk.answered()
            assert called == calls, says
            assert word in answer, says


async def test_two_requests_in_one_sentence_are_two_calls_of_one_response() -> None:
    async with (
        understudy(brain=decide, clock=ManualClock(), pace=0) as running,
        talk(running, output_modalities=["text"], instructions=INSTRUCTIONS, tools=TOOLS) as conversation,
    ):
        says = "How is the water at the north beach, and reserve a double kayak for two people on January 11 please."
        item: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": says}]}
        await conversation.connection.conversation.item.create(item=item)
        await conversation.connection.response.create()
        called, answer = await Desk(conversation).answered()
        first = conversation.of("response.done")[0]["response"]["output"]

    assert [name for name, _ in called] == ["water_conditions", "reserve_kayaks"]
    assert [item["name"] for item in first if item["type"] == "function_call"] == [name for name, _ in called]
    assert called[1][1] == {"kayak": "double", "paddlers": 2, "day": "2026-01-11"}
    assert "K-204" in answer
    assert "light" in answer
