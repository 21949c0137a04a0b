"""The deliveries table: plan, claim, settle, cancel. Who is told, how, and when to try again is decided elsewhere.

A delivery is pending until it is delivered, failed or cancelled. Claiming leases it and counts the attempt; a
lease that runs out (its worker died) lets it be claimed again. The attempt's number is the fence: a claim that
was overtaken, or whose delivery was cancelled meanwhile, settles nothing.

Law: of each lane (business, route, subject) only the oldest unfinished delivery is ever claimed, so what one
lead caused arrives in order, however long its destination is away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Row,
    and_,
    delete,
    exists,
    func,
    inspect,
    or_,
    select,
    true,
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
from parley_notify.policy import Finish, Retry, Verdict
from parley_notify.tables import CANCELLED, DELIVERED, PENDING, erased_subjects, inbox, metadata
from parley_notify.tables import deliveries as table

ERASED = "subject_erased"
_COLUMNS = tuple(name for name in Delivery.__dataclass_fields__ if name != "retaken")

FINISHED = Counter("parley_deliveries", "Deliveries finished, by how", ["channel", "outcome"])


class Deliveries:
    """The deliveries of one database. Methods that take ``db`` join the caller's unit of work."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def add(self, db: AsyncSession, planned: Sequence[Delivery]) -> None:
        """Store new deliveries, due at once; one that is already known is left as it is."""
        insert = sqlite_insert if self._database.is_sqlite else pg_insert
        for delivery in planned:
            values = {name: getattr(delivery, name) for name in _COLUMNS}
            row = values | {"state": PENDING, "next_at": delivery.created_at}
            await db.execute(insert(table).values(row).on_conflict_do_nothing())

    async def claim(
        self,
        now: datetime,
        lease_s: float,
        *,
        skip_hosts: Collection[str] = (),
        skip_ids: Collection[str] = (),
    ) -> Delivery | None:
        """Lease the delivery that has been due longest; null when none is. Raises DependencyUnavailable.

        Args:
            skip_hosts: destinations that are not to be bothered now.
            skip_ids: what this process holds already, even if the lease ran out meanwhile.
        """
        async with self._database.begin() as db:
            found = (await db.execute(_due(now, skip_hosts, skip_ids))).one_or_none()
            if found is None:
                return None
            lease = {
                "attempts": found.attempts + 1,
                "lease_until": now + timedelta(seconds=lease_s),
                "next_at": now,
            }
            await db.execute(update(table).where(table.c.delivery_id == found.delivery_id).values(lease))
        return _delivery(found, attempts=found.attempts + 1, retaken=found.lease_until is not None)

    async def settle(self, delivery: Delivery, verdict: Verdict, now: datetime) -> bool:
        """Write what became of an attempt, with its fact. False: the claim was overtaken or cancelled.

        Raises DependencyUnavailable; then nothing was written, and it may be called again.
        """
        async with self._database.begin() as db:
            ours = and_(
                table.c.delivery_id == delivery.delivery_id,
                table.c.state == PENDING,
                table.c.attempts == delivery.attempts,
            )
            changed = await db.execute(update(table).where(ours).values(_written(verdict, now)))
            if _count(changed) == 0:
                return False
            await self._reschedule_lane(db, delivery, verdict.at if isinstance(verdict, Retry) else now)
            if isinstance(verdict, Finish):
                await self._tell(db, delivery, verdict.state, verdict.cause, now)
        if isinstance(verdict, Finish):
            FINISHED.labels(delivery.channel, verdict.state).inc()
        return True

    async def _reschedule_lane(self, db: AsyncSession, delivery: Delivery, at: datetime) -> None:
        """Move what waits behind a delivery to when it can first go.

        Only saves work: claims look at the head of each lane anyway, and a wrong time here heals at that time.
        """
        behind = and_(
            table.c.subject_id == delivery.subject_id,
            table.c.business == delivery.business,
            table.c.route == delivery.route,
            table.c.state == PENDING,
            table.c.delivery_id != delivery.delivery_id,
        )
        await db.execute(update(table).where(behind).values(next_at=at))

    async def erase(self, db: AsyncSession, subject_id: str, now: datetime) -> list[Delivery]:
        """Cancel what is unfinished about a subject and remove all its data; returns what was cancelled."""
        insert = sqlite_insert if self._database.is_sqlite else pg_insert
        remembered = insert(erased_subjects).values(subject_hash=_hash(subject_id), erased_at=now)
        await db.execute(remembered.on_conflict_do_nothing())
        about = table.c.subject_id == subject_id
        # Locked in the order in which settling locks a lane, so that the two never wait for each other.
        unfinished = (
            select(table)
            .where(about, table.c.state == PENDING)
            .order_by(table.c.business, table.c.route, table.c.seq, table.c.delivery_id)
            .with_for_update()
        )
        cancelled = [_delivery(row) for row in (await db.execute(unfinished)).all()]
        over = {"state": CANCELLED, "cause": ERASED, "finished_at": now, "lease_until": None}
        ids = [delivery.delivery_id for delivery in cancelled]
        await db.execute(update(table).where(table.c.delivery_id.in_(ids)).values(over))
        await db.execute(update(table).where(about).values(payload=None))
        for delivery in cancelled:
            await self._tell(db, delivery, CANCELLED, ERASED, now)
        return cancelled

    async def is_erased(self, db: AsyncSession, subject_id: str) -> bool:
        """Tell whether a subject was erased: nothing about it is told any more, however late it comes."""
        known = select(erased_subjects).where(erased_subjects.c.subject_hash == _hash(subject_id))
        return (await db.execute(known)).first() is not None

    async def _tell(
        self, db: AsyncSession, delivery: Delivery, state: str, cause: str | None, now: datetime
    ) -> None:
        seq = await self._outbox.next_seq(db, delivery.subject_id)
        fact_id = derived_id(delivery.delivery_id, f"{state}/{delivery.attempts}")
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


def _due(now: datetime, skip_hosts: Collection[str], skip_ids: Collection[str]) -> Any:
    earlier = table.alias("earlier")
    blocked = exists().where(
        earlier.c.subject_id == table.c.subject_id,
        earlier.c.business == table.c.business,
        earlier.c.route == table.c.route,
        earlier.c.state == PENDING,
        or_(
            earlier.c.seq < table.c.seq,
            and_(earlier.c.seq == table.c.seq, earlier.c.delivery_id < table.c.delivery_id),
        ),
    )
    return (
        select(table)
        .where(
            table.c.state == PENDING,
            table.c.next_at <= now,
            or_(table.c.lease_until.is_(None), table.c.lease_until <= now),
            _none_of(table.c.host, skip_hosts),
            _none_of(table.c.delivery_id, skip_ids),
            ~blocked,
        )
        .order_by(table.c.next_at, table.c.delivery_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _none_of(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
    return column.not_in(sorted(values)) if values else true()


def _written(verdict: Verdict, now: datetime) -> dict[str, Any]:
    match verdict:
        case Finish(state, cause):
            return {"state": state, "cause": cause, "finished_at": now, "lease_until": None}
        case Retry(at, cause):
            return {"next_at": at, "cause": cause, "lease_until": None}


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


def _delivery(row: Row[Any], **changes: Any) -> Delivery:
    return Delivery(**({name: getattr(row, name) for name in _COLUMNS} | changes))


def _hash(subject_id: str) -> str:
    return hashlib.sha256(subject_id.encode()).hexdigest()


def _count(result: Any) -> int:
    return result.rowcount if isinstance(result, CursorResult) else 0
