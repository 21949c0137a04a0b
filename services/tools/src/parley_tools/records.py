"""What kits keep and change, by business, kind and id: stock, carts, refills left, a frozen card.

One table for every kit, so that a kit needs no migration. Each record is a row with the JSON of the kit's own model
and a version that each change raises. Changing is either under the row's lock (``change``, ``lock``) or against a
version that was read before (``put`` with one).

Law: records of one business are never seen by another; a change is part of the call's unit of work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import BaseModel
from sqlalchemy import Table, and_, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from parley_common.business import Business
from parley_common.errors import LocalViolation
from parley_tools.files import RecordKind
from parley_tools.refusals import Refused
from parley_tools.store import RecordRow

if TYPE_CHECKING:
    from parley_tools.context import ToolContext

M = TypeVar("M", bound=BaseModel)
LISTED_MAX = 1_000
SAY_CHANGED = "Something changed while we were talking. Let me look at that again."
_ROWS = cast("Table", RecordRow.__table__)  # type: ignore[attr-defined]
_business = col(RecordRow.business)
_kind = col(RecordRow.kind)
_record_id = col(RecordRow.record_id)


@dataclass(frozen=True, slots=True)
class Kept(Generic[M]):
    """A record as it was read."""

    record_id: str
    data: M
    version: int


class Records:
    """The records of one business, in one call's unit of work. Tools get it as ``ctx.records``."""

    def __init__(self, ctx: ToolContext) -> None:
        self._ctx = ctx

    async def find(self, kind: RecordKind[M], record_id: str) -> Kept[M] | None:
        """Return a record; null when there is none."""
        return await self._one(kind, record_id, is_locked=False)

    async def lock(self, kind: RecordKind[M], record_id: str) -> Kept[M] | None:
        """Return a record that nobody else changes until this call ends; null when there is none."""
        return await self._one(kind, record_id, is_locked=True)

    async def all(self, kind: RecordKind[M]) -> list[Kept[M]]:
        """Return the records of a kind by id, at most a thousand."""
        here = self._mine(kind)
        statement = select(RecordRow).where(here).order_by(_record_id).limit(LISTED_MAX)
        rows = (await self._ctx.db.execute(statement)).scalars()
        return [_kept(kind, row) for row in rows]

    async def put(
        self, kind: RecordKind[M], record_id: str, data: M, *, version: int | None = None
    ) -> Kept[M]:
        """Write a record, new or not.

        Args:
            version: the one it was read with; 0 for "there is none yet". Null: whatever is there is replaced.

        Raises:
            Refused: code ``changed_meanwhile``: it is not at that version any more.
        """
        self._check_declared(kind)
        insert = sqlite_insert if self._ctx.db.get_bind().dialect.name == "sqlite" else pg_insert
        raw = data.model_dump(mode="json")
        new = insert(_ROWS).values(
            business=self._ctx.business.name,
            kind=kind.name,
            record_id=record_id,
            data=raw,
            version=1,
            is_seed=False,
            updated_at=self._ctx.now,
        )
        matches = None if version is None else _is_at(version)
        changed = {
            "data": new.excluded.data,
            "version": _ROWS.c.version + 1,
            "is_seed": False,
            "updated_at": self._ctx.now,
        }
        statement = new.on_conflict_do_update(
            index_elements=["business", "kind", "record_id"], set_=changed, where=matches
        ).returning(_ROWS.c.version)
        now_at = (await self._ctx.db.execute(statement)).scalar_one_or_none()
        if now_at is None or (version and now_at == 1):
            raise Refused(SAY_CHANGED, code="changed_meanwhile")
        return Kept(record_id, data, now_at)

    async def change(self, kind: RecordKind[M], record_id: str, how: Callable[[M], M]) -> Kept[M] | None:
        """Lock a record, write what ``how`` makes of it, return it; null when there is none.

        ``how`` may raise Refused: then nothing is written.
        """
        before = await self.lock(kind, record_id)
        if before is None:
            return None
        return await self.put(kind, record_id, how(before.data), version=before.version)

    async def remove(self, kind: RecordKind[M], record_id: str) -> bool:
        """Remove a record, for good also when a seed file names it; returns whether it was there."""
        self._check_declared(kind)
        statement = (
            update(RecordRow)
            .where(self._mine(kind), _record_id == record_id)
            .values(data=None, is_seed=False, version=col(RecordRow.version) + 1, updated_at=self._ctx.now)
            .returning(_record_id)
        )
        return (await self._ctx.db.execute(statement)).scalar_one_or_none() is not None

    async def _one(self, kind: RecordKind[M], record_id: str, *, is_locked: bool) -> Kept[M] | None:
        statement = select(RecordRow).where(self._mine(kind), _record_id == record_id)
        if is_locked:
            statement = statement.with_for_update()
        statement = statement.execution_options(populate_existing=True)
        row = (await self._ctx.db.execute(statement)).scalar_one_or_none()
        return _kept(kind, row) if row else None

    def _mine(self, kind: RecordKind[Any]) -> Any:
        self._check_declared(kind)
        return and_(
            _business == self._ctx.business.name, _kind == kind.name, col(RecordRow.data).is_not(None)
        )

    def _check_declared(self, kind: RecordKind[Any]) -> None:
        if kind not in self._ctx.records_declared:
            raise LocalViolation(f"{kind.name!r} is not among the records this tool declares in records=")


def _is_at(version: int) -> Any:
    """0 means removed or never there: a removed row counts as none."""
    return _ROWS.c.data.is_(None) if version == 0 else _ROWS.c.version == version


def _kept(kind: RecordKind[M], row: RecordRow) -> Kept[M]:
    return Kept(row.record_id, kind.model.model_validate(row.data), row.version)


async def seed(db: AsyncSession, business: Business, kinds: list[RecordKind[Any]], now: datetime) -> int:
    """Write what the seed files of ``kinds`` hold and is not there yet; returns how many rows changed.

    A row that is still as an older seed file said follows the file; a row that a tool changed or removed does not.
    """
    insert = sqlite_insert if db.get_bind().dialect.name == "sqlite" else pg_insert
    changed_count = 0
    for kind in kinds:
        for record_id, item in kind.read_seed(business).items():
            new = insert(_ROWS).values(
                business=business.name,
                kind=kind.name,
                record_id=record_id,
                data=item.model_dump(mode="json"),
                version=1,
                is_seed=True,
                updated_at=now,
            )
            statement = new.on_conflict_do_update(
                index_elements=["business", "kind", "record_id"],
                set_={"data": new.excluded.data, "updated_at": now},
                where=_ROWS.c.is_seed.is_(True),
            ).returning(_ROWS.c.record_id)
            changed_count += (await db.execute(statement)).scalar_one_or_none() is not None
    return changed_count
