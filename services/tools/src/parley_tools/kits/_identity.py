"""Counting wrong answers about who somebody is: three, then nobody gets in for a while.

An attempt is counted before it is judged and forgiven when it was right, so that many guesses at once cannot all be
judged by the same count. Someone who is not on file is counted like someone who is: nobody learns who is.

Law: the count survives the refusal that follows it, and a right answer ends it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from parley_tools.kit import DataPart, RecordKind, Refused, ToolContext

WRONG_MAX = 3
LOCK_MIN = 30


class Attempts(DataPart):
    """Answers about one subject that were not right, or not judged yet."""

    count: int = 0
    last_at: datetime | None = None


ATTEMPTS = RecordKind("identity_attempts", Attempts)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt under way, already counted."""

    subjects: tuple[str, ...]
    number: int
    """Which wrong one it will be, if it is wrong."""

    @property
    def is_last(self) -> bool:
        return self.number >= WRONG_MAX


async def begin(ctx: ToolContext, subject: str) -> Attempt:
    """Count an attempt for ``subject`` (whom the caller claims to be) and for this session.

    Raises:
        Refused: code ``locked``: one of the two had too many.
    """
    subjects = tuple(_record_id(each) for each in (subject.casefold(), f"session {ctx.session_id}"))
    numbers = [await _count(ctx, each) for each in subjects]
    return Attempt(subjects, max(numbers))


async def forgive(ctx: ToolContext, attempt: Attempt) -> None:
    """Forget the wrong answers: this one was right."""
    for record_id in attempt.subjects:
        await ctx.records.put(ATTEMPTS, record_id, Attempts())


def no_match(attempt: Attempt) -> Refused:
    """Return the refusal of a wrong answer; it does not tell which part was wrong."""
    if attempt.is_last:
        return Refused(
            f"That doesn't match either, so I have to lock this for {LOCK_MIN} minutes to keep it safe.",
            code="locked",
            keeps_effects=True,
        )
    return Refused(
        "That doesn't match what I have on file. Shall we go through it once more?",
        code="no_match",
        keeps_effects=True,
    )


async def _count(ctx: ToolContext, record_id: str) -> int:
    before = await ctx.records.lock(ATTEMPTS, record_id)
    made = before.data if before else Attempts()
    if made.last_at is not None and ctx.now - made.last_at >= timedelta(minutes=LOCK_MIN):
        made = Attempts()
    if made.count >= WRONG_MAX:
        raise Refused(
            f"This is locked after too many tries. Please try again in {LOCK_MIN} minutes.", code="locked"
        )
    counted = Attempts(count=made.count + 1, last_at=ctx.now)
    await ctx.records.put(ATTEMPTS, record_id, counted, version=before.version if before else 0)
    return counted.count


def _record_id(subject: str) -> str:
    """Names and numbers of people are no record ids."""
    return hashlib.sha256(subject.encode()).hexdigest()[:40]
