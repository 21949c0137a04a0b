"""Consuming facts: every record is settled exactly one way, and a lost dependency loses nothing.

- done → its explicit offset is committed;
- DependencyUnavailable → partitions paused, backed off without end, not ready; never a dead letter;
- InvalidRecord, undecodable → the topic's dead letters, with cause and place; never counts to the stop limit;
- any other handler error → retried in place within a budget, then dead letters; the 20th different key in a
  row stops the consumer before that commit, for a bad deploy must not drain a topic into the bin;
- dead letters cannot be written → nothing later is committed;
- a commit that fails because the partition is no longer ours → dropped.

Does not use a framework's acknowledgement: their defaults commit past records that failed (docs/adr/0001).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from parley_common.contracts.facts import BY_TYPE, read_fact
from parley_common.contracts.record import Envelope, Fact, Record
from parley_common.contracts.topics import Topic, dead_letters
from parley_common.errors import DependencyUnavailable, InvalidRecord, Permanent
from parley_common.kafka import (
    MAX_POLL_MS,
    POLL_MS,
    REQUEST_MS,
    Incoming,
    Publisher,
    connect,
    incoming,
    make_consumer,
)
from parley_common.settings import KafkaSettings
from parley_common.telemetry import Counter, SpanKind, joined_logs, span

log = structlog.get_logger("settling")

SETTLED = Counter("parley_facts_settled", "Facts settled, by how", ["group", "topic", "how"])

Handler = Callable[[Envelope, Fact], Awaitable[None]]


class TooManyFailing(Permanent):
    """Handlers failed for many different keys in a row: the fault is ours, not the records'."""

    code = "too_many_failing"


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How long a consumer tries. ``retry_ms`` stays below half of Kafka's max.poll.interval."""

    retry_ms: int = 30_000
    first_backoff_ms: int = 100
    backoff_max_ms: int = 5_000
    unavailable_backoff_max_ms: int = 15_000
    failing_keys_max: int = 20

    def __post_init__(self) -> None:
        if self.retry_ms >= MAX_POLL_MS // 2:
            raise ValueError(f"retry_ms {self.retry_ms} must stay below half of {MAX_POLL_MS}")


class FactConsumer:
    """One member of a consumer group that hands facts to a handler, one at a time per process.

    ``on_ready(ready, why)`` is told whenever the consumer begins or ceases to be able to work.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        publisher: Publisher,
        *,
        topics: Sequence[Topic],
        group: str,
        handler: Handler,
        on_ready: Callable[[bool, str], None] = lambda _ready, _why: None,
        budget: RetryBudget | None = None,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._topics = {topic.name: topic for topic in topics}
        self._group = group
        self._handler = handler
        self._on_ready = on_ready
        self._budget = budget or RetryBudget()
        self._failing_keys: set[bytes | None] = set()
        self._waited_ms = 0
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until ``stop``; the record in hand is settled first. Raises TooManyFailing."""
        self._stop = stop
        consumer = make_consumer(self._settings, *self._topics, group=self._group, client_id=self._group)
        try:
            waiting = lambda why: self._on_ready(False, why)  # noqa: E731
            if not await connect(consumer.start, stop, what=self._group, on_waiting=waiting):
                return
            self._on_ready(True, "")
            while not stop.is_set():
                await self._take(consumer)
        finally:
            await consumer.stop()

    async def _take(self, consumer: AIOKafkaConsumer) -> None:
        try:
            batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=50)
        except KafkaError as wrong:
            log.warning("settling.poll_failed", group=self._group, cause=type(wrong).__name__)
            await asyncio.sleep(POLL_MS / 1000)
            return
        for where, records in batches.items():
            for record in records:
                if self._stop.is_set() or where not in consumer.assignment():
                    break  # uncommitted: whoever owns the partition next gets them again
                await self._settle(consumer, record)

    async def _settle(self, consumer: AIOKafkaConsumer, raw: ConsumerRecord) -> None:
        record = incoming(raw)
        try:
            envelope = Envelope.of_headers(record.headers)
            fact = read_fact(envelope, record.value) if envelope.type in BY_TYPE else None
        except InvalidRecord as wrong:
            settled = await self._bury(consumer, record, wrong)
        else:
            session_id = getattr(fact, "session_id", None)
            with joined_logs(session_id=session_id, traceparent=envelope.traceparent):
                settled = fact is None or await self._handle(consumer, record, envelope, fact)
            if fact is None:  # a type that came after us: consumers skip what they do not know
                self._count(record, "unknown_type")
        if settled:
            await self._commit(consumer, record)

    async def _handle(
        self, consumer: AIOKafkaConsumer, record: Incoming, envelope: Envelope, fact: Fact
    ) -> bool:
        """Return whether the record is settled; False when it is not ours to commit any more."""
        started_s = asyncio.get_running_loop().time()
        backoff_ms = self._budget.first_backoff_ms
        attributes = self._attributes(record, envelope)
        while True:
            try:
                with span(
                    f"process {record.topic}",
                    parent=envelope.traceparent,
                    kind=SpanKind.CONSUMER,
                    attributes=attributes,
                ):
                    await self._handler(envelope, fact)
            except DependencyUnavailable as wrong:
                if not await self._wait_paused(consumer, record.where, str(wrong)):
                    return False
                started_s = asyncio.get_running_loop().time()
                continue
            except InvalidRecord as wrong:
                return await self._bury(consumer, record, wrong)
            except Exception as wrong:  # noqa: BLE001 - this is one of the three catch sites
                spent_ms = (asyncio.get_running_loop().time() - started_s) * 1000
                log.warning(
                    "settling.handler_failed",
                    group=self._group,
                    type=envelope.type,
                    cause=type(wrong).__name__,
                )
                if spent_ms + backoff_ms > self._budget.retry_ms:
                    return await self._give_up(consumer, record, wrong)
                if await self._stopped_within(backoff_ms):
                    return False
                backoff_ms = min(backoff_ms * 2, self._budget.backoff_max_ms)
            else:
                self._failing_keys.clear()
                self._recovered()
                self._count(record, "done")
                return True

    async def _give_up(self, consumer: AIOKafkaConsumer, record: Incoming, wrong: Exception) -> bool:
        self._failing_keys.add(record.key)
        if len(self._failing_keys) >= self._budget.failing_keys_max:
            self._on_ready(False, "too many failing records")
            raise TooManyFailing(
                f"{self._group}: handlers failed for {len(self._failing_keys)} different keys in a row, "
                f"last at {record.topic}/{record.partition}/{record.offset}: {type(wrong).__name__}",
                remedy="nothing of it is committed; mend the handler and start again",
            ) from wrong
        return await self._bury(consumer, record, wrong)

    async def _bury(self, consumer: AIOKafkaConsumer, record: Incoming, wrong: Exception) -> bool:
        """Write a dead letter; waits without end for a broker that cannot take it."""
        letters = _dead_letters(self._topics[record.topic], record, self._group, wrong)
        letter = next(letters)
        while True:
            try:
                await self._publisher.publish(letter)
            except (DependencyUnavailable, InvalidRecord) as refused:
                # A letter is larger than its record; when it is too large, leave out what lies at the source.
                smaller = next(letters, None) if isinstance(refused, InvalidRecord) else None
                if smaller is not None:
                    letter = smaller
                elif not await self._wait_paused(consumer, record.where, str(refused)):
                    return False
            else:
                self._recovered()
                break
        code = getattr(wrong, "stable_code", type(wrong).__name__)
        log.error(
            "settling.dead_letter",
            group=self._group,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            code=code,
        )
        self._count(record, "dead")
        return True

    async def _wait_paused(self, consumer: AIOKafkaConsumer, where: TopicPartition, why: str) -> bool:
        """Wait one backoff with everything paused but polled; False when stopping or no longer ours."""
        self._on_ready(False, why)
        self._waited_ms = min(max(250, self._waited_ms * 2), self._budget.unavailable_backoff_max_ms)
        log.warning("settling.waiting", group=self._group, cause=why, backoff_ms=self._waited_ms)
        end_s = asyncio.get_running_loop().time() + self._waited_ms / 1000
        while (left_s := end_s - asyncio.get_running_loop().time()) > 0 and not self._stop.is_set():
            await self._poll_paused(consumer, int(min(left_s * 1000, POLL_MS)) + 1)
        consumer.resume(*(p for p in consumer.paused() if p in consumer.assignment()))
        return where in consumer.assignment() and not self._stop.is_set()

    def _recovered(self) -> None:
        if self._waited_ms:
            self._waited_ms = 0
            self._on_ready(True, "")

    async def _poll_paused(self, consumer: AIOKafkaConsumer, for_ms: int) -> None:
        """Poll without taking records, so that the group does not think us dead."""
        assigned = consumer.assignment()
        if assigned:
            consumer.pause(*assigned)
        try:
            taken = await consumer.getmany(timeout_ms=for_ms)
        except KafkaError:
            await asyncio.sleep(for_ms / 1000)
            return
        for where, records in taken.items():  # a rebalance gave us a partition that was not paused yet
            if where in consumer.assignment():
                consumer.seek(where, records[0].offset)

    async def _commit(self, consumer: AIOKafkaConsumer, record: Incoming) -> None:
        try:
            async with asyncio.timeout(REQUEST_MS / 1000):  # aiokafka itself waits for a broker without end
                await consumer.commit({record.where: record.offset + 1})
        except (CommitFailedError, IllegalStateError):
            self._count(record, "no_longer_ours")
            log.info("settling.no_longer_ours", topic=record.topic, partition=record.partition)
        except (KafkaError, TimeoutError) as wrong:
            # Not committed: it comes again after a restart, and the inbox knows it.
            log.warning("settling.commit_failed", topic=record.topic, cause=type(wrong).__name__)

    async def _stopped_within(self, delay_ms: int) -> bool:
        try:
            await asyncio.wait_for(self._stop.wait(), delay_ms / 1000)
        except TimeoutError:
            return False
        return True

    def _attributes(self, record: Incoming, envelope: Envelope) -> dict[str, str | int]:
        return {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.consumer.group.name": self._group,
            "messaging.kafka.offset": record.offset,
            "messaging.message.id": envelope.id,
            "parley.fact.type": envelope.type,
        }

    def _count(self, record: Incoming, how: str) -> None:
        SETTLED.labels(self._group, record.topic, how).inc()


def _dead_letters(topic: Topic, record: Incoming, group: str, wrong: Exception) -> Iterator[Record]:
    """Yield the record as it was, and in headers why, where and when it died; then the same with less in it.

    Never the error's text: it could quote data.
    """
    cause = getattr(wrong, "stable_code", type(wrong).__name__)
    detail = wrong.message if isinstance(wrong, InvalidRecord) else type(wrong).__name__
    extra = {
        "parley_dead_cause": cause,
        "parley_dead_detail": detail[:500],
        "parley_dead_group": group,
        "parley_dead_topic": record.topic,
        "parley_dead_partition": str(record.partition),
        "parley_dead_offset": str(record.offset),
        "parley_dead_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    why = tuple((name, value.encode()) for name, value in extra.items())
    name, key = dead_letters(topic).name, record.key or b""
    yield Record(name, key, record.value, record.headers + why)
    left_out = (("parley_dead_left_out", b"value"),)
    yield Record(name, key, None, record.headers + why + left_out)
    yield Record(name, key, None, (*why, ("parley_dead_left_out", b"value, headers")))
