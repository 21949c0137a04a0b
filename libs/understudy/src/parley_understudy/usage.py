"""Counts tokens: what a response read and wrote, in the API's own proportions.

Texts are counted by a rule of thumb, not by a tokenizer; audio is counted exactly: a caller's at 1 token per
100 ms, the agent's at 1 token per 50 ms, and again at that count when it is history.

Law: cached tokens are part of the input, per modality, in multiples of 64.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from parley_understudy.items import Item
from parley_understudy.wire import Event

_WORD = re.compile(r"\w+|[^\w\s]")
_MESSAGE_TOKENS = 4
_INSTRUCTIONS_TOKENS = 4
_SPOKEN_TOKENS, _WRITTEN_TOKENS, _CALL_TOKENS = 10, 3, 12
"""What a generated item costs beside its text: the median difference in the recordings."""

REASONING_TOKENS = {"minimal": 0, "low": 24, "medium": 64, "high": 128, "xhigh": 256}


@dataclass(frozen=True)
class Tokens:
    """Tokens of one direction, by modality."""

    text: int = 0
    audio: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.text + other.text, self.audio + other.audio)


def of_text(text: str) -> int:
    """Return roughly how many tokens a text has: one per word, number and sign."""
    return len(_WORD.findall(text))


def of_agent_audio(duration_ms: int) -> int:
    """Return the tokens of generated audio."""
    return duration_ms // 50


def of_context(instructions: str, tools: Iterable[Any], items: Iterable[Item]) -> Tokens:
    """Return what a response reads: instructions, tools and history, without what truncation took out."""
    total = Tokens(_INSTRUCTIONS_TOKENS + of_text(instructions) + sum(of_text(str(tool)) for tool in tools))
    for item in items:
        total += _of_item(item)
    return total


def of_output(item: Item, audio_ms: int) -> Tokens:
    """Return what it cost to generate an item, of which ``audio_ms`` was sent."""
    if item.kind == "function_call":
        return Tokens(_CALL_TOKENS + of_text(item.name) + of_text(item.arguments))
    part = item.content[0]
    if part.type == "output_text":
        return Tokens(_WRITTEN_TOKENS + of_text(part.text or ""))
    return Tokens(_SPOKEN_TOKENS + of_text(part.transcript or ""), of_agent_audio(audio_ms))


def report(
    read: Tokens, seen_before: Tokens, written: Tokens, reasoning: int, *, azure: bool = False
) -> Event:
    """Return the ``usage`` object. ``seen_before`` is what the session's last response read."""
    cached = Tokens(_cached(read.text, seen_before.text), _cached(read.audio, seen_before.audio))
    image = {} if azure else {"image_tokens": 0}
    output: Event = {"text_tokens": written.text + reasoning, "audio_tokens": written.audio}
    if reasoning:
        output["reasoning_tokens"] = reasoning
    read_count, written_count = read.text + read.audio, written.text + written.audio + reasoning
    return {
        "total_tokens": read_count + written_count,
        "input_tokens": read_count,
        "output_tokens": written_count,
        "input_token_details": {
            "text_tokens": read.text,
            "audio_tokens": read.audio,
            **image,
            "cached_tokens": cached.text + cached.audio,
            "cached_tokens_details": {"text_tokens": cached.text, "audio_tokens": cached.audio, **image},
        },
        "output_token_details": output,
    }


def transcription(model: str, audio_ms: int, transcript: str) -> Event:
    """Return the ``usage`` of a transcription: seconds for the whisper models, tokens for the others."""
    if "whisper" in model:
        return {"type": "duration", "seconds": -(-audio_ms // 1000) if transcript else 0}
    read, written = audio_ms // 100, of_text(transcript) + 2
    return {
        "type": "tokens",
        "total_tokens": read + written,
        "input_tokens": read,
        "input_token_details": {"text_tokens": 0, "audio_tokens": read},
        "output_tokens": written,
    }


def _of_item(item: Item) -> Tokens:
    if item.truncated:
        return Tokens()
    if item.kind == "function_call":
        return Tokens(_CALL_TOKENS + of_text(item.arguments))
    if item.kind == "function_call_output":
        return Tokens(_MESSAGE_TOKENS + of_text(item.output))
    total = Tokens(_MESSAGE_TOKENS)
    for part in item.content:
        if part.type == "input_audio":
            total += Tokens(0, part.audio_ms // 100)
        elif part.type == "output_audio":
            total += Tokens(of_text(part.transcript or ""), of_agent_audio(part.audio_ms))
        else:
            total += Tokens(of_text(part.text or ""))
    return total


def _cached(now: int, before: int) -> int:
    return min(now, before) // 64 * 64
