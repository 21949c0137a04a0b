"""Caller audio on its way upstream: forwarded, held or dropped as the core last said; the newest kept for a loss.

Frames bypass the core: only whether the caller is loud enters it, and only where that is asked for. Positions
are samples of one upstream connection, which is how upstream counts.

Law: what is kept and what is held are bounded, the oldest go first and are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from parley_common import audio
from parley_common.contracts.audio_link import BYTES_PER_SAMPLE, SAMPLE_RATE_HZ, SAMPLES_PER_MS
from parley_common.telemetry import Counter
from parley_session.core.config import MicPolicy

KEPT_MAX_SAMPLES = 20 * SAMPLE_RATE_HZ
ONSET_SAMPLES = SAMPLE_RATE_HZ // 2
"""Before the last thing upstream said, a word may have begun that it had not noticed."""
NOTICED_WITHIN_SAMPLES = SAMPLE_RATE_HZ
"""Upstream says within a second that a word has begun, and means from before it did."""
LOUD_DBFS = -42.0
QUIET_SAMPLES = 160 * SAMPLES_PER_MS
"""Gaps within a word are shorter than this."""

DROPPED = Counter("parley_session_caller_frames_dropped", "Caller frames not forwarded, by why", ["why"])


class CallerAudio:
    """One session's caller audio. ``append`` takes PCM to the connection there is now."""

    def __init__(
        self, append: Callable[[bytes | memoryview], None], on_level: Callable[[bool], None] | None = None
    ) -> None:
        self._append = append
        self._on_level = on_level
        self._policy: MicPolicy = "hold"
        self._held = _Ring(KEPT_MAX_SAMPLES)
        self._sent = _Ring(KEPT_MAX_SAMPLES)
        self._lost = _Ring(KEPT_MAX_SAMPLES)
        self._heard_samples = 0
        self._lost_heard_samples = 0
        self._is_loud = False
        self._quiet_samples = 0

    @property
    def position_ms(self) -> int:
        """How much this connection was sent."""
        return self._sent.end // SAMPLES_PER_MS

    def hear(self, pcm: memoryview) -> None:
        """Take one frame of the caller."""
        if self._policy == "forward":
            self._forward(pcm)
        elif self._policy == "hold":
            if self._held.put(bytes(pcm)):
                DROPPED.labels("held_too_long").inc()
        else:
            DROPPED.labels("policy").inc()
        if self._on_level is not None:
            self._measure(pcm, self._on_level)

    def set_policy(self, policy: MicPolicy) -> None:
        """Do this with caller audio from now on; what was held goes out first, or goes away."""
        self._policy = policy
        if policy == "hold":
            return
        held, self._held = self._held, _Ring(KEPT_MAX_SAMPLES)
        if policy == "forward":
            for pcm in held.since(0):
                self._forward(pcm)

    def upstream_spoke(self) -> None:
        """Upstream said something, so what it was sent until now has reached it."""
        self._heard_samples = self._sent.end

    @property
    def sent_samples(self) -> int:
        """How much this connection was sent."""
        return self._sent.end

    def upstream_heard(self, samples: int) -> None:
        """Upstream has answered a ping, so what it was sent before that has reached it."""
        self._heard_samples = max(self._heard_samples, min(samples, self._sent.end))

    def forget(self, needed_from_ms: int | None) -> None:
        """Let go what could not be asked for again: all before ``needed_from_ms``, and before what has reached upstream."""
        first = self._heard_samples - NOTICED_WITHIN_SAMPLES
        if needed_from_ms is not None:
            first = min(first, needed_from_ms * SAMPLES_PER_MS)
        self._sent.forget_before(first)

    def begin_connection(self) -> None:
        """A new connection counts from zero; what the last one was sent can be appended again."""
        if self._sent.end:
            self._lost, self._sent = self._sent, _Ring(KEPT_MAX_SAMPLES)
            self._lost_heard_samples, self._heard_samples = self._heard_samples, 0

    def replay(self, from_ms: int | None, *, since_heard: bool) -> None:
        """Append again what the last connection was sent: from a position of it, or from where it fell silent."""
        if from_ms is not None:
            first = from_ms * SAMPLES_PER_MS
        elif since_heard:
            first = self._lost_heard_samples - ONSET_SAMPLES
        else:
            first = self._lost.end - ONSET_SAMPLES
        lost, self._lost = self._lost, _Ring(KEPT_MAX_SAMPLES)
        for pcm in lost.since(max(0, first)):
            self._forward(pcm)

    def _forward(self, pcm: bytes | memoryview) -> None:
        self._append(pcm)
        self._sent.put(bytes(pcm))

    def _measure(self, pcm: memoryview, on_level: Callable[[bool], None]) -> None:
        if audio.level_dbfs(bytes(pcm)) > LOUD_DBFS:
            self._quiet_samples = 0
            is_loud = True
        else:
            self._quiet_samples += len(pcm) // BYTES_PER_SAMPLE
            is_loud = self._is_loud and self._quiet_samples < QUIET_SAMPLES
        if is_loud != self._is_loud:
            self._is_loud = is_loud
            on_level(is_loud)


class _Ring:
    """PCM with positions in samples; the oldest goes when there is too much."""

    def __init__(self, max_samples: int) -> None:
        self._max_samples = max_samples
        self._frames: deque[bytes] = deque()
        self._begin = 0
        self.end = 0

    def put(self, pcm: bytes) -> bool:
        """Add PCM; return whether older went for it."""
        self._frames.append(pcm)
        self.end += len(pcm) // BYTES_PER_SAMPLE
        is_full = self.end - self._begin > self._max_samples
        while self.end - self._begin > self._max_samples:
            self._begin += len(self._frames.popleft()) // BYTES_PER_SAMPLE
        return is_full

    def forget_before(self, first: int) -> None:
        """Let whole frames before ``first`` go."""
        while self._frames and self._begin + len(self._frames[0]) // BYTES_PER_SAMPLE <= first:
            self._begin += len(self._frames.popleft()) // BYTES_PER_SAMPLE

    def since(self, first: int) -> list[bytes]:
        """Return what is there from ``first`` on, in frames."""
        at, found = self._begin, []
        for pcm in self._frames:
            samples = len(pcm) // BYTES_PER_SAMPLE
            if at + samples > first:
                found.append(pcm[max(0, first - at) * BYTES_PER_SAMPLE :])
            at += samples
        return found
