"""What turns audio to text and text to audio: with models in full mode, without in light mode.

Behind one interface, so that a session does not know which it has. The caller's script, set on the control endpoint,
comes before either pair of ears.

Law: ears return text or raise; they never guess.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from parley_common.audio import read_text_tags
from parley_common.errors import Overloaded, Permanent
from parley_understudy.light_voice import speech_like
from parley_understudy.phrases import Phrases
from parley_understudy.pool import Pool
from parley_understudy.voice import speaker_for

_SCRIPT_LIMIT = 10_000


class Unintelligible(Permanent):
    """Caller audio from which no text can be made."""

    code = "audio_unintelligible"


class Faculties(Protocol):
    """Ears and voice."""

    speculates: bool
    """Whether hearing takes long enough to be worth beginning early."""

    async def hear(self, pcm: bytes) -> str:
        """Return what is said in PCM16 24 kHz; empty when nothing is. Raises ParleyError."""
        ...

    async def speak(self, text: str, voice: str, speed: float) -> bytes:
        """Return a sentence as PCM16 24 kHz. Raises ParleyError."""
        ...


class FullFaculties:
    """Models in worker processes."""

    speculates = True

    def __init__(self, pool: Pool, phrases: Phrases) -> None:
        self._pool = pool
        self._phrases = phrases

    async def hear(self, pcm: bytes) -> str:
        return str(await self._pool.do(["hear", pcm]))

    async def speak(self, text: str, voice: str, speed: float) -> bytes:
        speaker = speaker_for(voice)
        found = await asyncio.to_thread(self._phrases.find, text, speaker, speed)
        if found is not None:
            return found
        pcm = bytes(await self._pool.do(["speak", text, speaker, speed]))
        await asyncio.to_thread(self._phrases.keep, text, speaker, speed, pcm)
        return pcm


class LightFaculties:
    """No models: ears read the text tag, the voice writes it."""

    speculates = False

    async def hear(self, pcm: bytes) -> str:
        texts = read_text_tags(pcm)
        if not texts:
            raise Unintelligible(
                "the audio carries no text tag", remedy="tag it, script it, or run in full mode"
            )
        return " ".join(texts)

    async def speak(self, text: str, voice: str, speed: float) -> bytes:
        return await asyncio.to_thread(speech_like, text.strip(), voice, speed)


class CallerScript:
    """Transcripts for the turns to come, in whichever session they come."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, lines: Iterable[str]) -> None:
        """Append lines. Raises Overloaded when more than 10,000 would wait."""
        lines = list(lines)
        if len(self._lines) + len(lines) > _SCRIPT_LIMIT:
            raise Overloaded(f"the script may hold {_SCRIPT_LIMIT} lines")
        self._lines.extend(lines)

    def clear(self) -> None:
        """Forget what is left."""
        self._lines.clear()

    def next_line(self) -> str | None:
        """Take the next line; None when none is left."""
        return self._lines.popleft() if self._lines else None
