"""The caller's microphone: real time brings a frame every 20 ms, of what is being said or of silence.

Pure: it is told the time and returns the frames due. It opens no device.

Law: sample numbers count what was sent, without gaps, from 0 at the beginning of the session.
"""

from __future__ import annotations

from collections import deque

from parley_common import audio
from parley_common.contracts import audio_link as wire

FRAME_BYTES = audio.FRAME_SAMPLES * audio.SAMPLE_BYTES
CATCH_UP_FRAMES_MAX = 50
"""After a stall of this machine at most one second is sent at once; the rest of the stall is left out."""


class Microphone:
    """One session's microphone; begins at the first ``frames_due``."""

    def __init__(self, *, keep_audio: bool = True) -> None:
        self.muted = False
        self.frames_left_out_count = 0
        self._keep_audio = keep_audio
        self._to_say: deque[memoryview] = deque()
        self._sent_samples = 0
        self._counts_from_ms: int | None = None
        """When sample 0 would have been spoken, had nothing been muted or left out; null while nothing is sent."""
        self._sent = bytearray()

    def say(self, pcm: bytes) -> None:
        """Speak ``pcm`` after whatever is being said."""
        if pcm:
            self._to_say.append(memoryview(pcm))

    @property
    def is_saying(self) -> bool:
        """Say whether something is still to be said."""
        return bool(self._to_say)

    def frames_due(self, since_ready_ms: int) -> list[bytes]:
        """Return the uplink frames that time has brought; none while muted, and what is said then is lost."""
        if self.muted:
            self._counts_from_ms = None
            self._to_say.clear()
            return []
        if self._counts_from_ms is None:
            self._counts_from_ms = since_ready_ms - audio.samples_to_ms(self._sent_samples)
        due = audio.ms_to_samples(since_ready_ms - self._counts_from_ms) - self._sent_samples
        frames = due // audio.FRAME_SAMPLES
        left_out = max(0, frames - CATCH_UP_FRAMES_MAX)
        self.frames_left_out_count += left_out
        self._counts_from_ms += left_out * audio.FRAME_MS
        return [self._frame() for _ in range(frames - left_out)]

    def heard_pcm(self) -> bytes:
        """Return what was sent, on the session's time line; empty when no audio is kept."""
        return bytes(self._sent)

    def _frame(self) -> bytes:
        pcm = self._next_pcm()
        frame = wire.pack_uplink(self._sent_samples, pcm)
        if self._keep_audio:
            at_bytes = audio.ms_to_bytes(self._counts_from_ms or 0) + self._sent_samples * audio.SAMPLE_BYTES
            self._sent += bytes(max(0, at_bytes - len(self._sent))) + pcm
        self._sent_samples += audio.FRAME_SAMPLES
        return frame

    def _next_pcm(self) -> bytes:
        if not self._to_say:
            return bytes(FRAME_BYTES)
        saying = self._to_say[0]
        piece, rest = bytes(saying[:FRAME_BYTES]), saying[FRAME_BYTES:]
        if rest:
            self._to_say[0] = rest
        else:
            self._to_say.popleft()
        return piece.ljust(FRAME_BYTES, b"\0")
