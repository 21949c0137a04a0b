"""Every record is settled exactly one way, on the run's broker: success, outage, poison, failing handler."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from harness.waiting import until
from integration.settling_stage import AT, QUICK, TAKEN_S, Desk, Stage, open_stage
from parley_common.contracts.leads import LeadErased
from parley_common.contracts.record import Envelope
from parley_common.errors import DependencyUnavailable, InvalidRecord
from parley_common.kafka import MAX_POLL_MS
from parley_common.settling import RetryBudget, TooManyFailing

pytestmark = pytest.mark.kafka


@pytest.fixture
async def stage(bootstrap_servers: str) -> AsyncIterator[Stage]:
    async with open_stage(bootstrap_servers) as opened:
        yield opened


async def test_success_commits_the_offset_after_that_very_record_and_not_the_position(stage: Stage) -> None:
    seen: list[dict[int, int]] = []

    async def look(_fact: LeadErased) -> None:
        seen.append(await stage.committed())

    for number in (1, 2, 3):
        await stage.write("lead-a", number)
    async with stage.consuming(Desk(look)):
        await stage.until_committed(3)
    assert seen == [{}, {0: 1}, {0: 2}]
    assert await stage.dead() == []


async def test_a_record_committed_is_not_handed_out_again_after_a_restart(stage: Stage) -> None:
    first, second = Desk(), Desk()
    await stage.write("lead-a", 1)
    async with stage.consuming(first):
        await stage.until_committed(1)
    await stage.write("lead-a", 2)
    async with stage.consuming(second):
        await stage.until_committed(2)
    assert (first.taken, second.taken) == ([("lead-a", 1)], [("lead-a", 2)])


async def test_a_lost_dependency_waits_without_end_not_ready_and_is_never_a_dead_letter(stage: Stage) -> None:
    away = True

    def need(_fact: LeadErased) -> None:
        if away:
            raise DependencyUnavailable("the database is away")

    desk = Desk(need)
    await stage.write("lead-a", 1)
    await stage.write("lead-b", 1)
    async with stage.consuming(desk) as running:
        # Far more tries than the budget for failing handlers would allow.
        await until(lambda: desk.times("lead-a", 1) >= 6, TAKEN_S, "six tries")
        assert not running.is_ready
        assert running.told[-1] == (False, "the database is away")
        assert (await stage.committed(), desk.times("lead-b", 1)) == ({}, 0)
        away = False
        await stage.until_committed(2)
        assert running.is_ready
    assert await stage.dead() == []


async def test_waiting_backs_off_to_its_longest_and_begins_anew_after_success(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = {"lead-a": 4, "lead-b": 1}

    def need(fact: LeadErased) -> None:
        failures[fact.lead_id] -= 1
        if failures[fact.lead_id] >= 0:
            raise DependencyUnavailable("away")

    await stage.write("lead-a", 1)
    await stage.write("lead-b", 1)
    budget = RetryBudget(retry_ms=40, first_backoff_ms=10, unavailable_backoff_max_ms=600)
    async with stage.consuming(Desk(need), budget):
        await stage.until_committed(2)
    waits = [line for line in capsys.readouterr().out.splitlines() if "settling.waiting" in line]
    assert [line.partition("backoff_ms=")[2].split()[0] for line in waits] == [
        "250", "500", "600", "600", "250",
    ]  # fmt: skip


async def test_stopping_while_a_dependency_is_away_ends_at_once_and_leaves_the_record(stage: Stage) -> None:
    def need(_fact: LeadErased) -> None:
        raise DependencyUnavailable("away")

    await stage.write("lead-a", 1)
    desk, patient = Desk(need), RetryBudget(unavailable_backoff_max_ms=600_000)
    async with stage.consuming(desk, patient) as running:
        await until(lambda: running.waits_count, TAKEN_S, "the consumer to wait")
        running.stop.set()
        await until(lambda: running.task and running.task.done(), TAKEN_S, "the consumer to end")
    assert await stage.committed() == {}


async def test_a_record_that_its_handler_calls_invalid_is_a_dead_letter_with_cause_and_place(
    stage: Stage,
) -> None:
    def refuse(fact: LeadErased) -> None:
        if fact.seq == 2:
            raise InvalidRecord("subject_hash: too short", code="bad_hash")

    desk = Desk(refuse)
    for number in (1, 2, 3):
        await stage.write("lead-a", number)
    async with stage.consuming(desk):
        await stage.until_committed(3)
    (letter,) = await stage.dead()
    (original,) = [r for r in await stage.topics.read_all(stage.topic.name) if r.offset == 1]
    assert (letter.key, letter.value) == (original.key, original.value)
    assert letter.headers[: len(original.headers)] == original.headers
    why = {name.removeprefix("parley_dead_"): value.decode() for name, value in letter.headers}
    assert (why["cause"], why["detail"]) == ("bad_hash", "subject_hash: too short")
    assert (why["topic"], why["partition"], why["offset"]) == (stage.topic.name, "0", "1")
    assert (why["group"], desk.times("lead-a", 2)) == (stage.group, 1)


@pytest.mark.parametrize(
    ("value", "headers", "cause"),
    [
        (b"{not json", {}, "invalid_value"),
        (b'{"lead_id": 7}', {}, "invalid_value"),
        (b"\xff\xfe", {}, "invalid_value"),
        (None, {}, "unexpected_tombstone"),
        (b"{}", {"ce_time": "yesterday"}, "invalid_envelope"),
    ],
)
async def test_a_record_that_cannot_be_read_is_a_dead_letter_and_what_follows_goes_on(
    stage: Stage, value: bytes | None, headers: dict[str, str], cause: str
) -> None:
    desk = Desk()
    await stage.write_raw(value, **headers)
    await stage.write("lead-a", 1)
    async with stage.consuming(desk) as running:
        await stage.until_committed(2)
        assert running.is_ready
    (letter,) = await stage.dead()
    assert (letter.value, letter.header("parley_dead_cause")) == (value, cause)
    assert desk.taken == [("lead-a", 1)]


async def test_a_record_without_any_envelope_is_a_dead_letter(stage: Stage) -> None:
    await stage.topics.produce(stage.topic.name, b"hello")
    async with stage.consuming(Desk()):
        await stage.until_committed(1)
    (letter,) = await stage.dead()
    assert letter.header("parley_dead_cause") == "invalid_envelope"


async def test_a_header_without_a_value_does_not_end_the_consumer(stage: Stage) -> None:
    headers = [("ce_id", None), *Envelope("x", LeadErased.fact_type, "/x", AT, "k").headers()[2:]]
    await stage.topics.produce(stage.topic.name, b"{}", headers=headers)  # type: ignore[arg-type]
    async with stage.consuming(Desk()):
        await stage.until_committed(1)
    (letter,) = await stage.dead()
    assert letter.header("parley_dead_cause") == "invalid_envelope"


async def test_a_type_that_nobody_here_knows_is_skipped_and_committed(stage: Stage) -> None:
    desk = Desk()
    await stage.write_raw(b"{}", ce_type="parley.lead.adored.v7")
    await stage.write("lead-a", 1)
    async with stage.consuming(desk):
        await stage.until_committed(2)
    assert (desk.taken, await stage.dead()) == ([("lead-a", 1)], [])


async def test_a_failing_handler_is_tried_again_in_place_before_anything_after_it(stage: Stage) -> None:
    failures = 3

    def fail_at_first(fact: LeadErased) -> None:
        nonlocal failures
        if fact.seq == 1 and failures:
            failures -= 1
            raise RuntimeError("a bug that passes")

    desk = Desk(fail_at_first)
    await stage.write("lead-a", 1)
    await stage.write("lead-a", 2)
    async with stage.consuming(desk, RetryBudget(retry_ms=20_000, first_backoff_ms=5)):
        await stage.until_committed(2)
    assert desk.taken == [("lead-a", 1)] * 4 + [("lead-a", 2)]
    assert await stage.dead() == []


async def test_a_handler_that_fails_for_its_whole_budget_parks_the_record_without_quoting_its_error(
    stage: Stage,
) -> None:
    def fail(fact: LeadErased) -> None:
        if fact.seq == 1:
            raise RuntimeError("ada@example.com is not a number")

    desk = Desk(fail)
    await stage.write("lead-a", 1)
    await stage.write("lead-a", 2)
    async with stage.consuming(desk):
        await stage.until_committed(2)
    (letter,) = await stage.dead()
    assert letter.header("parley_dead_cause") == letter.header("parley_dead_detail") == "RuntimeError"
    assert not any(b"ada@example.com" in value for _, value in letter.headers)
    assert desk.times("lead-a", 1) > 1
    assert desk.taken[-1] == ("lead-a", 2)


def test_the_retry_budget_must_stay_below_half_of_the_poll_interval() -> None:
    with pytest.raises(ValueError, match="must stay below half"):
        RetryBudget(retry_ms=MAX_POLL_MS // 2)
    assert RetryBudget().retry_ms < MAX_POLL_MS // 2


async def test_twenty_different_keys_failing_in_a_row_stop_the_consumer_before_that_commit(
    stage: Stage,
) -> None:
    def fail(_fact: LeadErased) -> None:
        raise RuntimeError("a bad deploy")

    for number in range(22):
        await stage.write(f"lead-{number}", 1)
    with pytest.raises(ExceptionGroup) as stopped:
        async with stage.consuming(Desk(fail)) as running:
            await until(lambda: running.task and running.task.done(), TAKEN_S, "the consumer to give up")
    assert stopped.group_contains(TooManyFailing, match="20 different keys")
    assert running.told[-1] == (False, "too many failing records")
    assert await stage.committed() == {0: 19}
    assert {letter.key for letter in await stage.dead()} == {b"lead-%d" % n for n in range(19)}


async def test_unreadable_records_and_one_key_failing_often_never_count_to_the_stop_limit(
    stage: Stage,
) -> None:
    def fail(fact: LeadErased) -> None:
        if fact.lead_id != "good":
            raise RuntimeError("fails")

    budget = RetryBudget(retry_ms=0, failing_keys_max=3)
    for number in range(4):
        await stage.write_raw(b"{", key=b"bad-%d" % number)
        await stage.write("lead-a", number + 1)
    await stage.write("lead-b", 1)
    await stage.write("good", 1)  # a success ends the row
    await stage.write("lead-c", 1)
    await stage.write("lead-d", 1)
    async with stage.consuming(Desk(fail), budget) as running:
        await stage.until_committed(12)
        assert running.is_ready
    assert len(await stage.dead()) == 11


async def test_nothing_later_is_committed_while_the_dead_letters_cannot_be_written(stage: Stage) -> None:
    await stage.write("lead-a", 1)
    await stage.write_raw(b"{")
    await stage.write("lead-a", 2)
    desk = Desk()
    stage.publisher.shut = True
    async with stage.consuming(desk, QUICK) as running:
        await until(lambda: running.waits_count >= 4, TAKEN_S, "four tries to write the dead letter")
        assert (await stage.committed(), desk.taken) == ({0: 1}, [("lead-a", 1)])
        assert not running.is_ready
        stage.publisher.shut = False
        await stage.until_committed(3)
        assert running.is_ready
    assert len(await stage.dead()) == 1


async def test_a_record_whose_dead_letter_would_be_too_large_is_parked_without_its_value(
    stage: Stage,
) -> None:
    value = b'"' + b"x" * 1_048_200  # fits a request of 1 MiB; with the headers of a dead letter it does not
    await stage.write_raw(value)
    await stage.write("lead-a", 1)
    desk = Desk()
    async with stage.consuming(desk):
        await stage.until_committed(2)
    (letter,) = await stage.dead()
    assert (letter.value, letter.header("parley_dead_left_out")) == (None, "value")
    assert (letter.header("parley_dead_offset"), letter.header("ce_type")) == ("0", LeadErased.fact_type)
    assert desk.taken == [("lead-a", 1)]
