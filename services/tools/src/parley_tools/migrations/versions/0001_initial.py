"""Leads, their identities and history, bookings, tool calls, the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _moment(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _words(name: str, length: int | None, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length) if length else sa.Text(), nullable=nullable)


def upgrade() -> None:
    _leads()
    _bookings()
    _tool_calls()
    _outbox()


def _leads() -> None:
    op.create_table(
        "leads",
        sa.Column("lead_id", sa.String(64), primary_key=True),
        _words("business", 64),
        _words("session_id", 64),
        _words("name", 200, nullable=True),
        _words("email", 320, nullable=True),
        _words("phone", 32, nullable=True),
        _moment("consent_at"),
        _words("consent_wording", None),
        sa.Column("interest", sa.JSON(), nullable=False),
        _words("channel", 32),
        _words("page", None, nullable=True),
        sa.Column("score", sa.Integer(), nullable=True),
        _words("disposition", 32, nullable=True),
        _words("offer", None, nullable=True),
        _words("rules_version", 32, nullable=True),
        _moment("created_at"),
        _moment("updated_at"),
    )
    op.create_index("ix_leads_session", "leads", ["business", "session_id"])
    op.create_table(
        "lead_identities",
        sa.Column("business", sa.String(64), primary_key=True),
        sa.Column("person_hash", sa.String(64), primary_key=True),
        _words("lead_id", 64),
    )
    op.create_index("ix_lead_identities_lead_id", "lead_identities", ["lead_id"])
    op.create_table(
        "lead_history",
        sa.Column("history_id", sa.String(64), primary_key=True),
        _words("lead_id", 64),
        _words("what", 32),
        _words("session_id", 64),
        _words("call_id", 128),
        sa.Column("changes", sa.JSON(), nullable=False),
        _moment("at"),
    )
    op.create_index("ix_lead_history_lead_id", "lead_history", ["lead_id"])


def _bookings() -> None:
    op.create_table(
        "bookings",
        sa.Column("booking_id", sa.String(64), primary_key=True),
        _words("business", 64),
        _words("resource", 64),
        _words("lead_id", 64),
        _words("session_id", 64),
        _moment("starts_at"),
        _moment("ends_at"),
        _words("time_zone", 64),
        _words("status", 16),
        _moment("created_at"),
    )
    booked = sa.text("status = 'booked'")
    op.create_index(
        "uq_bookings_slot",
        "bookings",
        ["business", "resource", "starts_at"],
        unique=True,
        postgresql_where=booked,
        sqlite_where=booked,
    )
    op.create_index("ix_bookings_lead", "bookings", ["lead_id"])


def _tool_calls() -> None:
    op.create_table(
        "tool_calls",
        sa.Column("session_id", sa.String(64), primary_key=True),
        sa.Column("call_id", sa.String(128), primary_key=True),
        _words("business", 64),
        _words("tool", 64),
        _words("state", 16),
        _words("owner", 64),
        sa.Column("run", sa.Integer(), nullable=False),
        _moment("lease_until"),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("reply_partition", sa.Integer(), nullable=False),
        _words("reply_to", 200),
        _moment("answer_by"),
        sa.Column("result", sa.JSON(), nullable=True),
        _moment("created_at"),
        _moment("finished_at", nullable=True),
    )
    op.create_index("ix_tool_calls_finished", "tool_calls", ["finished_at"])
    op.create_index("ix_tool_calls_owner", "tool_calls", ["owner", "state"])


def _outbox() -> None:
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "outbox",
        sa.Column("id", big, primary_key=True, autoincrement=True),
        sa.Column("aggregate_id", sa.String(128), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("topic", sa.String(200), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=False),
        _moment("created_at"),
        _moment("sent_at", nullable=True),
        sa.UniqueConstraint("aggregate_id", "seq", name="uq_outbox_aggregate_seq"),
    )
    op.create_index("ix_outbox_unsent", "outbox", ["sent_at", "id"])
    op.create_table(
        "outbox_heads",
        sa.Column("aggregate_id", sa.String(128), primary_key=True),
        sa.Column("last_seq", sa.Integer(), nullable=False),
    )
