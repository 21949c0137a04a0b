"""The deliveries table: plan, claim, settle, cancel. Who is told, how, and when to try again is decided elsewhere.

A delivery is pending until it is delivered, failed or cancelled. Claiming leases it and counts the attempt; a
lease that runs out (its worker died) lets it be claimed again. The attempt's number is the fence: a claim that
was overtaken, or whose delivery was cancelled meanwhile, settles nothing.

Law: of each lane (business, route, subject) only the oldest unfinished delivery is ever claimed, so what one
lead caused arrives in order, however long its destination is away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    bindparam,
    delete,
    func,
    inspect,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from parley_common.contracts.deliveries import DeliveryCancelled, DeliveryDelivered, DeliveryFailed
from parley_common.contracts.record import Fact
from parley_common.db import Database
from parley_common.ids import derived_id
from parley_common.inbox import prune as prune_inbox
from parley_common.outbox import Outbox
from parley_common.telemetry import Counter
from parley_notify.delivery import Delivery
from parley_notify.due import DUE, FREE, Capacity, ids_of
from parley_notify.policy import Finish, Retry, Verdict
from parley_notify.tables import (
    CANCELLED,
    DELIVERED,
    PENDING,
    UtcDateTime,
    erased_subjects,
    inbox,
    metadata,
)
from parley_notify.tables import deliveries as table

ERASED = "subject_erased"
CLAIM_TRIES = 3
"""Another replica may lock what we found between finding and locking."""
_COLUMNS = tuple(name for name in Delivery.__dataclass_fields__ if name != "retaken")

FINISHED = Counter("parley_deliveries", "Deliveries finished, by how", ["channel", "outcome"])


def _lane_is_due_at() -> ColumnElement[Any]:
    """When what is before a new delivery may be attempted: else all that waits would look due, and be read in vain."""
    before = table.alias("before")
    waiting = select(func.max(before.c.next_at)).where(
        before.c.subject_id == bindparam("new_subject_id"),
        before.c.business == bindparam("new_business"),
        before.c.route == bindparam("new_route"),
        before.c.state == literal_column(f"'{PENDING}'"),
    )
    return func.coalesce(waiting.scalar_subquery(), bindparam("new_created_at", type_=UtcDateTime))


_NEW = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in _COLUMNS} | {
    "state": literal_column(f"'{PENDING}'"),
    "next_at": _lane_is_due_at(),
}
_LEASE = (
    update(table)
    .where(table.c.delivery_id.in_(bindparam("ids", expanding=True)))
    .values(
        attempts=table.c.attempts + 1,
        lease_until=bindparam("until", type_=UtcDateTime),
        next_at=bindparam("now", type_=UtcDateTime),
    )
)
_LANES = (table.c.subject_id, table.c.business, table.c.route, table.c.seq, table.c.delivery_id)
"""The order in which rows are locked, by all who lock more than one: so they never wait for each other in a ring."""
_LOCK = (
    select(table.c.delivery_id, table.c.state, table.c.attempts)
    .where(table.c.delivery_id.in_(bindparam("ids", expanding=True)))
    .order_by(*_LANES)
    .with_for_update()
)
_SETTLE = (
    update(table)
    .where(table.c.delivery_id == bindparam("settled_id"))
    .values(
        state=bindparam("to_state"),
        cause=bindparam("to_cause"),
        finished_at=bindparam("to_finished_at"),
        next_at=bindparam("to_next_at"),
        lease_until=None,
    )
)
_RESCHEDULE = (
    update(table)
    .where(
        table.c.subject_id == bindparam("of_subject"),
        table.c.business == bindparam("of_business"),
        table.c.route == bindparam("of_route"),
        table.c.state == literal_column(f"'{PENDING}'"),
        table.c.delivery_id != bindparam("but"),
    )
    .values(next_at=bindparam("at"))
)
"""Only saves work: claims look at the head of each lane anyway, and a wrong time here heals at that time."""


@dataclass(frozen=True, slots=True, eq=False)
class Settlement:
    """What became of one attempt."""

    delivery: Delivery
    verdict: Verdict
    at: datetime


class Deliveries:
    """The deliveries of one database. Methods that take ``db`` join the caller's unit of work."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def add(self, db: AsyncSession, planned: Sequence[Delivery]) -> None:
        """Store new deliveries; one that is already known is left as it is.

        Due at once, or when what is before it in its lane is.
        """
        if planned:
            insert = sqlite_insert if self._database.is_sqlite else pg_insert
            rows = [{f"new_{name}": getattr(each, name) for name in _COLUMNS} for each in planned]
            await db.execute(insert(table).values(_NEW).on_conflict_do_nothing(), rows)

    async def claim(self, now: datetime, lease_s: float, capacity: Capacity) -> list[Delivery]:
        """Lease the deliveries that have been due longest, as many as there is room for.

        Raises DependencyUnavailable.
        """
        asked = {
            "now": now,
            "each": capacity.each,
            "skip_hosts": sorted(capacity.skip_hosts),
            "skip_ids": sorted(capacity.skip_ids),
        }
        for _ in range(CLAIM_TRIES):
            async with self._database.begin() as db:
                ids = ids_of((await db.execute(DUE, asked)).all(), capacity)
                if not ids:
                    return []
                free = {"now": now, "ids": ids, "count": capacity.count}
                found = (await db.execute(FREE, free)).all()
                if found:
                    return await self._lease(db, found, now, lease_s)
        return []  # other replicas are faster; the next look is not far

    async def _lease(
        self, db: AsyncSession, found: Sequence[Row[Any]], now: datetime, lease_s: float
    ) -> list[Delivery]:
        until = now + timedelta(seconds=lease_s)
        await db.execute(_LEASE, {"ids": [row.delivery_id for row in found], "until": until, "now": now})
        return [
            delivery_of(row, attempts=row.attempts + 1, retaken=row.lease_until is not None) for row in found
        ]

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Write what became of attempts, with their facts, all or none; of each delivery at most one.

        False: that claim was overtaken or cancelled. Raises DependencyUnavailable; then nothing was written, and it
        may be called again.
        """
        async with self._database.begin() as db:
            ours = await self._ours(db, settlements)
            if ours:
                await db.execute(_SETTLE, [_written(each) for each in ours])
                await db.execute(_RESCHEDULE, [_behind(each.delivery, _free_at(each)) for each in ours])
            for each in ours:
                if isinstance(each.verdict, Finish):
                    await self.tell(db, each.delivery, each.verdict.state, each.verdict.cause, each.at)
        for each in ours:
            if isinstance(each.verdict, Finish):
                FINISHED.labels(each.delivery.channel, each.verdict.state).inc()
        return [each in ours for each in settlements]

    async def _ours(self, db: AsyncSession, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Lock the deliveries, and return the settlements whose claims still hold, in the order of the locks."""
        claimed = {each.delivery.delivery_id: each for each in settlements}
        rows = (await db.execute(_LOCK, {"ids": list(claimed)})).all()
        return [
            claimed[row.delivery_id]
            for row in rows
            if row.state == PENDING and row.attempts == claimed[row.delivery_id].delivery.attempts
        ]

    async def release_lane(self, db: AsyncSession, delivery: Delivery, now: datetime) -> None:
        """Let the next of a lane go now, after its oldest unfinished delivery was given up."""
        await db.execute(_RESCHEDULE, [_behind(delivery, now)])

    async def erase(self, db: AsyncSession, subject_id: str, now: datetime) -> list[Delivery]:
        """Cancel what is unfinished about a subject and remove all its data; returns what was cancelled."""
        insert = sqlite_insert if self._database.is_sqlite else pg_insert
        remembered = insert(erased_subjects).values(subject_hash=_hash(subject_id), erased_at=now)
        await db.execute(remembered.on_conflict_do_nothing())
        about = table.c.subject_id == subject_id
        unfinished = select(table).where(about, table.c.state == PENDING).order_by(*_LANES).with_for_update()
        cancelled = [delivery_of(row) for row in (await db.execute(unfinished)).all()]
        over = {"state": CANCELLED, "cause": ERASED, "finished_at": now, "lease_until": None}
        ids = [delivery.delivery_id for delivery in cancelled]
        await db.execute(update(table).where(table.c.delivery_id.in_(ids)).values(over))
        await db.execute(update(table).where(about).values(payload=None, booking=None))
        for delivery in cancelled:
            await self.tell(db, delivery, CANCELLED, ERASED, now)
        return cancelled

    async def is_erased(self, db: AsyncSession, subject_id: str) -> bool:
        """Tell whether a subject was erased: nothing about it is told any more, however late it comes."""
        known = select(erased_subjects).where(erased_subjects.c.subject_hash == _hash(subject_id))
        return (await db.execute(known)).first() is not None

    async def tell(
        self, db: AsyncSession, delivery: Delivery, state: str, cause: str | None, now: datetime
    ) -> None:
        """Write the fact of a delivery's end, in the caller's unit of work."""
        seq = await self._outbox.next_seq(db, delivery.subject_id)
        anew = f"/{delivery.retried_at.isoformat()}" if delivery.retried_at else ""
        fact_id = derived_id(delivery.delivery_id, f"{state}/{delivery.attempts}{anew}")
        await self._outbox.add(db, _fact(delivery, state, cause, seq, now), seq=seq, now=now, fact_id=fact_id)

    async def backlog(self, now: datetime) -> Mapping[str, tuple[int, float]]:
        """Return, by channel, how many deliveries are pending and the age of the oldest in seconds."""
        pending = (
            select(table.c.channel, func.count(), func.min(table.c.created_at))
            .where(table.c.state == PENDING)
            .group_by(table.c.channel)
        )
        async with self._database.begin() as db:
            rows = (await db.execute(pending)).all()
        return {channel: (count, (now - oldest).total_seconds()) for channel, count, oldest in rows}

    async def prune(self, now: datetime, kept_days: int) -> None:
        """Remove deliveries that finished long ago, and forget ids that cannot come again."""
        old = table.c.finished_at < now - timedelta(days=kept_days)
        async with self._database.begin() as db:
            await db.execute(delete(table).where(old))
            await prune_inbox(db, inbox, now)

    async def is_migrated(self) -> bool:
        """Tell whether every table is there. Raises DependencyUnavailable."""
        async with self._database.begin() as db:
            connection = await db.connection()
            present = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
        return set(metadata.tables) <= present


def _written(settlement: Settlement) -> dict[str, Any]:
    match settlement.verdict:
        case Finish(state, cause):
            told = {"to_state": state, "to_cause": cause, "to_finished_at": settlement.at}
        case Retry(_, cause):
            told = {"to_state": PENDING, "to_cause": cause, "to_finished_at": None}
    return told | {"settled_id": settlement.delivery.delivery_id, "to_next_at": _free_at(settlement)}


def _behind(delivery: Delivery, at: datetime) -> dict[str, Any]:
    return {
        "of_subject": delivery.subject_id,
        "of_business": delivery.business,
        "of_route": delivery.route,
        "but": delivery.delivery_id,
        "at": at,
    }


def _free_at(settlement: Settlement) -> datetime:
    """Return when the next attempt in a settlement's lane may be made."""
    return settlement.verdict.at if isinstance(settlement.verdict, Retry) else settlement.at


def _fact(delivery: Delivery, state: str, cause: str | None, seq: int, now: datetime) -> Fact:
    told = {
        "delivery_id": delivery.delivery_id,
        "subject_id": delivery.subject_id,
        "seq": seq,
        "business": delivery.business,
        "fact_id": delivery.fact_id,
        "fact_type_told": delivery.fact_type,
        "route": delivery.route,
        "channel": delivery.channel,
        "attempts": delivery.attempts,
        "at": now,
    }
    if state == DELIVERED:
        return DeliveryDelivered.model_validate(told)
    kind = DeliveryCancelled if state == CANCELLED else DeliveryFailed
    return kind.model_validate(told | {"cause": cause})


def delivery_of(row: Row[Any], **changes: Any) -> Delivery:
    """Return a row as workers see it."""
    return Delivery(**({name: getattr(row, name) for name in _COLUMNS} | changes))


def _hash(subject_id: str) -> str:
    return hashlib.sha256(subject_id.encode()).hexdigest()
