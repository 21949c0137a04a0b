"""PCM16 mono 24 kHz: units, level, resampling, WAV files, and the tag carried in the samples' lowest bits.

It does not play, record or encode anything for the wire; G.711 and Opus belong to those who speak them.

Law: audio is bytes of little-endian signed 16-bit samples, mono, 24 kHz, unless a name says otherwise; and
there is one frame-tag layout, this one.
"""

from __future__ import annotations

import io
import math
import struct
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from parley_common.errors import Permanent

SAMPLE_RATE_HZ = 24_000
SAMPLE_BYTES = 2
BYTES_PER_MS = SAMPLE_RATE_HZ * SAMPLE_BYTES // 1000
FRAME_MS = 20
FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000
SILENCE_DBFS = -96.0
"""What digital silence is given as: half a step of 16 bits, so that levels stay finite."""

Samples: TypeAlias = NDArray[np.int16]
Signal: TypeAlias = NDArray[np.float32]


class InvalidAudio(Permanent):
    """Audio that cannot be used as it is; the remedy says what would do."""

    code = "invalid_audio"


# --- units -----------------------------------------------------------------------------------------------


def bytes_to_ms(size_bytes: int) -> int:
    """Return whole milliseconds of audio in ``size_bytes``, rounded down: never claim audio that is not there."""
    return size_bytes // BYTES_PER_MS


def ms_to_bytes(duration_ms: int) -> int:
    """Return the bytes of ``duration_ms`` of audio."""
    return duration_ms * BYTES_PER_MS


def samples_to_ms(sample_count: int) -> int:
    """Return whole milliseconds in ``sample_count`` samples, rounded down."""
    return sample_count * 1000 // SAMPLE_RATE_HZ


def ms_to_samples(duration_ms: int) -> int:
    """Return the samples in ``duration_ms``."""
    return duration_ms * SAMPLE_RATE_HZ // 1000


def silence(duration_ms: int) -> bytes:
    """Return that much digital silence."""
    return bytes(ms_to_bytes(duration_ms))


def as_samples(pcm: bytes) -> Samples:
    """View PCM16 bytes as samples; an odd last byte is left out."""
    return np.frombuffer(pcm, dtype="<i2", count=len(pcm) // SAMPLE_BYTES)


def as_signal(pcm: bytes) -> Signal:
    """Return the samples as floats in [-1, 1)."""
    return as_samples(pcm).astype(np.float32) / np.float32(32768)


def from_signal(signal: NDArray[Any]) -> bytes:
    """Return floats in [-1, 1] as PCM16 bytes; what is louder is clipped."""
    steps: bytes = np.clip(np.rint(signal * 32768), -32768, 32767).astype("<i2").tobytes()
    return steps


def level_dbfs(pcm: bytes) -> float:
    """Return the root mean square level against full scale; ``SILENCE_DBFS`` for silence or no audio."""
    signal = as_signal(pcm)
    if not signal.size:
        return SILENCE_DBFS
    power = float(np.dot(signal, signal)) / signal.size
    return max(SILENCE_DBFS, 10.0 * math.log10(power)) if power > 0 else SILENCE_DBFS


# --- resampling ------------------------------------------------------------------------------------------


class Resampler:
    """Converts a stream between two rates with a windowed-sinc polyphase filter, block by block.

    Good for speech: flat to about 0.8 of the lower rate's band, images and aliases about 60 dB down. Output lags
    input by half the filter (about 1 ms); :func:`resample` takes that lag out again.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz <= 0 or to_hz <= 0:
            raise InvalidAudio(f"cannot resample {from_hz} Hz to {to_hz} Hz", remedy="give positive rates")
        common = math.gcd(from_hz, to_hz)
        self.up, self.down = to_hz // common, from_hz // common
        self._phases = _polyphase(self.up, self.down)
        self._taps = self._phases.shape[1]
        self._history: Signal = np.zeros(self._taps - 1, np.float32)
        self._next = 0  # index of the next output, on the upsampled grid, within the coming block

    def feed(self, block: NDArray[Any]) -> Signal:
        """Return the output samples that this input completes."""
        if self.up == self.down:
            return np.asarray(block, np.float32)
        joined = np.concatenate((self._history, np.asarray(block, np.float32)))
        self._history = joined[joined.size - self._taps + 1 :]
        grid = np.arange(self._next, len(block) * self.up, self.down)
        self._next += grid.size * self.down - len(block) * self.up
        windows = np.lib.stride_tricks.sliding_window_view(joined, self._taps)
        return _weighted(windows, grid // self.up, self._phases, grid % self.up)

    @property
    def lag_samples(self) -> int:
        """How many output samples the output lags behind the input."""
        return _centre(self.up, self.down) // self.down


def resample(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    """Return ``pcm`` (16-bit mono at ``from_hz``) at ``to_hz``, aligned in time with the input."""
    return from_signal(_resample_signal(as_signal(pcm), from_hz, to_hz))


def _resample_signal(signal: Signal, from_hz: int, to_hz: int) -> Signal:
    if from_hz == to_hz or not signal.size:
        return signal
    engine = Resampler(from_hz, to_hz)
    lag = engine.lag_samples
    tail = np.zeros(math.ceil(lag * from_hz / to_hz) + 1, np.float32)
    output = engine.feed(np.concatenate((signal, tail)))
    return output[lag : lag + math.ceil(signal.size * to_hz / from_hz)]


def _centre(up: int, down: int, half_width: int = 16) -> int:
    """Return where the filter peaks, on the upsampled grid: on a multiple of ``down``, so that the lag is whole."""
    return math.ceil(half_width * max(up, down) / down) * down


def _polyphase(up: int, down: int) -> Signal:
    """Return one reversed filter per output phase; the cut is at 0.92 of the lower Nyquist."""
    centre = _centre(up, down)
    taps = math.ceil((2 * centre + 1) / up)
    offset = np.arange(taps * up) - centre
    window = np.i0(7.0 * np.sqrt(np.clip(1 - (offset / centre) ** 2, 0, None)))
    window[np.abs(offset) > centre] = 0
    kernel = np.sinc(0.92 * offset / max(up, down)) * window
    phases = kernel.reshape(taps, up).T[:, ::-1]
    return np.ascontiguousarray(phases / phases.sum(axis=1, keepdims=True), dtype=np.float32)


def _weighted(windows: Signal, rows: NDArray[Any], phases: Signal, phase: NDArray[Any]) -> Signal:
    """Sum each picked window under its phase's filter, in pieces small enough for the cache."""
    if not rows.size:
        return np.zeros(0, np.float32)
    pieces = [
        np.einsum("ij,ij->i", windows[rows[at : at + 8192]], phases[phase[at : at + 8192]])
        for at in range(0, rows.size, 8192)
    ]
    return np.asarray(np.concatenate(pieces), np.float32)


# --- WAV files -------------------------------------------------------------------------------------------


def read_wav(source: str | Path | BinaryIO | bytes) -> bytes:
    """Return a WAV file's audio as PCM16 mono 24 kHz, whatever its rate, width and channels.

    Raises:
        InvalidAudio: It is no WAV file of whole-number samples (8, 16, 24 or 32 bits), or it is empty.
    """
    name = str(source) if isinstance(source, (str, Path)) else "the WAV data"
    try:
        with wave.open(io.BytesIO(source) if isinstance(source, bytes) else _opened(source), "rb") as file:
            rate_hz, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            raw = file.readframes(file.getnframes())
    except FileNotFoundError as missing:
        raise InvalidAudio(f"{name} does not exist", remedy="check the path") from missing
    except (wave.Error, EOFError, struct.error, OSError) as wrong:
        raise InvalidAudio(f"{name} cannot be read as WAV: {wrong}", remedy=_WAV_REMEDY) from wrong
    if not raw or not rate_hz or width not in (1, 2, 3, 4):
        raise InvalidAudio(f"{name} holds no usable audio", remedy=_WAV_REMEDY)
    mono = _to_signal(raw, width)
    mono = mono[: mono.size // channels * channels].reshape(-1, channels).mean(axis=1, dtype=np.float32)
    if rate_hz == SAMPLE_RATE_HZ and width == SAMPLE_BYTES and channels == 1:
        return raw[: len(raw) // SAMPLE_BYTES * SAMPLE_BYTES]
    return from_signal(_resample_signal(mono, rate_hz, SAMPLE_RATE_HZ))


def write_wav(target: str | Path | BinaryIO, pcm: bytes) -> None:
    """Write PCM16 mono 24 kHz as a WAV file."""
    with wave.open(str(target) if isinstance(target, Path) else target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(SAMPLE_BYTES)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(pcm)


_WAV_REMEDY = "use a PCM WAV file, such as: ffmpeg -i input -ac 1 -ar 24000 -c:a pcm_s16le output.wav"


def _opened(source: str | Path | BinaryIO) -> str | BinaryIO:
    return str(source) if isinstance(source, Path) else source


def _to_signal(raw: bytes, width: int) -> Signal:
    if width == 1:  # the only unsigned width in WAV
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if width == 3:
        whole = np.frombuffer(raw, np.uint8)[: len(raw) // 3 * 3].reshape(-1, 3)
        padded = np.zeros((len(whole), 4), np.uint8)
        padded[:, 1:] = whole
        raw, width = padded.tobytes(), 4
    whole_numbers = np.frombuffer(raw[: len(raw) // width * width], "<i2" if width == SAMPLE_BYTES else "<i4")
    return np.asarray(whole_numbers / 2.0 ** (8 * width - 1), np.float32)


# --- the frame tag ---------------------------------------------------------------------------------------
#
# One block is: sync (4 bytes) | kind (1) | payload length (1) | payload (0..50) | CRC-32 of kind, length and
# payload (4), most significant bit first, one bit in the lowest bit of each sample. The longest block is 60
# bytes, which is 480 bits, which is one 20 ms frame; it may begin at any sample. No sample changes by more
# than one. It lives only in exact PCM: gain, resampling or a codec destroys it.

_SYNC = b"\xd3\x91\x5a\x6c"
_SYNC_BITS = len(_SYNC) * 8
_SYNC_WORD = int.from_bytes(_SYNC, "big")
_HEAD_BYTES = len(_SYNC) + 2
_CRC_BYTES = 4
_PAYLOAD_BYTES = FRAME_SAMPLES // 8 - _HEAD_BYTES - _CRC_BYTES
_KIND_TEXT, _KIND_STAMP = 1, 2
_TEXT_HEAD = struct.Struct(">HBB")  # text id, part, parts
_STAMP = struct.Struct(">IQ")  # sequence, microseconds
_TEXT_BYTES = _PAYLOAD_BYTES - _TEXT_HEAD.size
_LONGEST_TEXT_BYTES = 255 * _TEXT_BYTES


def write_text_tag(pcm: bytes, text: str) -> bytes:
    """Return the audio carrying ``text``, in blocks that repeat for as long as the audio lasts.

    Raises:
        InvalidAudio: The audio is too short to carry the text once (46 bytes of text a frame), or the text is
            longer than 11,730 bytes.
    """
    blocks = _text_blocks(text)
    samples = as_samples(pcm).copy()
    frames = samples.size // FRAME_SAMPLES
    if frames < len(blocks):
        raise InvalidAudio(
            f"{frames} frames of audio cannot carry a text of {len(blocks)} blocks",
            remedy=f"give at least {len(blocks) * FRAME_MS} ms of audio",
        )
    for frame in range(frames):
        _set_bits(samples[frame * FRAME_SAMPLES :], blocks[frame % len(blocks)])
    return samples.tobytes()


def read_text_tags(pcm: bytes) -> list[str]:
    """Return each text of which every part is in the audio, in the order in which they begin."""
    found: dict[tuple[int, int], dict[int, bytes]] = {}
    for _, kind, payload in _blocks(pcm):
        if kind == _KIND_TEXT and len(payload) >= _TEXT_HEAD.size:
            text_id, part, parts = _TEXT_HEAD.unpack_from(payload)
            found.setdefault((text_id, parts), {}).setdefault(part, payload[_TEXT_HEAD.size :])
    whole = ((parts, pieces) for (_, parts), pieces in found.items() if len(pieces) == parts)
    return [
        b"".join(pieces[part] for part in range(parts)).decode("utf-8", "replace") for parts, pieces in whole
    ]


def write_stamp(frame: bytes, seq: int, t_us: int) -> bytes:
    """Return one frame of audio carrying a sequence number (32 bits) and a timestamp in microseconds (64 bits).

    Raises:
        InvalidAudio: The frame is shorter than the 176 samples that a stamp takes.
    """
    block = _block(_KIND_STAMP, _STAMP.pack(seq & 0xFFFFFFFF, t_us & 0xFFFFFFFFFFFFFFFF))
    samples = as_samples(frame).copy()
    if samples.size < len(block) * 8:
        raise InvalidAudio(f"a stamp needs {len(block) * 8} samples, the frame has {samples.size}")
    _set_bits(samples, block)
    return samples.tobytes()


def find_stamps(pcm: bytes) -> list[tuple[int, int, int]]:
    """Return (first sample, sequence, timestamp in microseconds) of each stamp, wherever it lies."""
    stamps = ((at, payload) for at, kind, payload in _blocks(pcm) if kind == _KIND_STAMP)
    return [(at, *_STAMP.unpack(payload)) for at, payload in stamps if len(payload) == _STAMP.size]


def _text_blocks(text: str) -> list[bytes]:
    raw = text.encode("utf-8")
    if len(raw) > _LONGEST_TEXT_BYTES:
        raise InvalidAudio(f"a text tag carries {_LONGEST_TEXT_BYTES} bytes at most, not {len(raw)}")
    pieces = [raw[at : at + _TEXT_BYTES] for at in range(0, len(raw), _TEXT_BYTES)] or [b""]
    text_id = zlib.crc32(raw) & 0xFFFF
    return [
        _block(_KIND_TEXT, _TEXT_HEAD.pack(text_id, part, len(pieces)) + piece)
        for part, piece in enumerate(pieces)
    ]


def _block(kind: int, payload: bytes) -> bytes:
    body = bytes((kind, len(payload))) + payload
    return _SYNC + body + zlib.crc32(body).to_bytes(_CRC_BYTES, "big")


def _set_bits(samples: Samples, block: bytes) -> None:
    bits = np.unpackbits(np.frombuffer(block, np.uint8)).astype(np.int16)
    samples[: bits.size] = (samples[: bits.size] & ~np.int16(1)) | bits


def _blocks(pcm: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (first sample, kind, payload) of every block whose checksum holds."""
    bits = (as_samples(pcm) & 1).astype(np.uint8)
    if bits.size < _SYNC_BITS:
        return
    words: NDArray[Any] = bits.astype(np.uint32)
    for width in (1, 2, 4, 8, 16):  # after each round a word holds twice as many bits
        words = (words[:-width] << width) | words[width:]
    for at in np.flatnonzero(words == _SYNC_WORD).tolist():
        body = np.packbits(bits[at + _SYNC_BITS : at + FRAME_SAMPLES]).tobytes()
        if len(body) < 2 or body[1] > _PAYLOAD_BYTES:
            continue
        end = 2 + body[1]
        if int.from_bytes(body[end : end + _CRC_BYTES], "big") == zlib.crc32(body[:end]):
            yield at, body[0], body[2:end]
