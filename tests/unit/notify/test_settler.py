"""Settlements written together: what each caller learns, also when a unit of work fails or a caller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import cast

import pytest

from parley_common.errors import DependencyUnavailable
from parley_notify.deliveries import Deliveries, Settlement
from parley_notify.policy import Finish
from parley_notify.settler import TOGETHER_MAX, Settler
from unit.notify.samples import AT, delivery


class Ledger:
    """Stands for the table: writes when it is let, fails as told, and remembers what came together."""

    def __init__(self) -> None:
        self.together: list[list[str]] = []
        self.faults: list[Exception] = []
        self.overtaken: set[str] = set()
        self.open = asyncio.Event()
        self.open.set()
        self.begun = asyncio.Event()

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        self.begun.set()
        self.together.append([each.delivery.route for each in settlements])
        await self.open.wait()
        if self.faults:
            raise self.faults.pop(0)
        return [each.delivery.route not in self.overtaken for each in settlements]


@pytest.fixture
async def ledger() -> Ledger:
    return Ledger()


def settler_on(ledger: Ledger) -> Settler:
    return Settler(cast("Deliveries", ledger))


def settlement(name: str) -> Settlement:
    return Settlement(delivery(route=name), Finish("delivered", None), AT)


async def settle_all(settler: Settler, ledger: Ledger, *names: str) -> list[bool | BaseException]:
    """Let the first be in the middle of its writing while the others come."""
    ledger.open.clear()
    tasks = [asyncio.create_task(settler.settle(settlement(name))) for name in names]
    await ledger.begun.wait()
    ledger.open.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_comes_while_one_is_being_written_goes_into_the_next_all_at_once(ledger: Ledger) -> None:
    assert await settle_all(settler_on(ledger), ledger, "a", "b", "c", "d") == [True] * 4
    assert list(chain.from_iterable(ledger.together)) == ["a", "b", "c", "d"]
    assert len(ledger.together) <= 2


async def test_each_learns_what_became_of_its_own(ledger: Ledger) -> None:
    ledger.overtaken = {"b"}
    assert await settle_all(settler_on(ledger), ledger, "a", "b", "c") == [True, False, True]


async def test_a_unit_of_work_that_fails_fails_for_all_in_it_and_the_next_is_written(ledger: Ledger) -> None:
    settler = settler_on(ledger)
    ledger.faults = [DependencyUnavailable("away")]
    results = await settle_all(settler, ledger, "a", "b")
    failed = [each for each in results if isinstance(each, DependencyUnavailable)]
    assert len(failed) == len(ledger.together[0])
    assert await settler.settle(settlement("c"))
    assert ledger.together[-1] == ["c"]


async def test_one_that_failed_among_others_can_be_written_alone(ledger: Ledger) -> None:
    settler = settler_on(ledger)
    assert await settler.settle(settlement("a"), alone=True)
    assert ledger.together == [["a"]]


async def test_a_unit_of_work_has_a_bound_and_nobody_is_left_out(ledger: Ledger) -> None:
    names = [f"n{number:03d}" for number in range(2 * TOGETHER_MAX + 1)]
    assert await settle_all(settler_on(ledger), ledger, *names) == [True] * len(names)
    assert list(chain.from_iterable(ledger.together)) == names
    assert max(map(len, ledger.together)) == TOGETHER_MAX


async def test_a_caller_that_goes_away_takes_nobody_with_it(ledger: Ledger) -> None:
    settler = settler_on(ledger)
    ledger.open.clear()
    tasks = [asyncio.create_task(settler.settle(settlement(name))) for name in ("a", "b", "c")]
    await ledger.begun.wait()
    tasks[0].cancel()
    tasks[1].cancel()
    ledger.open.set()
    assert await tasks[2]
    assert ledger.together[-1] == ["c"]
    assert settler._waiting == {}
