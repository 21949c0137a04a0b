"""What operators did (deliveries begun anew, dead letters replayed), and an index to claim host by host."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UNFINISHED = sa.text("state = 'pending'")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("retried_at", MOMENT, nullable=True))
    op.drop_index("ix_deliveries_due", "deliveries")
    op.create_index(
        "ix_deliveries_host_due",
        "deliveries",
        ["host", "next_at", "delivery_id"],
        postgresql_where=UNFINISHED,
        sqlite_where=UNFINISHED,
    )
    op.create_table(
        "replayed_letters",
        sa.Column("topic", sa.String(200), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("offset", sa.BigInteger, primary_key=True),
        sa.Column("replayed_at", MOMENT, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("replayed_letters")
    op.drop_index("ix_deliveries_host_due", "deliveries")
    op.create_index(
        "ix_deliveries_due", "deliveries", ["next_at"], postgresql_where=UNFINISHED, sqlite_where=UNFINISHED
    )
    with op.batch_alter_table("deliveries") as table:
        table.drop_column("retried_at")
