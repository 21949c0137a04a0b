"""Bookings of any business: services of different lengths, buffers, own hours, days away, moves, races, clock changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from parley_common.business import Business, load
from parley_common.contracts.tool_calls import CallerContext
from parley_common.errors import ConfigInvalid
from parley_tools.bookings import Booked, Owner
from parley_tools.context import Resources, ToolContext
from parley_tools.refusals import Refused
from parley_tools.rules.schedule import SCHEDULING
from unit.tools.world import World, business_with

SCHEDULE: dict[str, Any] = {
    "slot_min": 15,
    "buffer_min": 0,
    "min_notice_min": 60,
    "days_ahead": 90,
    "resources": [
        {"name": "Sam Ortiz", "hours": {"tuesday": ["09:00-12:00"]}},
        {"name": "Kim Alder", "away": [{"first": "2026-01-07", "last": "2026-01-09"}]},
    ],
    "services": [
        {"name": "tune-up", "also": ["service"], "duration_min": 45, "buffer_min": 15},
        {"name": "wheel", "duration_min": 60, "resources": ["Kim Alder"]},
    ],
    "holidays": [{"date": "2026-01-19", "name": "a holiday"}],
}
TUESDAY = "2026-01-06"


def workshop(folder: Path, **changes: Any) -> Business:
    business = business_with(folder, "schedule_call")
    path = business.folder / "data" / "scheduling.yaml"
    path.write_text(yaml.safe_dump(SCHEDULE | changes, sort_keys=False))
    return load(business.folder)


@asynccontextmanager
async def call(here: World, business: Business, number: int = 1) -> AsyncIterator[ToolContext]:
    """One call's context in its unit of work."""
    async with here.database.begin() as db:
        resources = Resources(here.outbox, here.http, earlier=None)  # type: ignore[arg-type] # not used here
        yield ToolContext(
            business, f"session-{number}", "call-1", CallerContext(), db, here.clock.now(), resources
        )


async def book(here: World, business: Business, day: str, time: str, **more: Any) -> Booked | None:
    number = more.pop("number", 1)
    async with call(here, business, number) as ctx:
        sought = ctx.bookings.seek(day, time, **({"service": "tune-up"} | more))
        planned = await ctx.bookings.plan(sought)
        if planned.slot is None:
            return None
        return await ctx.bookings.take(sought, planned.slot, Owner(case_id=f"case-{number}"))


async def why_not(here: World, business: Business, day: str, time: str, **more: Any) -> Any:
    async with call(here, business) as ctx:
        sought = ctx.bookings.seek(day, time, **({"service": "tune-up"} | more))
        planned = await ctx.bookings.plan(sought)
        assert planned.slot is None
        return ctx.bookings.offer(planned, sought)


async def test_a_service_takes_its_time_and_its_buffer_keeps_the_next_one_off(
    anywhere: World, tmp_path: Path
) -> None:
    business = workshop(tmp_path)
    first = await book(anywhere, business, TUESDAY, "10:00", resource="Sam")
    assert first is not None
    assert (first.resource, first.service) == ("Sam Ortiz", "tune-up")
    assert (first.ends_at - first.starts_at).total_seconds() == 45 * 60
    for taken in ("09:15", "09:30", "10:15", "10:45"):
        assert (await why_not(anywhere, business, TUESDAY, taken, resource="Sam"))["reason"] == "taken"
    assert await book(anywhere, business, TUESDAY, "11:00", resource="Sam") is not None
    assert await book(anywhere, business, TUESDAY, "09:00", resource="Sam") is not None


async def test_anybody_who_does_it_is_asked_in_turn_and_their_own_hours_hold(
    here: World, tmp_path: Path
) -> None:
    business = workshop(tmp_path)
    who = [await book(here, business, TUESDAY, "10:00", number=n) for n in range(3)]
    assert [each.resource if each else None for each in who] == ["Sam Ortiz", "Kim Alder", None]
    assert (await why_not(here, business, TUESDAY, "14:00", resource="Sam"))["reason"] == "outside_hours"
    assert await book(here, business, TUESDAY, "14:00", resource="Kim") is not None
    assert (await why_not(here, business, "2026-01-08", "10:00", resource="Kim"))["reason"] == "away"
    assert (await why_not(here, business, "2026-01-19", "10:00"))["reason"] == "holiday"


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ({"service": "paint"}, "service_not_understood", "tune-up, wheel"),
        ({"service": None}, "service_not_understood", "tune-up, wheel"),
        ({"resource": "Pat"}, "resource_not_understood", "Sam Ortiz, Kim Alder"),
        ({"service": "wheel", "resource": "Sam"}, "wrong_resource", "Kim Alder"),
        ({"day": "whenever"}, "day_not_understood", "Which day"),
    ],
)
async def test_what_is_not_understood_is_asked_with_what_there_is(
    here: World, tmp_path: Path, more: dict[str, Any], code: str, says: str
) -> None:
    asked = {"day": TUESDAY, "time": "10:00", "service": "tune-up"} | more
    async with call(here, workshop(tmp_path)) as ctx:
        with pytest.raises(Refused) as refused:
            ctx.bookings.seek(asked.pop("day"), asked.pop("time"), **asked)
    assert (refused.value.stable_code, says in refused.value.say) == (code, True)


async def test_a_booking_is_moved_as_a_whole_or_not_at_all_and_its_old_slot_is_free_again(
    anywhere: World, tmp_path: Path
) -> None:
    business = workshop(tmp_path)
    mine = await book(anywhere, business, TUESDAY, "10:00", resource="Sam")
    theirs = await book(anywhere, business, TUESDAY, "11:00", resource="Sam", number=2)
    assert mine is not None
    assert theirs is not None
    async with call(anywhere, business) as ctx:
        sought = ctx.bookings.seek(TUESDAY, "09:00", service="service", resource="Sam")
        slot = (await ctx.bookings.plan(sought)).slot
        assert slot is not None
        moved = await ctx.bookings.move(mine, sought, slot)
        assert moved is not None
        assert [each.booking_id for each in await ctx.bookings.of(mine.owner)] == [moved.booking_id]
    assert await book(anywhere, business, TUESDAY, "10:00", resource="Sam", number=3) is not None
    async with call(anywhere, business, 2) as ctx:
        assert await ctx.bookings.move(theirs, sought, slot) is None
        assert [each.booking_id for each in await ctx.bookings.of(theirs.owner)] == [theirs.booking_id]


async def test_a_cancelled_booking_frees_its_slot_and_is_cancelled_once(here: World, tmp_path: Path) -> None:
    business = workshop(tmp_path)
    mine = await book(here, business, TUESDAY, "10:00", resource="Sam")
    assert mine is not None
    async with call(here, business) as ctx:
        assert [await ctx.bookings.cancel(mine), await ctx.bookings.cancel(mine)] == [True, False]
        assert await ctx.bookings.of(mine.owner) == []
    assert await book(here, business, TUESDAY, "10:00", resource="Sam") is not None


async def test_of_fifty_racers_for_one_slot_exactly_one_wins(anywhere: World, tmp_path: Path) -> None:
    business = workshop(tmp_path)
    async with call(anywhere, business) as ctx:
        sought = ctx.bookings.seek(TUESDAY, "10:00", service="tune-up", resource="Sam")
        slot = (await ctx.bookings.plan(sought)).slot
        assert slot is not None
    won: list[int] = []

    async def race(number: int) -> None:
        async with call(anywhere, business, number) as ctx:
            if await ctx.bookings.take(sought, slot, Owner(case_id=f"case-{number}")):
                won.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(race(number))
    rows = await anywhere.rows("SELECT case_id FROM bookings WHERE status = 'booked'")
    assert rows == [(f"case-{won[0]}",)]
    assert len(won) == 1


async def test_racers_for_overlapping_slots_of_different_lengths_never_both_win(
    anywhere: World, tmp_path: Path
) -> None:
    business = workshop(tmp_path)

    async def race(number: int) -> None:
        time, service = [("10:00", "wheel"), ("10:15", "tune-up"), ("10:30", "wheel")][number % 3]
        await book(anywhere, business, TUESDAY, time, service=service, resource="Kim", number=number)

    async with asyncio.TaskGroup() as group:
        for number in range(24):
            group.create_task(race(number))
    spans = await anywhere.rows("SELECT starts_at, blocked_until FROM bookings ORDER BY starts_at")
    assert spans
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


async def test_nine_in_the_morning_is_nine_before_and_after_the_clocks_change(
    here: World, tmp_path: Path
) -> None:
    business = workshop(tmp_path)  # Los Angeles: the clocks go forward on 8 March 2026
    winter = await book(here, business, "2026-03-06", "09:00", resource="Kim")
    summer = await book(here, business, "2026-03-09", "09:00", resource="Kim", number=2)
    assert winter is not None
    assert summer is not None
    assert winter.starts_at == datetime(2026, 3, 6, 17, tzinfo=UTC)
    assert summer.starts_at == datetime(2026, 3, 9, 16, tzinfo=UTC)
    assert "9 AM Pacific time" in summer.label


async def test_a_caller_elsewhere_is_offered_times_of_their_own_that_they_can_ask_for(
    here: World, tmp_path: Path
) -> None:
    business = workshop(tmp_path)
    offered = await why_not(here, business, TUESDAY, "08:00", time_zone="Eastern", resource="Sam")
    assert offered["slots"][0]["preferred_time"] == "12:00"
    chosen = {key: offered["slots"][0][key] for key in ("preferred_day", "preferred_time")}
    booked = await book(
        here, business, chosen["preferred_day"], chosen["preferred_time"], time_zone="Eastern", resource="Sam"
    )
    assert booked is not None
    assert booked.details()["starts_at"] == "2026-01-06T12:00:00-05:00"


def test_a_schedule_that_cannot_be_is_named_with_its_line(tmp_path: Path) -> None:
    services = [{"name": "paint", "duration_min": 30, "resources": ["Nobody"]}]
    with pytest.raises(ConfigInvalid, match=r"scheduling\.yaml:\d+: error: .*names no resource: Nobody"):
        SCHEDULING.read(workshop(tmp_path, services=services))
