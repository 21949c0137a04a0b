"""What an attempt can come to, said by a channel as data, never as an exception.

``cause`` is a stable code such as ``http_503``: it goes into facts, logs and metrics, so it never quotes an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from parley_notify.delivery import Delivery

RETRY_AFTER_MAX_S = 7 * 86_400.0
"""Longer than any time to try: what a destination asks beyond it changes nothing."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination took it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The destination will not take it, however often it is asked."""

    cause: str


@dataclass(frozen=True, slots=True)
class TryAgain:
    """It may go through later. ``retry_after_s`` is null when the destination did not say when."""

    cause: str
    retry_after_s: float | None = None


Outcome = Delivered | Refused | TryAgain


class Channel(Protocol):
    """A way to reach destinations."""

    async def send(self, delivery: Delivery) -> Outcome:
        """Make one attempt. Cancelled at the attempt's deadline."""
        ...
