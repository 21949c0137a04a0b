"""Tool calls as they arrive, and the table that makes each one happen once.

``put`` writes calls that nobody knew, many at once; ``claim`` decides about one under its row's lock (claims.py says
what); ``finish`` belongs to the transaction of the tool's own effects. Leases are renewed while a run lives; a run that
lost its row commits nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, cast

from pydantic import JsonValue
from sqlalchemy import CursorResult, Table, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from parley_common.contracts.tool_calls import ToolCall
from parley_tools.claims import Claim, Held, Run, Stale, judge
from parley_tools.store import ToolCallRow

RUNNING = "running"
DONE = "done"

_table = cast("Table", ToolCallRow.__table__)  # type: ignore[attr-defined]
_session_id = col(ToolCallRow.session_id)
_call_id = col(ToolCallRow.call_id)
_state = col(ToolCallRow.state)
_owner = col(ToolCallRow.owner)
_finished_at = col(ToolCallRow.finished_at)

# Made once: to build such a statement anew costs more than to run it.
_NEWEST_FENCES = (
    select(_table.c.session_id, func.max(_table.c.fence).label("fence"))
    .where(_table.c.session_id.in_(bindparam("sessions", expanding=True)))
    .group_by(_table.c.session_id)
)
_PUT = {
    name: insert(_table).on_conflict_do_nothing().returning(_table.c.session_id, _table.c.call_id)
    for name, insert in (("sqlite", sqlite_insert), ("postgresql", pg_insert))
}
_FINISH = (
    update(_table)
    .where(
        _table.c.session_id == bindparam("of_session"),
        _table.c.call_id == bindparam("of_call"),
        _table.c.state == RUNNING,
    )
    .values(state=DONE, result=bindparam("result"), finished_at=bindparam("now"))
    .returning(_table.c.reply_partition, _table.c.reply_to, _table.c.attempt, _table.c.answer_by)
)
_FINISH_RUN = _FINISH.where(_table.c.owner == bindparam("of_owner"), _table.c.run == bindparam("of_run"))


@dataclass(frozen=True, slots=True)
class Arrived:
    """A call as its record brought it."""

    call: ToolCall
    reply_to: str
    """The replica that asked; empty when the record did not say."""
    answer_by: datetime
    """The record's time plus the call's deadline."""
    traceparent: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.call.session_id, self.call.call_id


@dataclass(frozen=True, slots=True)
class Address:
    """Where an answer goes, and until when it is of use."""

    partition: int
    reply_to: str
    attempt: int
    answer_by: datetime


@dataclass(frozen=True, slots=True)
class New:
    """A call to be written down: as running, or as done when its result is there."""

    arrived: Arrived
    result: dict[str, Any] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.arrived.key


class Standing(Enum):
    """What became of a call that was to be written down."""

    PUT = "put"
    KNOWN = "known"
    """There was such a call already: nothing was written."""
    STALE = "stale"
    """A later owner of its session has spoken: nothing was written."""
    UNWRITABLE = "unwritable"
    """The database will not have it."""


def address_of(arrived: Arrived) -> Address:
    """Return where this attempt wants its answer."""
    call = arrived.call
    return Address(call.reply_partition, arrived.reply_to, call.attempt, arrived.answer_by)


class CallTable:
    """The tool_calls table, for one instance of the service (``owner``)."""

    def __init__(self, owner: str, *, lease_s: float) -> None:
        self.owner = owner
        self.lease = timedelta(seconds=lease_s)

    async def claim(
        self, db: AsyncSession, arrived: Arrived, *, now: datetime, may_rerun: bool, runs_here: bool
    ) -> Claim:
        """Decide about one attempt and write the decision down; where the answer goes is then this attempt's."""
        (standing,) = await self.put(db, [New(arrived)], now)
        if standing is not Standing.KNOWN:
            return Run(1) if standing is Standing.PUT else Stale()
        row = (await db.execute(_one(arrived.key).with_for_update())).scalar_one()
        held = Held(row.state == DONE, row.lease_until, row.run, row.result)
        claim = judge(held, now=now, may_rerun=may_rerun, runs_here=runs_here)
        _redirect(row, arrived)
        if isinstance(claim, Run):
            row.owner, row.run, row.lease_until = self.owner, claim.number, now + self.lease
        return claim

    async def put(self, db: AsyncSession, calls: Sequence[New], now: datetime) -> list[Standing]:
        """Write down calls that nobody knew, each as running or as done; says of each what became of it."""
        found = await db.execute(_NEWEST_FENCES, {"sessions": sorted({each.key[0] for each in calls})})
        fences: dict[str, int] = {row.session_id: row.fence for row in found}
        standing = [
            Standing.STALE if each.arrived.call.fence < fences.get(each.key[0], 0) else Standing.KNOWN
            for each in calls
        ]
        # Of one call twice the first counts. In one order everywhere, so that no two workers wait for each other.
        first = {
            each.key: at for at, each in reversed(list(enumerate(calls))) if standing[at] is Standing.KNOWN
        }
        rows = [self._row(calls[at], now) for _, at in sorted(first.items())]
        if rows:
            connection = await db.connection()
            for row in await connection.execute(_PUT[connection.dialect.name], rows):
                standing[first[row.session_id, row.call_id]] = Standing.PUT
        return standing

    def _row(self, new: New, now: datetime) -> dict[str, Any]:
        call, is_done = new.arrived.call, new.result is not None
        return {
            "session_id": call.session_id,
            "call_id": call.call_id,
            "business": call.business,
            "tool": call.tool,
            "state": DONE if is_done else RUNNING,
            "owner": self.owner,
            "run": 1,
            "lease_until": now + self.lease,
            "fence": call.fence,
            "attempt": call.attempt,
            "reply_partition": call.reply_partition,
            "reply_to": new.arrived.reply_to,
            "answer_by": new.arrived.answer_by,
            "result": new.result,
            "created_at": now,
            "finished_at": now if is_done else None,
        }

    async def finish(
        self, db: AsyncSession, key: tuple[str, str], run: int | None, result: dict[str, Any], now: datetime
    ) -> Address | None:
        """Store the result of ``run``; null when the row is no longer this run's, and then nothing may commit.

        ``run`` null finishes whatever run there was: for calls that are not to run again.
        """
        values = {"of_session": key[0], "of_call": key[1], "result": result, "now": now}
        mine = {} if run is None else {"of_owner": self.owner, "of_run": run}
        connection = await db.connection()
        found = await connection.execute(_FINISH if run is None else _FINISH_RUN, values | mine)
        row = found.one_or_none()
        return Address(*row) if row else None

    async def stored(self, db: AsyncSession, key: tuple[str, str]) -> tuple[dict[str, Any], Address] | None:
        """Return the result of a finished call and where it goes; null while it runs."""
        row = (await db.execute(_one(key))).scalar_one_or_none()
        if row is None or row.state != DONE:
            return None
        return row.result or {}, Address(row.reply_partition, row.reply_to, row.attempt, row.answer_by)

    async def renew(self, db: AsyncSession, now: datetime) -> None:
        """Say that everything this instance runs is alive."""
        await self._lease_until(db, now + self.lease)

    async def release(self, db: AsyncSession, now: datetime) -> None:
        """Give up what this instance still runs, so that a repeat need not wait for the lease."""
        await self._lease_until(db, now)

    async def _lease_until(self, db: AsyncSession, until: datetime) -> None:
        mine = and_(_owner == self.owner, _state == RUNNING)
        await db.execute(update(ToolCallRow).where(mine).values(lease_until=until))

    async def prune(self, db: AsyncSession, before: datetime) -> int:
        """Forget calls finished, or abandoned, before that time; returns how many."""
        abandoned = and_(_state == RUNNING, col(ToolCallRow.lease_until) < before)
        done = await db.execute(delete(ToolCallRow).where(or_(_finished_at < before, abandoned)))
        return cast("CursorResult[Any]", done).rowcount

    async def newest_output(
        self, db: AsyncSession, session_id: str, tool: str
    ) -> dict[str, JsonValue] | None:
        """Return the newest successful output of ``tool`` in a session."""
        statement = (
            select(ToolCallRow)
            .where(_session_id == session_id, col(ToolCallRow.tool) == tool, _state == DONE)
            .order_by(_finished_at.desc())
        )
        for row in (await db.execute(statement)).scalars():
            result = row.result or {}
            if result.get("status") == "ok" and isinstance(result.get("output"), dict):
                return cast("dict[str, JsonValue]", result["output"])
        return None


def _one(key: tuple[str, str]) -> Any:
    return select(ToolCallRow).where(_session_id == key[0], _call_id == key[1])


def _redirect(row: ToolCallRow, arrived: Arrived) -> None:
    """The newest attempt is who still waits; an older one that arrives late changes nothing."""
    call = arrived.call
    if (call.fence, call.attempt) < (row.fence, row.attempt):
        return
    row.fence, row.attempt = call.fence, call.attempt
    row.reply_partition, row.reply_to, row.answer_by = (
        call.reply_partition,
        arrived.reply_to,
        arrived.answer_by,
    )
