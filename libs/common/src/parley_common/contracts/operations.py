"""What replicas tell each other and operators tell them, on compacted topics: usage, and switches.

The newest record of a key counts; a tombstone takes it back. These are states, not facts.
"""

from __future__ import annotations

from datetime import date, datetime

from pydantic import Field

from parley_common.contracts.record import Contract

USAGE_EVERY_S = 1
"""How soon a count that changed is told."""
USAGE_AT_LEAST_EVERY_S = 2
"""How often one that did not."""
USAGE_DEAD_AFTER_S = 5
"""Counts older than this are of a replica that is gone; what it spent stays spent."""


class UsageReport(Contract):
    """What one session replica does for one business. Key: replica:business."""

    replica: str
    business: str
    at: datetime
    sessions: int = Field(default=0, ge=0)
    tokens_per_min: int = Field(default=0, ge=0)
    """Of the last full minute."""
    day: date
    """The UTC day that ``usd_today`` is of."""
    usd_today: float = Field(default=0.0, ge=0)

    @property
    def key(self) -> str:
        """Return the record key."""
        return f"{self.replica}:{self.business}"


class Switch(Contract):
    """An operator has switched a business, or one of its tools, off. Key: business or business/tool.

    A tombstone switches it on again.
    """

    business: str
    tool: str | None = None
    """The tool as the business names it; null: all of the business, whose sessions are ended."""
    reason: str = ""
    at: datetime

    @property
    def key(self) -> str:
        """Return the record key."""
        return self.business if self.tool is None else f"{self.business}/{self.tool}"
