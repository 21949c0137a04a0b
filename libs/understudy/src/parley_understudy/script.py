"""The order of a response's events: a decision laid out as steps, before any of them is sent.

It does not time or send them. Calls of the 2.x models begin while the comment before them is still open.

Law: a decision and a flavour give one script; replaying it needs only the rendered audio.
Source: recordings ga_openai_tool_call_round and ga_openai_tool_call_round_2.1_interleaved.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeAlias

from parley_understudy.brain.types import Decision
from parley_understudy.flavours import Flavour
from parley_understudy.items import Item, Part
from parley_understudy.sentences import json_pieces, sentences, words
from parley_understudy.wire import Ids


@dataclass(frozen=True, slots=True)
class Open:
    """Announce an item."""

    item: Item


@dataclass(frozen=True, slots=True)
class Piece:
    """Send some characters of an item's text, transcript or arguments."""

    item: Item
    text: str


@dataclass(frozen=True, slots=True)
class Voice:
    """Send the audio of one sentence, as soon as it is rendered."""

    item: Item
    sentence: int


@dataclass(frozen=True, slots=True)
class Shut:
    """Send an item's ``done`` events."""

    item: Item


Step: TypeAlias = Open | Piece | Voice | Shut


@dataclass(frozen=True)
class Script:
    """A response's steps, and the sentences to render."""

    steps: tuple[Step, ...]
    sentences: tuple[str, ...]


def script_of(decision: Decision, flavour: Flavour, ids: Ids, *, spoken: bool) -> Script:
    """Lay out a decision."""
    comment, spoken_sentences = _comment(decision, flavour, ids, spoken=spoken)
    calls = [_call(call.name, json.dumps(call.arguments, ensure_ascii=False), ids) for call in decision.calls]
    steps: list[Step] = []
    if comment is not None:
        steps += [Open(comment), *_message_steps(comment, decision.say, spoken_sentences)]
        if not (calls and flavour.reasons):
            steps.append(Shut(comment))
    for at, (call, arguments) in enumerate(calls):
        steps += [Open(call), *(Piece(call, piece) for piece in json_pieces(arguments))]
        if at == 0 and comment is not None and flavour.reasons:
            steps.append(Shut(comment))
        steps.append(Shut(call))
    return Script(tuple(steps), tuple(spoken_sentences))


def _comment(
    decision: Decision, flavour: Flavour, ids: Ids, *, spoken: bool
) -> tuple[Item | None, list[str]]:
    if not decision.say:
        return None, []
    part = Part("output_audio", transcript="") if spoken else Part("output_text", text="")
    phase = ("commentary" if decision.calls else "final_answer") if flavour.reasons else None
    item = Item(ids.new("item_"), "message", "assistant", "in_progress", [part], phase=phase, generated=True)
    return item, sentences(decision.say) if spoken else []


def _call(name: str, arguments: str, ids: Ids) -> tuple[Item, str]:
    item = Item(ids.new("item_"), "function_call", status="in_progress", name=name, generated=True)
    item.call_id = ids.new("call_")
    return item, arguments


def _message_steps(item: Item, say: str, spoken_sentences: list[str]) -> list[Step]:
    if not spoken_sentences:
        return [Piece(item, word) for word in words(say)]
    steps: list[Step] = []
    for at, sentence in enumerate(spoken_sentences):
        steps += [Piece(item, word) for word in words(sentence)]
        steps.append(Voice(item, at))
    return steps
