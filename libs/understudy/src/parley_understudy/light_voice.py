"""A voice without a model: one tone per word, about as long as speech, carrying its transcript in the lowest bits.

It is not meant to be understood by ear. Level, rhythm and length are those of speech, so that turn detection,
playout and barge-in meet what they would meet.

Law: the same text, voice and speed give the same samples.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np

from parley_common.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ, Signal, from_signal, write_text_tag

_CHARS_PER_S = 15.0
_LEAD_MS, _GAP_MS, _TAIL_MS = 40, 45, 120
_TEXT_BYTES_PER_FRAME = 46
_LEVEL = 0.22
_PITCH_HZ = {"cedar": 110, "ash": 120, "echo": 125, "verse": 140, "ballad": 150, "marin": 190, "alloy": 185}


@lru_cache(maxsize=256)
def speech_like(text: str, voice: str, speed: float) -> bytes:
    """Return PCM16 24 kHz for a text: about a second per 15 characters at speed 1, tagged with the text."""
    parts = [_rest(_LEAD_MS)]
    for word in text.split():
        parts += [_tone(word, _PITCH_HZ.get(voice, 200), speed), _rest(_GAP_MS)]
    parts.append(_rest(_TAIL_MS))
    least = FRAME_SAMPLES * (len(text.encode()) // _TEXT_BYTES_PER_FRAME + 1)
    signal = np.concatenate(parts)
    signal = np.pad(signal, (0, max(0, least - signal.size)))
    return write_text_tag(from_signal(signal), text)


def _rest(duration_ms: int) -> Signal:
    return np.zeros(duration_ms * SAMPLE_RATE_HZ // 1000, np.float32)


def _tone(word: str, pitch_hz: float, speed: float) -> Signal:
    """Return a harmonic tone with a speech-like swell; pitch and colour follow from the word."""
    seed = zlib.crc32(word.encode())
    duration_s = max(0.08, (len(word) + 1) / _CHARS_PER_S / speed - _GAP_MS / 1000)
    t = np.arange(int(duration_s * SAMPLE_RATE_HZ), dtype=np.float32) / SAMPLE_RATE_HZ
    base = pitch_hz * (0.9 + 0.2 * (seed % 97) / 97)
    phase = 2 * np.pi * base * t * (1 - 0.05 * t / duration_s)
    weights = [1.0, *(0.25 + 0.5 * ((seed >> shift) % 16) / 16 for shift in (3, 7, 11, 15))]
    wave = sum(weight / rank * np.sin(rank * phase) for rank, weight in enumerate(weights, 1))
    swell = np.minimum(1, np.minimum(t / 0.02, (duration_s - t) / 0.04))
    return np.asarray(_LEVEL * wave * np.clip(swell, 0, 1), np.float32)
