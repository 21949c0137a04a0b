"""G.711: mu-law and A-law at 8 kHz, to and from PCM16 at 24 kHz, and the audio formats of the session object.

Law: inside the understudy audio is PCM16 mono 24 kHz; only here does it become what a client asked for.
Source: ITU-T G.711 (1988), tables 1 and 2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parley_common.audio import SAMPLE_RATE_HZ, as_samples, resample

_G711_HZ = 8_000


def decoded(data: bytes, kind: str) -> bytes:
    """Return client audio of a session format as PCM16 24 kHz."""
    if kind == "audio/pcm":
        return data
    narrow = _table(kind)[np.frombuffer(data, np.uint8)].astype("<i2").tobytes()
    return resample(narrow, _G711_HZ, SAMPLE_RATE_HZ)


def encoded(pcm: bytes, kind: str) -> bytes:
    """Return PCM16 24 kHz in a session format."""
    if kind == "audio/pcm":
        return pcm
    levels, codes = _inverse(kind)
    narrow = as_samples(resample(pcm, SAMPLE_RATE_HZ, _G711_HZ)).astype(np.int32)
    middles = (levels[1:] + levels[:-1]) // 2
    return codes[np.searchsorted(middles, narrow)].tobytes()


def bytes_per_ms(kind: str) -> int:
    """Return how many bytes a millisecond takes: 48 for PCM16 24 kHz, 8 for G.711."""
    return 48 if kind == "audio/pcm" else 8


@lru_cache(maxsize=2)
def _table(kind: str) -> NDArray[Any]:
    """Return the PCM16 value of each of the 256 codes."""
    code = np.arange(256)
    if kind == "audio/pcmu":
        inverted = ~code & 0xFF
        magnitude = (((inverted & 0x0F) << 3) + 0x84 << ((inverted & 0x70) >> 4)) - 0x84
        return np.where(inverted & 0x80, -magnitude, magnitude)
    toggled = code ^ 0x55
    segment, step = (toggled & 0x70) >> 4, (toggled & 0x0F) << 4
    magnitude = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    return np.where(toggled & 0x80, magnitude, -magnitude)


@lru_cache(maxsize=2)
def _inverse(kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    table = _table(kind)
    order = np.argsort(table, kind="stable")
    return table[order], order.astype(np.uint8)
