"""The tools service as a real process on a real broker: what a session replica sees of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from harness.processes import Processes
from harness.waiting import until
from parley_common.contracts.leads import LeadCallScheduled, LeadCaptured, LeadQualified
from unit.tools.caller import Replica, Running, ServicePlan, catalog_entries, lead_facts, replica

DETAILS = {
    "name": "Daniel Cooper",
    "email": "daniel.cooper@example.com",
    "phone": "415-555-0132",
    "consent": True,
    "credit_score": 740,
}
DEAL = {"price_usd": 300_000, "down_payment_pct": 25, "monthly_rent_usd": 2_400}


@pytest.fixture
async def plan(bootstrap_servers: str, sqlite_url: str, processes: Processes) -> ServicePlan:
    made = ServicePlan(bootstrap_servers, sqlite_url)
    await made.prepare(processes)
    return made


@pytest.fixture
async def running(plan: ServicePlan, processes: Processes, port: Callable[[], int]) -> Running:
    return await plan.start(processes, port())


@pytest.fixture
async def asker(bootstrap_servers: str, plan: ServicePlan) -> AsyncIterator[Replica]:
    async with replica(bootstrap_servers, plan.service) as made:
        yield made


async def metrics(running: Running) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{running.base_url}/metrics")).text


async def test_every_tool_of_cap_answers_over_kafka(
    running: Running, asker: Replica, bootstrap_servers: str
) -> None:
    said: dict[str, Any] = {}
    said["search"] = await asker.ask("search_knowledge_base", {"query": "What is a DSCR?"})
    said["market"] = await asker.ask("research_market", {"area": "Austin, Texas"})
    said["deal"] = await asker.ask("analyze_deal", DEAL)
    said["save"] = await asker.ask("save_lead", DETAILS)
    lead_id = said["save"].output["lead_id"]
    said["score"] = await asker.ask("score_lead", {"lead_id": lead_id})
    offered = await asker.ask("schedule_call", {"preferred_day": "tomorrow"})
    wish = {key: offered.output["slots"][0][key] for key in ("preferred_day", "preferred_time")}
    said["book"] = await asker.ask("schedule_call", wish)
    for name, answer in said.items():
        assert answer.result.status == "ok", (name, answer.result)
        assert answer.output["say"]
    assert "debt service coverage ratio" in said["search"].output["say"]
    assert "sample" in said["market"].output["say"]
    assert said["deal"].output["dscr"] == 1.19
    assert said["save"].result.grants == ("consent:contact",)
    assert said["score"].output["disposition"] == "hot"
    assert said["book"].output["booked"] is True

    async def facts() -> list[Any] | None:
        found = await lead_facts(bootstrap_servers, lead_id)
        return found if len(found) == 3 else None

    kinds = await until(facts, 10, "the facts of the lead")
    assert [type(fact) for fact in kinds] == [LeadCaptured, LeadQualified, LeadCallScheduled]
    assert [fact.seq for fact in kinds] == [1, 2, 3]


async def test_the_answer_lies_on_the_partition_and_under_the_name_of_who_asked(
    running: Running, asker: Replica, bootstrap_servers: str
) -> None:
    trace = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
    call = asker.call("analyze_deal", DEAL, attempt=2)
    await asker.send_raw(call.model_dump_json().encode(), call.session_id, traceparent=trace)
    answer = await asker.answer(call.call_id)
    assert answer.partition == asker.partition
    assert answer.headers["parley_reply_to"] == asker.name
    assert answer.headers["ce_type"] == "parley.tool.result.v1"
    assert answer.headers["ce_subject"] == asker.session_id
    assert answer.headers["traceparent"].split("-")[1] == trace.split("-")[1]
    assert answer.result.attempt == 2


async def test_an_instance_announces_its_tools_and_takes_them_back_when_it_stops(
    running: Running, bootstrap_servers: str
) -> None:
    async def announced() -> list[Any]:
        return await catalog_entries(bootstrap_servers, running.service)

    key, entry = (await until(announced, 10, "an announcement"))[-1]
    assert entry is not None
    assert {tool["name"] for tool in entry["tools"]} >= {"analyze_deal", "save_lead"}
    assert entry["calls_topic"] == f"parley.tool.calls.{running.service}"
    assert await running.proc.terminate(10) == 0
    assert (await announced())[-1] == (key, None)


async def test_what_is_no_call_is_answered_if_it_says_who_asked_and_ends_nothing(
    running: Running, asker: Replica
) -> None:
    await asker.send_raw(b"\xff not json", asker.session_id)
    await asker.send_raw(None, asker.session_id)
    broken = {"session_id": asker.session_id, "call_id": "call_broken", "reply_partition": asker.partition}
    await asker.send_raw(json.dumps(broken | {"tool": 7}).encode(), asker.session_id)
    refused = await asker.answer("call_broken")
    assert (refused.result.status, refused.result.code) == ("refused", "invalid_call")
    elsewhere = asker.call("analyze_deal", DEAL, reply_partition=4_000)
    await asker.send_raw(elsewhere.model_dump_json().encode(), asker.session_id)
    assert (await asker.ask("analyze_deal", DEAL)).result.status == "ok"
    text = await metrics(running)
    assert 'parley_tool_calls_undecodable_total{how="dropped"} 3.0' in text
    assert 'parley_tool_calls_undecodable_total{how="answered"} 1.0' in text


async def test_a_call_that_nobody_waits_for_any_more_is_skipped_and_counted(
    running: Running, asker: Replica
) -> None:
    late = asker.call("save_lead", DETAILS, deadline_ms=1_000)
    sent_at = datetime.now(UTC) - timedelta(seconds=5)
    await asker.send_raw(late.model_dump_json().encode(), late.session_id, sent_at=sent_at)
    assert (await asker.ask("analyze_deal", DEAL)).result.status == "ok"
    assert late.call_id not in {answer.result.call_id for answer in await asker.collect()}
    assert 'parley_tool_calls_expired_total{tool="save_lead"} 1.0' in await metrics(running)
