"""The programs that CRM teams are given, run as they are: each lead once and in order, through kills and rebalances.

The Node program needs node and npm; npm installs its pinned packages into a folder of the run.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from harness.processes import Proc, Processes
from harness.topics import Topics
from harness.waiting import until
from parley_common.contracts.export import read_samples
from parley_common.contracts.leads import LeadCallScheduled
from parley_common.contracts.people import Person
from parley_common.contracts.record import Fact, fact_record
from parley_common.contracts.topics import LEAD_EVENTS
from parley_common.ids import new_id
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
from unit.notify.samples import AT, DANA, captured, erased, full_facts, qualified

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

DOCS = Path(__file__).parents[2] / "docs"
PROGRAMS = DOCS / "how-to" / "consumers"
PAGE = DOCS / "how-to" / "consume-lead-events.md"
BROKER = "127.0.0.1:9092"
KCAT_S = 60
TAKEN_S = 120.0
"""A broker waits for a killed member's session to end (up to 45 s) before its partitions go to another."""
NPM_S = 180


@dataclass
class Crm:
    """One program with a database of its own: how to start it, and how to look into what it keeps."""

    argv: list[str]
    rows: Callable[[str], Any]
    processes: Processes

    def start(self) -> Proc:
        return self.processes.start(self.argv, name="crm")

    async def leads(self, *ids: str) -> dict[str, tuple[Any, ...]]:
        found = await self.rows("SELECT lead_id, seq, name, email, score, call_at FROM leads")
        return {row[0]: tuple(row[1:]) for row in found if row[0] in ids}

    async def seqs(self, lead_id: str) -> list[int]:
        found = await self.rows("SELECT lead_id, seq FROM facts_seen")
        return sorted(row[1] for row in found if row[0] == lead_id)

    async def counted_once(self) -> bool:
        """Tell whether the tally, which only grows, has each fact that was seen once."""
        (tally,) = await self.rows(
            'SELECT coalesce(sum("count"), 0), (SELECT count(*) FROM facts_seen) FROM tally'
        )
        return bool(tally[0] == tally[1] > 0)


@pytest.fixture(scope="session")
def node_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node program, in a folder that holds its pinned packages."""
    folder = tmp_path_factory.mktemp("node_consumer")
    for name in ("package.json", "package-lock.json", ".npmrc", "crm_consumer.js"):
        shutil.copy(PROGRAMS / "node" / name, folder / name)
    npm = shutil.which("npm")
    assert npm is not None, "this test needs node and npm"
    done = subprocess.run(
        [npm, "ci", "--no-progress"], cwd=folder, capture_output=True, text=True, timeout=NPM_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "crm_consumer.js"


@pytest.fixture(params=["python", "node"])
def crm(
    request: pytest.FixtureRequest,
    bootstrap_servers: str,
    processes: Processes,
    unique: Callable[[str], str],
    tmp_path: Path,
) -> Crm:
    group = unique("crm")
    if request.param == "python":
        file = tmp_path / "crm.db"
        program = str(PROGRAMS / "python" / "crm_consumer.py")
        options = ["--brokers", bootstrap_servers, "--group", group, "--database", str(file)]

        async def rows(query: str) -> list[Any]:
            return await asyncio.to_thread(_sqlite_rows, file, query)

        return Crm([sys.executable, program, *options], rows, processes)
    program = str(request.getfixturevalue("node_program"))
    url = request.getfixturevalue("postgres_url").replace("+asyncpg", "")

    async def pg_rows(query: str) -> list[Any]:
        db = await asyncpg.connect(url)
        try:
            return list(await db.fetch(query))
        except asyncpg.UndefinedTableError:
            return []
        finally:
            await db.close()

    node = shutil.which("node") or "node"
    return Crm([node, program, bootstrap_servers, group, url], pg_rows, processes)


def _sqlite_rows(file: Path, query: str) -> list[Any]:
    if not file.exists():
        return []
    with closing(sqlite3.connect(file, timeout=10)) as db:
        made = db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
        return db.execute(query).fetchall() if made == 4 else []


@pytest.fixture
async def publisher(bootstrap_servers: str, unique: Callable[[str], str]) -> AsyncIterator[Publisher]:
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers)
    await apply_topics(kafka)
    made = Publisher(kafka, client_id=unique("test"))
    await made.start()
    yield made
    await made.aclose()


async def publish(publisher: Publisher, *facts: Fact, times: int = 1) -> None:
    for fact in facts:
        record = fact_record(fact, source="tools", time=AT)
        for _ in range(times):
            await publisher.publish(record)


def scheduled(lead_id: str, seq: int) -> LeadCallScheduled:
    (sample,) = [fact for fact in full_facts() if isinstance(fact, LeadCallScheduled)]
    return sample.model_copy(update={"lead_id": lead_id, "seq": seq})


async def test_each_fact_counts_once_and_the_lead_is_as_the_last_one_says(
    crm: Crm, publisher: Publisher
) -> None:
    lead, gone = new_id(), new_id()
    crm.start()
    await publish(publisher, captured(lead), qualified(lead), scheduled(lead, 3), times=2)
    await publish(publisher, captured(gone), erased(gone, seq=2), captured(gone, seq=3))

    async def up_to_date() -> bool:
        leads = await crm.leads(lead, gone)
        return len(leads) == 2 and leads[lead][0] == 3 and len(await crm.seqs(gone)) == 3

    await until(up_to_date, TAKEN_S, "both leads to be up to date")
    leads = await crm.leads(lead, gone)
    assert leads[lead] == (3, DANA.name, DANA.email, 86, "2026-01-06T17:00:00Z")
    assert leads[gone] == (2, None, None, None, None)
    assert await crm.seqs(lead) == [1, 2, 3]
    assert await crm.counted_once()


async def test_what_cannot_be_read_stops_nobody_behind_it(
    crm: Crm, publisher: Publisher, topics: Topics
) -> None:
    lead = new_id()
    crm.start()
    await topics.produce(LEAD_EVENTS.name, b"{not json", key=lead.encode(), headers=[("ce_id", b"x")])
    await topics.produce(LEAD_EVENTS.name, b'"text"', key=lead.encode())
    headers = [("ce_id", new_id().encode()), ("ce_type", b"parley.lead.praised.v9")]
    await publish(publisher, captured(lead))
    await topics.produce(
        LEAD_EVENTS.name, b'{"lead_id": "%s", "seq": 2}' % lead.encode(), key=lead.encode(), headers=headers
    )
    await publish(publisher, qualified(lead, seq=3))

    async def taken() -> bool:
        return await crm.seqs(lead) == [1, 2, 3]

    await until(taken, TAKEN_S, "what came behind to be taken in")
    assert (await crm.leads(lead))[lead][3] == 86
    assert len(await crm.rows("SELECT cause FROM parked")) >= 2


async def test_a_killed_member_and_a_new_one_lose_nothing_and_count_nothing_twice(
    crm: Crm, publisher: Publisher
) -> None:
    leads = [new_id() for _ in range(60)]
    first = crm.start()
    await publish(publisher, *(captured(lead) for lead in leads))

    async def begun() -> bool:
        return len(await crm.leads(*leads)) >= 5

    await until(begun, TAKEN_S, "some to be taken in")
    first.kill9()
    second = crm.start()
    await publish(publisher, *(qualified(lead, person=Person(name="Later")) for lead in leads))
    crm.start()

    async def all_there() -> bool:
        found = await crm.leads(*leads)
        return len(found) == len(leads) and all(row[0] == 2 for row in found.values())

    await until(all_there, TAKEN_S, "every lead to be as its second fact says")
    for lead in leads:
        assert await crm.seqs(lead) == [1, 2]
    assert {row[1] for row in (await crm.leads(*leads)).values()} == {"Later"}
    assert await crm.counted_once()
    assert await second.terminate(30) == 0


async def test_every_committed_record_of_version_1_is_taken_in(
    crm: Crm, publisher: Publisher, topics: Topics
) -> None:
    samples = [each for told in read_samples(DOCS).values() for each in told.values()]
    of_leads = [each for each in samples if each["topic"] == LEAD_EVENTS.name]
    crm.start()
    for each in of_leads:
        headers = [(name, value.encode()) for name, value in each["headers"].items()]
        value = json.dumps(each["value"]).encode()
        await topics.produce(each["topic"], value, key=each["key"].encode(), headers=headers)
    due = {(each["headers"]["ce_id"], each["value"]["seq"]) for each in of_leads}
    assert len(due) == len(of_leads) >= 12

    async def all_seen() -> bool:
        return due <= {tuple(row) for row in await crm.rows("SELECT ce_id, seq FROM facts_seen")}

    await until(all_seen, TAKEN_S, "every sample to be taken in")
    assert await crm.counted_once()


def kcat_lines() -> list[str]:
    """Return the lines for kcat that the page gives, as they stand there."""
    return [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    kcat ")]


if shutil.which("kcat"):  # the only part of this file that a machine may lack

    async def test_the_lines_for_kcat_show_what_lies_there(
        publisher: Publisher, bootstrap_servers: str, unique: Callable[[str], str]
    ) -> None:
        lead = f"0198c0de-6b21-{unique('lead')}"
        await publish(publisher, captured(lead), qualified(lead))
        look, member, story = kcat_lines()
        said = await _shell(look.replace(BROKER, bootstrap_servers))
        assert lead in said
        assert "ce_type=parley.lead.captured.v1" in said
        story = story.replace(BROKER, bootstrap_servers)
        seqs = [
            json.loads(line.partition(" ")[2])["seq"]
            for line in (await _shell(story)).splitlines()
            if lead in line
        ]
        assert seqs == [1, 2]
        member = member.replace(BROKER, bootstrap_servers).replace("our-crm-look", unique("look"))
        # It waits for more until it is stopped; -e stops at the end of what there is.
        assert lead in await _shell(member.replace("kcat ", "kcat -e ", 1))


async def _shell(line: str) -> str:
    running = await asyncio.create_subprocess_shell(
        line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(KCAT_S):
        said, complaints = await running.communicate()
    assert running.returncode == 0, complaints.decode()
    return said.decode()
