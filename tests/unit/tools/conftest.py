"""Fixtures of the tools service's unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from unit.tools.bench import Bench
from unit.tools.world import Worker, World, world


@pytest.fixture
async def here(sqlite_url: str) -> AsyncIterator[World]:
    """A world on SQLite: for tests in which the database does not matter."""
    async with world(sqlite_url) as made:
        yield made


@pytest.fixture
async def anywhere(database_url: str) -> AsyncIterator[World]:
    """A world on SQLite and, in a second run of the test, on PostgreSQL."""
    async with world(database_url) as made:
        yield made


@pytest.fixture
def bench() -> Bench:
    """Tools under a test's hand; they end at once until a test holds them."""
    made = Bench()
    made.may_end.set()
    return made


@pytest.fixture
def worker(place: World, bench: Bench) -> Worker:
    """A worker with the bench's tools, in the test module's ``place``."""
    return place.worker(tools=bench.tools)
