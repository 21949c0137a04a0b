"""How many facts a second one relay brings from a database to Kafka: an outbox that is full, and a relay that starts.

The facts are of as many leads as are said, in turns, as busy agents cause them: a relay publishes different leads' facts
side by side and one lead's one after the other. The topic is read back: each fact once, each lead's in order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from harness.topics import Topics, unique
from load.bench.ground import Around, Ground
from load.bench.systems import READY_S
from parley_common.contracts.leads import LeadUpdated
from parley_common.contracts.people import Person
from parley_common.contracts.record import fact_record
from parley_common.contracts.topics import LEAD_EVENTS
from parley_common.ids import new_id
from unit.common.stores import Store, make_tables, open_store

WRITTEN_AT_ONCE = 200
FACTS_PER_S_MIN = 20.0
"""Slower than this the relay is given up."""
DANIEL = Person(name="Daniel Cooper", email="daniel.cooper@example.com", phone="+13125550117")
INTEREST = {"product": "rental loan", "purchase_price": 450_000, "down_payment_percent": 25.0}


@dataclass(frozen=True)
class Arrived:
    """What became of the facts of an outbox."""

    facts: int
    lost: int
    twice: int
    out_of_order: int
    """Facts that came after a later one of their lead."""


@dataclass(frozen=True)
class Relayed:
    """What one relay made of a full outbox."""

    database: str
    leads: int
    arrived: Arrived
    per_s: float
    cpu_ms_per_fact: float
    around: Around

    @property
    def is_whole(self) -> bool:
        """Say whether each fact was relayed once, and each lead's in order."""
        return not (self.arrived.lost or self.arrived.twice or self.arrived.out_of_order)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "is_whole": self.is_whole}


def compare(written: Mapping[str, Sequence[str]], read: Sequence[tuple[str, str]]) -> Arrived:
    """Return what became of the facts ``written``, ids in order by lead, by what was ``read``: lead and id, as they came."""
    place = {fact_id: n for ids in written.values() for n, fact_id in enumerate(ids)}
    seen: Counter[str] = Counter()
    newest: dict[str, int] = {}
    out_of_order = 0
    for lead_id, fact_id in read:
        seen[fact_id] += 1
        if seen[fact_id] == 1:
            out_of_order += place[fact_id] < newest.get(lead_id, -1)
            newest[lead_id] = max(place[fact_id], newest.get(lead_id, -1))
    return Arrived(len(place), len(place.keys() - seen.keys()), seen.total() - len(seen), out_of_order)


async def measure_outbox(ground: Ground, facts: int, leads: int) -> Relayed:
    """Fill an outbox with ``facts`` of ``leads``, and have one relay publish them."""
    url, topic = await ground.database(), unique("volume")
    await make_tables(url)
    await Topics(ground.servers).create(topic, LEAD_EVENTS.partitions)
    async with open_store(url) as store:
        written = await _fill(store, topic, facts, leads)
    look = ground.look()
    relay = ground.lab.program(
        ground.lab.cores.system,
        "outbox_relay",
        *("--servers", ground.servers, "--database", url, "--facts", str(facts)),
    )
    code = await relay.wait_exit(READY_S + facts / FACTS_PER_S_MIN)
    assert code == 0, relay.log_tail()
    around, said = look.around(), json.loads(relay.log().splitlines()[-1])
    records = await Topics(ground.servers).read_all(topic)
    read = [((record.key or b"").decode(), record.header("ce_id") or "") for record in records]
    return Relayed(
        database=ground.label,
        leads=leads,
        arrived=compare(written, read),
        per_s=round(facts / said["took_s"], 1),
        cpu_ms_per_fact=round(1000 * said["cpu_s"] / facts, 2),
        around=around,
    )


async def _fill(store: Store, topic: str, facts: int, leads: int) -> dict[str, list[str]]:
    """Write the facts in units of work of some hundred; return their ids by lead."""
    written: dict[str, list[str]] = {new_id(): [] for _ in range(leads)}
    ids = list(written)
    for first in range(0, facts, WRITTEN_AT_ONCE):
        async with store.database.begin() as session:
            for number in range(first, min(first + WRITTEN_AT_ONCE, facts)):
                lead_id, now = ids[number % leads], datetime.now(UTC)
                seq = await store.outbox.next_seq(session, lead_id)
                fact = LeadUpdated(
                    lead_id=lead_id, seq=seq, business="bench", at=now, person=DANIEL, interest=INTEREST
                )
                fact_id = new_id()
                record = fact_record(fact, source="tools", time=now, fact_id=fact_id)
                await store.outbox.add_record(
                    session, replace(record, topic=topic), aggregate_id=lead_id, seq=seq, now=now
                )
                written[lead_id].append(fact_id)
    return written
