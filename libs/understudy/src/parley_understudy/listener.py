"""The input audio buffer: what the caller has sent since the last commit, cut into turns as it comes.

It decides nothing about responses; the session acts on the turn events that it returns.

Law: positions count samples written since the session began, and never go back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from parley_common.audio import SAMPLE_BYTES, SAMPLE_RATE_HZ, as_samples, ms_to_samples, samples_to_ms
from parley_understudy.turns import TurnEvent, TurnRules, Turns
from parley_understudy.vad import GRID_SAMPLES, Detector
from parley_understudy.wire import Refused

COMMIT_LEAST_MS = 100
_KEPT_S = 1200
"""The longest uncommitted buffer; what is older is let go, so that a client that never commits costs no more."""
_KEPT_QUIET_S = 40
"""The same while no one speaks and the server detects turns: room for the longest prefix and idle window."""


class Listener:
    """Caller audio on the session's own sample clock."""

    def __init__(self, make_detector: Callable[[], Detector]) -> None:
        self._make_detector = make_detector
        self._detector = make_detector()
        self._audio = bytearray()
        self._first = 0  # sample number of the buffer's first byte
        self._start = 0  # first sample that is not committed yet
        self._scored = 0  # first sample that no frame has covered yet; always on the grid
        self.position = 0
        self.turns = Turns()

    @property
    def position_ms(self) -> int:
        """Return how much audio the caller has written since the session began."""
        return samples_to_ms(self.position)

    @property
    def grid_position(self) -> int:
        """Return the last sample on the 32 ms grid."""
        return self.position // GRID_SAMPLES * GRID_SAMPLES

    def feed(self, pcm: bytes, rules: TurnRules | None) -> Iterator[TurnEvent]:
        """Append PCM16 24 kHz and yield the turn events in it, each before what follows it is looked at.

        Ordering: a turn that is yielded as stopped must be committed before the next event is taken.
        """
        self._audio += pcm
        self.position += len(pcm) // SAMPLE_BYTES
        yield from self._score(rules)
        self._let_go(quiet=rules is not None and not self.turns.speaking)

    def slice(self, start: int, end: int) -> bytes:
        """Return the samples from ``start`` to ``end``, as far as they are kept."""
        first = max(start - self._first, 0) * SAMPLE_BYTES
        return bytes(self._audio[first : max(end - self._first, 0) * SAMPLE_BYTES])

    def commit(self, start: int, end: int) -> bytes:
        """Take a turn's audio out of the buffer; what came after ``end`` stays."""
        pcm = self.slice(start, end)
        self._start = end
        return pcm

    def commit_all(self) -> bytes:
        """Take everything, as a client's commit does. Raises ``Refused`` for less than 100 ms."""
        held_ms = (self.position - self._start) * 1000 / SAMPLE_RATE_HZ
        if held_ms < COMMIT_LEAST_MS:
            raise Refused(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but "
                f"buffer only has {held_ms:.2f}ms of audio.",
                "input_audio_buffer_commit_empty",
            )
        pcm = self.commit(self._start, self.position)
        self.turns.reset()
        return pcm

    def clear(self) -> None:
        """Drop everything that is not committed."""
        self._start = self.position
        self.turns.reset()
        self._let_go(quiet=True)

    def restart_detection(self) -> None:
        """Begin to detect turns afresh: the rules changed."""
        self._detector = self._make_detector()
        self.turns.reset()

    def _score(self, rules: TurnRules | None) -> Iterator[TurnEvent]:
        count = (self.position - self._scored) // GRID_SAMPLES
        begin = self._scored
        self._scored += count * GRID_SAMPLES
        if not count or rules is None:
            return
        frames = as_samples(self.slice(begin, self._scored)).reshape(count, GRID_SAMPLES)
        for at, score in enumerate(self._detector.scores(frames)):
            event = self.turns.frame(score, begin + (at + 1) * GRID_SAMPLES, self._start, rules)
            if event is not None:
                yield event

    def _let_go(self, *, quiet: bool) -> None:
        kept_from = self.position - ms_to_samples((_KEPT_QUIET_S if quiet else _KEPT_S) * 1000)
        drop = min(max(kept_from, self._start), self._scored) - self._first
        if drop >= ms_to_samples(1000):  # in steps, for each one moves the rest
            del self._audio[: drop * SAMPLE_BYTES]
            self._first += drop
