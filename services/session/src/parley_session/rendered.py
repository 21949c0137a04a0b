"""Rendered speech: audio of fixed sentences, made once by ``parley render`` and played without a response.

One file per sentence, named by what it depends on (text, voice, speed, model), so that a changed sentence is
never played in its old words. Decides nothing about when it is played.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from parley_common.business import Business
from parley_common.contracts.audio_link import BYTES_PER_SAMPLE
from parley_session.core.config import LocalAudio

NAMES = ("greeting", "filler", "apology")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence to render, and in whose voice."""

    name: str
    text: str
    voice: str
    speed: float
    model: str

    @property
    def file_name(self) -> str:
        """Return a name that changes with everything the audio depends on."""
        parts = (self.text, self.voice, f"{self.speed:g}", self.model)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32] + ".pcm"


def sentences(business: Business, default_model: str) -> list[Sentence]:
    """Return what can be rendered for a business."""
    agent, voice = business.config.agent, business.config.voice
    texts = {"greeting": agent.greeting, "filler": agent.filler, "apology": agent.apology}
    model = voice.model or default_model
    return [Sentence(name, text, voice.voice, voice.speed, model) for name in NAMES if (text := texts[name])]


def load(
    business: Business, default_model: str, folder: Path
) -> tuple[tuple[LocalAudio, ...], dict[str, bytes]]:
    """Return what has been rendered for a business: for the core, and the PCM by name."""
    audio, pcm_of = [], {}
    for sentence in sentences(business, default_model):
        pcm = _read(folder / sentence.file_name)
        if pcm:
            audio.append(LocalAudio(sentence.name, sentence.text, len(pcm) // BYTES_PER_SAMPLE))
            pcm_of[sentence.name] = pcm
    return tuple(audio), pcm_of


def _read(path: Path) -> bytes:
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError:
        return b""
    return _read_cached(path, changed_ns)


@lru_cache(maxsize=256)
def _read_cached(path: Path, _changed_ns: int) -> bytes:
    """Read once per process and version: hundreds of sessions greet with the same bytes."""
    return path.read_bytes()
