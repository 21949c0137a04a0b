"""Executes one tool call: checks it, claims it, runs it in one unit of work, stores and answers what came of it.

The tool's SQL effects, its stored result and its facts commit together. A refusal rolls the effects back and is
stored too, so that every attempt of one call gets the same answer.

A read has no effect that could happen twice, so it is not claimed first: it runs, whatever it wrote is rolled back, and
its result is stored. What calls of one moment write down before they run, and what reads store, commits together.

Law: whatever a tool does wrong comes out as an answer the agent can speak; nothing of its arguments is logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import structlog
from opentelemetry.trace import Span
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from parley_common.business import Business
from parley_common.clock import Clock
from parley_common.db import Database
from parley_common.errors import DependencyUnavailable, ToolRefused
from parley_common.telemetry import SpanKind, joined_logs, mark_failed, span
from parley_tools import meters
from parley_tools.batching import Batcher
from parley_tools.calls import Address, Arrived, CallTable, New, Standing, address_of
from parley_tools.claims import Answer, Claim, OutcomeUnknown, Run, Stale, StillRunning
from parley_tools.context import Resources, ToolContext, is_granted
from parley_tools.dispatch import Leave
from parley_tools.offer import Offer
from parley_tools.outcomes import (
    SAY_AWAY,
    SAY_FAILED,
    SAY_LATE,
    Outcome,
    invalid_arguments,
    missing_grant,
)
from parley_tools.refusals import NothingDone, Refused
from parley_tools.registry import Tool
from parley_tools.replies import Replies
from parley_tools.schema import Unfit

LOOK_AGAIN_MARGIN_S = 0.05
"""After a lease ran out: so that the clock has really passed it when we look."""

BATCH_CALLS_MAX = 100
"""Calls written down by one transaction: some milliseconds of work."""

log = structlog.get_logger("executor")


@dataclass(frozen=True, slots=True)
class Checked:
    """A call that may run."""

    arrived: Arrived
    tool: Tool
    business: Business
    arguments: dict[str, Any]


class _Stopped(Exception):
    """A run whose effects are not kept; carries what to answer. Rolls the unit of work back on its way."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.code)
        self.outcome = outcome


class _LeaseLost(Exception):
    """Another worker took this call over: nothing of this run may commit, and nothing is answered."""


class Executor:
    """Runs calls; any number at once. ``handle`` is what the dispatcher calls."""

    def __init__(
        self,
        offer: Offer,
        database: Database,
        calls: CallTable,
        replies: Replies,
        resources: Resources,
        clock: Clock,
    ) -> None:
        self._offer = offer
        self._database = database
        self._calls = calls
        self._replies = replies
        self._resources = resources
        self._clock = clock
        self._running: set[tuple[str, str]] = set()
        self._reading: dict[tuple[str, str], Arrived] = {}
        """Reads that run here, each with the newest attempt: who still waits."""
        self._writing_down = Batcher[New, Standing](self._put, items_max=BATCH_CALLS_MAX)

    def is_running(self, arrived: Arrived) -> bool:
        """Tell whether this very process is running the call now, so that an attempt is a mere change of address."""
        return arrived.key in self._running or arrived.key in self._reading

    async def handle(self, arrived: Arrived, leave: Leave = lambda: None) -> float | None:
        """Settle one attempt; returns after how many seconds to look again when another worker has the call.

        ``leave`` is called once its tool has run: storing what a read found, and answering, holds up no other call.
        """
        with joined_logs(session_id=arrived.call.session_id, traceparent=arrived.traceparent):
            return await self._handle(arrived, leave)

    async def _handle(self, arrived: Arrived, leave: Leave) -> float | None:
        name = self._offer.label(arrived.call.business, arrived.call.tool)
        if self._clock.now() >= arrived.answer_by:
            meters.EXPIRED.labels(name).inc()
            log.info("call.expired", tool=name)
            return None
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": arrived.call.call_id,
            "gen_ai.conversation.id": arrived.call.session_id,
            "parley.session_id": arrived.call.session_id,
            "parley.business": arrived.call.business,
            "parley.tool.attempt": arrived.call.attempt,
        }
        with span(
            "tool.call", parent=arrived.traceparent, kind=SpanKind.CONSUMER, attributes=attributes
        ) as current:
            return await self._settle(arrived, name, current, leave)

    async def _settle(self, arrived: Arrived, name: str, current: Span, leave: Leave) -> float | None:
        checked = self._check(arrived)
        if isinstance(checked, Outcome):
            await self._answer(arrived, name, checked, current)
            return None
        if arrived.key in self._reading:
            self._redirect(arrived)
            return None
        if checked.tool.is_read and arrived.call.attempt == 1:
            return await self._read(checked, current, leave)
        return await self._settle_claimed(checked, name, current, leave)

    async def _settle_claimed(self, checked: Checked, name: str, current: Span, leave: Leave) -> float | None:
        arrived = checked.arrived
        try:
            claim = await self._claim(checked)
        except (DependencyUnavailable, DBAPIError):
            away = Outcome.failed("database_unavailable", SAY_AWAY, retryable=True)
            await self._answer(arrived, name, away, current)
            return None
        match claim:
            case Run(number):
                await self._run_and_answer(checked, number, current, leave)
            case Answer(stored):
                meters.REPEATS.labels("answered").inc()
                await self._replies.send(arrived.key, name, stored, address_of(arrived))
            case StillRunning(look_again_at):
                meters.REPEATS.labels("redirected").inc()
                if look_again_at is not None:
                    left_s = (look_again_at - self._clock.now()).total_seconds()
                    return max(0.0, left_s) + LOOK_AGAIN_MARGIN_S
            case OutcomeUnknown():
                meters.REPEATS.labels("unknown_outcome").inc()
                await self._answer(arrived, name, Outcome.unknown(), current)
            case Stale():
                await self._answer_stale(arrived, name, current)
        return None

    async def _read(self, checked: Checked, current: Span, leave: Leave) -> float | None:
        """Run a read and store what came of it; a call that others know already is settled as a repeat is."""
        key, name = checked.arrived.key, checked.tool.name
        self._reading[key] = checked.arrived
        began_ms = self._clock.now_ms()
        try:
            outcome = await self._outcome_of_read(checked)
            leave()
            stored = outcome.stored(self._clock.now_ms() - began_ms)
            try:
                standing = await self._writing_down.do(New(self._reading[key], stored))
            except DependencyUnavailable:
                standing = Standing.UNWRITABLE  # answered all the same: a repeat reads again
        finally:
            waiting = self._reading.pop(key)
        if standing is Standing.STALE:
            await self._answer_stale(waiting, name, current)
            return None
        if standing is Standing.KNOWN:
            return await self._settle_claimed(replace(checked, arrived=waiting), name, current, leave)
        await self._tell(checked, stored, address_of(waiting), began_ms, current)
        return None

    async def _outcome_of_read(self, checked: Checked) -> Outcome:
        try:
            async with self._database.begin() as db:
                await self._call_read(checked, db)
        except _Stopped as stopped:
            return stopped.outcome
        except DependencyUnavailable:
            return Outcome.failed("database_unavailable", SAY_AWAY, retryable=True)
        except DBAPIError as wrong:
            return self._crashed(checked, wrong)

    async def _call_read(self, checked: Checked, db: AsyncSession) -> NoReturn:
        """Run a read; it always ends in _Stopped, so that whatever it wrote is rolled back."""
        raise _Stopped(await self._call_tool(checked, db))

    def _redirect(self, arrived: Arrived) -> None:
        """Have a read that runs here answer its newest attempt."""
        meters.REPEATS.labels("redirected").inc()
        before = self._reading[arrived.key].call
        if (arrived.call.fence, arrived.call.attempt) >= (before.fence, before.attempt):
            self._reading[arrived.key] = arrived

    async def _put(self, calls: Sequence[New]) -> Sequence[Standing]:
        """Write calls down together; when the database will not have one of them, one by one."""
        try:
            async with self._database.begin() as db:
                return await self._calls.put(db, calls, self._clock.now())
        except DBAPIError as wrong:
            if len(calls) == 1:
                log.error("call.unwritable", cause=type(wrong).__name__)
                return [Standing.UNWRITABLE]
        return [standing for each in calls for standing in await self._put([each])]

    def _check(self, arrived: Arrived) -> Checked | Outcome:
        """Return the call ready to run, or why it is refused. Decides from the call alone."""
        call = arrived.call
        business = self._offer.business(call.business, call.business_version)
        if business is None:
            return Outcome.refused("unknown_business", SAY_FAILED, "This service does not know the business.")
        tool = self._offer.tool(business, call.tool)
        if tool is None:
            return Outcome.refused("unknown_tool", SAY_FAILED, "This business has no such tool here.")
        for grant in tool.spec.needs:
            if not is_granted(grant, call.context.grants):
                return missing_grant(grant, self._offer.granting(grant, business))
        try:
            return Checked(arrived, tool, business, tool.read(call.arguments))
        except Unfit as unfit:
            return invalid_arguments(unfit.faults)

    async def _claim(self, checked: Checked) -> Claim:
        arrived = checked.arrived
        here = arrived.key in self._running
        if not here:
            standing = await self._writing_down.do(New(arrived))
            if standing is Standing.UNWRITABLE:
                raise DependencyUnavailable("the call could not be written down")
            if standing is not Standing.KNOWN:
                return Run(1) if standing is Standing.PUT else Stale()
        async with self._database.begin() as db:
            now = self._clock.now()
            claim = await self._calls.claim(
                db, arrived, now=now, may_rerun=checked.tool.may_rerun, runs_here=here
            )
            if isinstance(claim, OutcomeUnknown):
                await self._calls.finish(db, arrived.key, None, Outcome.unknown().stored(0), now)
        return claim

    async def _run_and_answer(self, checked: Checked, run: int, current: Span, leave: Leave) -> None:
        key, name = checked.arrived.key, checked.tool.name
        self._running.add(key)
        began_ms = self._clock.now_ms()
        try:
            stored, address = await self._run(checked, run, began_ms)
        except _LeaseLost:
            meters.LEASES_LOST.inc()
            log.warning("call.lease_lost", tool=name)
            return
        finally:
            self._running.discard(key)
        leave()
        await self._tell(checked, stored, address, began_ms, current)

    async def _tell(
        self, checked: Checked, stored: dict[str, Any], address: Address, began_ms: int, current: Span
    ) -> None:
        """Measure a run that ended, and answer."""
        name, took_ms = checked.tool.name, self._clock.now_ms() - began_ms
        meters.DURATION_MS.labels(name).observe(took_ms)
        self._note(name, str(stored["status"]), stored.get("code"), took_ms, current)
        await self._replies.send(checked.arrived.key, name, stored, address)

    async def _run(self, checked: Checked, run: int, began_ms: int) -> tuple[dict[str, Any], Address]:
        """Run the tool and commit; returns what is stored and where the answer goes. Raises _LeaseLost."""
        try:
            async with self._database.begin() as db:
                outcome = await self._call_tool(checked, db)
                return await self._finish(db, checked, run, outcome, began_ms)
        except _Stopped as stopped:
            outcome = stopped.outcome
        except DependencyUnavailable:
            outcome = Outcome.failed("database_unavailable", SAY_AWAY, retryable=True)
        except DBAPIError as wrong:
            outcome = self._crashed(checked, wrong)
        try:
            async with self._database.begin() as db:
                return await self._finish(db, checked, run, outcome, began_ms)
        except DependencyUnavailable:
            # Not stored: the lease runs out, and a repeat finds a database that is there again.
            return outcome.stored(self._clock.now_ms() - began_ms), address_of(checked.arrived)

    async def _finish(
        self, db: AsyncSession, checked: Checked, run: int, outcome: Outcome, began_ms: int
    ) -> tuple[dict[str, Any], Address]:
        stored = outcome.stored(self._clock.now_ms() - began_ms)
        key = checked.arrived.key
        address = await self._calls.finish(db, key, run, stored, self._clock.now())
        if address is not None:
            return stored, address
        # A commit whose answer was lost may have happened: then its result is the one that counts.
        before = await self._calls.stored(db, key)
        if before is None:
            raise _LeaseLost
        return before

    async def _call_tool(self, checked: Checked, db: AsyncSession) -> Outcome:
        """Run the tool. Raises _Stopped for everything but success and the database's own errors."""
        context = self._context(checked, db)
        try:
            async with asyncio.timeout(checked.tool.run_max_s):
                output = await checked.tool.run(context, **checked.arguments)
            return Outcome.ok(output, context.granted)
        except Refused as refused:
            outcome = Outcome.refused(refused.stable_code, refused.say, None, **refused.more)
            if refused.keeps_effects:
                return replace(outcome, grants=tuple(context.granted))
            raise _Stopped(outcome) from refused
        except ToolRefused as refused:
            raise _Stopped(Outcome.refused(refused.stable_code, refused.say)) from refused
        except DBAPIError:
            raise
        except TimeoutError as late:
            raise _Stopped(_uncertain(checked.tool, "tool_timed_out", SAY_LATE)) from late
        except NothingDone as away:
            raise _Stopped(Outcome.failed(away.stable_code, SAY_AWAY, retryable=True)) from away
        except DependencyUnavailable as away:
            raise _Stopped(_uncertain(checked.tool, away.stable_code, SAY_AWAY)) from away
        except Exception as wrong:
            raise _Stopped(self._crashed(checked, wrong)) from wrong

    def _context(self, checked: Checked, db: AsyncSession) -> ToolContext:
        call = checked.arrived.call
        return ToolContext(
            business=checked.business,
            session_id=call.session_id,
            call_id=call.call_id,
            caller=call.context,
            db=db,
            now=self._clock.now(),
            resources=self._resources,
            emits=checked.tool.emits,
            grants=checked.tool.grants,
            records_declared=checked.tool.records,
        )

    def _crashed(self, checked: Checked, wrong: BaseException) -> Outcome:
        """Contain a tool's own error: its kind and place are logged, never its message."""
        at = _innermost(wrong)
        log.error("tool.crashed", tool=checked.tool.name, cause=type(wrong).__name__, at=at)
        if checked.tool.may_rerun:
            return Outcome.failed("tool_failed", SAY_FAILED, retryable=False)
        return Outcome.unknown()

    async def _answer(self, arrived: Arrived, name: str, outcome: Outcome, current: Span) -> None:
        """Answer an attempt that did not run."""
        self._note(name, outcome.status, outcome.code, 0, current)
        await self._replies.send(arrived.key, arrived.call.tool, outcome.stored(0), address_of(arrived))

    async def _answer_stale(self, arrived: Arrived, name: str, current: Span) -> None:
        meters.REPEATS.labels("stale_fence").inc()
        stale = Outcome.refused("stale_fence", SAY_FAILED, "A later owner of this session has spoken.")
        await self._answer(arrived, name, stale, current)

    def _note(self, name: str, status: str, code: Any, took_ms: int, current: Span) -> None:
        meters.CALLS.labels(name, status).inc()
        current.set_attribute("parley.tool.status", status)
        if status in ("failed", "unknown_outcome"):
            mark_failed(current, str(code))
        log.info("call.settled", tool=name, status=status, code=code, took_ms=took_ms)


def _uncertain(tool: Tool, code: str, say: str) -> Outcome:
    """An effect elsewhere that was begun and not confirmed is unknown; everything else simply failed."""
    return Outcome.failed(code, say, retryable=True) if tool.may_rerun else Outcome.unknown()


def _innermost(wrong: BaseException) -> str:
    """Return file and line where an error was raised."""
    trace = wrong.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace else ""
