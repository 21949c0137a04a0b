"""Tool calls as they arrive, and the table that makes each one happen once.

``claim`` decides under the row's lock (claims.py says what), ``finish`` belongs to the transaction of the
tool's own effects. Leases are renewed while a run lives; a run that lost its row commits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from pydantic import JsonValue
from sqlalchemy import CursorResult, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel, col

from parley_common.contracts.tool_calls import ToolCall
from parley_tools.claims import Claim, Held, Run, Stale, judge
from parley_tools.store import ToolCallRow

RUNNING = "running"
DONE = "done"

_session_id = col(ToolCallRow.session_id)
_call_id = col(ToolCallRow.call_id)
_state = col(ToolCallRow.state)
_owner = col(ToolCallRow.owner)
_finished_at = col(ToolCallRow.finished_at)


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
        call = arrived.call
        newest = select(func.max(col(ToolCallRow.fence))).where(_session_id == call.session_id)
        if call.fence < ((await db.execute(newest)).scalar_one() or 0):
            return Stale()
        if await self._insert(db, arrived, now):
            return Run(1)
        row = (await db.execute(_one(arrived.key).with_for_update())).scalar_one()
        held = Held(row.state == DONE, row.lease_until, row.run, row.result)
        claim = judge(held, now=now, may_rerun=may_rerun, runs_here=runs_here)
        _redirect(row, arrived)
        if isinstance(claim, Run):
            row.owner, row.run, row.lease_until = self.owner, claim.number, now + self.lease
        return claim

    async def _insert(self, db: AsyncSession, arrived: Arrived, now: datetime) -> bool:
        call = arrived.call
        insert = sqlite_insert if db.get_bind().dialect.name == "sqlite" else pg_insert
        statement = insert(cast("type[SQLModel]", ToolCallRow)).values(
            session_id=call.session_id,
            call_id=call.call_id,
            business=call.business,
            tool=call.tool,
            state=RUNNING,
            owner=self.owner,
            run=1,
            lease_until=now + self.lease,
            fence=call.fence,
            attempt=call.attempt,
            reply_partition=call.reply_partition,
            reply_to=arrived.reply_to,
            answer_by=arrived.answer_by,
            created_at=now,
        )
        done = await db.execute(statement.on_conflict_do_nothing().returning(_call_id))
        return done.scalar_one_or_none() is not None

    async def finish(
        self, db: AsyncSession, key: tuple[str, str], run: int | None, result: dict[str, Any], now: datetime
    ) -> Address | None:
        """Store the result of ``run``; null when the row is no longer this run's, and then nothing may commit.

        ``run`` null finishes whatever run there was: for calls that are not to run again.
        """
        mine = [] if run is None else [_owner == self.owner, col(ToolCallRow.run) == run]
        statement = (
            update(ToolCallRow)
            .where(_session_id == key[0], _call_id == key[1], _state == RUNNING, *mine)
            .values(state=DONE, result=result, finished_at=now)
            .returning(
                col(ToolCallRow.reply_partition),
                col(ToolCallRow.reply_to),
                col(ToolCallRow.attempt),
                col(ToolCallRow.answer_by),
            )
        )
        row = (await db.execute(statement)).one_or_none()
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
