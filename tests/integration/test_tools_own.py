"""The real process with tools a business brings itself: announced as its own, called over Kafka, edited while it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.http_server import HttpServer, Reply, Request
from harness.processes import Processes
from harness.topics import Topics
from harness.waiting import until
from parley_common.contracts.leads import LeadErased
from parley_common.contracts.topics import LEAD_EVENTS
from unit.tools.caller import Replica, Running, ServicePlan, catalog_entries, lead_facts, replica
from unit.tools.world import business_with

CRM = Path(__file__).parents[1] / "unit" / "tools" / "mcp_crm.py"
DETAILS = {"name": "Daniel Cooper", "email": "daniel.cooper@example.com", "consent": True}


def zone_tool(base: str, name: str = "check_flood_zone") -> dict[str, Any]:
    area = {"type": "string", "description": "The area of the property", "maxLength": 40}
    return {
        "name": name,
        "description": "Tell which flood zone a property lies in, from its area alone.",
        "class": "read",
        "url": f"{base}/zones/{{area}}",
        "parameters": {"type": "object", "properties": {"area": area}, "required": ["area"]},
        "headers": {"Authorization": "Bearer ${FLOOD_KEY}"},
        "answer": {"zone": "/zone"},
        "say": "That is flood zone {zone}.",
    }


def declare(folder: Path, *tools: dict[str, Any]) -> None:
    """Write the business's own tools, instead of those it had."""
    path = folder / "business.yaml"
    kept = path.read_text().split("# own\n")[0]
    crm = {"server": "crm", "command": [sys.executable, str(CRM)], "tools": ["lookup_customer"]}
    own = yaml.safe_dump({"http_tools": list(tools), "mcp_tools": [crm]})
    path.write_text(f"{kept}# own\n{own}")


@pytest.fixture
def zones() -> Iterator[HttpServer]:
    def answer(request: Request) -> Reply:
        if request.headers.get("authorization") != "Bearer hush":
            return Reply(401)
        return Reply(200, json.dumps({"zone": request.path.rsplit("/", 1)[-1].upper()}).encode())

    with HttpServer(answer) as server:
        yield server


@pytest.fixture
async def plan(
    bootstrap_servers: str, sqlite_url: str, tmp_path: Path, processes: Processes, zones: HttpServer
) -> ServicePlan:
    folder = business_with(tmp_path / "businesses", "save_lead", "analyze_deal").folder
    declare(folder, zone_tool(zones.url))
    settings = {
        "TOOLS_ALLOW_PRIVATE_HTTP": "true",
        "TOOLS_HTTP_SECRETS": '{"FLOOD_KEY": "hush"}',
        "TOOLS_RELOAD_S": "0.1",
    }
    made = ServicePlan(bootstrap_servers, sqlite_url, settings=settings, businesses=folder.parent)
    await made.prepare(processes)
    return made


@pytest.fixture
async def running(plan: ServicePlan, processes: Processes, port: Callable[[], int]) -> Running:
    return await plan.start(processes, port())


@pytest.fixture
async def asker(bootstrap_servers: str, plan: ServicePlan) -> AsyncIterator[Replica]:
    async with replica(bootstrap_servers, plan.service) as made:
        yield made


async def announced(running: Running, bootstrap_servers: str, *names: str) -> dict[str, Any]:
    """Wait until the newest announcement has these tools, and return its tools by name."""

    async def found() -> dict[str, Any] | None:
        entries = await catalog_entries(bootstrap_servers, running.service)
        tools = {each["name"]: each for each in (entries[-1][1] or {}).get("tools", [])} if entries else {}
        return tools if set(names) <= set(tools) else None

    return await until(found, 60, f"{names} to be announced")


async def test_own_tools_are_announced_as_the_businesss_and_answer_over_kafka(
    running: Running, asker: Replica, bootstrap_servers: str
) -> None:
    tools = await announced(running, bootstrap_servers, "check_flood_zone", "lookup_customer", "save_lead")
    assert [tools[name].get("business") for name in ("check_flood_zone", "lookup_customer")] == ["cap", "cap"]
    assert "business" not in tools["save_lead"]
    zone = await asker.ask("check_flood_zone", {"area": "ae"})
    assert (zone.result.status, zone.output["say"]) == ("ok", "That is flood zone AE.")
    customer = await asker.ask("lookup_customer", {"name": "Ann Lee"})
    assert customer.output["say"] == "Ann Lee has been with us since 2019."
    assert "hush" not in running.proc.log()
    assert "Ann Lee" not in running.proc.log()


async def test_a_tool_added_while_the_service_runs_is_announced_and_a_wrong_edit_changes_nothing(
    running: Running, asker: Replica, bootstrap_servers: str, plan: ServicePlan, zones: HttpServer
) -> None:
    await announced(running, bootstrap_servers, "check_flood_zone", "lookup_customer")
    folder = plan.businesses / "cap"
    declare(folder, {**zone_tool(zones.url), "url": "ftp://nowhere"})
    await running.proc.wait_log("business.not_reloaded", 30)
    assert (await asker.ask("check_flood_zone", {"area": "ae"})).result.status == "ok"
    declare(folder, zone_tool(zones.url), zone_tool(zones.url, "check_fire_zone"))
    await announced(running, bootstrap_servers, "check_fire_zone", "lookup_customer")
    assert (await asker.ask("check_fire_zone", {"area": "x"})).output["zone"] == "X"


async def test_a_missing_secret_stops_the_start_and_is_named(
    plan: ServicePlan, processes: Processes, port: Callable[[], int]
) -> None:
    plan.settings["TOOLS_HTTP_SECRETS"] = "{}"
    argv = [sys.executable, "-m", "parley_tools.app"]
    proc = processes.start(argv, name="tools", env=plan.environment(port()))
    assert await proc.wait_exit(30) == 78
    assert "there is no secret FLOOD_KEY" in proc.log()


async def test_a_person_erased_by_the_program_is_told_to_everyone_who_reads_leads(
    running: Running, asker: Replica, bootstrap_servers: str, plan: ServicePlan, processes: Processes
) -> None:
    saved = await asker.ask("save_lead", DETAILS)
    argv = [sys.executable, "-m", "parley_tools.app", "erase", "cap", "--email", DETAILS["email"]]
    proc = processes.start([str(each) for each in argv], name="erase", env=plan.environment(1))
    assert await proc.wait_exit(30) == 0
    assert "erased 1 leads" in proc.log()

    async def both() -> list[Any] | None:
        facts = await lead_facts(bootstrap_servers, saved.output["lead_id"])
        return facts if len(facts) == 2 else None

    facts = await until(both, 20, "the lead's erasure")
    assert isinstance(facts[-1], LeadErased)
    records = await Topics(bootstrap_servers).read_all(LEAD_EVENTS.name)
    erased = [record for record in records if record.header("ce_type") == "parley.lead.erased.v1"]
    assert all(b"Cooper" not in (record.value or b"") for record in erased)
