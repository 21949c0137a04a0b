"""What is asked for at the same moment is done together, and everybody gets what is theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from harness.waiting import until
from parley_common.errors import DependencyUnavailable
from parley_tools.batching import Batcher


class Doubling:
    """Doubles numbers when it may, and remembers which came together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await self.may_end.wait()
        if 13 in numbers:
            raise ValueError("unlucky")
        return [2 * number for number in numbers]


async def test_one_item_is_done_at_once_and_alone() -> None:
    work = Doubling()
    assert await Batcher(work, items_max=5).do(4) == 8
    assert work.batches == [[4]]


async def test_what_comes_while_a_batch_is_under_way_is_the_next_one_and_no_batch_is_too_large() -> None:
    work = Doubling()
    batcher = Batcher(work, items_max=3)
    work.may_end.clear()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(batcher.do(number)) for number in range(6)]
        await until(lambda: work.batches != [])
        asked += [group.create_task(batcher.do(number)) for number in (6, 7)]
        await asyncio.sleep(0)
        work.may_end.set()
    assert [each.result() for each in asked] == [2 * number for number in range(8)]
    assert work.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_an_error_is_everybodys_of_its_batch_and_nobody_elses() -> None:
    work = Doubling()
    batcher = Batcher(work, items_max=2)
    outcomes = await asyncio.gather(*map(batcher.do, (12, 13, 14)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [ValueError, ValueError, int]


async def test_who_is_cancelled_in_the_middle_of_a_batch_leaves_the_others_an_error_they_can_try_again_after() -> (
    None
):
    work = Doubling()
    batcher = Batcher(work, items_max=5)
    work.may_end.clear()
    first, second = (asyncio.ensure_future(batcher.do(number)) for number in (1, 2))
    await until(lambda: work.batches == [[1, 2]])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(DependencyUnavailable):
        await second
    work.may_end.set()
    assert await batcher.do(3) == 6


async def test_who_is_cancelled_while_waiting_takes_its_item_back() -> None:
    work = Doubling()
    batcher = Batcher(work, items_max=5)
    work.may_end.clear()
    first = asyncio.ensure_future(batcher.do(1))
    await until(lambda: work.batches == [[1]])
    second, third = (asyncio.ensure_future(batcher.do(number)) for number in (2, 3))
    await asyncio.sleep(0)
    second.cancel()
    work.may_end.set()
    assert (await first, await third) == (2, 6)
    assert work.batches == [[1], [3]]
    assert second.cancelled()
