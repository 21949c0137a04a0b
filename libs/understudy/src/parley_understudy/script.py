"""The order of a response's events: a decision laid out as steps, before any of them is sent.

It does not time or send them. Calls of the 2.x models begin while the comment before them is still open.

Law: a decision and its form give one script; replaying it needs only the rendered audio.
Source: recordings ga_openai_tool_call_round and ga_openai_tool_call_round_2.1_interleaved.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

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


@dataclass(frozen=True)
class Form:
    """How a decision is said: by which model, aloud or in text, and as how many messages."""

    flavour: Flavour
    spoken: bool
    messages_count: int = 1


def script_of(decision: Decision, form: Form, ids: Ids) -> Script:
    """Lay out a decision."""
    flavour = form.flavour
    calls = [_call(call.name, _arguments(call.arguments, flavour), ids) for call in decision.calls]
    steps: list[Step] = []
    spoken_sentences: list[str] = []
    open_message: Item | None = None
    parts = _parts(decision.say, form.messages_count)
    for at, said in enumerate(parts, 1):
        message = _message(form, ids, commented=bool(calls))
        steps += [Open(message), *_message_steps(message, said, len(spoken_sentences), spoken=form.spoken)]
        spoken_sentences += said if form.spoken else []
        if at == len(parts) and calls and flavour.reasons:
            open_message = message
        else:
            steps.append(Shut(message))
    for at, (call, arguments) in enumerate(calls):
        steps += [Open(call), *(Piece(call, piece) for piece in json_pieces(arguments))]
        if at == 0 and open_message is not None:
            steps.append(Shut(open_message))
        steps.append(Shut(call))
    return Script(tuple(steps), tuple(spoken_sentences))


def _parts(say: str, messages_count: int) -> list[list[str]]:
    """Return the sentences of each message, as evenly as they can be shared out."""
    said = sentences(say)
    count = min(messages_count, len(said))
    edges = [round(at * len(said) / count) for at in range(count + 1)] if count else []
    return [said[begin:end] for begin, end in pairwise(edges)]


def _message(form: Form, ids: Ids, *, commented: bool) -> Item:
    part = Part("output_audio", transcript="") if form.spoken else Part("output_text", text="")
    phase = ("commentary" if commented else "final_answer") if form.flavour.reasons else None
    return Item(ids.new("item_"), "message", "assistant", "in_progress", [part], phase=phase, generated=True)


def _call(name: str, arguments: str, ids: Ids) -> tuple[Item, str]:
    item = Item(ids.new("item_"), "function_call", status="in_progress", name=name, generated=True)
    item.call_id = ids.new("call_")
    return item, arguments


def _arguments(arguments: dict[str, Any], flavour: Flavour) -> str:
    if flavour.azure:  # pretty-printed, with white space at the end of each line and of the text (recorded)
        return json.dumps(arguments, ensure_ascii=False, indent=2).replace("\n", " \n") + " \n"
    return json.dumps(arguments, ensure_ascii=False)


def _message_steps(item: Item, said: list[str], first_sentence: int, *, spoken: bool) -> list[Step]:
    steps: list[Step] = []
    for at, sentence in enumerate(said, first_sentence):
        steps += [Piece(item, word) for word in words(sentence)]
        if spoken:
            steps.append(Voice(item, at))
    return steps
