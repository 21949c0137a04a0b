"""Decides which deliveries may be attempted now: the questions that a claim asks the database, written once.

Host by host, so that what waits for one that is down, however much it is, costs the others nothing: a query over all
that is due would read past the whole of its backlog at every claim.

Law: of each lane (business, route, subject) only the oldest unfinished delivery is ever found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Integer,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
)

from parley_notify.tables import PENDING, UtcDateTime
from parley_notify.tables import deliveries as table

_BETWEEN_IDS = ","


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much a claim may take."""

    count: int = 1
    """At most so many in all."""
    each: int = 1
    """At most so many for any one host."""
    room: Callable[[str], int] = lambda _host: 1_000
    """How many a host has room for; what ``each`` allows is cut to it."""
    skip_hosts: Collection[str] = ()
    """Destinations that are not to be bothered now."""
    skip_ids: Collection[str] = ()
    """What this process holds already, even if the lease ran out meanwhile."""


def _is_unfinished(rows: FromClause) -> ColumnElement[bool]:
    """Spelled out rather than bound: only then do partial indexes serve a prepared statement for sure."""
    return rows.c.state == literal_column(f"'{PENDING}'")


def _is_due(rows: FromClause) -> ColumnElement[bool]:
    now = bindparam("now", type_=UtcDateTime)
    is_free = or_(rows.c.lease_until.is_(None), rows.c.lease_until <= now)
    return and_(_is_unfinished(rows), rows.c.next_at <= now, is_free)


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


def _none_of(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    return column.not_in(bindparam(name, expanding=True))


def _hosts() -> CTE:
    """Return the hosts of what is unfinished, each found by one step in the index and not by reading all of them."""
    first = (
        select(func.min(table.c.host).label("host")).where(_is_unfinished(table)).cte("hosts", recursive=True)
    )
    after = table.alias("after")
    following = select(func.min(after.c.host)).where(_is_unfinished(after), after.c.host > first.c.host)
    step = select(following.correlate(first).scalar_subquery()).where(first.c.host.is_not(None))
    return first.union_all(step)


def _due() -> Any:
    """Select each host that may be bothered, and the ids of what has been due longest there; null for none."""
    hosts = _hosts()
    due = table.alias("due")
    longest = (
        select(due.c.delivery_id)
        .where(
            due.c.host == hosts.c.host, _is_due(due), _none_of(due.c.delivery_id, "skip_ids"), ~_blocked(due)
        )
        .order_by(due.c.next_at, due.c.delivery_id)
        .limit(bindparam("each", type_=Integer))
        .correlate(hosts)
        .subquery("longest")
    )
    ids = select(func.aggregate_strings(longest.c.delivery_id, _BETWEEN_IDS)).scalar_subquery()
    return (
        select(hosts.c.host, ids.label("ids"))
        .select_from(hosts)
        .where(hosts.c.host.is_not(None), _none_of(hosts.c.host, "skip_hosts"))
    )


def _free() -> Any:
    """Select, and lock, those of some ids that have been due longest and that nobody else is claiming."""
    return (
        select(table)
        .where(table.c.delivery_id.in_(bindparam("ids", expanding=True)), _is_due(table))
        .order_by(table.c.next_at, table.c.delivery_id)
        .limit(bindparam("count", type_=Integer))
        .with_for_update(skip_locked=True)
    )


DUE, FREE = _due(), _free()


def ids_of(found: Any, capacity: Capacity) -> list[str]:
    """Return the ids in the rows that DUE found, of each host as many as it has room for."""
    return [
        delivery_id
        for host, ids in found
        if ids is not None
        for delivery_id in ids.split(_BETWEEN_IDS)[: capacity.room(host)]
    ]
