"""Hears where a caller's speech begins and ends, as every stand-in of the bench does: by one sample of each frame."""

from __future__ import annotations

from collections.abc import Callable

from load.bench import stamps, turns
from load.bench.logs import Log
from load.bench.stamps import now_us


class Ear:
    """The microphone of one session, as a stand-in hears it. Each frame is written down with the time it took."""

    def __init__(self, log: Log, on_speech: Callable[[int], None], on_silence: Callable[[], None]) -> None:
        """``on_speech`` is told the time in microseconds; both are called within ``hear``."""
        self.caller: int | None = None
        """Who speaks; null before the first frame."""
        self.is_heard = False
        self._log = log
        self._on_speech, self._on_silence = on_speech, on_silence
        self._quiet_frames = 0

    def hear(self, pcm: bytes) -> None:
        """Take one frame, or as much of its begin as has the stamp and the sample that is loud."""
        stamp = stamps.read(pcm)
        if stamp is None:
            self._log.note("unstamped", bytes=len(pcm), t=now_us())
            return
        now = now_us()
        self._log.frame.extend((stamp[1], stamp[0], max(0, now - stamp[1])))
        self.caller = stamp[0] >> stamps.NUMBER_BITS
        if stamps.is_loud(pcm):
            self._quiet_frames = 0
            if not self.is_heard:
                self.is_heard = True
                self._on_speech(now)
        elif self.is_heard:
            self._quiet_frames += 1
            if self._quiet_frames == turns.SILENCE_FRAMES:
                self.is_heard = False
                self._on_silence()
