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
    CTE,
    ColumnElement,
    CursorResult,
    FromClause,
    Row,
    and_,
    delete,
    exists,
    func,
    inspect,
    literal_column,
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
CLAIM_TRIES = 3
"""Another replica may lock what we found between finding and locking."""
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
        for _ in range(CLAIM_TRIES):
            async with self._database.begin() as db:
                due = (await db.execute(_due(now, skip_hosts, skip_ids))).scalars().all()
                ids = [delivery_id for delivery_id in due if delivery_id is not None]
                if not ids:
                    return None
                found = (await db.execute(_first_free(now, ids))).one_or_none()
                if found is not None:
                    return await self._lease(db, found, now, lease_s)
        return None  # other replicas are faster; the next look is not far

    async def _lease(self, db: AsyncSession, found: Row[Any], now: datetime, lease_s: float) -> Delivery:
        lease = {
            "attempts": found.attempts + 1,
            "lease_until": now + timedelta(seconds=lease_s),
            "next_at": now,
        }
        await db.execute(update(table).where(table.c.delivery_id == found.delivery_id).values(lease))
        return delivery_of(found, attempts=found.attempts + 1, retaken=found.lease_until is not None)

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
                await self.tell(db, delivery, verdict.state, verdict.cause, now)
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
        cancelled = [delivery_of(row) for row in (await db.execute(unfinished)).all()]
        over = {"state": CANCELLED, "cause": ERASED, "finished_at": now, "lease_until": None}
        ids = [delivery.delivery_id for delivery in cancelled]
        await db.execute(update(table).where(table.c.delivery_id.in_(ids)).values(over))
        await db.execute(update(table).where(about).values(payload=None))
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


def _due(now: datetime, skip_hosts: Collection[str], skip_ids: Collection[str]) -> Any:
    """Select, for each host that may be bothered, the id of the delivery that has been due longest; null for none.

    Host by host, so that what waits for one that is down, however much it is, costs the others nothing: a query over
    all that is due would read past the whole of its backlog at every claim.
    """
    hosts = _hosts()
    due = table.alias("due")
    longest = (
        select(due.c.delivery_id)
        .where(
            due.c.host == hosts.c.host,
            _is_due(due, now),
            _none_of(due.c.delivery_id, skip_ids),
            ~_blocked(due),
        )
        .order_by(due.c.next_at, due.c.delivery_id)
        .limit(1)
        .correlate(hosts)
        .scalar_subquery()
    )
    return (
        select(longest)
        .select_from(hosts)
        .where(hosts.c.host.is_not(None), _none_of(hosts.c.host, skip_hosts))
    )


def _hosts() -> CTE:
    """Return the hosts of what is unfinished, each found by one step in the index and not by reading all of them."""
    first = (
        select(func.min(table.c.host).label("host")).where(_is_unfinished(table)).cte("hosts", recursive=True)
    )
    after = table.alias("after")
    following = select(func.min(after.c.host)).where(_is_unfinished(after), after.c.host > first.c.host)
    step = select(following.correlate(first).scalar_subquery()).where(first.c.host.is_not(None))
    return first.union_all(step)


def _first_free(now: datetime, ids: Sequence[str]) -> Any:
    """Select, and lock, the one of these that has been due longest and that nobody else is claiming."""
    return (
        select(table)
        .where(table.c.delivery_id.in_(ids), _is_due(table, now))
        .order_by(table.c.next_at, table.c.delivery_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _is_due(rows: FromClause, now: datetime) -> ColumnElement[bool]:
    is_free = or_(rows.c.lease_until.is_(None), rows.c.lease_until <= now)
    return and_(_is_unfinished(rows), rows.c.next_at <= now, is_free)


def _is_unfinished(rows: FromClause) -> ColumnElement[bool]:
    """Spelled out rather than bound: only then do partial indexes serve a prepared statement for sure."""
    return rows.c.state == literal_column(f"'{PENDING}'")


def _blocked(due: FromClause) -> ColumnElement[bool]:
    """Tell whether something older of the same lane is unfinished."""
    earlier = table.alias("earlier")
    is_older = or_(
        earlier.c.seq < due.c.seq,
        and_(earlier.c.seq == due.c.seq, earlier.c.delivery_id < due.c.delivery_id),
    )
    return exists().where(
        earlier.c.subject_id == due.c.subject_id,
        earlier.c.business == due.c.business,
        earlier.c.route == due.c.route,
        _is_unfinished(earlier),
        is_older,
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


def delivery_of(row: Row[Any], **changes: Any) -> Delivery:
    """Return a row as workers see it."""
    return Delivery(**({name: getattr(row, name) for name in _COLUMNS} | changes))


def _hash(subject_id: str) -> str:
    return hashlib.sha256(subject_id.encode()).hexdigest()


def _count(result: Any) -> int:
    return result.rowcount if isinstance(result, CursorResult) else 0
