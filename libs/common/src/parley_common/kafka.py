"""Kafka clients: how every service connects, publishes and reads. Nothing here decides what a record means.

Producers are idempotent and wait for all replicas. Consumers never commit by themselves: facts are settled
by settling.py, tool calls by the tools service; readers of replies and compacted topics have no group.

Law: a broker that does not answer is DependencyUnavailable.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from parley_common.contracts.record import Record
from parley_common.contracts.topics import Topic
from parley_common.errors import ConfigInvalid, DependencyUnavailable, InvalidRecord
from parley_common.settings import KafkaSettings

REQUEST_MS = 10_000
PUBLISH_MS = 8_000
CLOSE_MS = 1_000
MAX_POLL_MS = 300_000
POLL_MS = 200

log = structlog.get_logger("kafka")


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options that every aiokafka client takes. Raises ConfigInvalid for files it cannot read."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": REQUEST_MS,
    }
    if "SSL" in settings.security_protocol:
        options["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        if not settings.sasl_username or settings.sasl_password is None:
            raise ConfigInvalid(
                "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD are needed",
                remedy=f"KAFKA_SECURITY_PROTOCOL is {settings.security_protocol}",
            )
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
        if settings.ssl_cert_file:
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    except (OSError, ssl.SSLError) as wrong:
        raise ConfigInvalid(f"KAFKA_SSL_*_FILE: {wrong}") from wrong
    return context


def make_consumer(
    settings: KafkaSettings, *topics: str, group: str | None, client_id: str, **options: Any
) -> AIOKafkaConsumer:
    """Return a consumer that commits only when told. With a group it begins at the earliest uncommitted record."""
    return AIOKafkaConsumer(
        *topics,
        group_id=group,
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest" if group else "latest",
        max_poll_interval_ms=MAX_POLL_MS,
        **(client_options(settings) | options),
    )


class Publisher:
    """An idempotent producer. ``publish`` returns once the broker has the record on all in-sync replicas.

    A record that the broker itself refuses leaves a hole in the producer's sequence numbers, and the broker then
    refuses everything after it on that partition; so the producer is replaced, which starts a new sequence.
    A refusal is the broker's word on a whole batch. Records over 16 KiB travel alone, so no topic may have a lower
    limit than that.
    """

    def __init__(self, settings: KafkaSettings, *, client_id: str, linger_ms: int = 0) -> None:
        self._options = client_options(settings)
        self._client_id = client_id
        self._linger_ms = linger_ms
        self._producer: AIOKafkaProducer | None = None
        self._renewing = asyncio.Lock()

    async def start(self) -> None:
        """Connect. Raises DependencyUnavailable."""
        self._producer = await self._connected()

    async def publish(self, record: Record) -> None:
        """Write one record and wait for its acknowledgement.

        Raises:
            DependencyUnavailable: the broker did not take it in time; it may or may not be there.
            InvalidRecord: no broker will ever take it (too large, or for a partition that does not exist).
        """
        producer = self._producer
        if producer is None:
            raise DependencyUnavailable("the Kafka producer is not connected")
        try:
            async with asyncio.timeout(PUBLISH_MS / 1000):
                acknowledged = await self._enqueue(producer, record)
                try:
                    await acknowledged
                except KafkaError as wrong:
                    if not is_connection_trouble(wrong):
                        await self._renew(producer)
                    raise
        except (MessageSizeTooLargeError, RecordListTooLargeError) as wrong:
            raise InvalidRecord(
                f"a record for {record.topic} is too large", code="record_too_large"
            ) from wrong
        except (KafkaError, OSError, TimeoutError) as wrong:
            raise DependencyUnavailable(
                f"Kafka did not take a record for {record.topic}: {type(wrong).__name__}"
            ) from wrong

    async def aclose(self) -> None:
        """Flush what is under way, for as long as a publish may take, and disconnect."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await _stop(producer)

    async def _connected(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            client_id=self._client_id,
            enable_idempotence=True,
            acks="all",
            linger_ms=self._linger_ms,
            **self._options,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as wrong:
            await producer.stop()
            raise DependencyUnavailable(
                f"Kafka at {self._options['bootstrap_servers']} does not answer"
            ) from wrong
        except BaseException:
            await producer.stop()
            raise
        return producer

    @staticmethod
    async def _enqueue(producer: AIOKafkaProducer, record: Record) -> Awaitable[Any]:
        if record.partition is not None:
            known = await producer.partitions_for(record.topic)
            if record.partition not in known:
                raise InvalidRecord(
                    f"{record.topic} has no partition {record.partition}", code="unknown_partition"
                )
        acknowledged: Awaitable[Any] = await producer.send(
            record.topic,
            value=record.value,
            key=record.key,
            partition=record.partition,
            headers=list(record.headers),
        )
        return acknowledged

    async def _renew(self, broken: AIOKafkaProducer) -> None:
        """Put a new producer in the place of ``broken``; of many callers the first does it."""
        async with self._renewing:
            if self._producer is not broken:
                return
            log.warning("kafka.producer_replaced", client_id=self._client_id)
            self._producer = await self._connected()
        await _stop(broken)


async def _stop(producer: AIOKafkaProducer) -> None:
    """Disconnect. aiokafka flushes without end while the broker is away, so the flush has a deadline here."""
    try:
        async with asyncio.timeout(PUBLISH_MS / 1000):
            await producer.stop()
    except TimeoutError:
        log.warning("kafka.unsent_at_close")
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_MS / 1000):
                await producer._sender.close()  # noqa: SLF001 - the interrupted stop() has left it running
        await producer.client.close()


async def connect(
    start: Callable[[], Any], stop: asyncio.Event, *, what: str, on_waiting: Callable[[str], None]
) -> bool:
    """Call ``start`` until it succeeds, with backoff; return False when ``stop`` came first."""
    backoff_ms = 250
    while not stop.is_set():
        try:
            await start()
        except (KafkaError, OSError, DependencyUnavailable) as wrong:
            on_waiting(f"{what}: {wrong}")
            log.warning("kafka.waiting", what=what, cause=type(wrong).__name__, backoff_ms=backoff_ms)
            try:
                await asyncio.wait_for(stop.wait(), backoff_ms / 1000)
            except TimeoutError:
                backoff_ms = min(backoff_ms * 2, 10_000)
        else:
            return True
    return False


@asynccontextmanager
async def partition_reader(
    settings: KafkaSettings, topic: Topic, partition: int, *, client_id: str, from_beginning: bool = False
) -> AsyncIterator[AIOKafkaConsumer]:
    """Read one partition without a group; the position is known before this yields, so nothing after is missed.

    Raises DependencyUnavailable.
    """
    consumer = make_consumer(settings, group=None, client_id=client_id)
    where = TopicPartition(topic.name, partition)
    try:
        try:
            await consumer.start()
            consumer.assign([where])
            await (consumer.seek_to_beginning(where) if from_beginning else consumer.seek_to_end(where))
            async with asyncio.timeout(REQUEST_MS / 1000):
                await consumer.position(
                    where
                )  # "latest" is resolved lazily: what came before this await would be lost
        except (KafkaError, OSError, TimeoutError) as wrong:
            raise DependencyUnavailable(f"cannot read {topic.name}: {type(wrong).__name__}") from wrong
        yield consumer
    finally:
        await consumer.stop()


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as it was read; headers as Kafka gave them."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int

    @property
    def where(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


def incoming(record: ConsumerRecord) -> Incoming:
    """Return a consumed record as plain data."""
    return Incoming(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        tuple(record.headers),
        record.timestamp,
    )


def is_connection_trouble(wrong: Exception) -> bool:
    """Tell whether a Kafka error means that the broker is away, so that waiting may help."""
    return isinstance(wrong, (KafkaConnectionError, KafkaTimeoutError, OSError)) or bool(
        getattr(wrong, "retriable", False)
    )
