"""The tables of the tools service, in one metadata: leads, cases, bookings, kits' records, tool calls, the outbox.

Only shapes live here; calls.py, leads.py, cases.py, bookings.py and records.py read and write them. Every time is
UTC.

Law: a change here comes with a migration; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Dialect, Index, String, Text, TypeDecorator, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from parley_common.outbox import outbox_tables

SCHEMA = "tools"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: stored as UTC, read back aware, also from SQLite, which keeps no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is not None and value.tzinfo is None:
            raise ValueError("a moment without a zone means nothing")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _moment(*, nullable: bool = False) -> Any:
    """A column's own object each time: SQLAlchemy columns cannot be shared between tables."""
    return Field(default=None if nullable else ..., sa_column=Column(UtcDateTime(), nullable=nullable))


def _words(length: int | None, *, nullable: bool = False) -> Any:
    kind = String(length) if length else Text()
    return Field(default=None if nullable else ..., sa_column=Column(kind, nullable=nullable))


def _json() -> Any:
    return Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class Row(SQLModel, registry=registry()):
    """The base of our tables: a metadata of their own."""


class Lead(Row, table=True):
    """A consenting person's interest, as it now is. Personal data."""

    __tablename__ = "leads"
    __table_args__ = (Index("ix_leads_session", "business", "session_id"),)

    lead_id: str = Field(primary_key=True, max_length=64)
    business: str = _words(64)
    session_id: str = _words(64)
    """The session that last gave this lead's details: only that one may act on it."""
    name: str | None = _words(200, nullable=True)
    email: str | None = _words(320, nullable=True)
    phone: str | None = _words(32, nullable=True)
    consent_at: datetime = _moment()
    consent_wording: str = _words(None)
    interest: dict[str, Any] = _json()
    channel: str = _words(32)
    page: str | None = _words(None, nullable=True)
    score: int | None = None
    disposition: str | None = _words(32, nullable=True)
    offer: str | None = _words(None, nullable=True)
    rules_version: str | None = _words(32, nullable=True)
    created_at: datetime = _moment()
    updated_at: datetime = _moment()


class LeadIdentity(Row, table=True):
    """What a person is known by within a business, as a hash: the same e-mail or phone is the same lead."""

    __tablename__ = "lead_identities"

    business: str = Field(primary_key=True, max_length=64)
    person_hash: str = Field(primary_key=True, max_length=64)
    lead_id: str = Field(sa_column=Column(String(64), nullable=False, index=True))


class LeadHistory(Row, table=True):
    """One change of a lead: which fields, from what to what. Personal data."""

    __tablename__ = "lead_history"

    history_id: str = Field(primary_key=True, max_length=64)
    lead_id: str = Field(sa_column=Column(String(64), nullable=False, index=True))
    what: str = _words(32)
    """captured, updated, scored, call_scheduled, call_moved or call_cancelled."""
    session_id: str = _words(64)
    call_id: str = _words(128)
    changes: dict[str, Any] = _json()
    """Field → [before, after]."""
    at: datetime = _moment()


class Booking(Row, table=True):
    """A slot taken with someone. The partial unique index is what makes double booking impossible."""

    __tablename__ = "bookings"
    __table_args__ = (
        Index(
            "uq_bookings_slot",
            "business",
            "resource",
            "starts_at",
            unique=True,
            postgresql_where=text("status = 'booked'"),
            sqlite_where=text("status = 'booked'"),
        ),
        Index("ix_bookings_lead", "lead_id"),
        Index("ix_bookings_case", "case_id"),
    )

    booking_id: str = Field(primary_key=True, max_length=64)
    business: str = _words(64)
    resource: str = _words(64)
    service: str | None = _words(64, nullable=True)
    """What it is booked for; null where the business books one thing only."""
    lead_id: str | None = _words(64, nullable=True)
    case_id: str | None = _words(64, nullable=True)
    """Whose it is: a lead's or a case's."""
    session_id: str = _words(64)
    starts_at: datetime = _moment()
    ends_at: datetime = _moment()
    blocked_until: datetime = _moment()
    """``ends_at`` and the buffer after it: nothing else of this resource begins before."""
    time_zone: str = _words(64)
    """The one its caller was told the time in."""
    status: str = _words(16)
    """booked or cancelled."""
    created_at: datetime = _moment()


class Calendar(Row, table=True):
    """One row per resource: whoever books it holds the row's lock, so that overlaps are seen."""

    __tablename__ = "calendars"

    business: str = Field(primary_key=True, max_length=64)
    resource: str = Field(primary_key=True, max_length=64)
    booked_count: int


class Case(Row, table=True):
    """Any other outcome of a session (appointment, ticket, application, refill ...), as it now is. Personal data."""

    __tablename__ = "cases"
    __table_args__ = (
        Index("uq_cases_reference", "business", "reference", unique=True),
        Index("ix_cases_subject", "business", "kind", "subject"),
        Index("ix_cases_session", "business", "session_id"),
    )

    case_id: str = Field(primary_key=True, max_length=64)
    business: str = _words(64)
    kind: str = _words(64)
    reference: str = _words(16)
    """Six digits that a caller can say: how a case is asked for later."""
    status: str = _words(32)
    """open, closed, or a word of the kit's own between the two."""
    summary: str = _words(None)
    subject: str | None = _words(120, nullable=True)
    """What the kit finds it by: an order, an account, a patient; null: only by its reference or session."""
    name: str | None = _words(200, nullable=True)
    email: str | None = _words(320, nullable=True)
    phone: str | None = _words(32, nullable=True)
    priority: str = _words(16)
    queue: str | None = _words(64, nullable=True)
    details: dict[str, Any] = _json()
    resolution: str | None = _words(None, nullable=True)
    session_id: str = _words(64)
    """The session that opened it."""
    opened_at: datetime = _moment()
    updated_at: datetime = _moment()
    closed_at: datetime | None = _moment(nullable=True)


class RecordRow(Row, table=True):
    """One thing a kit keeps that changes (stock, a cart, refills left): a key and JSON of the kit's own model."""

    __tablename__ = "records"

    business: str = Field(primary_key=True, max_length=64)
    kind: str = Field(primary_key=True, max_length=64)
    record_id: str = Field(primary_key=True, max_length=120)
    data: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    """Null: removed; the row stays, so that seeding does not bring it back."""
    version: int
    """Raised by each change."""
    is_seed: bool
    """It is as the business's data file says, and follows that file; a change by a tool ends this."""
    updated_at: datetime = _moment()


class ErasedSubject(Row, table=True):
    """Someone whose personal data was removed, as a hash: what comes back about them needs a new consent."""

    __tablename__ = "erased_subjects"

    business: str = Field(primary_key=True, max_length=64)
    person_hash: str = Field(primary_key=True, max_length=64)
    lead_id: str = _words(64)
    erased_at: datetime = _moment()


class ToolCallRow(Row, table=True):
    """One tool call: who runs it until when, where its answer goes, and what came of it."""

    __tablename__ = "tool_calls"
    __table_args__ = (
        Index("ix_tool_calls_finished", "finished_at"),
        Index("ix_tool_calls_owner", "owner", "state"),
    )

    session_id: str = Field(primary_key=True, max_length=64)
    call_id: str = Field(primary_key=True, max_length=128)
    business: str = _words(64)
    tool: str = _words(64)
    state: str = _words(16)
    """running or done."""
    owner: str = _words(64)
    """The instance that runs it, or ran it last."""
    run: int
    """Raised by each takeover: a run whose number is no longer this one commits nothing."""
    lease_until: datetime = _moment()
    fence: int
    attempt: int
    reply_partition: int
    reply_to: str = _words(200)
    answer_by: datetime = _moment()
    """When the newest attempt stops waiting."""
    result: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    created_at: datetime = _moment()
    finished_at: datetime | None = _moment(nullable=True)


METADATA = Row.metadata
OUTBOX = outbox_tables(METADATA)
