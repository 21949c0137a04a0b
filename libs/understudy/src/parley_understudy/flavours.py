"""What differs between the models and hosts that are imitated: defaults, limits and quirks, as one table.

It does not know sessions. A flavour is chosen once, when the socket opens.

Law: whatever depends on the model or the host is asked of the flavour, never of the model's name elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECOND_FAMILY = re.compile(r"gpt-realtime-2(\.\d+)?(-mini)?(-\d{4}-\d\d-\d\d)?")
_ANY_FAMILY = re.compile(r"gpt-realtime(?!-whisper|-translate)(-[a-z0-9.\-]+)?")
_PREVIEW_FAMILY = re.compile(r"gpt-4o(-mini)?-realtime-preview(-\d{4}-\d\d-\d\d)?")
_WITHDRAWN = ("gpt-realtime-mini-2025-10-06",)


@dataclass(frozen=True)
class Flavour:
    """One model at one host.

    ``reasons`` marks the 2.x family: phases, reasoning tokens, and calls that begin while the comment before them
    is still open. ``azure`` hosts send no rate limits, repeat content parts under ``content`` and print arguments
    over several lines. ``beta`` clients speak the dialect before GA.
    """

    model: str
    voice: str
    silence_duration_ms: int
    reasons: bool
    azure: bool = False
    beta: bool = False

    @property
    def longest_session_s(self) -> int:
        """Return how long a session lasts: 60 minutes, 30 on Azure and in the beta."""
        return 1800 if self.azure or self.beta else 3600


def flavour_of(model: str, *, azure: bool = False, beta: bool = False) -> Flavour | None:
    """Return the flavour of a model, or None when no such realtime model is served.

    Azure takes any name, for there it is a deployment's; the preview models speak beta only.
    """
    if _SECOND_FAMILY.fullmatch(model):
        return Flavour(model, voice="marin", silence_duration_ms=500, reasons=True, azure=azure, beta=beta)
    served = _ANY_FAMILY.fullmatch(model) or (beta and _PREVIEW_FAMILY.fullmatch(model))
    if azure or (served and model not in _WITHDRAWN):
        return Flavour(model, voice="alloy", silence_duration_ms=200, reasons=False, azure=azure, beta=beta)
    return None
