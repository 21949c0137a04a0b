"""Deliveries, inbox, outbox, erased subjects."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UNFINISHED = sa.text("state = 'pending'")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.String(36), primary_key=True),
        sa.Column("fact_id", sa.String(64), nullable=False),
        sa.Column("fact_type", sa.String(100), nullable=False),
        sa.Column("fact_source", sa.String(200), nullable=False),
        sa.Column("fact_time", MOMENT, nullable=False),
        sa.Column("business", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.String(128), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("channel", sa.String(32), nullable=False),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("template", sa.String(100), nullable=True),
        sa.Column("payload", sa.Text, nullable=True),
        sa.Column("traceparent", sa.String(64), nullable=True),
        sa.Column("tracestate", sa.Text, nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", MOMENT, nullable=False),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.Column("cause", sa.String(200), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["next_at"],
        postgresql_where=UNFINISHED,
        sqlite_where=UNFINISHED,
    )
    op.create_index(
        "ix_deliveries_lane",
        "deliveries",
        ["subject_id", "business", "route", "seq"],
        postgresql_where=UNFINISHED,
        sqlite_where=UNFINISHED,
    )
    op.create_index("ix_deliveries_subject", "deliveries", ["subject_id"])
    op.create_index("ix_deliveries_finished", "deliveries", ["finished_at"])
    op.create_table(
        "erased_subjects",
        sa.Column("subject_hash", sa.String(64), primary_key=True),
        sa.Column("erased_at", MOMENT, nullable=False),
    )
    op.create_table(
        "inbox",
        sa.Column("fact_id", sa.String(64), primary_key=True),
        sa.Column("received_at", MOMENT, nullable=False),
    )
    op.create_index("ix_inbox_received_at", "inbox", ["received_at"])
    op.create_table(
        "outbox",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("aggregate_id", sa.String(128), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("topic", sa.String(200), nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=True),
        sa.Column("headers", sa.JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("sent_at", MOMENT, nullable=True),
        sa.UniqueConstraint("aggregate_id", "seq", name="uq_outbox_aggregate_seq"),
    )
    op.create_index("ix_outbox_unsent", "outbox", ["sent_at", "id"])
    op.create_table(
        "outbox_heads",
        sa.Column("aggregate_id", sa.String(128), primary_key=True),
        sa.Column("last_seq", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    for table in ("outbox_heads", "outbox", "inbox", "erased_subjects", "deliveries"):
        op.drop_table(table)
