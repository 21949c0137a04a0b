"""The cases: any outcome of a session that is no lead, each change of it told as a fact in the same unit of work.

A case has an id for programs and a reference of six digits that a caller can say. It is found within its business
only; whether this caller may see it is the tool's matter (``needs=``, or a comparison of what they said).

Law: a fact carries the case as it is after the change, with the next seq of that case.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import JsonValue
from sqlalchemy import Table, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlmodel import col

from parley_common.contracts.cases import CaseClosed, CaseOpened, CaseUpdated
from parley_common.contracts.people import Person
from parley_common.errors import LocalViolation
from parley_common.ids import new_id
from parley_tools.store import Case

if TYPE_CHECKING:
    from parley_tools.context import ToolContext

Priority = Literal["low", "normal", "high", "urgent"]
OPEN = "open"
CLOSED = "closed"
FOUND_MAX = 50
REFERENCES_TRIED_MAX = 20
"""Of 900,000 references a business would have to hold nearly all before this many were taken in a row."""
_CASES = cast("Table", Case.__table__)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class NewCase:
    """What a case begins as."""

    kind: str
    """appointment, ticket, refill, return … : the kit's own word, which routes in business.yaml may name."""
    summary: str
    """One sentence for the person who takes it up."""
    person: Person | None = None
    subject: str | None = None
    """What it is found by later, such as an order number."""
    priority: Priority = "normal"
    queue: str | None = None
    status: str = OPEN
    case_id: str | None = None
    """Of a case that owned something before it was opened, such as a booking: ``ctx.idempotency_key``. Null: a new id."""


class Cases:
    """The cases of one business, in one call's unit of work. Tools get it as ``ctx.cases``."""

    def __init__(self, ctx: ToolContext) -> None:
        self._ctx = ctx

    async def open(self, new: NewCase, details: dict[str, JsonValue] | None = None) -> Case:
        """Open a case and emit CaseOpened."""
        case = await self._insert(new, details or {})
        await self._ctx.emit(
            CaseOpened(
                **await self._common(case),
                summary=case.summary,
                person=new.person,
                priority=new.priority,
                queue=case.queue,
                details=case.details,
            )
        )
        return case

    async def update(
        self,
        case: Case,
        *,
        details: dict[str, JsonValue] | None = None,
        status: str | None = None,
        summary: str | None = None,
        priority: Priority | None = None,
        queue: str | None = None,
        person: Person | None = None,
    ) -> tuple[str, ...]:
        """Change a case and emit CaseUpdated; returns what changed, and emits nothing when nothing did.

        ``details`` is merged into what is there; whatever is null stays as it is.
        """
        if case.status == CLOSED:
            raise LocalViolation("a closed case is not updated: open a new one")
        before = _snapshot(case)
        given = {"status": status, "summary": summary, "priority": priority, "queue": queue}
        for name, value in given.items():
            if value is not None:
                setattr(case, name, value)
        if person is not None:
            case.name = person.name or case.name
            case.email = person.email or case.email
            case.phone = person.phone or case.phone
        case.details = case.details | (details or {})
        changed = _differences(before, _snapshot(case))
        if changed:
            await self._tell_updated(case, changed)
        return changed

    async def close(self, case: Case, resolution: str) -> None:
        """Close a case and emit CaseClosed; closing it again does nothing."""
        if case.status == CLOSED:
            return
        case.status, case.resolution = CLOSED, resolution
        case.closed_at = case.updated_at = self._ctx.now
        self._ctx.db.add(case)
        await self._ctx.emit(
            CaseClosed(**await self._common(case), resolution=resolution, person=person_of(case))
        )

    async def find(self, said: str, *, kind: str | None = None) -> Case | None:
        """Return the case of an id, or of a reference as a caller says it; locked until this call ends."""
        digits = "".join(character for character in said if character.isdigit())
        by_reference = col(Case.reference) == digits
        statement = self._mine(kind).where(by_reference if len(digits) == 6 else col(Case.case_id) == said)
        return (await self._ctx.db.execute(statement.with_for_update())).scalar_one_or_none()

    async def list(
        self,
        *,
        kind: str | None = None,
        subject: str | None = None,
        of_session: bool = False,
        is_open: bool | None = None,
    ) -> list[Case]:
        """Return cases, newest first, at most fifty: of a kind, about a subject, of this session, open or closed."""
        statement = self._mine(kind)
        if subject is not None:
            statement = statement.where(col(Case.subject) == subject)
        if of_session:
            statement = statement.where(col(Case.session_id) == self._ctx.session_id)
        if is_open is not None:
            statement = statement.where(col(Case.status) != CLOSED if is_open else col(Case.status) == CLOSED)
        newest_first = statement.order_by(col(Case.opened_at).desc(), col(Case.case_id).desc())
        return list((await self._ctx.db.execute(newest_first.limit(FOUND_MAX))).scalars())

    def _mine(self, kind: str | None) -> Any:
        statement = select(Case).where(col(Case.business) == self._ctx.business.name)
        return statement.where(col(Case.kind) == kind) if kind else statement

    async def _insert(self, new: NewCase, details: dict[str, JsonValue]) -> Case:
        ctx, person = self._ctx, new.person or Person()
        insert = sqlite_insert if ctx.db.get_bind().dialect.name == "sqlite" else pg_insert
        fields: dict[str, Any] = {
            "case_id": new.case_id or new_id(),
            "business": ctx.business.name,
            "kind": new.kind,
            "status": new.status,
            "summary": new.summary,
            "subject": new.subject,
            "name": person.name,
            "email": person.email,
            "phone": person.phone,
            "priority": new.priority,
            "queue": new.queue,
            "details": details,
            "session_id": ctx.session_id,
            "opened_at": ctx.now,
            "updated_at": ctx.now,
        }
        for _ in range(REFERENCES_TRIED_MAX):
            fields["reference"] = str(100_000 + secrets.randbelow(900_000))
            statement = insert(_CASES).values(fields).on_conflict_do_nothing().returning(_CASES.c.case_id)
            if (await ctx.db.execute(statement)).scalar_one_or_none() is not None:
                return await ctx.db.get_one(Case, fields["case_id"])
        raise LocalViolation("no reference is free")

    async def _tell_updated(self, case: Case, changed: tuple[str, ...]) -> None:
        case.updated_at = self._ctx.now
        self._ctx.db.add(case)
        await self._ctx.emit(
            CaseUpdated(
                **await self._common(case),
                summary=case.summary,
                person=person_of(case),
                status=case.status,
                changed=changed,
                details=case.details,
            )
        )

    async def _common(self, case: Case) -> dict[str, Any]:
        return {
            "case_id": case.case_id,
            "seq": await self._ctx.next_seq(case.case_id),
            "business": case.business,
            "session_id": self._ctx.session_id,
            "at": self._ctx.now,
            "kind": case.kind,
        }


def person_of(case: Case) -> Person | None:
    """Return whom a case is about, as facts carry them; null when nobody gave a detail."""
    if not (case.name or case.email or case.phone):
        return None
    return Person(name=case.name, email=case.email, phone=case.phone)


def _snapshot(case: Case) -> dict[str, Any]:
    names = ("status", "summary", "priority", "queue", "name", "email", "phone")
    return {name: getattr(case, name) for name in names} | {"details": dict(case.details)}


def _differences(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    """Return what changed, fields of details by their own names."""
    top = [name for name in after if name != "details" and before[name] != after[name]]
    old, new = before["details"], after["details"]
    return (*top, *(name for name in new if old.get(name, ...) != new[name]))
