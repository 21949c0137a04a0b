"""Tool calls through a real Kafka at a steady rate: how many one tools process answers, how soon, and for what.

It is the process as it is configured by default, alone on its core, with a service name, a topic and a database of its
own. What a call costs is told twice: as processor time, and as commits of PostgreSQL, which do not depend on what else
the machine does. At one call a second the process's idle work is in the figure too.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg

from harness.topics import Topics
from load.bench.asker import DRAIN_S, WARM_UP, Tally
from load.bench.ground import Around, Ground, environment
from load.bench.judge import Spread
from load.bench.systems import READY_S, TESTS
from parley_common.contracts.topics import tool_calls_topic
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics

BUSINESSES = TESTS.parent / "businesses"
STATISTICS_S = 1.5
"""PostgreSQL tells its statistics about a second late."""


@dataclass(frozen=True)
class ToolsAtRate:
    """What one tools process made of one rate of calls."""

    tool: str
    database: str
    rate_per_s: float
    tally: Tally
    cpu_ms_per_call: float
    commits_per_call: float | None
    """Of the database, those of its own upkeep too; null where it does not count them."""
    asker_late_ms: Spread
    """How late calls were sent: above a few milliseconds, who asks is the limit."""
    asker_pct: float
    """How much of a core who asks took."""
    not_sent: int
    around: Around

    @property
    def is_whole(self) -> bool:
        """Say whether each call was sent, and answered well and once."""
        return self.tally.answered == self.tally.asked and not (self.tally.twice or self.not_sent)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "is_whole": self.is_whole}


async def measure_tools(
    ground: Ground,
    tool: str,
    rates: Sequence[float],
    seconds: float,
    on_measured: Callable[[ToolsAtRate], None] = lambda _: None,
) -> list[ToolsAtRate]:
    """Start a tools process and ask it at each rate in turn."""
    url, name = await ground.database(), f"volume_{uuid.uuid4().hex[:8]}"
    topic = tool_calls_topic(name)
    await apply_topics(KafkaSettings(bootstrap_servers=ground.servers))
    await Topics(ground.servers).create(topic.name, topic.partitions)
    env = environment(
        ground.broker,
        TOOLS_SERVICE=name,
        TOOLS_DATABASE_URL=url,
        PARLEY_BUSINESSES_DIR=BUSINESSES,
        PARLEY_STATE_DIR=ground.lab.folder / name,
    )
    await ground.migrate("parley_tools", env)
    found: list[ToolsAtRate] = []
    with ground.service("parley_tools", env, "TOOLS_PORT") as service:
        process = _Process(ground, name, tool, await service.ready(), await _commits(url))
        for rate in rates:
            said, around = await _asked(process, rate, seconds)
            committed = await _commits(url)
            found.append(_figures(process, rate, seconds, said, around, committed))
            process.committed = committed
            on_measured(found[-1])
    return found


@dataclass
class _Process:
    """The tools process that is measured."""

    ground: Ground
    service: str
    tool: str
    pid: int
    committed: int | None
    """Commits of its database before a rate; null where they are not counted."""


async def _asked(process: _Process, rate: float, seconds: float) -> tuple[dict[str, Any], Around]:
    """Have an asker ask; return what it says, and what else went on."""
    ground, look = process.ground, process.ground.look()
    asker = ground.lab.program(
        ground.lab.cores.rest,
        "asker",
        *("--servers", ground.servers, "--service", process.service, "--tool", process.tool),
        *("--rate", str(rate), "--seconds", str(seconds), "--pid", f"tools={process.pid}"),
    )
    code = await asker.wait_exit(READY_S + seconds + 2 * DRAIN_S)
    assert code == 0, asker.log_tail()
    said: dict[str, Any] = json.loads(asker.log().splitlines()[-1])
    return said, look.around()


def _figures(
    process: _Process,
    rate: float,
    seconds: float,
    said: dict[str, Any],
    around: Around,
    committed: int | None,
) -> ToolsAtRate:
    tally = Tally(**{**said["tally"], "trip_ms": Spread(**said["tally"]["trip_ms"])})
    commits = None
    if committed is not None and process.committed is not None:
        commits = round((committed - process.committed) / max(1, tally.answered + WARM_UP), 2)
    return ToolsAtRate(
        tool=process.tool,
        database=process.ground.label,
        rate_per_s=rate,
        tally=tally,
        cpu_ms_per_call=round(1000 * said["took_s"]["tools"] / max(1, tally.answered), 2),
        commits_per_call=commits,
        asker_late_ms=Spread(**said["late_ms"]),
        asker_pct=round(100 * said["took_s"]["asker"] / seconds, 1),
        not_sent=sum(said["not_sent"].values()),
        around=around,
    )


async def _commits(url: str) -> int | None:
    """Return how many transactions PostgreSQL has committed; null for another database."""
    if not url.startswith("postgres"):
        return None
    await asyncio.sleep(STATISTICS_S)
    connection = await asyncpg.connect(url.replace("postgresql+asyncpg://", "postgresql://"), timeout=5)
    try:
        query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        return int(await connection.fetchval(query))
    finally:
        await connection.close()
