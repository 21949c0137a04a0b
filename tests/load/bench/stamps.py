"""Writes and reads the project's frame stamp fast enough for thousands of frames a second on a part of one core.

The layout is ``parley_common.audio``'s and its alone: its own writer makes the constant part here, and a test holds
both to each other. A stamp lies at the begin of each 20 ms frame; what follows it is silence or a tone, and the first
sample after the stamp tells which.

Law: a stamp whose checksum does not hold is no stamp.
"""

from __future__ import annotations

import math
import struct
import time
import zlib

from parley_common import audio

FRAME_BYTES = audio.FRAME_SAMPLES * audio.SAMPLE_BYTES
STAMP_BYTES = 352
"""176 samples: what a stamp takes of a frame."""
LEVEL_AT = STAMP_BYTES
HEAD_BYTES = 354
"""A stamp and the sample that tells the level: a multiple of three, so that its base64 stands alone."""
LOUD = 1_000
NUMBER_BITS = 20
NUMBERS = 1 << NUMBER_BITS
"""A sequence number is (caller, frame): 5.8 hours of frames for each of 4,095 callers."""
CALLERS_MAX = 4_095

_BLOCK_BYTES = STAMP_BYTES // 16
_STAMP = struct.Struct(">IQ")
_TABLE = tuple(
    b"".join(((byte >> bit) & 1).to_bytes(2, "little") for bit in range(7, -1, -1)) for byte in range(256)
)
_DIGITS = bytes(0x30 | (byte & 1) for byte in range(256))
_MODEL = audio.write_stamp(bytes(FRAME_BYTES), 0, 0)
_SYNC_AND_KIND = int(_MODEL[0:96:2].translate(_DIGITS), 2).to_bytes(6, "big")
_CONSTANT = _MODEL[:96]


def now_us() -> int:
    """Return the machine's monotonic time: the same clock in every process."""
    return time.monotonic_ns() // 1000


def write(seq: int, t_us: int) -> bytes:
    """Return the 352 bytes of a stamp on silence."""
    payload = _STAMP.pack(seq, t_us)
    check = zlib.crc32(payload, zlib.crc32(_SYNC_AND_KIND[4:])).to_bytes(4, "big")
    return _CONSTANT + b"".join([_TABLE[byte] for byte in payload + check])


def read(pcm: bytes) -> tuple[int, int] | None:
    """Return (sequence, microseconds) of the stamp at the begin of ``pcm``; null when there is none."""
    try:
        block = int(pcm[0:STAMP_BYTES:2].translate(_DIGITS), 2).to_bytes(_BLOCK_BYTES, "big")
    except ValueError:
        return None
    if block[:6] != _SYNC_AND_KIND or zlib.crc32(block[4:18]).to_bytes(4, "big") != block[18:]:
        return None
    return _STAMP.unpack_from(block, 6)


def seq_of(caller: int, number: int) -> int:
    """Return the sequence number of a caller's frame."""
    return caller << NUMBER_BITS | number


def is_loud(pcm: bytes) -> bool:
    """Say whether a stamped frame is speech, by the one sample after its stamp."""
    return abs(int.from_bytes(pcm[LEVEL_AT : LEVEL_AT + 2], "little", signed=True)) > LOUD


def tone(text: str = "Tell me a story.") -> bytes:
    """Return what follows the stamp in a frame of speech: 440 Hz, which carries ``text`` for ears that read tags."""
    samples = [
        round(8_000 * math.cos(2 * math.pi * 440 * n / audio.SAMPLE_RATE_HZ))
        for n in range(audio.FRAME_SAMPLES)
    ]
    whole = struct.pack(f"<{audio.FRAME_SAMPLES}h", *samples)
    return audio.write_text_tag(whole, text)[: FRAME_BYTES - STAMP_BYTES]


SILENCE = bytes(FRAME_BYTES - STAMP_BYTES)
