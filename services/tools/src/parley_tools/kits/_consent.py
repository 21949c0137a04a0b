"""What kits that ask for a permission share: keeping a caller's own yes or no, and what follows from it."""

from __future__ import annotations

from typing import TypeVar

from parley_tools.kit import DataPart, RecordKind, Refused, ToolContext

M = TypeVar("M", bound=DataPart)


async def keep_answer(
    ctx: ToolContext, kind: RecordKind[M], subject: str, answer: M, *, grant: str | None, refusal: str
) -> None:
    """Keep what ``subject`` answered, and grant what a yes permits; ``grant`` null: they said no.

    Raises:
        Refused: they said no; the answer is kept all the same.
    """
    await ctx.records.put(kind, subject, answer)
    if grant is None:
        raise Refused(refusal, code="consent_refused", keeps_effects=True)
    ctx.grant(grant)
