"""The bridge to the tools: calls go out by topic, results come back on this replica's own partition.

One per process, shared by its sessions. Requests carry ``reply_partition`` and, in a header, this replica's
id; results for others are dropped before they are decoded. Deadlines and repeats are the core's.

Law: ready only once the reply partition's position is known, so that no answer is missed.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from parley_common.contracts.record import (
    SOURCE_PREFIX,
    Envelope,
    Record,
    header_dict,
    read_contract,
    to_json,
)
from parley_common.contracts.tool_calls import CALL_TYPE, REPLY_TO_HEADER, CallerContext, ToolCall, ToolResult
from parley_common.contracts.topics import TOOL_RESULTS, tool_calls_topic
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.ids import new_id
from parley_common.kafka import POLL_MS, Incoming, Publisher, incoming, partition_reader
from parley_common.settings import KafkaSettings
from parley_common.telemetry import LATENCY_BUCKETS_MS, Counter, Histogram
from parley_session.core.effects import RequestTool
from parley_session.core.events import ToolAnswered

REQUESTS_WAITING_MAX = 2_000

log = structlog.get_logger("tools")
UNSENT = Counter(
    "parley_tool_calls_unsent", "Calls that did not reach Kafka and are the core's to repeat", ["why"]
)
RESULTS = Counter("parley_tool_results", "Tool results read, by what became of them", ["fate"])
ROUND_TRIP_MS = Histogram(
    "parley_tool_round_trip_ms", "From request to result, ms", ["tool"], buckets=LATENCY_BUCKETS_MS
)


@dataclass(frozen=True, slots=True)
class Requester:
    """The session a call is made for."""

    session_id: str
    business: str
    business_version: str
    fence: int
    context: CallerContext
    on_answer: Callable[[ToolAnswered], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Who waits for a result, of which tool, since when."""

    requester: Requester
    tool: str
    asked_ns: int


class ToolBridge:
    """Sends calls and hands results to the sessions that wait for them."""

    def __init__(self, settings: KafkaSettings, publisher: Publisher, *, replica: str, ordinal: int) -> None:
        self._settings = settings
        self._publisher = publisher
        self._replica = replica
        self.reply_partition = reply_partition(replica, ordinal)
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._requests: asyncio.Queue[Record] = asyncio.Queue(REQUESTS_WAITING_MAX)

    def request(self, requester: Requester, effect: RequestTool, traceparent: str | None) -> bool:
        """Queue a call; its answer comes to ``requester.on_answer``. False when too many wait already.

        Arguments that are no JSON object are answered at once: no tool could take them.
        """
        arguments = _arguments(effect.arguments)
        if arguments is None:
            requester.on_answer(
                ToolAnswered(effect.call_id, "refused", _INVALID_ARGUMENTS, "invalid_arguments")
            )
            return True
        call = ToolCall(
            call_id=effect.call_id,
            session_id=requester.session_id,
            business=requester.business,
            business_version=requester.business_version,
            tool=effect.tool,
            arguments=arguments,
            attempt=effect.attempt,
            deadline_ms=effect.deadline_ms,
            fence=requester.fence,
            reply_partition=self.reply_partition,
            context=requester.context.model_copy(update={"grants": effect.grants}),
        )
        try:
            self._requests.put_nowait(self._record(call, effect.service, traceparent))
        except asyncio.QueueFull:
            UNSENT.labels("queue_full").inc()
            return False
        # A repeat is the same call: its round trip began with the first attempt.
        waiting = _Waiting(requester, effect.tool, time.monotonic_ns())
        self._waiting.setdefault((requester.session_id, effect.call_id), waiting)
        return True

    def _record(self, call: ToolCall, service: str, traceparent: str | None) -> Record:
        envelope = Envelope(
            id=new_id(),
            type=CALL_TYPE,
            source=SOURCE_PREFIX + "session",
            time=datetime.now(UTC),
            subject=call.session_id,
            traceparent=traceparent,
        )
        headers = (*envelope.headers(), (REPLY_TO_HEADER, self._replica.encode()))
        return Record(tool_calls_topic(service).name, call.session_id.encode(), to_json(call), headers)

    def forget(self, session_id: str) -> None:
        """The session is over: its late results are dropped."""
        for key in [key for key in self._waiting if key[0] == session_id]:
            del self._waiting[key]

    async def write(self) -> None:
        """Publish calls until cancelled, side by side; a call that Kafka does not take is the core's to repeat."""
        slots = asyncio.Semaphore(200)
        async with asyncio.TaskGroup() as group:
            while True:
                record = await self._requests.get()
                await slots.acquire()
                group.create_task(self._publish(record, slots))

    async def _publish(self, record: Record, slots: asyncio.Semaphore) -> None:
        try:
            await self._publisher.publish(record)
        except (DependencyUnavailable, InvalidRecord) as wrong:
            UNSENT.labels("kafka").inc()
            session_id = record.key.decode()
            log.warning(
                "tools.call_not_sent", topic=record.topic, code=wrong.stable_code, session_id=session_id
            )
        finally:
            slots.release()

    async def read(self, stop: asyncio.Event, on_ready: Callable[[bool, str], None]) -> None:
        """Hand results to their sessions until ``stop``."""
        while not stop.is_set():
            try:
                async with partition_reader(
                    self._settings, TOOL_RESULTS, self.reply_partition, client_id=self._replica
                ) as reader:
                    on_ready(True, "")
                    while not stop.is_set():
                        for records in (await reader.getmany(timeout_ms=POLL_MS)).values():
                            for record in records:
                                self._take(incoming(record))
            except (DependencyUnavailable, OSError) as wrong:
                on_ready(False, str(wrong))
                await asyncio.sleep(1)

    def _take(self, record: Incoming) -> None:
        if header_dict(record.headers).get(REPLY_TO_HEADER) != self._replica:
            RESULTS.labels("foreign").inc()
            return
        try:
            result = read_contract(ToolResult, record.value)
        except InvalidRecord as wrong:
            RESULTS.labels("invalid").inc()
            log.warning("tools.invalid_result", code=wrong.stable_code)
            return
        waiting = self._waiting.pop((result.session_id, result.call_id), None)
        if waiting is None:
            RESULTS.labels("late").inc()
            return
        RESULTS.labels("handed_on").inc()
        ROUND_TRIP_MS.labels(waiting.tool).observe((time.monotonic_ns() - waiting.asked_ns) / 1e6)
        waiting.requester.on_answer(
            ToolAnswered(result.call_id, result.status, _output(result), result.code, result.grants)
        )


_INVALID_ARGUMENTS = json.dumps(
    {"error": {"code": "invalid_arguments", "message": "The arguments were not a JSON object. Call again."}}
)


def reply_partition(replica: str, ordinal: int) -> int:
    """Return the results partition of a replica: its ordinal, or a hash beyond the partitions there are."""
    if ordinal < TOOL_RESULTS.partitions:
        return ordinal
    return zlib.crc32(replica.encode()) % TOOL_RESULTS.partitions


def _arguments(text: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(text or "{}")
    except json.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _output(result: ToolResult) -> str:
    """Return what the model reads: the tool's output, with the status where that is not ok."""
    output = result.output if result.output is not None else {}
    if result.status != "ok" and isinstance(output, dict):
        output = {"status": result.status, **output}
        output.setdefault("error", {"code": result.code or result.status})
    return json.dumps(output, ensure_ascii=False, separators=(",", ":"))
