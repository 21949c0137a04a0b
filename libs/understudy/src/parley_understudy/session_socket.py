"""One session on one socket: reads client events, steps the protocol core, sends what comes out, runs its jobs.

It decides nothing about the protocol. Steps are taken one at a time, and what a step produced is sent before the next
one, so events leave in the core's order.

Law: every task of a session ends with its socket; every wait has a deadline; a bug ends the session, not the process.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import structlog
from websockets.exceptions import ConnectionClosed

from parley_common.clock import Clock
from parley_common.errors import LocalViolation, Overloaded, ParleyError
from parley_understudy.brain.types import Decision, View
from parley_understudy.door import Door
from parley_understudy.faculties import CallerScript, Faculties
from parley_understudy.fault_plan import Plan
from parley_understudy.line import Line
from parley_understudy.wire import (
    Close,
    FallSilent,
    Forget,
    Hear,
    Job,
    Out,
    Raw,
    Refused,
    Send,
    Speak,
    Think,
    Vanish,
)

Brain: TypeAlias = Callable[[View], Decision]
Step: TypeAlias = Callable[[float], list[Out]]

_SEND_DEADLINE_S = 30.0
"""How long a client may leave its socket unread."""
_PONG_DEADLINE_S = 20.0
_THINK_DEADLINE_S = 10.0
_JOBS_MAX = 256
"""Jobs of one session at once; a client that asks for more is answered with failures."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Surroundings:
    """What every session of the process shares."""

    brain: Brain
    clock: Clock
    faculties: Faculties
    caller_script: CallerScript
    ping_interval_s: float


class _SessionOver(Exception):
    """Ends a session's tasks; never leaves this module."""


class SessionSocket:
    """Runs one session until its socket closes."""

    def __init__(self, socket: Door, line: Line, around: Surroundings) -> None:
        self._socket = socket
        self._line = line
        self._around = around
        self._turn = asyncio.Lock()
        self._something_due = asyncio.Event()
        self._hearing: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._jobs_count = 0
        self._is_silent = False
        self._wakes_at_ms = math.inf
        self._tasks: asyncio.TaskGroup

    async def run(self, lasts_s: float) -> None:
        """Serve the session; return when its socket is closed."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._take(self._line.open)
                self._tasks.create_task(self._send_what_is_due())
                self._tasks.create_task(self._ping())
                self._tasks.create_task(self._expire(lasts_s))
                await self._read()
                raise _SessionOver  # noqa: TRY301 - the only way to end the other tasks of a TaskGroup
        except* (_SessionOver, ConnectionClosed):
            pass

    def disturb(self, plan: Plan) -> None:
        """Follow one more fault script from now on."""
        self._line.disturb(plan)
        self._something_due.set()

    async def _read(self) -> None:
        while True:
            try:
                data = await self._socket.recv()
            except ConnectionClosed:
                return
            await self._take(self._step_for(data))

    def _step_for(self, data: str | bytes) -> Step:
        if isinstance(data, bytes):
            message = "Expected a text WebSocket message; binary frames are not supported."
            return lambda now_ms: self._line.refuse(Refused(message, "invalid_event"), now_ms)
        try:
            event = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError) as wrong:
            message = f"Invalid event: failed to parse JSON value. {wrong}"
            return lambda now_ms: self._line.refuse(Refused(message, "invalid_json"), now_ms)
        return lambda now_ms: self._line.receive(event, now_ms)

    async def _take(self, step: Step) -> None:
        """Step the line and do what it says before the next step."""
        async with self._turn:
            self._line.speculate(
                wanted=self._around.faculties.speculates, scripted=bool(self._around.caller_script)
            )
            for out in step(self._around.clock.now_ms()):
                await self._do(out)
        due_ms = self._line.due_ms()
        if due_ms is not None and due_ms < self._wakes_at_ms:
            self._something_due.set()

    async def _do(self, out: Out) -> None:
        if isinstance(out, Send):
            await self._send(msgspec.json.encode(out.event))
        elif isinstance(out, Raw):
            await self._send(out.text.encode())
        elif isinstance(out, Forget):
            if task := self._hearing.pop((out.item_id, out.attempt), None):
                task.cancel()
        elif isinstance(out, Close):
            await self._socket.close(out.code, out.reason[:120])
        elif isinstance(out, Vanish):
            self._socket.vanish()
        elif isinstance(out, FallSilent):
            self._socket.fall_silent()
            self._is_silent = True
        else:
            self._start(out)

    async def _send(self, frame: bytes) -> None:
        try:
            async with asyncio.timeout(_SEND_DEADLINE_S):
                await self._socket.send(frame, text=True)
        except TimeoutError:
            log.warning("session.client_stalled", session=self._line.id)
            raise _SessionOver from None

    def _start(self, job: Job) -> None:
        task = self._tasks.create_task(self._run_job(job))
        self._jobs_count += 1
        if isinstance(job, Hear):
            self._hearing[job.item_id, job.attempt] = task

        def ended(_: asyncio.Task[None]) -> None:
            self._jobs_count -= 1
            if isinstance(job, Hear):
                self._hearing.pop((job.item_id, job.attempt), None)

        task.add_done_callback(ended)

    async def _run_job(self, job: Job) -> None:
        try:
            if self._jobs_count > _JOBS_MAX:
                raise Overloaded("this session asks for too much at once")
            step = await self._result_of(job)
        except (ParleyError, TimeoutError) as failed:
            step = self._failure_of(job, failed)
        await self._take(step)

    async def _result_of(self, job: Job) -> Step:
        line, faculties = self._line, self._around.faculties
        if isinstance(job, Think):
            decision = await self._thought(job.view)
            return lambda now_ms: line.decided(job.response_id, decision, now_ms)
        if isinstance(job, Speak):
            pcm = await faculties.speak(job.text, job.voice, job.speed)
            return lambda now_ms: line.rendered(job.response_id, job.index, pcm, now_ms)
        scripted = self._around.caller_script.next_line() if job.final else None
        text = scripted if scripted is not None else await faculties.hear(job.pcm)
        return lambda now_ms: line.heard(job.item_id, job.attempt, text, now_ms)

    async def _thought(self, view: View) -> Decision:
        try:
            async with asyncio.timeout(_THINK_DEADLINE_S):
                return await asyncio.to_thread(self._around.brain, view)
        except TimeoutError:
            raise
        except Exception as wrong:
            log.exception("brain.broke", session=self._line.id)
            raise LocalViolation("the brain broke") from wrong

    def _failure_of(self, job: Job, failed: Exception) -> Step:
        line = self._line
        code = failed.stable_code if isinstance(failed, ParleyError) else "timeout"
        log.warning("job.failed", session=line.id, job=type(job).__name__, code=code)
        if isinstance(job, Hear):
            return lambda now_ms: line.heard(job.item_id, job.attempt, None, now_ms)
        wire_code = "rate_limit_exceeded" if isinstance(failed, Overloaded) else None
        return lambda now_ms: line.failed(job.response_id, "server_error", wire_code, now_ms)

    async def _send_what_is_due(self) -> None:
        """Step the line whenever it has something to send; sleep until then, or until something is due earlier."""
        clock = self._around.clock
        while True:
            due_ms, now_ms = self._line.due_ms(), clock.now_ms()
            if due_ms is not None and due_ms <= now_ms:
                await self._take(self._line.advance)
                continue
            self._wakes_at_ms = math.inf if due_ms is None else due_ms
            timer = None if due_ms is None else clock.call_later_ms(due_ms - now_ms, self._something_due.set)
            try:
                await self._something_due.wait()
            finally:
                if timer is not None:
                    timer.cancel()
            self._something_due.clear()

    async def _ping(self) -> None:
        """Ping with four bytes, as the API does; a client that does not answer is gone."""
        while True:
            await self._around.clock.sleep_ms(self._around.ping_interval_s * 1000)
            if self._is_silent:
                return
            pong = await self._socket.ping(random.randbytes(4))  # noqa: S311 - only to tell pongs apart
            try:
                async with asyncio.timeout(_PONG_DEADLINE_S):
                    await pong
            except TimeoutError:
                if not self._is_silent:
                    await self._socket.close(1011, "keepalive ping timeout")
                return

    async def _expire(self, lasts_s: float) -> None:
        await self._around.clock.sleep_ms(lasts_s * 1000)
        await self._take(self._line.expire)
