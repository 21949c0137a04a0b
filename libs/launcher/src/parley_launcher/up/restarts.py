"""How long to wait before a process that ended is started again. Pure.

Law: from 0.5 s, doubling, to 15 s; a process that ran for a minute begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_S = 0.5
LONGEST_S = 15.0
FORGIVEN_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often in a row a process has ended."""

    in_a_row: int = 0

    def after(self, up_s: float) -> tuple[Restarts, float]:
        """Return what is remembered of an end after ``up_s``, and the seconds to wait before the next start."""
        before = 0 if up_s >= FORGIVEN_AFTER_S else self.in_a_row
        return Restarts(before + 1), min(LONGEST_S, FIRST_S * 2 ** min(before, 16))
