"""The workers on a real SQLite file with a channel that does as told: waits, order, deadlines, faults, stopping."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select

from harness.waiting import until
from parley_common.clock import ManualClock
from parley_common.contracts.leads import LeadErased
from parley_common.db import Database
from parley_common.errors import DependencyUnavailable
from parley_common.outbox import Outbox
from parley_notify.app import MIGRATIONS
from parley_notify.channels.outcome import Delivered, Outcome, Refused, TryAgain
from parley_notify.deliveries import Deliveries, Settlement
from parley_notify.delivery import Delivery
from parley_notify.dispatcher import Dispatcher, Limits
from parley_notify.due import Capacity
from parley_notify.pace import Pace
from parley_notify.policy import RetryPolicy
from parley_notify.tables import deliveries as table
from parley_notify.tables import outbox as outbox_tables
from unit.notify.samples import AT, LEAD, captured, delivery, erased, qualified

POLICY = RetryPolicy(first_s=10, wait_max_s=40, give_up_s=200)
FAST = Limits(in_flight_max=4, attempt_deadline_s=5, poll_ms=10, stop_grace_s=5)
Answer = Outcome | Exception | Callable[[Delivery], Any]


@dataclass
class FakeChannel:
    """Answers as told, in order, then with the standing answer; remembers when what was sent."""

    clock: ManualClock
    always: Answer = field(default_factory=Delivered)
    answers: list[Answer] = field(default_factory=list)
    sent: list[tuple[datetime, Delivery]] = field(default_factory=list)

    async def send(self, told: Delivery) -> Outcome:
        self.sent.append((self.clock.now(), told))
        answer = self.answers.pop(0) if self.answers else self.always
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            outcome: Outcome = await answer(told)
            return outcome
        return answer

    def waits_s(self) -> list[float]:
        """Return how long lay between attempts, the first counted from the start."""
        times = [AT, *(at for at, _ in self.sent)]
        return [(after - before).total_seconds() for before, after in itertools.pairwise(times)]


class FlakyDeliveries(Deliveries):
    """Deliveries whose database fails the next calls of ``settle`` or ``claim`` as told."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        super().__init__(database, outbox)
        self.settle_faults: list[Exception] = []
        self.claim_faults: list[Exception] = []
        self.settled_together: list[int] = []
        """How many settlements each unit of work held."""

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        if self.settle_faults:
            raise self.settle_faults.pop(0)
        self.settled_together.append(len(settlements))
        return await super().settle(settlements)

    async def claim(self, now: datetime, lease_s: float, capacity: Capacity) -> list[Delivery]:
        if self.claim_faults:
            raise self.claim_faults.pop(0)
        return await super().claim(now, lease_s, capacity)


@dataclass
class Shop:
    """The workers of one process and what they stand on."""

    database: Database
    deliveries: FlakyDeliveries
    channel: FakeChannel
    clock: ManualClock

    async def add(self, *planned: Delivery) -> None:
        async with self.database.begin() as db:
            await self.deliveries.add(db, [replace(one, attempts=0) for one in planned])

    async def row(self, told: Delivery) -> Any:
        async with self.database.begin() as db:
            return (await db.execute(select(table).where(table.c.delivery_id == told.delivery_id))).one()

    async def until_state(self, told: Delivery, state: str) -> Any:
        async def reached() -> Any:
            row = await self.row(told)
            return row if row.state == state else None

        return await until(reached, 10, f"delivery to be {state}")

    async def until_attempts(self, count: int) -> None:
        await until(lambda: len(self.channel.sent) >= count, 10, f"{count} attempts")

    async def until_settled(self, told: Delivery, attempts: int) -> None:
        async def settled() -> bool:
            row = await self.row(told)
            return row.attempts == attempts and row.lease_until is None

        await until(settled, 10, f"attempt {attempts} to be settled")

    @asynccontextmanager
    async def working(self, limits: Limits = FAST, pace: Pace | None = None) -> AsyncIterator[Dispatcher]:
        dispatcher = Dispatcher(
            self.deliveries,
            {"email": self.channel},
            policy=POLICY,
            pace=pace or Pace(rate_per_s=math.inf, in_flight_max=4),
            limits=limits,
            clock=self.clock,
            jitter=lambda: 1.0,
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(dispatcher.run(stop))
            yield dispatcher
            stop.set()


@pytest.fixture
async def shop(sqlite_url: str) -> AsyncIterator[Shop]:
    database = Database(sqlite_url, schema="notify")
    await database.migrate(MIGRATIONS)
    clock = ManualClock(AT)
    deliveries = FlakyDeliveries(database, Outbox(outbox_tables, source="notify"))
    yield Shop(database, deliveries, FakeChannel(clock), clock)
    await database.aclose()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_delivery_is_sent_once_and_marked(shop: Shop) -> None:
    told = delivery()
    await shop.add(told)
    async with shop.working():
        row = await shop.until_state(told, "delivered")
    assert (row.attempts, row.cause, row.lease_until) == (1, None, None)
    assert len(shop.channel.sent) == 1


async def test_waking_is_enough_without_any_poll(shop: Shop) -> None:
    async with shop.working(replace(FAST, poll_ms=60_000)) as dispatcher:
        told = delivery()
        await shop.add(told)
        dispatcher.wake()
        await shop.until_state(told, "delivered")


async def test_a_poll_is_enough_without_any_wake(shop: Shop) -> None:
    async with shop.working():
        told = delivery()
        await shop.add(told)
        await shop.until_state(told, "delivered")


async def test_attempts_follow_the_schedule_to_the_end_of_the_time_to_try(shop: Shop) -> None:
    shop.channel.always = TryAgain("http_503")
    told = delivery()
    await shop.add(told)
    async with shop.working():
        for attempt, wait_s in enumerate((10, 20, 40, 40, 40, 40, 10), start=1):
            await shop.until_settled(told, attempt)
            await shop.clock.advance(wait_s * 1_000 - 1)
            assert len(shop.channel.sent) == attempt
            await shop.clock.advance(1)
            await shop.until_attempts(attempt + 1)
        row = await shop.until_state(told, "failed")
    assert shop.channel.waits_s() == [0, 10, 20, 40, 40, 40, 40, 10]
    assert row.cause == "gave_up:http_503"


async def test_a_lead_is_told_in_order_after_its_destination_came_back(shop: Shop) -> None:
    shop.channel.answers = [TryAgain("http_503")]
    first, second = delivery(captured()), delivery(qualified())
    await shop.add(first, second)
    async with shop.working():
        await shop.until_settled(first, 1)
        await shop.clock.advance(10_000)
        await shop.until_state(second, "delivered")
    assert [told.seq for _, told in shop.channel.sent] == [1, 1, 2]


async def test_a_permanent_refusal_lets_the_next_of_the_lane_go(shop: Shop) -> None:
    shop.channel.answers = [Refused("http_410")]
    first, second = delivery(captured()), delivery(qualified())
    await shop.add(first, second)
    async with shop.working():
        await shop.until_state(second, "delivered")
    assert (await shop.row(first)).cause == "http_410"


async def test_an_attempt_is_cut_off_at_its_deadline_and_tried_again(shop: Shop) -> None:
    async def forever(_: Delivery) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError("never")

    shop.channel.answers = [forever]
    told = delivery()
    await shop.add(told)
    async with shop.working(replace(FAST, attempt_deadline_s=0.05)):
        await shop.until_settled(told, 1)
    assert (await shop.row(told)).cause == "timed_out"


async def test_a_bug_in_a_channel_delays_its_lane_and_nothing_else(shop: Shop) -> None:
    shop.channel.answers = [KeyError("Dana Reyes")]
    broken, fine = delivery(), delivery(captured(LEAD[:-1] + "f"))
    await shop.add(broken)
    async with shop.working():
        await shop.until_settled(broken, 1)
        await shop.add(fine)
        await shop.until_state(fine, "delivered")
    assert (await shop.row(broken)).cause == "internal:KeyError"


async def test_a_silent_host_cannot_hold_every_place(shop: Shop) -> None:
    release = asyncio.Event()

    async def silent(told: Delivery) -> Outcome:
        if told.host == "silent.example.com":
            await release.wait()
        return Delivered()

    shop.channel.always = silent
    slow = [delivery(captured(f"{LEAD[:-2]}{n:02d}"), destination="x@silent.example.com") for n in range(6)]
    fine = delivery(captured(), destination="x@other.example.com")
    await shop.add(*slow, fine)
    async with shop.working(replace(FAST, in_flight_max=3), Pace(rate_per_s=math.inf, in_flight_max=2)):
        await shop.until_attempts(3)
        await shop.until_state(fine, "delivered")
        assert [told.host for _, told in shop.channel.sent].count("silent.example.com") == 2
        release.set()


async def test_a_host_that_asks_for_time_gets_it_for_all_its_deliveries(shop: Shop) -> None:
    shop.channel.answers = [TryAgain("http_429", 60)]
    first, other = delivery(captured()), delivery(captured(LEAD[:-1] + "f"))
    await shop.add(first)
    async with shop.working():
        await shop.until_settled(first, 1)
        await shop.add(other)
        await shop.clock.advance(59_000)
        assert len(shop.channel.sent) == 1
        await shop.clock.advance(1_000)
        await shop.until_state(other, "delivered")


async def test_hosts_are_paced_by_their_rate(shop: Shop) -> None:
    many = [delivery(captured(f"{LEAD[:-2]}{n:02d}")) for n in range(3)]
    await shop.add(*many)
    async with shop.working(pace=Pace(rate_per_s=2, in_flight_max=4)):
        for count in (1, 2, 3):
            await shop.until_attempts(count)
            await shop.clock.advance(499)
            assert len(shop.channel.sent) == count
            await shop.clock.advance(1)


async def test_an_outcome_is_written_however_long_the_database_is_away(shop: Shop) -> None:
    shop.deliveries.settle_faults = [DependencyUnavailable("away")] * 12
    told = delivery()
    await shop.add(told)
    async with shop.working():
        await shop.until_attempts(1)

        async def waited_out() -> bool:
            await shop.clock.advance(5_000)
            return (await shop.row(told)).state == "delivered"

        await until(waited_out, 10, "the outcome to be written")
    assert len(shop.channel.sent) == 1


async def test_a_database_that_keeps_failing_on_one_row_frees_its_place(shop: Shop) -> None:
    shop.deliveries.settle_faults = [RuntimeError("constraint")] * 5
    told = delivery()
    await shop.add(told)
    async with shop.working(replace(FAST, in_flight_max=1)):

        async def taken_again() -> bool:
            await shop.clock.advance(5_000)
            return (await shop.row(told)).state == "delivered"

        await until(taken_again, 10, "the delivery to be taken again when its lease is over")
    assert shop.channel.sent[-1][1].retaken


async def test_what_ends_together_is_written_together_and_a_fault_in_it_spoils_none(shop: Shop) -> None:
    ended = asyncio.Event()

    async def all_at_once(_: Delivery) -> Outcome:
        if len(shop.channel.sent) == 4:
            ended.set()
        await ended.wait()
        return Delivered()

    shop.channel.always = all_at_once
    shop.deliveries.settle_faults = [RuntimeError("one of them")] * 2
    many = [delivery(captured(f"{LEAD[:-2]}{number:02d}")) for number in range(4)]
    await shop.add(*many)
    async with shop.working():
        await shop.until_attempts(4)

        async def all_written() -> bool:
            await shop.clock.advance(100)
            return {(await shop.row(told)).state for told in many} == {"delivered"}

        await until(all_written, 10, "every outcome to be written")
    assert len(shop.channel.sent) == 4
    assert shop.deliveries.settled_together == [1] * 4, "what failed among others is written alone"


async def test_a_failing_claim_does_not_end_the_workers(shop: Shop) -> None:
    shop.deliveries.claim_faults = [DependencyUnavailable("away"), RuntimeError("odd"), OSError("odder")]
    told = delivery()
    await shop.add(told)
    async with shop.working():
        await shop.until_state(told, "delivered")


async def test_stopping_waits_for_attempts_under_way(shop: Shop) -> None:
    release, begun = asyncio.Event(), asyncio.Event()

    async def slow(_: Delivery) -> Outcome:
        begun.set()
        await release.wait()
        return Delivered()

    shop.channel.always = slow
    told = delivery()
    await shop.add(told)
    async with shop.working():
        await begun.wait()
        asyncio.get_running_loop().call_later(0.05, release.set)
    assert (await shop.row(told)).state == "delivered"


async def test_an_attempt_that_outlasts_the_grace_stays_pending_under_its_lease(shop: Shop) -> None:
    begun = asyncio.Event()

    async def forever(_: Delivery) -> Outcome:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    shop.channel.always = forever
    told = delivery()
    await shop.add(told)
    async with shop.working(replace(FAST, stop_grace_s=0.05)):
        await begun.wait()
    row = await shop.row(told)
    assert row.state == "pending"
    assert row.lease_until is not None


async def test_a_repeat_after_a_killed_worker_is_counted(shop: Shop) -> None:
    told = delivery()
    await shop.add(told)
    await shop.deliveries.claim(shop.clock.now(), 1.0, Capacity())
    await shop.clock.advance(1_000)
    before = counted("parley_deliveries_retaken_total", channel="email")
    async with shop.working():
        await shop.until_state(told, "delivered")
    assert counted("parley_deliveries_retaken_total", channel="email") == before + 1


async def test_an_attempt_whose_lead_was_erased_meanwhile_is_counted_and_not_marked(shop: Shop) -> None:
    async def erase_meanwhile(told: Delivery) -> Outcome:
        fact: LeadErased = erased()
        async with shop.database.begin() as db:
            await shop.deliveries.erase(db, fact.key, shop.clock.now())
        return Delivered()

    shop.channel.always = erase_meanwhile
    before = counted("parley_deliveries_overtaken_total", channel="email")
    told = delivery()
    await shop.add(told)
    async with shop.working():
        await until(lambda: counted("parley_deliveries_overtaken_total", channel="email") > before, 10)
    assert (await shop.row(told)).state == "cancelled"


def test_the_migrations_folder_is_part_of_the_package() -> None:
    assert (Path(MIGRATIONS) / "env.py").is_file()
