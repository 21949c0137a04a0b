"""The facts of one session as they happen, for the page in development: read from Kafka, told as server-sent events.

One reader per process, without a group, and only while somebody watches. It settles nothing and keeps nothing but
the last facts for those who come a moment late. Kafka may be away: watchers are told, and again when it is back.

Law: a watcher sees facts of its own session and of no other; what a watcher does not read in time is dropped.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from parley_common.clock import Clock, SystemClock
from parley_common.contracts.record import header_dict
from parley_common.contracts.topics import FACT_TOPICS
from parley_common.errors import DependencyUnavailable, Overloaded
from parley_common.kafka import Incoming, incoming, make_consumer
from parley_common.settings import KafkaSettings
from parley_gateway import metrics

POLL_MS = 200
CONNECT_WITHIN_S = 15.0
RETRY_MS = 1_000
WATCHERS_MAX = 50
WAITING_MAX = 200
REMEMBERED_FACTS_MAX = 500
REMEMBERED_SUBJECTS_MAX = 5_000
BEFORE_MS = 2_000
"""Reading begins this long before the first watcher came: its session's first fact may be on its way already."""
KEEP_ALIVE_S = 15.0

Kind = Literal["fact", "reader"]
log = structlog.get_logger("facts")


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that a watcher is told: a fact, or how the reader is."""

    kind: Kind
    data: dict[str, Any]

    def event(self) -> bytes:
        """Return it as one server-sent event."""
        text = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        return f"event: {self.kind}\ndata: {text}\n\n".encode()


@dataclass(slots=True, eq=False)
class Watcher:
    """Who watches one session. What waits is bounded; the oldest goes first."""

    session_id: str
    waiting: deque[Told] = field(default_factory=lambda: deque(maxlen=WAITING_MAX))
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    def tell(self, told: Told) -> None:
        if len(self.waiting) == self.waiting.maxlen:
            metrics.FACTS_UNSEEN.inc()
        self.waiting.append(told)
        self.wake.set()

    async def told(self, keep_alive_s: float = KEEP_ALIVE_S) -> AsyncIterator[Told | None]:
        """Yield what comes; null when nothing came for a while. Ends with the process."""
        while not self.is_over:
            try:
                async with asyncio.timeout(keep_alive_s):
                    await self.wake.wait()
            except TimeoutError:
                yield None
            self.wake.clear()
            while self.waiting:
                yield self.waiting.popleft()


class SubjectSessions:
    """Which session a lead or case came from, as far as seen: deliveries name only their subject."""

    def __init__(self) -> None:
        self._session_of: OrderedDict[str, str] = OrderedDict()

    def session_of(self, value: dict[str, Any], key: str) -> str | None:
        """Return the session a fact is about; null when it is of none that is known."""
        session = value.get("session_id")
        if not isinstance(session, str):
            return self._session_of.get(key)
        if key and key != session:
            self._session_of[key] = session
            self._session_of.move_to_end(key)
            if len(self._session_of) > REMEMBERED_SUBJECTS_MAX:
                self._session_of.popitem(last=False)
        return session


@asynccontextmanager
async def fact_reader(settings: KafkaSettings, from_ms: int) -> AsyncIterator[AIOKafkaConsumer]:
    """Read every fact topic from the time ``from_ms`` on. Raises DependencyUnavailable."""
    # Named topics and no group: the client itself takes every partition of them.
    names = (topic.name for topic in FACT_TOPICS)
    consumer = make_consumer(settings, *names, group=None, client_id="parley-gateway-facts")
    try:
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await consumer.start()
                await _position(consumer, from_ms)
        except (KafkaError, OSError, TimeoutError) as wrong:
            raise DependencyUnavailable(f"Kafka cannot be read: {type(wrong).__name__}") from wrong
        yield consumer
    finally:
        await consumer.stop()


async def _position(consumer: AIOKafkaConsumer, from_ms: int) -> None:
    places = list(consumer.assignment())
    ends = await consumer.end_offsets(places)
    since = await consumer.offsets_for_times(dict.fromkeys(places, from_ms))
    for place in places:
        found = since.get(place)
        consumer.seek(place, found.offset if found is not None else ends[place])


class FactsWatch:
    """The watchers of this process and their one reader; ``run`` is its whole life."""

    def __init__(self, settings: KafkaSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._watchers: set[Watcher] = set()
        self._somebody = asyncio.Event()
        self._recent: deque[tuple[str, Told]] = deque(maxlen=REMEMBERED_FACTS_MAX)
        self._subjects = SubjectSessions()
        self._reader = Told("reader", {"state": "connecting"})
        self._from_ms = 0

    @property
    def watchers_count(self) -> int:
        return len(self._watchers)

    @property
    def is_reading(self) -> bool:
        return bool(self._reader.data["state"] == "reading")

    @contextmanager
    def watch(self, session_id: str) -> Iterator[Watcher]:
        """Watch a session while the block runs. Raises Overloaded when too many watch."""
        if len(self._watchers) >= WATCHERS_MAX:
            raise Overloaded("too many watch facts here", code="too_many_watchers", retry_after_s=10.0)
        watcher = Watcher(session_id)
        watcher.tell(self._reader)
        for session, told in self._recent:
            if session == session_id:
                watcher.tell(told)
        if not self._watchers:
            self._from_ms = int(self._clock.now().timestamp() * 1000) - BEFORE_MS
        self._watchers.add(watcher)
        self._somebody.set()
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._somebody.clear()

    async def run(self) -> None:
        """Read while somebody watches, until cancelled."""
        while True:
            await self._somebody.wait()
            try:
                async with fact_reader(self._settings, self._from_ms) as consumer:
                    self._set_reader({"state": "reading"})
                    await self._read(consumer)
                self._recent.clear()
                self._set_reader({"state": "connecting"})
            except (DependencyUnavailable, KafkaError, OSError) as wrong:
                log.warning("facts.unavailable", cause=type(wrong).__name__)
                self._set_reader({"state": "unavailable", "why": "Kafka does not answer; trying again"})
                await self._clock.sleep_ms(RETRY_MS)

    def close(self) -> None:
        """End every watcher's stream: the process is going away."""
        for watcher in self._watchers:
            watcher.is_over = True
            watcher.wake.set()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while self._watchers:
            batches = await consumer.getmany(timeout_ms=POLL_MS)
            # Partitions come in no order; within one poll, time is the order people expect.
            records = sorted((r for batch in batches.values() for r in batch), key=lambda r: r.timestamp)
            for record in records:
                self._tell(incoming(record))
                self._from_ms = record.timestamp + 1

    def _tell(self, record: Incoming) -> None:
        value = _object(record.value)
        session = self._subjects.session_of(value, (record.key or b"").decode("utf-8", "replace"))
        if session is None:
            return
        told = Told("fact", _shown(record, value))
        self._recent.append((session, told))
        for watcher in self._watchers:
            if watcher.session_id == session:
                watcher.tell(told)

    def _set_reader(self, data: dict[str, Any]) -> None:
        if self._reader.data == data:
            return
        self._reader = Told("reader", data)
        for watcher in self._watchers:
            watcher.tell(self._reader)


def _shown(record: Incoming, value: dict[str, Any]) -> dict[str, Any]:
    headers = header_dict(record.headers)
    return {
        "id": headers.get("ce_id"),
        "type": headers.get("ce_type", ""),
        "time": headers.get("ce_time"),
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "traceparent": headers.get("traceparent"),
        "value": value,
    }


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        read = json.loads(value or b"{}")
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


async def stream_events(
    watcher: Watcher,
    send: Callable[[bytes], Awaitable[None]],
    disconnected: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Send what ``watcher`` is told until the far end is gone or the process goes away."""

    async def write() -> None:
        await send(b": the facts of one session\n\n")
        async for told in watcher.told():
            await send(told.event() if told is not None else b": still here\n\n")

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        leaving = group.create_task(disconnected())
        await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (writing, leaving):
            task.cancel()
