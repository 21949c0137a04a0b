"""Dead letters of every fact topic, for operators: what lies there and why, and sending it again.

A replay puts the record back on the topic it came from, as it was: same key, same ce_id, so that consumers which had
taken it in do nothing. What no letter holds (it was too large) is read at its source. Whose subject was erased stays
where it is.

Law: nothing personal is shown, and a letter is replayed once unless it is asked for again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from parley_common.contracts.record import Record, header_dict
from parley_common.contracts.topics import DEAD_SUFFIX, FACT_TOPICS, dead_letters
from parley_common.db import Database
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.kafka import POLL_MS, Incoming, Publisher, incoming, make_consumer
from parley_common.settings import KafkaSettings
from parley_common.telemetry import Counter
from parley_common.topic_admin import partitions_of
from parley_notify.deliveries import Deliveries
from parley_notify.tables import replayed_letters

TOPICS = tuple(dead_letters(topic) for topic in FACT_TOPICS)
READ_S = 30.0
LIST_MAX = 1_000
DEAD_PREFIX = "parley_dead_"

REPLAYED = Counter(
    "parley_dead_letters_replayed", "Dead letters asked to be sent again, by what came of it", ["outcome"]
)

Place = tuple[str, int, int]
Outcome = Literal["replayed", "already_replayed", "erased_subject", "source_gone", "unknown", "refused"]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as operators see it, also over HTTP: without its value."""

    topic: str
    partition: int
    offset: int
    key: str
    fact_id: str | None
    fact_type: str | None
    cause: str | None
    detail: str | None
    group: str | None
    source_topic: str
    source_partition: int | None
    source_offset: int | None
    died_at: str | None
    value_bytes: int
    left_out: str | None
    """What did not fit into the letter; a replay reads it at its source."""
    traceparent: str | None
    replayed_at: datetime | None = None

    @property
    def place(self) -> Place:
        return self.topic, self.partition, self.offset


class DeadLetters:
    """The dead letters of one Kafka; what was replayed is remembered in notify's database."""

    def __init__(
        self, settings: KafkaSettings, publisher: Publisher, database: Database, deliveries: Deliveries
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._database = database
        self._deliveries = deliveries

    async def listed(self, *, topic: str | None = None, limit: int = 100) -> list[Letter]:
        """Return the letters that lie there, the newest last. ``topic`` is the letters' own or the one they left.

        Raises DependencyUnavailable.
        """
        wanted = [
            each.name for each in TOPICS if topic in (None, each.name, each.name.removesuffix(DEAD_SUFFIX))
        ]
        records = sorted(await self._read(wanted), key=lambda record: record.timestamp_ms)
        replayed = await self._replayed()
        letters = [_letter(record, replayed) for record in records]
        return letters[-min(limit, LIST_MAX) :]

    async def show(self, place: Place) -> Letter | None:
        """Return one letter; null when there is none."""
        record = await self._one(place)
        return _letter(record, await self._replayed()) if record else None

    async def replay(
        self, places: Sequence[Place], now: datetime, *, again: bool = False
    ) -> list[tuple[Place, Outcome]]:
        """Send letters again, one after the other in the order given, and say what came of each."""
        done = await self._replayed()
        outcomes: list[tuple[Place, Outcome]] = []
        for place in places:
            if place in done and not again:
                outcome: Outcome = "already_replayed"
            else:
                outcome = await self._replay(place, now)
            REPLAYED.labels(outcome).inc()
            outcomes.append((place, outcome))
        return outcomes

    async def _replay(self, place: Place, now: datetime) -> Outcome:
        letter = await self._one(place)
        if letter is None:
            return "unknown"
        if await self._is_erased(letter):
            return "erased_subject"
        record = await self._original(letter)
        if record is None:
            return "source_gone"
        try:
            await self._publisher.publish(record)
        except InvalidRecord:
            return "refused"
        await self._remember(place, now)
        return "replayed"

    async def _original(self, letter: Incoming) -> Record | None:
        """Return the record as it was: from the letter, or from where it lies when the letter lacks some of it."""
        headers = header_dict(letter.headers)
        topic = headers.get("parley_dead_topic") or letter.topic.removesuffix(DEAD_SUFFIX)
        whole: Incoming | None = letter
        if "parley_dead_left_out" in headers:
            whole = await self._one(
                (topic, int(headers["parley_dead_partition"]), int(headers["parley_dead_offset"]))
            )
        if whole is None or whole.key != letter.key:
            return None
        kept = tuple((name, value) for name, value in whole.headers if not name.startswith(DEAD_PREFIX))
        return Record(topic, whole.key or b"", whole.value, kept)

    async def _is_erased(self, letter: Incoming) -> bool:
        """Look for the key and for the lead or case that the value names: a letter can be wrong in either."""
        subjects = {(letter.key or b"").decode("utf-8", "replace"), *_subjects(letter.value)}
        async with self._database.begin() as db:
            return any([await self._deliveries.is_erased(db, subject) for subject in subjects if subject])

    async def _replayed(self) -> dict[Place, datetime]:
        async with self._database.begin() as db:
            rows = (await db.execute(select(replayed_letters))).all()
        return {(row.topic, row.partition, row.offset): row.replayed_at for row in rows}

    async def _remember(self, place: Place, now: datetime) -> None:
        insert = sqlite_insert if self._database.is_sqlite else pg_insert
        values = dict(zip(("topic", "partition", "offset"), place, strict=True)) | {"replayed_at": now}
        statement = insert(replayed_letters).values(values)
        keys = ["topic", "partition", "offset"]
        async with self._database.begin() as db:
            await db.execute(statement.on_conflict_do_update(index_elements=keys, set_={"replayed_at": now}))

    async def _one(self, place: Place) -> Incoming | None:
        topic, partition, offset = place
        where = TopicPartition(topic, partition)
        async with self._reader([topic]) as reader:
            if where not in reader.assignment():
                return None
            first, end = (
                (await reader.beginning_offsets([where]))[where],
                (await reader.end_offsets([where]))[where],
            )
            if not first <= offset < end:
                return None
            reader.assign([where])
            reader.seek(where, offset)
            found = await _next(reader, where)
        return found if found is not None and found.offset == offset else None

    async def _read(self, topics: Iterable[str]) -> list[Incoming]:
        records: list[Incoming] = []
        async with self._reader(topics) as reader:
            places = list(reader.assignment())
            if not places:
                return []
            ends = await reader.end_offsets(places)
            for place, first in (await reader.beginning_offsets(places)).items():
                reader.seek(
                    place, first
                )  # at once: seek_to_beginning() leaves the old position until it has asked
            while any([await reader.position(place) < ends[place] for place in places]):
                for batch in (await reader.getmany(timeout_ms=POLL_MS)).values():
                    records += [incoming(record) for record in batch]
        return records

    @asynccontextmanager
    async def _reader(self, topics: Iterable[str]) -> AsyncIterator[AIOKafkaConsumer]:
        """Yield a consumer without a group, assigned every partition of the topics that are there."""
        consumer = make_consumer(self._settings, group=None, client_id="notify-dead-letters")
        try:
            async with asyncio.timeout(READ_S):
                known = await partitions_of(self._settings, list(topics))
                await consumer.start()
                consumer.assign([TopicPartition(t, p) for t, count in known.items() for p in range(count)])
                yield consumer
        except (KafkaError, OSError, TimeoutError) as wrong:
            raise DependencyUnavailable(f"dead letters cannot be read: {type(wrong).__name__}") from wrong
        finally:
            await consumer.stop()


async def _next(reader: AIOKafkaConsumer, where: TopicPartition) -> Incoming | None:
    while True:
        batch = (await reader.getmany(where, timeout_ms=POLL_MS, max_records=1)).get(where)
        if batch:
            return incoming(batch[0])


def _letter(record: Incoming, replayed: dict[Place, datetime]) -> Letter:
    headers = header_dict(record.headers)
    return Letter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=(record.key or b"").decode("utf-8", "replace")[:128],
        fact_id=headers.get("ce_id"),
        fact_type=headers.get("ce_type"),
        cause=headers.get("parley_dead_cause"),
        detail=headers.get("parley_dead_detail"),
        group=headers.get("parley_dead_group"),
        source_topic=headers.get("parley_dead_topic") or record.topic.removesuffix(DEAD_SUFFIX),
        source_partition=_number(headers.get("parley_dead_partition")),
        source_offset=_number(headers.get("parley_dead_offset")),
        died_at=headers.get("parley_dead_at") or _moment(record.timestamp_ms),
        value_bytes=len(record.value or b""),
        left_out=headers.get("parley_dead_left_out"),
        traceparent=headers.get("traceparent"),
        replayed_at=replayed.get((record.topic, record.partition, record.offset)),
    )


def _subjects(value: bytes | None) -> set[str]:
    try:
        told = json.loads(value or b"{}")
    except ValueError:
        return set()
    found = (
        (told.get(name) for name in ("lead_id", "case_id", "subject_id")) if isinstance(told, dict) else ()
    )
    return {each for each in found if isinstance(each, str)}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _moment(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
