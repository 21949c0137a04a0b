"""Alembic's entry: migrates on the connection that ``Database.migrate`` opened."""

from parley_common.db import run_migrations
from parley_tools.store import METADATA

run_migrations(METADATA)
