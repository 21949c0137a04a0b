"""The ears: speech to text with Moonshine tiny (English) on stock onnxruntime.

It takes one whole turn at a time. Silence and noise are for the turn detection to keep away from it: on those the
model says "You".

Law: the same samples give the same text.
Source: facts measured on moonshine-voice 0.1.0, the last wheel that holds the model.
"""

from __future__ import annotations

import importlib.util
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parley_common.audio import SAMPLE_RATE_HZ, as_signal, resample
from parley_common.errors import DependencyUnavailable
from parley_understudy.settings import prepare_for_models

_RATE_HZ = 16_000
_LEAST_SAMPLES = _RATE_HZ // 10
_LONGEST_S = 30
"""The encoder's cost grows faster than its input; a longer turn is heard in pieces of this length."""
_START, _END = 1, 2
_TOKENS_PER_S = 6.5
_LONE_YOU = re.compile(r"\W*you\W*", re.IGNORECASE)


def transcribe(pcm: bytes) -> str:
    """Return what is said in PCM16 24 kHz; empty when nothing is.

    Raises:
        DependencyUnavailable: The model is not installed here.
    """
    signal = as_signal(resample(pcm, SAMPLE_RATE_HZ, _RATE_HZ))
    pieces = [signal[at : at + _LONGEST_S * _RATE_HZ] for at in range(0, signal.size, _LONGEST_S * _RATE_HZ)]
    return cleaned(" ".join(_model().text(piece) for piece in pieces if piece.size >= _LEAST_SAMPLES))


def cleaned(text: str) -> str:
    """Return a transcript without what the model makes up of nothing: a lone "You"."""
    text = " ".join(text.split())
    return "" if _LONE_YOU.fullmatch(text) else text


def warm_up() -> None:
    """Load the model and run it once."""
    _model().text(np.zeros(_RATE_HZ, np.float32))


class _Moonshine:
    def __init__(self, folder: Path) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._encoder = ort.InferenceSession(str(folder / "encoder_model.ort"), options)
        self._decoder = ort.InferenceSession(str(folder / "decoder_model_merged.ort"), options)
        self._pieces = _read_tokenizer((folder / "tokenizer.bin").read_bytes())
        self._memory_names = [
            each.name for each in self._decoder.get_inputs() if each.name.startswith("past_key_values")
        ]

    def text(self, signal: NDArray[Any]) -> str:
        """Return the greedy transcript of 16 kHz audio."""
        audio = signal.astype(np.float32)[None, :]
        # The decoder's graph shrinks this mask by itself: one of the encoder's length fails on turns over 9 s.
        mask = np.ones(audio.shape, np.int64)
        (states,) = self._encoder.run(None, {"input_values": audio, "attention_mask": mask})
        memory = {
            name: np.zeros((1, 8, 0 if ".decoder." in name else states.shape[1], 36), np.float32)
            for name in self._memory_names
        }
        tokens: list[int] = []
        token = _START
        for step in range(int(audio.shape[1] / _RATE_HZ * _TOKENS_PER_S) + 2):
            token = self._step(token, states, mask, memory, later=step > 0)
            if token == _END:
                break
            tokens.append(token)
        return (
            b"".join(self._pieces[each] for each in tokens)
            .decode("utf-8", "replace")
            .replace("▁", " ")
            .strip()
        )

    def _step(
        self,
        token: int,
        states: NDArray[Any],
        mask: NDArray[Any],
        memory: dict[str, NDArray[Any]],
        *,
        later: bool,
    ) -> int:
        """Feed one token; keep the memory up to date; return the next token."""
        logits, *present = self._decoder.run(
            None,
            {
                "input_ids": np.array([[token]], np.int64),
                "encoder_hidden_states": states,
                "encoder_attention_mask": mask,
                "use_cache_branch": np.array([later]),
                **memory,
            },
        )
        news = zip(self._memory_names, present, strict=True)
        # The encoder's part is written by the first step only; later ones return it empty.
        memory.update({name: value for name, value in news if not later or ".decoder." in name})
        return int(logits[0, -1].argmax())


def _read_tokenizer(data: bytes) -> list[bytes]:
    """Return the token table: length-prefixed byte strings; a first byte from 128 on means a two-byte length."""
    pieces, at = [], 0
    while at < len(data):
        size = data[at]
        at += 1
        if size >= 128:
            size = data[at] * 128 + size - 128
            at += 1
        pieces.append(data[at : at + size])
        at += size
    return pieces


@lru_cache(maxsize=1)
def _model() -> _Moonshine:
    prepare_for_models()
    try:
        return _Moonshine(_package_folder() / "assets" / "tiny-en")
    except Exception as missing:
        raise DependencyUnavailable(
            f"the speech recognition model cannot be loaded: {missing}",
            remedy="pip install -r requirements-voice.lock",
        ) from missing


def _package_folder() -> Path:
    """Find the wheel's files without importing its C library, which is not needed."""
    spec = importlib.util.find_spec("moonshine_voice")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the package moonshine-voice is not installed")
    return Path(spec.submodule_search_locations[0])
