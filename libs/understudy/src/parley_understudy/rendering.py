"""The sentences of one response on their way from text to audio on the wire.

It asks for them a little ahead, keeps what is rendered, and hands it out in deltas. When to send one is decided in
performance.py.

Law: a sentence is asked for once, and its audio leaves in order.
"""

from __future__ import annotations

from parley_understudy.g711 import bytes_per_ms, encoded
from parley_understudy.response_config import ResponseConfig
from parley_understudy.wire import Outgoing, Speak

DELTA_MS = 250
"""Audio in one delta: 250 to 270 ms is typical in the recordings."""
_AHEAD = 2
"""Sentences of one response in the workers' queue at once."""


class Rendering:
    """Audio of one response, in the format that its client asked for."""

    def __init__(self, response_id: str, config: ResponseConfig, outgoing: Outgoing) -> None:
        self._response_id = response_id
        self._config = config
        self._out = outgoing
        self._sentences: tuple[str, ...] = ()
        self._audio: dict[int, bytes] = {}
        self._asked = self._received = 0

    def begin(self, sentences: tuple[str, ...]) -> None:
        """Ask for the first sentences."""
        self._sentences = sentences
        self._ask()

    def receive(self, sentence: int, pcm: bytes) -> None:
        """Take a rendered sentence (PCM16 24 kHz) and ask for the next."""
        self._received += 1
        self._audio[sentence] = encoded(pcm, self._config.format_kind)
        self._ask()

    def has(self, sentence: int) -> bool:
        """Return whether some audio of a sentence is waiting to be sent."""
        return bool(self._audio.get(sentence))

    def take(self, sentence: int) -> tuple[bytes, int, bool] | None:
        """Return the next delta of a sentence, its length in ms, and whether it is the last; None if none is ready."""
        audio = self._audio.pop(sentence, None)
        if audio is None:
            return None
        unit = bytes_per_ms(self._config.format_kind)
        chunk, rest = audio[: DELTA_MS * unit], audio[DELTA_MS * unit :]
        if rest:
            self._audio[sentence] = rest
        return chunk, len(chunk) // unit, not rest

    def _ask(self) -> None:
        wanted = min(len(self._sentences), self._received + _AHEAD)
        for sentence in range(self._asked, wanted):
            text = self._sentences[sentence]
            self._out.do(Speak(self._response_id, sentence, text, self._config.voice, self._config.speed))
        self._asked = max(self._asked, wanted)
