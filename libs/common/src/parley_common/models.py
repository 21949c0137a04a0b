"""What is known of each Realtime model: whether it is still there, and what it takes. Decides what a business may name.

The table is data read from documentation, not from the API: nothing here asks anyone. Unknown models pass, for
a compatible endpoint may serve what nobody has heard of.

Source: realtime.md section 1.2 (deprecations page mirrors and GET /v1/models notices, read 2026-11-22).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Model:
    """One model, or its dated snapshots."""

    name: str
    reasons: bool = False
    """Takes ``reasoning.effort``: the 2.x models."""
    context_tokens: int = 32_768
    shut_down: date | None = None
    """When it is, or was, gone; null while no date is announced."""
    successor: str | None = None


MODELS = (
    Model("gpt-realtime-2.1", reasons=True, context_tokens=131_072),
    Model("gpt-realtime-2.1-mini", reasons=True, context_tokens=131_072),
    Model("gpt-realtime-2", reasons=True, context_tokens=131_072),
    Model("gpt-realtime-1.5"),
    Model("gpt-realtime", shut_down=date(2027, 1, 20), successor="gpt-realtime-2.1"),
    Model("gpt-realtime-2025-08-28", shut_down=date(2027, 1, 20), successor="gpt-realtime-2.1"),
    Model("gpt-realtime-mini", shut_down=date(2027, 1, 20), successor="gpt-realtime-2.1-mini"),
    Model("gpt-realtime-mini-2025-12-15", shut_down=date(2027, 1, 20), successor="gpt-realtime-2.1-mini"),
    Model("gpt-realtime-mini-2025-10-06", shut_down=date(2026, 7, 23), successor="gpt-realtime-2.1-mini"),
    Model("gpt-4o-realtime-preview", shut_down=date(2026, 5, 7), successor="gpt-realtime-1.5"),
    Model("gpt-4o-realtime-preview-2024-10-01", shut_down=date(2025, 10, 10), successor="gpt-realtime-1.5"),
    Model("gpt-4o-realtime-preview-2024-12-17", shut_down=date(2026, 5, 7), successor="gpt-realtime-1.5"),
    Model("gpt-4o-realtime-preview-2025-06-03", shut_down=date(2026, 5, 7), successor="gpt-realtime-1.5"),
    Model("gpt-4o-mini-realtime-preview", shut_down=date(2026, 5, 7), successor="gpt-realtime-2.1-mini"),
    Model(
        "gpt-4o-mini-realtime-preview-2024-12-17",
        shut_down=date(2026, 7, 23),
        successor="gpt-realtime-2.1-mini",
    ),
    Model("whisper-1", shut_down=date(2027, 2, 26), successor="gpt-transcribe"),
    Model("gpt-4o-transcribe", shut_down=date(2027, 2, 26), successor="gpt-transcribe"),
    Model("gpt-4o-mini-transcribe", shut_down=date(2027, 2, 26), successor="gpt-transcribe"),
    Model("gpt-4o-mini-transcribe-2025-12-15", shut_down=date(2027, 2, 26), successor="gpt-transcribe"),
    Model("gpt-4o-transcribe-diarize", shut_down=date(2027, 2, 26), successor="gpt-transcribe"),
)
BY_NAME = {model.name: model for model in MODELS}


def retired(name: str, today: date) -> str | None:
    """Return why a model cannot be used any more, with its successor; null when it can."""
    model = BY_NAME.get(name)
    if model is None or model.shut_down is None or model.shut_down > today:
        return None
    return f"{name} was shut down on {model.shut_down}; use {model.successor}"


def retiring(name: str, today: date) -> str | None:
    """Return a warning for a model whose end is announced; null when it has none, or is gone already."""
    model = BY_NAME.get(name)
    if model is None or model.shut_down is None or model.shut_down <= today:
        return None
    return f"{name} is shut down on {model.shut_down}; move to {model.successor}"


def takes_effort(name: str) -> bool:
    """Tell whether a model takes ``reasoning.effort``; an unknown one is believed to."""
    model = BY_NAME.get(name)
    return model is None or model.reasons
