"""Reads tool calls from Kafka and hands them over: accepted first, committed at once, never dead-lettered.

The requester owns reliability: what is lost with this process it asks again. Partitions are paused while
``in_flight_max`` calls are held, and resumed when there is room.

Law: no record stops the consumer; one that is no call is answered if it says who asked, and counted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from parley_common.contracts.record import header_dict, read_contract
from parley_common.contracts.tool_calls import REPLY_TO_HEADER, ToolCall
from parley_common.contracts.topics import TOOL_RESULTS, tool_calls_topic
from parley_common.errors import InvalidRecord
from parley_common.kafka import POLL_MS, Incoming, connect, incoming, make_consumer
from parley_common.settings import KafkaSettings
from parley_tools.calls import Address, Arrived, address_of
from parley_tools.dispatch import Dispatcher
from parley_tools.meters import COMMITS_DROPPED, OVERLOADED, PAUSES, UNDECODABLE
from parley_tools.outcomes import SAY_BUSY, SAY_FAILED, Outcome
from parley_tools.replies import Replies

SESSION_CHARS_MAX = 64
CALL_CHARS_MAX = 128
UNREADABLE_DEADLINE_S = 5
"""How long an answer to an unreadable call is tried: its own deadline is as unreadable as the rest."""
PAUSED_POLL_MS = 20
SESSION_TIMEOUT_MS = 6_000
"""The least a broker allows by default: for so long the partitions of a killed worker wait for another."""
HEARTBEAT_MS = 2_000
BACKOFF_S = 1.0
OTHERS_CALL_S = 60.0
"""For so long after its last call a business counts as one that calls."""
BUSINESSES_REMEMBERED_MAX = 1_000
LEAVE_S = 2.0

log = structlog.get_logger("consumer")


@dataclass(frozen=True, slots=True)
class Membership:
    """Whose calls are read, and as which member of the group."""

    service: str
    instance: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that is no call, and as much as it says about who asked; null when it cannot be answered."""

    code: str
    key: tuple[str, str] | None = None
    address: Address | None = None


def read_call(record: Incoming) -> Arrived | Unreadable:
    """Read one record of a calls topic. Decides, does nothing."""
    headers = header_dict(record.headers)
    reply_to = headers.get(REPLY_TO_HEADER, "")
    sent_at = datetime.fromtimestamp(max(0, record.timestamp_ms) / 1000, UTC)
    try:
        call = read_contract(ToolCall, record.value)
        _check_bounds(call, record.value or b"")
    except InvalidRecord as wrong:
        return _unreadable(record.value, wrong.stable_code, reply_to)
    answer_by = sent_at + timedelta(milliseconds=min(call.deadline_ms, 3_600_000))
    return Arrived(call, reply_to[:200], answer_by, headers.get("traceparent"))


def _check_bounds(call: ToolCall, value: bytes) -> None:
    """What the contract leaves open and the table or the topic does not."""
    if call.reply_partition >= TOOL_RESULTS.partitions:
        raise InvalidRecord("reply_partition is not one of the topic's", code="invalid_reply_partition")
    ids_fit = _is_id(call.session_id, SESSION_CHARS_MAX) and _is_id(call.call_id, CALL_CHARS_MAX)
    if not ids_fit or not _is_count(call.attempt) or not _is_count(call.fence):
        raise InvalidRecord("an id or a count is out of bounds", code="invalid_value")
    if b"\\u0000" in value:
        raise InvalidRecord("a NUL character, which PostgreSQL keeps in no text", code="invalid_value")


def _unreadable(value: bytes | None, code: str, reply_to: str) -> Unreadable:
    try:
        raw = json.loads(value or b"")
        session_id, call_id = raw["session_id"], raw["call_id"]
        partition, attempt = raw["reply_partition"], raw.get("attempt", 1)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Unreadable(code)
    if not (_is_id(session_id, SESSION_CHARS_MAX) and _is_id(call_id, CALL_CHARS_MAX)):
        return Unreadable(code)
    if not (_is_count(partition) and _is_count(attempt)):
        return Unreadable(code)
    if partition >= TOOL_RESULTS.partitions:
        return Unreadable(code)
    answer_by = datetime.now(UTC) + timedelta(seconds=UNREADABLE_DEADLINE_S)
    return Unreadable(code, (session_id, call_id), Address(partition, reply_to[:200], attempt, answer_by))


def _is_id(value: Any, chars_max: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= chars_max and value.isprintable()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


class CallConsumer:
    """One member of the service's consumer group."""

    def __init__(
        self,
        settings: KafkaSettings,
        dispatcher: Dispatcher[Arrived],
        is_running: Callable[[Arrived], bool],
        replies: Replies,
        *,
        lane_of: Callable[[str, str], str],
        membership: Membership,
        in_flight_max: int,
    ) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._is_running = is_running
        self._replies = replies
        self._lane_of = lane_of
        self._membership = membership
        self._in_flight_max = in_flight_max
        self._is_paused = False
        self._called_at: dict[str, float] = {}

    async def run(self, stop: asyncio.Event, on_ready: Callable[[bool, str], None]) -> None:
        """Read until ``stop``, then leave the group; what was accepted is the dispatcher's to finish."""
        consumer = make_consumer(
            self._settings,
            tool_calls_topic(self._membership.service).name,
            group=self._membership.service,
            client_id=self._membership.instance,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
        )
        try:
            if await connect(
                consumer.start, stop, what="calls topic", on_waiting=lambda why: on_ready(False, why)
            ):
                on_ready(True, "")
                await self._read(consumer, stop, on_ready)
        finally:
            # A broker that is away must not hold up a stop: it finds out by the session timeout.
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await consumer.stop()

    async def _read(
        self, consumer: AIOKafkaConsumer, stop: asyncio.Event, on_ready: Callable[[bool, str], None]
    ) -> None:
        is_well = True
        while not stop.is_set():
            try:
                await self._read_once(consumer)
            except KafkaError as wrong:
                is_well = False
                on_ready(False, f"calls topic: {type(wrong).__name__}")
                log.warning("consumer.waiting", cause=type(wrong).__name__)
                await asyncio.sleep(BACKOFF_S)
            else:
                if not is_well:
                    is_well = True
                    on_ready(True, "")

    async def _read_once(self, consumer: AIOKafkaConsumer) -> None:
        room = self._in_flight_max - self._dispatcher.in_flight
        self._hold_back(consumer, room)
        batches = await consumer.getmany(
            timeout_ms=PAUSED_POLL_MS if self._is_paused else POLL_MS, max_records=max(1, room)
        )
        for record in (record for batch in batches.values() for record in batch):
            await self._accept(incoming(record))
        if batches:
            await self._commit(consumer, {where: batch[-1].offset + 1 for where, batch in batches.items()})

    def _hold_back(self, consumer: AIOKafkaConsumer, room: int) -> None:
        """Pause at the bound and resume at three quarters of it. A rebalance brings partitions unpaused."""
        assigned = consumer.assignment()
        if room <= 0:
            PAUSES.inc(0 if self._is_paused else 1)
            self._is_paused = True
        elif self._is_paused and room * 4 >= self._in_flight_max:
            self._is_paused = False
        paused = consumer.paused()
        if self._is_paused and assigned - paused:
            consumer.pause(*(assigned - paused))
        elif not self._is_paused and paused:
            consumer.resume(*paused)

    async def _accept(self, record: Incoming) -> None:
        read = read_call(record)
        if isinstance(read, Arrived):
            call = read.call
            if self._is_over_its_share(call.business) and not self._is_running(read):
                OVERLOADED.labels(call.business).inc()
                busy = Outcome.failed("overloaded", SAY_BUSY, retryable=True).stored(0)
                await self._replies.send(read.key, call.tool, busy, address_of(read))
                return
            lane = self._lane_of(call.business, call.tool)
            self._dispatcher.submit(lane, call.business, read, at_once=self._is_running(read))
            return
        answerable = read.key is not None and read.address is not None
        UNDECODABLE.labels("answered" if answerable else "dropped").inc()
        log.warning("call.undecodable", code=read.code, partition=record.partition, offset=record.offset)
        if read.key is not None and read.address is not None:
            refusal = Outcome.refused("invalid_call", SAY_FAILED, "The record is not a tool call.").stored(0)
            await self._replies.send(read.key, "unknown", refusal, read.address)

    def _is_over_its_share(self, business: str) -> bool:
        """Tell whether a business fills half of what may be held while another one calls, too.

        Calls of all businesses lie in the same partitions: without this, one that floods a slow tool would fill the
        rest, and the others' calls would not even be read. Alone, a business may fill everything and just waits.
        """
        now_s = asyncio.get_running_loop().time()
        self._called_at[business] = now_s
        if len(self._called_at) > BUSINESSES_REMEMBERED_MAX:
            del self._called_at[min(self._called_at, key=lambda name: self._called_at[name])]
        if self._dispatcher.held(business) * 2 < self._in_flight_max:
            return False
        recent = (at for name, at in self._called_at.items() if name != business)
        return any(now_s - at < OTHERS_CALL_S for at in recent)

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: dict[Any, int]) -> None:
        try:
            await consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            # The partitions are another member's now: it gets the calls again and finds them running or done.
            COMMITS_DROPPED.inc()
            log.info("consumer.commit_dropped", partitions=len(offsets))
