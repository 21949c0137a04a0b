"""Salesforce against a stand-in that keeps what it is given: login, Leads, one Task per delivery, limits, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fakes.salesforce import EXTERNAL_ID, LOGIN, FakeSalesforce
from harness.http_server import Reply
from parley_common.business import Business
from parley_common.clock import ManualClock
from parley_common.contracts.people import Person
from parley_notify.channels.outcome import Delivered, Outcome, Refused, TryAgain
from parley_notify.channels.salesforce import LIMIT_WAIT_S, SalesforceChannel, SalesforceLogin
from parley_notify.delivery import Delivery
from parley_notify.letters import Letters
from unit.notify.samples import DANA, INTEREST, LEAD, business, captured, delivery, opened, qualified, route

FIELDS = {"disposition": "Rating", "interest.product": "Loan_Product__c"}


@pytest.fixture
def org() -> Iterator[FakeSalesforce]:
    with FakeSalesforce() as server:
        yield server


@pytest.fixture
def harbor(tmp_path: Path) -> Business:
    facts = ("lead.qualified", "lead.captured")
    return business(tmp_path / "b", route("crm", *facts, channel="salesforce", fields=FIELDS))


def told(fact: Any = None, **changes: Any) -> Delivery:
    fact = fact or qualified(interest=INTEREST)
    return delivery(
        fact, channel="salesforce", destination="https://x.my.salesforce.com", route="crm", **changes
    )


@asynccontextmanager
async def opened_channel(
    org: FakeSalesforce, harbor: Business, *, key: str | None = None, secret: str = LOGIN[1]
) -> AsyncIterator[SalesforceChannel]:
    businesses = {"harbor": harbor}
    login = SalesforceLogin(org.url, LOGIN[0], SecretStr(secret), lead_key=key)
    channel = SalesforceChannel(Letters(businesses), businesses, login, clock=ManualClock(), deadline_s=5)
    yield channel
    await channel.aclose()


async def send(org: FakeSalesforce, harbor: Business, what: Delivery, **options: Any) -> Outcome:
    async with opened_channel(org, harbor, **options) as channel:
        return await channel.send(what)


async def test_a_new_person_becomes_a_lead_with_a_task(org: FakeSalesforce, harbor: Business) -> None:
    what = told()
    assert await send(org, harbor, what) == Delivered()
    ((lead_id, lead),) = org.leads.items()
    assert lead == {
        "FirstName": "Dana",
        "LastName": "Reyes",
        "Company": "Not given",
        "LeadSource": "Parley",
        "Email": DANA.email,
        "Phone": DANA.phone,
        "Rating": "hot",
        "Loan_Product__c": "rental loan",
    }
    (task,) = org.tasks.values()
    assert (task["WhoId"], task["Status"], task["ActivityDate"]) == (lead_id, "Completed", "2026-01-05")
    assert task["Subject"] == "Qualified lead (hot, 86): Dana Reyes - Harbor Lending"
    assert task["Description"].endswith(f"parley-delivery:{what.delivery_id}")


async def test_a_known_person_is_updated_and_keeps_the_company_they_had(
    org: FakeSalesforce, harbor: Business
) -> None:
    org.leads["00Q1"] = {"LastName": "Reyes", "Company": "Reyes Homes", "Email": "Dana.Reyes@example.com"}
    assert await send(org, harbor, told()) == Delivered()
    assert list(org.leads) == ["00Q1"]
    assert org.leads["00Q1"]["Company"] == "Reyes Homes"
    assert org.leads["00Q1"]["Rating"] == "hot"


async def test_with_a_key_somebody_without_an_address_is_found_by_our_leads_id(
    org: FakeSalesforce, harbor: Business
) -> None:
    nobody = Person(phone="+13125550142")
    for seq in (1, 2):
        fact = captured(person=nobody, seq=seq)
        assert await send(org, harbor, told(fact, fact_id=f"f-{seq}"), key=EXTERNAL_ID) == Delivered()
    ((_, lead),) = org.leads.items()
    assert (lead[EXTERNAL_ID], lead["LastName"]) == (LEAD, "Not given")
    assert len(org.tasks) == 2


async def test_without_a_key_somebody_without_an_address_is_refused(
    org: FakeSalesforce, harbor: Business
) -> None:
    assert await send(org, harbor, told(captured(person=Person(name="Dana")))) == Refused("no_email")
    assert await send(org, harbor, told(opened(person=None)), key=EXTERNAL_ID) == Refused("no_email")


@pytest.mark.parametrize("key", [None, EXTERNAL_ID])
@pytest.mark.parametrize(
    "call", ["POST /sobjects/Task", "POST /sobjects/Lead", f"PATCH /sobjects/Lead/{EXTERNAL_ID}"]
)
async def test_an_attempt_whose_answer_was_lost_leaves_one_lead_and_one_task(
    org: FakeSalesforce, harbor: Business, key: str | None, call: str
) -> None:
    org.lose_answer_to(call)
    await send(org, harbor, told(fact_id="f-1"), key=key)
    assert await send(org, harbor, told(fact_id="f-1", attempts=2), key=key) == Delivered()
    assert (len(org.leads), len(org.tasks)) == (1, 1)


async def test_a_session_that_ran_out_is_begun_anew_within_the_attempt(
    org: FakeSalesforce, harbor: Business
) -> None:
    async with opened_channel(org, harbor) as channel:
        assert await channel.send(told(fact_id="f-1")) == Delivered()
        org.expire_tokens()
        assert await channel.send(told(fact_id="f-2")) == Delivered()
    assert org.login_count == 2


async def test_many_attempts_at_once_share_one_login(org: FakeSalesforce, harbor: Business) -> None:
    async with opened_channel(org, harbor) as channel:
        outcomes = await asyncio.gather(*(channel.send(told(fact_id=f"f-{n}")) for n in range(5)))
    assert outcomes == [Delivered()] * 5
    assert org.login_count == 1


async def test_a_wrong_secret_is_our_trouble_and_fails_no_delivery(
    org: FakeSalesforce, harbor: Business
) -> None:
    assert await send(org, harbor, told(), secret="wrong") == TryAgain("salesforce:login_invalid_client")


async def test_the_daily_limit_is_waited_out(org: FakeSalesforce, harbor: Business) -> None:
    async with opened_channel(org, harbor) as channel:
        await channel.send(told(fact_id="f-0"))
        org.fail_next(403, "REQUEST_LIMIT_EXCEEDED")
        outcome = await channel.send(told())
    assert outcome == TryAgain("salesforce:REQUEST_LIMIT_EXCEEDED", LIMIT_WAIT_S)


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (400, "UNABLE_TO_LOCK_ROW", TryAgain("salesforce:UNABLE_TO_LOCK_ROW_400")),
        (503, "SERVER_UNAVAILABLE", TryAgain("salesforce:SERVER_UNAVAILABLE_503")),
        (403, "API_DISABLED_FOR_ORG", TryAgain("salesforce:API_DISABLED_FOR_ORG_403")),
        (400, "DUPLICATES_DETECTED", Refused("salesforce:DUPLICATES_DETECTED_400")),
        (400, "STRING_TOO_LONG", Refused("salesforce:STRING_TOO_LONG_400")),
    ],
)
async def test_each_error_has_one_meaning(
    org: FakeSalesforce, harbor: Business, status: int, code: str, outcome: Outcome
) -> None:
    async with opened_channel(org, harbor) as channel:
        await channel.send(told(fact_id="f-0"))
        org.fail_next(status, code)
        assert await channel.send(told()) == outcome


async def test_an_answer_that_is_no_json_is_tried_again(org: FakeSalesforce, harbor: Business) -> None:
    org.then(None, Reply(200, b"<html>maintenance</html>"))
    assert await send(org, harbor, told()) == TryAgain("salesforce:no_json")


async def test_a_field_that_the_org_does_not_have_is_refused(org: FakeSalesforce, tmp_path: Path) -> None:
    odd = business(
        tmp_path / "o", route("crm", "lead.qualified", channel="salesforce", fields={"score": "Nope__c"})
    )
    assert await send(org, odd, told()) == Refused("salesforce:INVALID_FIELD_400")


async def test_what_a_caller_says_cannot_change_a_query(org: FakeSalesforce, harbor: Business) -> None:
    person = Person(name="x", email="o'brien\\' OR Name LIKE '%@example.com")
    assert await send(org, harbor, told(captured(person=person))) == Delivered()
    assert await send(org, harbor, told(captured(person=person), fact_id="f-2")) == Delivered()
    assert [lead["Email"] for lead in org.leads.values()] == [person.email]


async def test_nothing_is_told_of_an_erased_subject(org: FakeSalesforce, harbor: Business) -> None:
    assert await send(org, harbor, told(payload=None)) == Refused("payload_erased")
    assert org.requests == []
