"""The voice: text to speech with the hibari model, in several speakers.

It renders one sentence at a time, in the calling process; nothing here queues or caches.

Law: the same sentence, speaker and speed give the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parley_common.audio import from_signal
from parley_common.errors import DependencyUnavailable
from parley_understudy.settings import prepare_for_models
from parley_understudy.spoken import spoken_form

SPEAKERS = {
    "heart": (1.0, 1.0),
    "bright": (1.16, 1.06),
    "low": (0.83, 0.95),
    "male": (0.71, 0.88),
    "deep": (0.61, 0.84),
}
"""Factors on pitch and formants: five speakers from the one model. Measured medians: 189, 220, 156, 134, 115 Hz."""

_SPEAKER_OF_VOICE = {
    "cedar": "male",
    "ash": "male",
    "echo": "deep",
    "verse": "low",
    "ballad": "low",
    "coral": "bright",
    "shimmer": "bright",
}
_GAIN = 2.0
"""The model speaks at RMS 0.045; doubled it is about -21 dBFS."""


def speaker_for(voice: str) -> str:
    """Return the speaker that stands for one of the API's voices."""
    return voice if voice in SPEAKERS else _SPEAKER_OF_VOICE.get(voice, "heart")


def render(text: str, *, speaker: str = "heart", speed: float = 1.0) -> bytes:
    """Return speech as PCM16 mono 24 kHz; empty for a text without words.

    Args:
        text: As written; addresses, codes and short forms are spelled out.
        speaker: heart, bright, low, male or deep.
        speed: 0.5 slow to 2.0 fast.

    Raises:
        DependencyUnavailable: The voice model is not installed here.
    """
    return b"".join(stream(text, speaker=speaker, speed=speed))


def stream(text: str, *, speaker: str = "heart", speed: float = 1.0) -> Iterator[bytes]:
    """Yield speech sentence by sentence, each as soon as it is rendered."""
    model = _model()
    pitch, formants = SPEAKERS[speaker]
    for phonemes in model.phonemize(spoken_form(text)):
        signal = _synthesised(model, phonemes, speed, pitch, formants)
        yield from_signal(signal * _GAIN)


def warm_up() -> None:
    """Load the model and render once, so that the first sentence costs no more than the next."""
    render("Warm up.")


@lru_cache(maxsize=1)
def _model() -> Any:
    prepare_for_models()
    try:
        from hibari import Hibari

        return Hibari(threads=1)
    except Exception as missing:
        raise DependencyUnavailable(
            f"the voice model cannot be loaded: {missing}", remedy="pip install -r requirements-voice.lock"
        ) from missing


def _synthesised(model: Any, phonemes: str, speed: float, pitch: float, formants: float) -> NDArray[Any]:
    from hibari import dsp

    ids = model.ids(phonemes)
    if len(ids) < 3:
        return np.zeros(0, np.float32)
    outputs = model.sess.run(
        None, {"ids": np.asarray([ids], np.int64), "speed": np.asarray([speed], np.float32)}
    )
    harmonic, angle, noise, free, phase, f0 = (output[0] for output in outputs)
    if formants != 1.0:
        harmonic, noise, free = (_warped(spectrum, formants) for spectrum in (harmonic, noise, free))
    signal: NDArray[Any] = dsp.synth(
        harmonic, angle, noise, free, phase, f0 * np.float32(pitch), np.random.default_rng(0)
    )
    return signal


def _warped(spectrum: NDArray[Any], factor: float) -> NDArray[Any]:
    """Move a log spectrum's shape along the frequency axis: a longer or shorter vocal tract."""
    place = np.minimum(np.arange(len(spectrum)) / factor, len(spectrum) - 1)
    below = place.astype(int)
    above = np.minimum(below + 1, len(spectrum) - 1)
    weight = (place - below).astype(np.float32)[:, None]
    warped: NDArray[Any] = spectrum[below] * (1 - weight) + spectrum[above] * weight
    return warped
