"""Voice activity: a score between 0 and 1 for each 32 ms of caller audio.

Two detectors with one interface: ``EnergyDetector`` needs nothing but numpy, ``EarshotDetector`` the earshot
package. What a score means for a turn is decided in turns.py.

Law: the same samples give the same scores, however they are cut into blocks.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from parley_common.audio import SAMPLE_RATE_HZ, Resampler

GRID_MS = 32
"""The API's own grid: recorded positions are multiples of it."""
GRID_SAMPLES = SAMPLE_RATE_HZ * GRID_MS // 1000

_FULL_SCALE = 32768.0


class Detector(Protocol):
    """Scores caller audio."""

    def scores(self, frames: NDArray[Any]) -> list[float]:
        """Return one score per row of ``frames`` (int16, 768 samples each); rows follow what came before."""
        ...


class EnergyDetector:
    """Level against a noise floor by minimum statistics: the floor is the lowest smoothed level of 3 s.

    It tells loud from quiet, not speech from music. Until it has met a quiet frame, the first 320 ms only teach it the
    floor, so that steady noise at the start of a session opens no turn.
    """

    _WINDOW_FRAMES = 3000 // GRID_MS
    _LEARNING_FRAMES = 10
    _FLOOR_DBFS = (-65.0, -30.0)
    _QUIET_DBFS = -52.0
    _BIAS_DB = 3.0  # the minimum of a noisy level lies below its mean
    _MARGIN_DB = 9.0  # above the floor, a frame this loud scores 0.5

    def __init__(self) -> None:
        self._count = 0
        self._smoothed: float | None = None
        self._lowest: deque[tuple[int, float]] = deque()

    def scores(self, frames: NDArray[Any]) -> list[float]:
        signal = frames.astype(np.float32)
        powers = np.einsum("ij,ij->i", signal, signal) / (frames.shape[1] * _FULL_SCALE**2)
        return [self._score(10 * math.log10(max(power, 1e-10))) for power in powers.tolist()]

    def _score(self, level_db: float) -> float:
        floor_db = self._floor(level_db)
        self._count += 1
        if self._count <= self._LEARNING_FRAMES and floor_db > self._QUIET_DBFS:
            return 0.0
        return min(1.0, max(0.0, (level_db - floor_db) / (2 * self._MARGIN_DB)))

    def _floor(self, level_db: float) -> float:
        before = level_db if self._smoothed is None else self._smoothed
        self._smoothed = 0.6 * before + 0.4 * level_db
        while self._lowest and self._lowest[-1][1] >= self._smoothed:
            self._lowest.pop()
        self._lowest.append((self._count, self._smoothed))
        while self._lowest[0][0] <= self._count - self._WINDOW_FRAMES:
            self._lowest.popleft()
        low, high = self._FLOOR_DBFS
        return min(high, max(low, self._lowest[0][1] + self._BIAS_DB))


class EarshotDetector:
    """The earshot model on 16 ms of 16 kHz, twice per frame; the better half counts."""

    _HALF = 256

    def __init__(self) -> None:
        from earshot import Detector as Earshot

        self._model = Earshot()
        self._resampler = Resampler(SAMPLE_RATE_HZ, 16_000)

    def scores(self, frames: NDArray[Any]) -> list[float]:
        narrow = self._resampler.feed(frames.reshape(-1))
        halves = np.clip(narrow, -32768, 32767).astype(np.int16).reshape(-1, self._HALF)
        values = [float(self._model.predict_i16(half)) for half in halves]
        return [max(pair) for pair in zip(values[::2], values[1::2], strict=True)]


def earshot_is_here() -> bool:
    """Return whether the earshot package can be used."""
    try:
        EarshotDetector()
    except Exception:  # noqa: BLE001 - a broken wheel may raise anything; energy then does the work
        return False
    return True
