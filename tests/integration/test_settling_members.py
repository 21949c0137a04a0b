"""Settling across members of a group and lost brokers: killed processes, taken partitions, order per key."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from harness.broker import Broker
from harness.processes import Processes
from harness.waiting import until
from integration.settling_stage import QUICK, REJOINED_S, TAKEN_S, Desk, Stage, open_stage
from parley_common.contracts.leads import LeadErased
from parley_common.errors import DependencyUnavailable
from parley_common.settling import RetryBudget

pytestmark = pytest.mark.kafka
PROGRAM = Path(__file__).parent / "settling_program.py"
STOPPED_S = 40.0
"""Both a commit under way and leaving the group wait for a broker within a deadline of their own."""


@pytest.fixture
async def stage(bootstrap_servers: str) -> AsyncIterator[Stage]:
    async with open_stage(bootstrap_servers) as opened:
        yield opened


async def test_a_process_killed_in_the_middle_of_a_record_leaves_it_to_the_next_member(
    stage: Stage, processes: Processes
) -> None:
    await stage.write("lead-a", 1)
    argv = [sys.executable, str(PROGRAM), stage.kafka.bootstrap_servers, stage.topic.name, stage.group]
    killed = processes.start(argv, name="consumer")
    await killed.wait_log("took lead-a", REJOINED_S)
    killed.kill9()
    desk = Desk()
    async with stage.consuming(desk):
        await until(lambda: desk.taken, REJOINED_S, "the record to come again")
        await stage.until_committed(1)
    assert desk.taken == [("lead-a", 1)]
    assert await stage.dead() == []


async def test_facts_of_one_key_are_handled_in_order_whatever_fails_on_the_way(
    bootstrap_servers: str,
) -> None:
    chance = random.Random(4)

    def fail_sometimes(_fact: LeadErased) -> None:
        if chance.random() < 0.1:
            raise RuntimeError("fails sometimes")
        if chance.random() < 0.03:
            raise DependencyUnavailable("away sometimes")

    desk = Desk(fail_sometimes)
    patient = RetryBudget(retry_ms=60_000, first_backoff_ms=1, unavailable_backoff_max_ms=250)
    async with open_stage(bootstrap_servers, partition_count=3) as stage:
        for number in range(1, 11):
            for lead in range(6):
                await stage.write(f"lead-{lead}", number)
        async with stage.consuming(desk, patient):
            await stage.until_committed(60)
        assert await stage.dead() == []
    numbers = defaultdict(list)
    for lead_id, number in desk.taken:
        if numbers[lead_id][-1:] != [number]:  # a try of the same record again is in order
            numbers[lead_id].append(number)
    assert dict(numbers) == {f"lead-{lead}": list(range(1, 11)) for lead in range(6)}


@asynccontextmanager
async def rival(stage: Stage) -> AsyncIterator[AIOKafkaConsumer]:
    """Join the group as another program whose id sorts first, and so is given the only partition."""
    consumer = AIOKafkaConsumer(
        stage.topic.name,
        bootstrap_servers=stage.kafka.bootstrap_servers,
        group_id=stage.group,
        client_id="!first",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def test_a_record_whose_partition_was_taken_meanwhile_is_dropped_and_comes_again_there(
    stage: Stage,
) -> None:
    go_on = asyncio.Event()
    desk = Desk(lambda fact: go_on.wait() if fact.seq == 1 else None)
    await stage.write("lead-a", 1)
    await stage.write("lead-a", 2)
    async with stage.consuming(desk) as running:
        await until(lambda: desk.taken, TAKEN_S, "the record to be taken")
        async with rival(stage) as other:
            await until(other.assignment, REJOINED_S, "the partition to be taken")
            redelivered = await asyncio.wait_for(other.getone(), TAKEN_S)
            assert redelivered.offset == 0
            go_on.set()
            await stage.write("lead-a", 3)
            await asyncio.wait_for(other.getone(), TAKEN_S)
            await asyncio.wait_for(other.getone(), TAKEN_S)
            # All three are with the other member: ours must neither commit the first nor go on to the second.
            assert (await stage.committed(), desk.taken) == ({}, [("lead-a", 1)])
        # The other left without a commit, so all of it is ours again.
        await stage.until_committed(3)
        assert running.task
        assert not running.task.done()
    assert desk.taken == [("lead-a", 1), ("lead-a", 1), ("lead-a", 2), ("lead-a", 3)]
    assert await stage.dead() == []


async def test_a_partition_taken_while_a_dependency_is_away_is_let_go_without_a_commit(stage: Stage) -> None:
    away, finished = True, list[int]()

    def need(fact: LeadErased) -> None:
        if away:
            raise DependencyUnavailable("away")
        finished.append(fact.seq)

    await stage.write("lead-a", 1)
    async with stage.consuming(Desk(need)) as running:
        await until(lambda: running.waits_count >= 2, TAKEN_S, "the consumer to wait")
        async with rival(stage) as other:
            assert (await asyncio.wait_for(other.getone(), REJOINED_S)).offset == 0
            await other.commit()
            away = False
            await stage.write("lead-a", 2)
            assert (await asyncio.wait_for(other.getone(), TAKEN_S)).offset == 1
        await stage.until_committed(2)
    assert finished == [2], "the first was the other member's to finish"


async def test_a_broker_that_goes_and_comes_back_loses_no_fact_and_needs_no_restart(
    fresh_broker: Broker,
) -> None:
    desk = Desk()
    async with open_stage(fresh_broker.bootstrap_servers) as stage:
        await stage.write("lead-a", 1)
        async with stage.consuming(desk) as running:
            await stage.until_committed(1)
            await asyncio.to_thread(fresh_broker.stop)
            await asyncio.to_thread(fresh_broker.start)
            await stage.write("lead-a", 2)
            await until(lambda: desk.times("lead-a", 2), REJOINED_S, "the fact written after the outage")
            await stage.until_committed(2)
            assert running.task
            assert not running.task.done()
        assert await stage.dead() == []


async def test_stopping_while_the_broker_is_away_ends_within_its_deadlines(fresh_broker: Broker) -> None:
    go_on = asyncio.Event()
    desk = Desk(lambda _fact: go_on.wait())
    async with open_stage(fresh_broker.bootstrap_servers) as stage:
        await stage.write("lead-a", 1)
        async with stage.consuming(desk, QUICK) as running:
            await until(lambda: desk.taken, TAKEN_S, "the record to be taken")
            await asyncio.to_thread(fresh_broker.stop)
            running.stop.set()
            go_on.set()
            await until(lambda: running.task and running.task.done(), STOPPED_S, "the consumer to end")
        await asyncio.to_thread(fresh_broker.start)
        assert await stage.committed() == {}
