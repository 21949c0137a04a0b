"""Measures barge-ins: how soon the client was silent, and how true what was claimed as heard turned out to be.

It watches the core's steps from outside and changes none of them. The client's word may come before the claim, and
then the claim follows it, or after it, and then it shows by how much the last report was off. Where no word comes,
or it is about nothing that was claimed, nothing is observed.

Law: one observation of each kind for each flush.
"""

from __future__ import annotations

from parley_session.core import events as ev
from parley_session.core.config import SAMPLES_PER_MS
from parley_session.core.state import SessionState, Yielding
from parley_session.meters import BARGE_IN_TO_SILENCE_MS, TRUNCATION_ERROR_MS

FLUSHES_KEPT = 4
"""Flushes whose answer may still come, however late."""


class BargeInMeter:
    """The barge-ins of one session."""

    def __init__(self) -> None:
        self._taken_ms: dict[int, int] = {}
        self._claimed_epoch = 0
        self._claimed: dict[int, int] = {}

    def stepped(self, before: SessionState, event: ev.Event, after: SessionState, arrived_ms: int) -> None:
        """Follow one step of the core; ``arrived_ms`` is when ``event`` came in."""
        awaited, awaits = _awaited_epoch(before), _awaited_epoch(after)
        if awaited is not None and awaited != awaits:
            self._claimed_epoch, self._claimed = awaited, _claims(before, awaited, event)
        if awaits is not None and awaits != awaited:
            self._taken_ms[awaits] = arrived_ms
            while len(self._taken_ms) > FLUSHES_KEPT:
                del self._taken_ms[min(self._taken_ms)]
        if isinstance(event, ev.FlushAnswered):
            self._answered(event, arrived_ms)

    def _answered(self, answer: ev.FlushAnswered, arrived_ms: int) -> None:
        taken_ms = self._taken_ms.pop(answer.epoch, None)
        if taken_ms is None:
            return
        BARGE_IN_TO_SILENCE_MS.observe(max(0, arrived_ms - taken_ms))
        if answer.epoch == self._claimed_epoch and answer.number in self._claimed:
            # Truncations are whole milliseconds, rounded down.
            claimed_ms = self._claimed[answer.number] // SAMPLES_PER_MS
            TRUNCATION_ERROR_MS.observe(abs(claimed_ms - answer.played / SAMPLES_PER_MS))


def _awaited_epoch(state: SessionState) -> int | None:
    return state.floor.flush_epoch if isinstance(state.floor, Yielding) else None


def _claims(before: SessionState, epoch: int, event: ev.Event) -> dict[int, int]:
    """Return the samples that are claimed as heard, by item number, of what this step settles."""
    claimed = {e.number: e for e in before.playout.ledger if e.epoch < epoch and not e.settled}
    heard = {number: entry.played for number, entry in claimed.items()}
    if isinstance(event, ev.FlushAnswered) and event.epoch == epoch and event.number in claimed:
        entry = claimed[event.number]
        heard[event.number] = min(entry.sent, max(entry.played, event.played))
    return heard
