"""HubSpot against a stand-in that keeps what it is given: upsert by e-mail, one note per delivery, limits, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fakes.hubspot import FakeHubSpot
from harness.http_server import Reply, Reset, Silence
from parley_common.business import Business
from parley_common.clock import ManualClock
from parley_common.contracts.people import Person
from parley_notify.channels.hubspot import DAILY_WAIT_S, HubSpotChannel
from parley_notify.channels.outcome import Delivered, Outcome, Refused, TryAgain
from parley_notify.delivery import Delivery
from parley_notify.letters import Letters
from unit.notify.samples import DANA, INTEREST, business, captured, delivery, qualified, route

FIELDS = {"score": "lead_score", "interest.product": "loan_product", "interest.goals": "goals"}


@pytest.fixture
def hubspot() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        yield server


@pytest.fixture
def harbor(tmp_path: Path) -> Business:
    return business(
        tmp_path / "b", route("crm", "lead.qualified", "lead.captured", channel="hubspot", fields=FIELDS)
    )


def told(fact: Any = None, **changes: Any) -> Delivery:
    fact = fact or qualified(interest=INTEREST)
    return delivery(fact, channel="hubspot", destination="https://api.hubapi.com", route="crm", **changes)


async def send(
    hubspot: FakeHubSpot, harbor: Business, what: Delivery, *, token: str | None = None, deadline_s: float = 5
) -> Outcome:
    businesses = {"harbor": harbor}
    channel = HubSpotChannel(
        Letters(businesses),
        businesses,
        SecretStr(token or hubspot.token),
        clock=ManualClock(),
        deadline_s=deadline_s,
        url=hubspot.url,
    )
    try:
        return await channel.send(what)
    finally:
        await channel.aclose()


async def test_a_new_person_becomes_a_contact_with_a_note(hubspot: FakeHubSpot, harbor: Business) -> None:
    what = told()
    assert await send(hubspot, harbor, what) == Delivered()
    (contact,) = hubspot.contacts.values()
    assert contact.properties == {
        "email": DANA.email,
        "firstname": "Dana",
        "lastname": "Reyes",
        "phone": DANA.phone,
        "lead_score": 86,
        "loan_product": "rental loan",
        "goals": "cash flow;refinance later",
    }
    (body,) = hubspot.notes.values()
    assert body.startswith("<strong>Qualified lead (hot, 86): Dana Reyes - Harbor Lending</strong>")
    assert f"parley-delivery:{what.delivery_id}" in body


async def test_a_known_person_is_updated_and_keeps_what_we_do_not_know(
    hubspot: FakeHubSpot, harbor: Business
) -> None:
    await send(hubspot, harbor, told())
    nameless = Person(email="DANA.REYES@example.com")
    assert await send(hubspot, harbor, told(captured(person=nameless, interest={}))) == Delivered()
    (contact,) = hubspot.contacts.values()
    assert contact.properties["firstname"] == "Dana"
    assert len(contact.notes) == 2


@pytest.mark.parametrize("call", ["POST /crm/v3/objects/notes", "POST /crm/v3/objects/contacts"])
async def test_an_attempt_whose_answer_was_lost_leaves_one_contact_and_one_note(
    hubspot: FakeHubSpot, harbor: Business, call: str
) -> None:
    hubspot.lose_answer_to(call)
    assert isinstance(await send(hubspot, harbor, told(fact_id="f-1")), TryAgain)
    assert await send(hubspot, harbor, told(fact_id="f-1", attempts=2)) == Delivered()
    assert (len(hubspot.contacts), len(hubspot.notes)) == (1, 1)


async def test_a_note_is_found_again_among_many(hubspot: FakeHubSpot, harbor: Business) -> None:
    await send(hubspot, harbor, told(fact_id="f-1"))
    for number in range(120):
        await send(hubspot, harbor, told(fact_id=f"other-{number}"))
    assert await send(hubspot, harbor, told(fact_id="f-1", attempts=2)) == Delivered()
    assert len(hubspot.notes) == 121


async def test_somebody_without_an_address_cannot_be_found_there_and_the_delivery_says_so(
    hubspot: FakeHubSpot, harbor: Business
) -> None:
    assert await send(hubspot, harbor, told(captured(person=Person(name="Dana")))) == Refused("no_email")
    assert hubspot.requests == []


@pytest.mark.parametrize(
    ("policy", "headers", "outcome"),
    [
        ("TEN_SECONDLY_ROLLING", {}, TryAgain("hubspot:rate_limit", 10.0)),
        ("SECONDLY", {"Retry-After": "3"}, TryAgain("hubspot:rate_limit", 3.0)),
        ("DAILY", {}, TryAgain("hubspot:daily_limit", DAILY_WAIT_S)),
    ],
)
async def test_limits_are_waited_out(
    hubspot: FakeHubSpot, harbor: Business, policy: str, headers: dict[str, str], outcome: Outcome
) -> None:
    hubspot.limit_next(policy, **headers)
    assert await send(hubspot, harbor, told()) == outcome


async def test_a_wrong_token_is_our_trouble_and_fails_no_delivery(
    hubspot: FakeHubSpot, harbor: Business
) -> None:
    assert await send(hubspot, harbor, told(), token="revoked") == TryAgain("http_401")
    assert hubspot.contacts == {}


async def test_a_field_that_the_account_does_not_have_is_refused_by_a_code_without_data(
    hubspot: FakeHubSpot, tmp_path: Path
) -> None:
    odd = business(
        tmp_path / "odd", route("crm", "lead.qualified", channel="hubspot", fields={"score": "no_such_field"})
    )
    assert await send(hubspot, odd, told()) == Refused("hubspot:VALIDATION_ERROR_400")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Reply(403), TryAgain("http_403")),
        (Reply(423), TryAgain("hubspot:locked", 2.0)),
        (Reply(477, headers={"Retry-After": "60"}), TryAgain("http_477", 60.0)),
        (Reply(502, b"<html>"), TryAgain("http_502")),
        (Reply(200, b"<html>"), TryAgain("hubspot:no_json")),
        (Reply(400, json.dumps({"category": "Dana Reyes 555"}).encode()), Refused("hubspot:unknown_400")),
    ],
)
async def test_each_answer_has_one_meaning(
    hubspot: FakeHubSpot, harbor: Business, answer: Reply, outcome: Outcome
) -> None:
    hubspot.then(answer)
    assert await send(hubspot, harbor, told()) == outcome


async def test_a_contact_that_somebody_else_made_meanwhile_is_found_next_time(
    hubspot: FakeHubSpot, harbor: Business
) -> None:
    await send(hubspot, harbor, told(fact_id="f-0"))
    hubspot.then(Reply(404, b"{}"))
    assert await send(hubspot, harbor, told(fact_id="f-1")) == TryAgain("hubspot:CONFLICT")
    assert await send(hubspot, harbor, told(fact_id="f-1", attempts=2)) == Delivered()
    assert (len(hubspot.contacts), len(hubspot.notes)) == (1, 2)


@pytest.mark.parametrize(("answer", "cause"), [(Silence(), "timed_out"), (Reset(), "network:ReadError")])
async def test_silence_and_resets_are_tried_again(
    hubspot: FakeHubSpot, harbor: Business, answer: Any, cause: str
) -> None:
    hubspot.then(answer)
    assert await send(hubspot, harbor, told(), deadline_s=0.3) == TryAgain(cause)


async def test_what_a_caller_says_is_text_in_a_note(hubspot: FakeHubSpot, harbor: Business) -> None:
    await send(hubspot, harbor, told(qualified(offer="<img src=x onerror=alert(1)>")))
    (body,) = hubspot.notes.values()
    assert "<img" not in body
    assert "&lt;img" in body


async def test_nothing_is_told_of_an_erased_subject(hubspot: FakeHubSpot, harbor: Business) -> None:
    assert await send(hubspot, harbor, told(payload=None)) == Refused("payload_erased")
    assert hubspot.requests == []
