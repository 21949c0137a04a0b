"""What alembic runs: the shared migration of parley_common on the tables of notify."""

from parley_common.db import run_migrations
from parley_notify.tables import metadata

run_migrations(metadata)
