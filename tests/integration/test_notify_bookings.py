"""Closing a case takes its booking out of the calendars that its letters put it into, and out of no other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from icalendar import Calendar

from integration.notify_world import World, make_world
from parley_common.contracts.cases import CaseClosed, CaseUpdated
from parley_common.contracts.record import to_json
from parley_notify.invitations import invite_of
from parley_notify.letters import Letters
from parley_notify.settings import parse_sender
from unit.notify.samples import AT, CASE, DANA, business, delivery, erased, opened, route

BOOKING = {
    "starts_at": "2026-01-06T09:00:00-06:00",
    "ends_at": "2026-01-06T09:30:00-06:00",
    "time_zone": "America/Chicago",
}
LATER = BOOKING | {"starts_at": "2026-01-07T09:00:00-06:00", "ends_at": "2026-01-07T09:30:00-06:00"}
ROUTES = (
    route("desk", "case.opened", "case.updated", "case.closed"),
    route("clinic", "case.opened", to="clinic@example.com"),
    route("urgent", "case.opened", to="night@example.com", when={"kinds": ["emergency"]}),
    route("crm", "case.opened", "case.closed", channel="webhook", to="https://crm.example.com/in"),
)


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = await make_world(database_url, tmp_path / "businesses", *ROUTES)
    yield made
    await made.database.aclose()


def booked(**changes: Any) -> Any:
    return opened(details=BOOKING, summary="Knee of Dana Reyes", **changes)


def updated(**changes: Any) -> CaseUpdated:
    values = {
        "kind": "call_back",
        "seq": 2,
        "business": "harbor",
        "at": AT,
        "summary": "s",
        "status": "moved",
    }
    return CaseUpdated.model_validate({"case_id": CASE, "details": LATER, "person": DANA} | values | changes)


def closed(**changes: Any) -> CaseClosed:
    values = {"kind": "call_back", "seq": 3, "business": "harbor", "at": AT, "resolution": "Not needed."}
    return CaseClosed.model_validate({"case_id": CASE} | values | changes)


async def told_at_close(world: World) -> dict[str, str | None]:
    """Return, by route, the booking that each delivery of the closing fact takes out."""
    rows = await world.rows("route", "fact_type", "booking")
    return {row[0]: row[2] for row in rows if row[1] == CaseClosed.fact_type}


async def deliver_all(world: World) -> None:
    while (claimed := await world.claim()) is not None:
        await world.finish(claimed)


async def test_everyone_who_was_invited_is_told_even_on_a_route_that_hears_no_closing(world: World) -> None:
    await world.take(booked())
    await deliver_all(world)
    await world.take(closed())
    told = await told_at_close(world)
    assert told.keys() == {"desk", "clinic", "crm"}
    assert told["crm"] is None
    assert json.loads(told["desk"] or "") == json.loads(told["clinic"] or "") == BOOKING


async def test_what_is_taken_out_is_the_booking_as_it_last_was(world: World) -> None:
    await world.take(booked())
    await world.take(updated())
    await world.take(closed())
    told = await told_at_close(world)
    assert json.loads(told["desk"] or "") == LATER
    assert json.loads(told["clinic"] or "") == BOOKING


@pytest.mark.parametrize(
    "case",
    [
        [opened()],
        [booked(), updated(status="cancelled", details=BOOKING)],
        [booked(), updated(details=BOOKING, at=AT)],
    ],
    ids=["no booking", "cancelled already", "begun by then"],
)
async def test_without_a_booking_to_come_a_closing_is_only_told(world: World, case: list[Any]) -> None:
    for fact in case:
        await world.take(fact)
    begun = len(case) == 2 and case[1].status == "moved"
    await world.take(closed(at=AT + timedelta(days=2) if begun else AT))
    told = await told_at_close(world)
    assert told["desk"] is None


async def test_a_letter_that_never_went_out_is_not_taken_back(world: World) -> None:
    await world.take(booked())
    while (claimed := await world.claim()) is not None:
        await world.finish(claimed, "failed", "smtp_550")
    await world.take(closed())
    assert await told_at_close(world) == {"desk": None, "crm": None}


async def test_a_closing_that_comes_twice_takes_out_once_and_behind_what_put_it_in(world: World) -> None:
    await world.take(booked())
    await world.take(closed(), "f-9")
    await world.take(closed(), "f-9")
    rows = [row for row in await world.rows("route", "fact_type") if row[1] == CaseClosed.fact_type]
    assert sorted(row[0] for row in rows) == ["clinic", "crm", "desk"]
    first = [(route_name, seq) for route_name, _, seq in await world.claim_all()]
    assert first == [("clinic", 1), ("crm", 1), ("desk", 1)]


async def test_a_closing_that_concerns_nobody_is_not_remembered(world: World, tmp_path: Path) -> None:
    silent = await make_world(world.database.url, tmp_path / "others", route("sales", "lead.captured"))
    await silent.take(closed(), "f-9")
    await silent.database.aclose()
    await world.take(closed(), "f-9")
    assert (await told_at_close(world)).keys() == {"desk", "crm"}


async def test_of_an_erased_subject_no_booking_is_kept_or_told(world: World) -> None:
    await world.take(booked())
    await world.take(closed())
    await world.take(erased(CASE))
    assert {row[0] for row in await world.rows("booking")} == {None}
    await world.take(closed(seq=4))
    assert len(await told_at_close(world)) == 3


async def test_the_letter_carries_a_cancellation_of_the_same_entry_and_nothing_of_the_person(
    world: World, tmp_path: Path
) -> None:
    await world.take(booked())
    await deliver_all(world)
    await world.take(closed())
    claimed = [each for each in await world.claim_many(count=9, each=9) if each.route == "clinic"]
    (telling,) = claimed
    sender = parse_sender("Harbor Lending <cap@harbor.example.com>")
    letters = Letters({"harbor": business(tmp_path / "letters", route())})
    letter = letters.write(telling, telling.payload or "")
    assert "calendar entry is cancelled" in letter.text
    assert "calendar entry is cancelled" in letter.html
    found = invite_of(telling, telling.payload or "", letter, sender)
    invited = invite_of(delivery(booked()), to_json(booked()).decode(), letter, sender)
    assert found is not None
    assert invited is not None
    (event,), (before,) = (Calendar.from_ical(each[0]).walk("VEVENT") for each in (found, invited))
    assert (found[1], str(event["STATUS"])) == ("CANCEL", "CANCELLED")
    assert event["UID"] == before["UID"]
    assert (before["SEQUENCE"], event["SEQUENCE"]) == (1, 3)
    assert event["DTSTART"].dt == before["DTSTART"].dt
    assert str(event["ATTENDEE"]) == "mailto:clinic@example.com"
    assert b"Dana" in invited[0]
    assert b"Dana" not in found[0]
