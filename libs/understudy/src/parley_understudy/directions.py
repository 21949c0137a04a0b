"""What a fault script asks of single responses: to end now, to say or call something, to go on after a cancel.

It holds wishes; performance.py grants them. Without a script every response has the same: nothing.

Law: a direction is about one response and is forgotten with it.
Source: failures as found in ``response.done`` (realtime error table, 2024 to 2026).
"""

from __future__ import annotations

from dataclasses import dataclass

from parley_understudy.brain.types import Decision
from parley_understudy.wire import Event


@dataclass(frozen=True, slots=True)
class Ending:
    """How a response is to end: its status and ``status_details``."""

    status: str
    details: Event


@dataclass(slots=True)
class Direction:
    """What is asked of one response.

    ``late_deltas_count`` is how many deltas still come after a cancel; None leaves it to the API's usual one.
    """

    ending: Ending | None = None
    decision: Decision | None = None
    messages_count: int = 1
    late_deltas_count: int | None = None


_NONE = Direction()


class Directions:
    """The directions of one session."""

    def __init__(self) -> None:
        self._of: dict[str, Direction] = {}

    def of(self, response_id: str) -> Direction:
        """Return what is asked of a response. Not to be changed."""
        return self._of.get(response_id, _NONE)

    def give(self, response_id: str) -> Direction:
        """Return what is asked of a response, to be changed."""
        return self._of.setdefault(response_id, Direction())

    def forget(self, response_id: str) -> None:
        """Let go of a response that is over."""
        self._of.pop(response_id, None)


def cancelled(reason: str) -> Ending:
    """Return the end by ``turn_detected`` or ``client_cancelled``."""
    return Ending("cancelled", {"type": "cancelled", "reason": reason})


def incomplete(reason: str) -> Ending:
    """Return the end by ``content_filter`` or ``max_output_tokens``."""
    return Ending("incomplete", {"type": "incomplete", "reason": reason})


def failed(kind: str, code: str | None, message: str) -> Ending:
    """Return the end by an error of the server's."""
    return Ending("failed", {"type": "failed", "error": {"type": kind, "code": code, "message": message}})
