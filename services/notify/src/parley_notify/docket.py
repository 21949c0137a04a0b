"""What operators see of deliveries and do to them: list, show, retry, cancel. Workers do not use it.

A retry begins the time to try anew and makes the delivery due at once; it keeps its id, so that receivers still
recognise a repeat. A cancelled delivery is told as a fact, like any other end.

Law: nothing personal is shown: no payload, and of a destination only its host.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, select, update

from parley_common.db import Database
from parley_notify.deliveries import FINISHED, Deliveries, delivery_of
from parley_notify.tables import CANCELLED, FAILED, PENDING
from parley_notify.tables import deliveries as table

BY_OPERATOR = "by_operator"
LIST_MAX = 500
SHOWN = (
    "delivery_id",
    "state",
    "business",
    "route",
    "channel",
    "host",
    "fact_type",
    "fact_id",
    "subject_id",
    "seq",
    "attempts",
    "cause",
    "created_at",
    "next_at",
    "lease_until",
    "finished_at",
    "retried_at",
)

Done = Literal["done", "unknown", "under_way", "delivered", "erased", "finished"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deliveries to list; null parts do not matter."""

    state: str | None = None
    business: str | None = None
    route: str | None = None
    channel: str | None = None
    subject_id: str | None = None
    fact_id: str | None = None
    limit: int = 100


class Docket:
    """The deliveries of one database, for operators."""

    def __init__(self, database: Database, deliveries: Deliveries) -> None:
        self._database = database
        self._deliveries = deliveries

    async def listed(self, wanted: Wanted) -> list[dict[str, Any]]:
        """Return deliveries, the newest first. Raises DependencyUnavailable."""
        query = select(*(table.c[name] for name in SHOWN)).order_by(
            table.c.created_at.desc(), table.c.delivery_id
        )
        for name in ("state", "business", "route", "channel", "subject_id", "fact_id"):
            value = getattr(wanted, name)
            if value is not None:
                query = query.where(table.c[name] == value)
        async with self._database.begin() as db:
            rows = (await db.execute(query.limit(min(wanted.limit, LIST_MAX)))).mappings().all()
        return [dict(row) for row in rows]

    async def show(self, delivery_id: str) -> dict[str, Any] | None:
        """Return one delivery, and what of its lane goes before it; null when there is none."""
        async with self._database.begin() as db:
            query = select(table).where(table.c.delivery_id == delivery_id)
            row = (await db.execute(query)).one_or_none()
            if row is None:
                return None
            waits_for = (await db.execute(_before(row))).scalar_one_or_none()
        shown = {name: getattr(row, name) for name in SHOWN}
        return shown | {
            "waits_for": waits_for if row.state == PENDING else None,
            "is_erased": row.payload is None,
            "traceparent": row.traceparent,
        }

    async def retry(self, delivery_id: str, now: datetime) -> Done:
        """Make a delivery due now, whatever it had come to but delivered. Raises DependencyUnavailable."""
        async with self._database.begin() as db:
            row = (await db.execute(_locked(delivery_id))).one_or_none()
            refusal = _refusal(row, now)
            if refusal is not None:
                return refusal
            anew = {
                "state": PENDING,
                "next_at": now,
                "retried_at": now,
                "cause": None,
                "finished_at": None,
                "lease_until": None,
            }
            await db.execute(update(table).where(table.c.delivery_id == delivery_id).values(anew))
        return "done"

    async def cancel(self, delivery_id: str, now: datetime) -> Done:
        """Give up what is still to be told; an attempt under way settles nothing any more."""
        async with self._database.begin() as db:
            row = (await db.execute(_locked(delivery_id))).one_or_none()
            if row is None:
                return "unknown"
            if row.state != PENDING:
                return "finished"
            over = {"state": CANCELLED, "cause": BY_OPERATOR, "finished_at": now, "lease_until": None}
            await db.execute(update(table).where(table.c.delivery_id == delivery_id).values(over))
            if (await db.execute(_before(row))).scalar_one_or_none() is None:
                await self._deliveries.release_lane(db, delivery_of(row), now)
            await self._deliveries.tell(db, delivery_of(row), CANCELLED, BY_OPERATOR, now)
        FINISHED.labels(row.channel, CANCELLED).inc()
        return "done"


def _locked(delivery_id: str) -> Any:
    return select(table).where(table.c.delivery_id == delivery_id).with_for_update()


def _before(row: Row[Any]) -> Any:
    """Select the id of the delivery that a delivery waits for: the oldest unfinished one of its lane before it."""
    return (
        select(table.c.delivery_id)
        .where(
            table.c.subject_id == row.subject_id,
            table.c.business == row.business,
            table.c.route == row.route,
            table.c.state == PENDING,
            table.c.seq < row.seq,
        )
        .order_by(table.c.seq)
        .limit(1)
    )


def _refusal(row: Row[Any] | None, now: datetime) -> Done | None:
    if row is None:
        return "unknown"
    if row.payload is None:
        return "erased"
    if row.state in {FAILED, CANCELLED}:
        return None
    if row.state != PENDING:
        return "delivered"
    return "under_way" if row.lease_until is not None and row.lease_until > now else None
