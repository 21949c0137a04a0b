"""The tables of notify: deliveries, inbox, outbox, who was erased, which dead letters were replayed. See migrations/."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy import text as sql

from parley_common.inbox import inbox_table
from parley_common.outbox import outbox_tables

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A moment. SQLite keeps no zone, so it is written as UTC and read back as UTC."""

    # ruff: noqa: ARG002 - both signatures are SQLAlchemy's

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


PENDING, DELIVERED, FAILED, CANCELLED = "pending", "delivered", "failed", "cancelled"
_UNFINISHED = sql("state = 'pending'")

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", String(36), primary_key=True),
    Column("fact_id", String(64), nullable=False),
    Column("fact_type", String(100), nullable=False),
    Column("fact_source", String(200), nullable=False),
    Column("fact_time", UtcDateTime, nullable=False),
    Column("business", String(64), nullable=False),
    Column("subject_id", String(128), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("route", String(64), nullable=False),
    Column("channel", String(32), nullable=False),
    Column("destination", Text, nullable=False),
    Column("host", String(255), nullable=False),
    Column("template", String(100), nullable=True),
    Column("payload", Text, nullable=True),
    Column("traceparent", String(64), nullable=True),
    Column("tracestate", Text, nullable=True),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("lease_until", UtcDateTime, nullable=True),
    Column("cause", String(200), nullable=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime, nullable=True),
    Column("retried_at", UtcDateTime, nullable=True),
    Column("booking", Text, nullable=True),
    Index(
        "ix_deliveries_host_due",
        "host",
        "next_at",
        "delivery_id",
        postgresql_where=_UNFINISHED,
        sqlite_where=_UNFINISHED,
    ),
    Index(
        "ix_deliveries_lane",
        "subject_id",
        "business",
        "route",
        "seq",
        postgresql_where=_UNFINISHED,
        sqlite_where=_UNFINISHED,
    ),
    Index("ix_deliveries_subject", "subject_id"),
    Index("ix_deliveries_finished", "finished_at"),
)

erased_subjects = Table(
    "erased_subjects",
    metadata,
    Column("subject_hash", String(64), primary_key=True),
    Column("erased_at", UtcDateTime, nullable=False),
)

replayed_letters = Table(
    "replayed_letters",
    metadata,
    Column("topic", String(200), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("replayed_at", UtcDateTime, nullable=False),
)

inbox = inbox_table(metadata)
outbox = outbox_tables(metadata)
