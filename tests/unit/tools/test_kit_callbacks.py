"""A caller who found no room leaves a number: one case, told on; only where the business calls back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from parley_common.contracts.cases import CaseOpened, CaseUpdated
from unit.tools.speaking_caller import SpeakingCaller
from unit.tools.world import World, world

BUSINESSES = Path(__file__).parents[3] / "businesses"
ANN = {"name": "Ann Reed", "phone": "312 555 0143", "about": "a loan for a duplex"}


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, BUSINESSES / "cap") as made:
        yield made


async def test_a_call_back_is_a_case_with_a_person_and_a_number_that_can_be_dialled(place: World) -> None:
    caller = SpeakingCaller(place, "cap")
    output = await caller.output("request_callback", **ANN)
    (fact,) = await place.facts()
    assert isinstance(fact, CaseOpened)
    assert fact.person is not None
    assert (fact.kind, fact.person.name, fact.person.phone) == ("callback", "Ann Reed", "+13125550143")
    assert fact.details == {"about": "a loan for a duplex"}
    assert output["reference"]


async def test_asked_again_in_one_session_it_corrects_the_case(place: World) -> None:
    caller = SpeakingCaller(place, "cap")
    first = await caller.output("request_callback", **ANN)
    again = await caller.output("request_callback", **{**ANN, "phone": "312 555 0144"})
    opened, updated = await place.facts()
    assert first["reference"] == again["reference"]
    assert isinstance(opened, CaseOpened)
    assert isinstance(updated, CaseUpdated)
    assert updated.person is not None
    assert updated.person.phone == "+13125550144"


async def test_a_number_that_cannot_be_is_refused_and_opens_nothing(place: World) -> None:
    caller = SpeakingCaller(place, "cap")
    assert (await caller.refusal("request_callback", **{**ANN, "phone": "123 45"}))[0] == "invalid_phone"
    assert await place.facts() == []


async def test_a_business_that_calls_nobody_back_has_no_such_tool(database_url: str) -> None:
    async with world(database_url, BUSINESSES / "shop") as place:
        caller = SpeakingCaller(place, "shop")
        assert (await caller.refusal("request_callback", **ANN))[0] == "unknown_tool"
