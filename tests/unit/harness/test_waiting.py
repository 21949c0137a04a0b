"""Waiting ends with the value, or with a sentence that says what was waited for."""

from __future__ import annotations

import asyncio

import pytest

from harness.waiting import until, until_blocking


async def test_the_first_truthy_value_is_returned() -> None:
    answers = iter([0, "", "here"])
    assert await until(lambda: next(answers), 5, "an answer") == "here"


async def test_an_async_predicate_is_awaited() -> None:
    turns: list[int] = []

    async def third_time() -> bool:
        turns.append(len(turns))
        return len(turns) == 3

    assert await until(third_time, 5, "the third turn") is True


async def test_a_missed_deadline_names_the_reason_and_the_last_value() -> None:
    with pytest.raises(AssertionError, match=r"waited 0.05 s in vain for: two mails; last value: \[\]"):
        await until(list, 0.05, "two mails")


async def test_a_predicate_that_hangs_does_not_outlast_the_deadline() -> None:
    with pytest.raises(
        AssertionError, match="an answer; last value: 'nothing: the predicate never returned'"
    ):
        await until(asyncio.Event().wait, 0.05, "an answer")


async def test_what_the_predicate_raises_goes_through_even_a_timeout_of_its_own() -> None:
    def late() -> bool:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await until(late, 5)


def test_blocking_waits_return_the_value_or_fail_alike() -> None:
    answers = iter([None, 7])
    assert until_blocking(lambda: next(answers), 5) == 7
    with pytest.raises(AssertionError, match="in vain for: a port; last value: 0"):
        until_blocking(lambda: 0, 0.02, "a port")
