"""Cap's six tools through the executor: what they say, what they refuse, which rows and facts they leave."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text

from parley_common.contracts.leads import (
    LeadCallScheduled,
    LeadCaptured,
    LeadDisqualified,
    LeadQualified,
    LeadUpdated,
)
from parley_common.contracts.tool_calls import CallerContext, ToolResult
from parley_common.errors import DependencyUnavailable
from parley_tools.providers import Hit
from unit.tools.world import Worker, World

DETAILS = {
    "name": "Daniel Cooper",
    "email": "Daniel.Cooper@EXAMPLE.com",
    "phone": "(415) 555-0132",
    "consent": True,
}
DEAL = {"price_usd": 300_000, "down_payment_pct": 25, "monthly_rent_usd": 2_400}
NEW_YORK = CallerContext(time_zone="America/New_York")


class Caller:
    """One session's calls, each with an id of its own."""

    def __init__(self, place: World, worker: Worker, session_id: str = "session-1") -> None:
        self.place = place
        self.worker = worker
        self.session_id = session_id
        self.count = 0

    async def ask(self, tool: str, arguments: dict[str, Any], **more: Any) -> ToolResult:
        self.count += 1
        call_id = f"call-{self.count}"
        return await self.place.ask(
            self.worker, tool, arguments, call_id=call_id, session_id=self.session_id, **more
        )

    async def output(self, tool: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
        result = await self.ask(tool, arguments, **more)
        assert result.status == "ok", result
        assert isinstance(result.output, dict)
        assert is_speakable(str(result.output["say"])), result.output["say"]
        return result.output


def is_speakable(say: str) -> bool:
    """One to three or so short sentences, without markdown."""
    return 0 < len(say) <= 400 and not re.search(r"[*_#`|\[\]{}]", say)


@pytest.fixture
def caller(here: World) -> Caller:
    return Caller(here, here.worker())


async def test_a_deal_is_analyzed_with_the_business_own_assumptions(caller: Caller) -> None:
    output = await caller.output("analyze_deal", {"price_usd": 300_000, "monthly_rent_usd": 2_400})
    assert output["monthly_payment_usd"] == 1_496.93
    assert (output["dscr"], output["verdict"]) == (1.19, "workable")
    assert output["assumed"] == [
        *("down_payment", "rate_pct", "annual_taxes_usd", "annual_insurance_usd"),
        *("vacancy_pct", "maintenance_pct"),
    ]
    assert output["say"] == (
        "On $300,000 with $75,000 down, the payment is about $1,497 a month. After expenses the rent covers "
        "it 1.19 times, about $288 a month left over. That works, though the cushion is thin."
    )


async def test_what_the_caller_says_is_used_instead_of_assumptions(caller: Caller) -> None:
    said = {
        **DEAL,
        "rate_pct": 6.5,
        "term_years": 15,
        "annual_taxes_usd": 4_000,
        "annual_insurance_usd": 1_000,
        "vacancy_pct": 0,
        "maintenance_pct": 0,
    }
    output = await caller.output("analyze_deal", said)
    assert output["assumed"] == []
    assert output["annual_noi_usd"] == 2_400 * 12 - 5_000
    assert output["monthly_payment_usd"] == 1_959.99


async def test_an_impossible_deal_is_refused_with_a_question(caller: Caller) -> None:
    result = await caller.ask("analyze_deal", {**DEAL, "down_payment_pct": None, "down_payment_usd": 400_000})
    assert (result.status, result.code) == ("refused", "down_payment_above_price")


@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("What is a DSCR?", "dscr-basics.md"),
        ("Is there a penalty if I pay the loan off early?", "prepayment-penalties.md"),
        ("How much money do I need to put down?", "down-payments.md"),
        ("What documents do you need from me?", "documents.md"),
        ("how long does it take to close", "timelines.md"),
        ("Can I buy through an LLC?", "llc-and-vesting.md"),
        ("Do you lend on mobile homes?", "appraisals.md"),
        ("What's the minimum credit score?", "credit-scores.md"),
    ],
)
async def test_a_question_is_answered_from_the_article_about_it(
    caller: Caller, question: str, source: str
) -> None:
    output = await caller.output("search_knowledge_base", {"query": question})
    best = output["passages"][0]
    assert best["source"] == source
    assert output["say"].split(". ")[0] in best["text"]
    assert 1 <= len(output["passages"]) <= 3


@pytest.mark.parametrize(
    "question", ["What's the weather in Paris?", "the and of", "xyzzy", "Who won the match?"]
)
async def test_a_question_that_no_article_is_about_is_said_to_be_unanswered(
    caller: Caller, question: str
) -> None:
    output = await caller.output("search_knowledge_base", {"query": question})
    assert (output["found"], output["passages"]) == (False, [])


async def test_the_sample_market_says_that_it_is_a_sample(caller: Caller) -> None:
    output = await caller.output("research_market", {"area": "austin texas", "property_type": "condo"})
    assert output["area"] == "Austin, Texas"
    assert output["median_price_usd"] == 328_000
    assert output["say"].startswith("This is sample data")
    unknown = await caller.output("research_market", {"area": "Atlantis"})
    assert (unknown["found"], len(unknown["known_areas"])) == (False, 8)


class Search:
    """A web search that finds what it was given."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self.hits = tuple(hits)
        self.asked: list[str] = []

    async def find(self, query: str, count: int) -> tuple[Hit, ...]:
        self.asked.append(query)
        return self.hits[:count]


class NoSearch:
    """A web search that is away."""

    async def find(self, query: str, count: int) -> tuple[Hit, ...]:
        raise DependencyUnavailable("away", code="provider_unavailable")


async def test_with_a_web_search_the_answer_names_its_source(here: World) -> None:
    search = Search([Hit("Austin in brief", "https://example.com/a", "Rents <b>are</b> flat.")])
    asking = Caller(here, here.worker(web_search=search))
    output = await asking.output("research_market", {"area": "Austin", "property_type": "condo"})
    assert output["say"] == "According to Austin in brief: Rents are flat."
    assert output["sources"][0]["url"] == "https://example.com/a"
    assert search.asked == ["Austin condo market prices rents vacancy trend"]


async def test_a_web_search_that_is_away_is_said_and_can_be_tried_again(here: World) -> None:
    result = await Caller(here, here.worker(web_search=NoSearch())).ask("research_market", {"area": "Austin"})
    assert (result.status, result.code) == ("failed", "provider_unavailable")


async def test_a_lead_is_captured_with_consent_and_asks_to_be_scored(caller: Caller) -> None:
    result = await caller.ask("save_lead", {**DETAILS, "credit_score": 740})
    assert isinstance(result.output, dict)
    lead_id = result.output["lead_id"]
    assert result.output["next"] == {"tool": "score_lead", "arguments": {"lead_id": lead_id}}
    assert result.output["say"] == "Thanks Daniel, I have your details."
    assert result.grants == ("consent:contact",)
    (fact,) = await caller.place.facts()
    assert isinstance(fact, LeadCaptured)
    assert (fact.lead_id, fact.seq, fact.session_id) == (lead_id, 1, "session-1")
    assert fact.person.email == "Daniel.Cooper@example.com"
    assert fact.person.phone == "+14155550132"
    assert fact.consent.wording.startswith("May we keep your details")
    assert fact.interest == {"credit_score": 740}


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"consent": False}, "consent_required", "May we keep your details"),
        ({"email": None, "phone": None}, "contact_needed", "e-mail address or phone number"),
        ({"email": "daniel at example"}, "invalid_email", "spell it"),
        ({"phone": "555-0132"}, "invalid_phone", "area code"),
        ({"phone": "call me"}, "invalid_phone", "area code"),
        ({"name": "  "}, "invalid_arguments", "caller's full name"),
    ],
)
async def test_a_lead_without_consent_or_a_way_to_reach_them_is_not_kept(
    caller: Caller, changes: dict[str, Any], code: str, says: str
) -> None:
    result = await caller.ask("save_lead", {**DETAILS, **changes})
    assert (result.status, result.code) == ("refused", code)
    assert isinstance(result.output, dict)
    assert says in str(result.output["say"])
    assert await caller.place.rows("SELECT 1 FROM leads UNION ALL SELECT 1 FROM lead_identities") == []
    assert await caller.place.facts() == []


async def test_a_lead_is_scored_with_what_the_session_analyzed_and_what_was_said(caller: Caller) -> None:
    await caller.ask("analyze_deal", DEAL)
    saved = await caller.output("save_lead", DETAILS)
    scored = await caller.output("score_lead", {"lead_id": saved["lead_id"], "credit_score": 740})
    assert (scored["disposition"], scored["qualified"], scored["unknown"]) == ("hot", True, ["timeline"])
    captured, qualified = await caller.place.facts()
    assert isinstance(captured, LeadCaptured)
    assert captured.interest["dscr"] == 1.19
    assert isinstance(qualified, LeadQualified)
    assert (qualified.seq, qualified.score) == (2, scored["score"])
    assert qualified.interest["credit_score"] == 740
    assert qualified.offer


async def test_a_poor_lead_is_disqualified_and_told_kindly(caller: Caller) -> None:
    saved = await caller.output("save_lead", DETAILS)
    scored = await caller.output("score_lead", {"lead_id": saved["lead_id"], "credit_score": 520})
    assert (scored["disposition"], scored["qualified"]) == ("cold", False)
    assert isinstance((await caller.place.facts())[-1], LeadDisqualified)


async def test_scoring_again_emits_a_fact_only_when_the_score_changed(caller: Caller) -> None:
    saved = await caller.output("save_lead", DETAILS)
    for _ in range(3):
        await caller.output("score_lead", {"lead_id": saved["lead_id"], "credit_score": 700})
    assert len(await caller.place.facts()) == 2
    await caller.output("score_lead", {"lead_id": saved["lead_id"], "credit_score": 760})
    assert [fact.fact_type for fact in await caller.place.facts()] == [
        "parley.lead.captured.v1",
        "parley.lead.qualified.v1",
        "parley.lead.qualified.v1",
    ]


async def test_a_lead_of_another_session_cannot_be_scored(caller: Caller) -> None:
    saved = await caller.output("save_lead", DETAILS)
    stranger = Caller(caller.place, caller.worker, "session-2")
    result = await stranger.ask("score_lead", {"lead_id": saved["lead_id"]})
    assert (result.status, result.code) == ("refused", "lead_not_found")


async def test_a_correction_changes_the_lead_rather_than_making_a_second_one(caller: Caller) -> None:
    first = await caller.output("save_lead", DETAILS)
    second = await caller.output("save_lead", {**DETAILS, "email": "d.cooper@example.com", "phone": None})
    assert second["lead_id"] == first["lead_id"]
    assert second["merged"] is True
    updated = (await caller.place.facts())[-1]
    assert isinstance(updated, LeadUpdated)
    assert updated.changed == ("email",)
    assert updated.person.phone == "+14155550132"
    history = await caller.place.rows("SELECT what FROM lead_history ORDER BY history_id")
    assert [row[0] for row in history] == ["captured", "updated"]


async def test_saving_the_same_again_changes_nothing_and_tells_nobody(caller: Caller) -> None:
    for _ in range(3):
        await caller.output("save_lead", DETAILS)
    assert len(await caller.place.facts()) == 1
    assert len(await caller.place.rows("SELECT 1 FROM lead_history")) == 1


async def test_a_returning_caller_is_the_same_lead_by_e_mail_or_by_phone(caller: Caller) -> None:
    first = await caller.output("save_lead", DETAILS)
    by_mail = Caller(caller.place, caller.worker, "session-2")
    again = await by_mail.output("save_lead", {**DETAILS, "name": "Dan Cooper", "phone": None})
    by_phone = Caller(caller.place, caller.worker, "session-3")
    third = await by_phone.output("save_lead", {**DETAILS, "email": "other@example.com"})
    assert again["lead_id"] == third["lead_id"] == first["lead_id"]
    other = Caller(caller.place, caller.worker, "session-4")
    stranger = {"name": "Daniel Cooper", "phone": "212-555-0199", "consent": True}
    assert (await other.output("save_lead", stranger))["lead_id"] != first["lead_id"]


async def test_a_call_is_booked_in_the_slot_the_caller_wants_in_their_own_zone(caller: Caller) -> None:
    saved = await caller.output("save_lead", DETAILS)
    wish = {"preferred_day": "tomorrow", "preferred_time": "3:30 pm"}
    booked = await caller.output("schedule_call", wish, context=NEW_YORK)
    assert booked["starts_at"] == "2026-01-06T15:30:00-05:00"
    assert booked["say"] == (
        "You're booked for Tuesday, January 6 at 3:30 PM Eastern time. Morgan Reyes will call you."
    )
    fact = (await caller.place.facts())[-1]
    assert isinstance(fact, LeadCallScheduled)
    assert (fact.lead_id, fact.seq, fact.time_zone) == (saved["lead_id"], 2, "America/New_York")
    assert fact.starts_at.isoformat() == "2026-01-06T20:30:00+00:00"


async def test_asking_again_for_what_is_booked_is_not_a_second_call(caller: Caller) -> None:
    await caller.output("save_lead", DETAILS)
    wish = {"preferred_day": "tuesday", "preferred_time": "10:00"}
    first, second = [await caller.output("schedule_call", wish) for _ in range(2)]
    assert second["booking_id"] == first["booking_id"]
    assert len(await caller.place.rows("SELECT 1 FROM bookings")) == 1


async def test_a_wish_that_cannot_be_met_is_answered_with_slots_that_can_then_be_booked(
    caller: Caller,
) -> None:
    await caller.output("save_lead", DETAILS)
    offered = await caller.output("schedule_call", {"preferred_day": "saturday", "preferred_time": "10:00"})
    assert (offered["booked"], offered["reason"]) == (False, "closed")
    assert len(offered["slots"]) == 3
    chosen = {key: offered["slots"][1][key] for key in ("preferred_day", "preferred_time")}
    booked = await caller.output("schedule_call", chosen)
    assert booked["starts_at"] == offered["slots"][1]["starts_at"]


async def test_a_free_slot_without_details_asks_for_them_and_books_nothing(caller: Caller) -> None:
    result = await caller.ask("schedule_call", {"preferred_day": "tuesday", "preferred_time": "10:00"})
    assert (result.status, result.code) == ("refused", "contact_needed")
    unclear = await caller.ask("schedule_call", {"preferred_day": "whenever"})
    assert (unclear.status, unclear.code) == ("refused", "day_not_understood")
    assert await caller.place.rows("SELECT 1 FROM bookings") == []


async def test_of_many_racers_for_one_slot_each_officer_gets_exactly_one(anywhere: World) -> None:
    racers = [Caller(anywhere, anywhere.worker(f"worker-{n}"), f"session-{n}") for n in range(12)]
    for number, racer in enumerate(racers):
        await racer.output("save_lead", {**DETAILS, "email": f"racer{number}@example.com", "phone": None})
    anywhere.published.records.clear()
    wish = {"preferred_day": "tuesday", "preferred_time": "10:00"}
    async with asyncio.TaskGroup() as group:
        for racer in racers:
            arrived = anywhere.arrived("schedule_call", wish, call_id="race", session_id=racer.session_id)
            group.create_task(racer.worker.executor.handle(arrived))
    outputs: list[Any] = [result.output for result in anywhere.published.results()]
    assert sum(output["booked"] for output in outputs) == 2
    assert all(output["slots"] for output in outputs if not output["booked"])
    booked = await anywhere.rows("SELECT resource FROM bookings ORDER BY resource")
    assert booked == [("Avery Lindqvist",), ("Morgan Reyes",)]


async def test_callers_who_give_one_persons_details_at_once_make_one_lead(anywhere: World) -> None:
    worker = anywhere.worker()
    async with asyncio.TaskGroup() as group:
        for number in range(10):
            mail = {**DETAILS, "phone": None} if number % 2 else DETAILS
            arrived = anywhere.arrived("save_lead", mail, session_id=f"session-{number}")
            group.create_task(worker.executor.handle(arrived))
    results = anywhere.published.results()
    assert {result.status for result in results} == {"ok"}
    assert len(await anywhere.rows("SELECT 1 FROM leads")) == 1
    facts = await anywhere.facts()
    assert [type(fact) for fact in facts].count(LeadCaptured) == 1
    assert sorted(fact.seq for fact in facts if isinstance(fact, LeadCaptured | LeadUpdated)) == list(
        range(1, len(facts) + 1)
    )


async def test_no_row_of_personal_data_is_in_what_is_kept_of_a_refused_call(caller: Caller) -> None:
    await caller.ask("save_lead", {**DETAILS, "consent": False})
    async with caller.place.database.begin() as db:
        kept = (await db.execute(text("SELECT result FROM tool_calls"))).scalar_one()
    assert "ooper" not in str(kept)
