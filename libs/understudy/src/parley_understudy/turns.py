"""Where a caller's turn begins and ends, from scores on the 32 ms grid; and when silence has lasted too long.

It does not hold audio nor send events. Positions are samples since the session began: audio written, not time.

Law: ``audio_end_ms`` is a multiple of 32 and includes the silence; ``audio_start_ms`` + prefix is one too unless
the start is clipped at the buffer's begin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from parley_common.audio import ms_to_samples
from parley_understudy.vad import GRID_MS, GRID_SAMPLES

START_FRAMES = 2
"""Frames in a row that open a turn: one alone is a click."""
SPECULATION_SILENCE_MS = 200
_HYSTERESIS = 0.15
"""Once a turn is open, a frame this much below the threshold still counts as speech."""
_SEMANTIC_SILENCE_MS = {"low": 1200, "medium": 700, "auto": 700, "high": 400}
"""Silence that ends a finished sentence; nobody recorded the semantic detector's, so these stand for it."""
_SEMANTIC_WAIT_MS = {"low": 8000, "medium": 4000, "auto": 4000, "high": 2000}
"""The longest that the semantic detector waits for the rest of a sentence (documented)."""


@dataclass(frozen=True)
class TurnRules:
    """What the session's ``turn_detection`` asks for.

    ``patience_ms`` is the silence after a sentence that is not finished; None when words do not count.
    """

    threshold: float
    prefix_ms: int
    silence_ms: int
    creates: bool
    interrupts: bool
    idle_timeout_ms: int | None
    patience_ms: int | None = None


def rules_of(detection: dict[str, Any] | None) -> TurnRules | None:
    """Return the rules of a complete ``turn_detection`` object; None when turns are the client's own affair."""
    if detection is None:
        return None
    semantic = detection["type"] == "semantic_vad"
    return TurnRules(
        threshold=0.5 if semantic else detection["threshold"],
        prefix_ms=300 if semantic else detection["prefix_padding_ms"],
        silence_ms=_SEMANTIC_SILENCE_MS[detection["eagerness"]]
        if semantic
        else detection["silence_duration_ms"],
        patience_ms=_SEMANTIC_WAIT_MS[detection["eagerness"]] if semantic else None,
        creates=detection.get("create_response", False),
        interrupts=detection.get("interrupt_response", False),
        idle_timeout_ms=None if semantic else detection.get("idle_timeout_ms"),
    )


@dataclass(frozen=True)
class Started:
    """Speech began; the turn's audio begins at this sample."""

    sample: int


@dataclass(frozen=True)
class Paused:
    """Silence has lasted long enough to begin recognising what was said so far."""

    sample: int


@dataclass(frozen=True)
class Resumed:
    """The caller went on after a pause."""


@dataclass(frozen=True)
class Stopped:
    """The turn ended at this sample, silence included."""

    sample: int


TurnEvent: TypeAlias = Started | Paused | Resumed | Stopped


class Turns:
    """The turn detector of one session. ``unfinished``: what was said so far asks for its rest."""

    def __init__(self) -> None:
        self.unfinished = False
        self._speech_frames = 0
        self._silence_frames = 0
        self.speaking = False
        self._paused = False

    def reset(self) -> None:
        """Forget the turn that is open: its audio was committed or cleared by the client."""
        self.__init__()  # type: ignore[misc]

    def frame(self, score: float, end_sample: int, buffer_start: int, rules: TurnRules) -> TurnEvent | None:
        """Take the frame that ends at ``end_sample`` and return what it changes."""
        if not self.speaking:
            return self._quiet_frame(score, end_sample, buffer_start, rules)
        if score >= rules.threshold - _HYSTERESIS:
            self._silence_frames = 0
            self.unfinished = False
            was_paused, self._paused = self._paused, False
            return Resumed() if was_paused else None
        self._silence_frames += 1
        silence_ms = rules.patience_ms if self.unfinished and rules.patience_ms else rules.silence_ms
        if self._silence_frames >= _frames(silence_ms):
            self.reset()
            return Stopped(end_sample)
        if self._silence_frames == _frames(SPECULATION_SILENCE_MS):
            self._paused = True
            return Paused(end_sample)
        return None

    def _quiet_frame(
        self, score: float, end_sample: int, buffer_start: int, rules: TurnRules
    ) -> TurnEvent | None:
        self._speech_frames = self._speech_frames + 1 if score >= rules.threshold else 0
        if self._speech_frames < START_FRAMES:
            return None
        self.reset()
        self.speaking = True
        detected = end_sample - (START_FRAMES - 1) * GRID_SAMPLES
        return Started(max(buffer_start, detected - ms_to_samples(rules.prefix_ms)))


def _frames(duration_ms: int) -> int:
    return max(1, math.ceil(duration_ms / GRID_MS))
