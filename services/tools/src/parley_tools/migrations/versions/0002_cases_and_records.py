"""Cases, kits' records, calendars, erased subjects; bookings of cases, services and buffers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _moment(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _words(name: str, length: int | None, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length) if length else sa.Text(), nullable=nullable)


def _key(name: str, length: int) -> sa.Column:
    return sa.Column(name, sa.String(length), primary_key=True)


def upgrade() -> None:
    _bookings()
    _cases()
    op.create_table(
        "records",
        _key("business", 64),
        _key("kind", 64),
        _key("record_id", 120),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("is_seed", sa.Boolean(), nullable=False),
        _moment("updated_at"),
    )
    op.create_table(
        "erased_subjects",
        _key("business", 64),
        _key("person_hash", 64),
        _words("lead_id", 64),
        _moment("erased_at"),
    )


def _bookings() -> None:
    with op.batch_alter_table("bookings") as bookings:
        bookings.alter_column("lead_id", existing_type=sa.String(64), nullable=True)
        bookings.add_column(_words("service", 64, nullable=True))
        bookings.add_column(_words("case_id", 64, nullable=True))
        bookings.add_column(_moment("blocked_until", nullable=True))
    op.execute("UPDATE bookings SET blocked_until = ends_at")
    with op.batch_alter_table("bookings") as bookings:
        bookings.alter_column("blocked_until", existing_type=sa.DateTime(timezone=True), nullable=False)
    op.create_index("ix_bookings_case", "bookings", ["case_id"])
    op.create_table(
        "calendars",
        _key("business", 64),
        _key("resource", 64),
        sa.Column("booked_count", sa.Integer(), nullable=False),
    )


def _cases() -> None:
    op.create_table(
        "cases",
        _key("case_id", 64),
        _words("business", 64),
        _words("kind", 64),
        _words("reference", 16),
        _words("status", 32),
        _words("summary", None),
        _words("subject", 120, nullable=True),
        _words("name", 200, nullable=True),
        _words("email", 320, nullable=True),
        _words("phone", 32, nullable=True),
        _words("priority", 16),
        _words("queue", 64, nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        _words("resolution", None, nullable=True),
        _words("session_id", 64),
        _moment("opened_at"),
        _moment("updated_at"),
        _moment("closed_at", nullable=True),
    )
    op.create_index("uq_cases_reference", "cases", ["business", "reference"], unique=True)
    op.create_index("ix_cases_subject", "cases", ["business", "kind", "subject"])
    op.create_index("ix_cases_session", "cases", ["business", "session_id"])
