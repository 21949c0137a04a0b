"""A tool service that is none of ours, in node: announced, found by a session's catalog, called, answered, gone.

Needs node and npm; npm installs the one pinned package into a folder of the run.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.processes import Proc, Processes
from harness.topics import Topics
from harness.waiting import until
from parley_common.contracts.record import read_contract
from parley_common.contracts.tool_calls import Announcement
from parley_common.contracts.topics import TOOL_CATALOG
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
from parley_session.catalog import Catalog, CatalogTool, function, model_names
from unit.tools.caller import ServicePlan, replica

SOURCES = Path(__file__).parent / "node_tools"
NPM_S = 120


@pytest.fixture(scope="module")
def node_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's program, in a folder that holds its pinned package."""
    folder = tmp_path_factory.mktemp("node_tools")
    for name in ("package.json", "package-lock.json", ".npmrc", "service.js"):
        shutil.copy(SOURCES / name, folder / name)
    npm = shutil.which("npm")
    assert npm is not None, "this test needs node and npm"
    done = subprocess.run(
        [npm, "ci", "--no-progress"], cwd=folder, capture_output=True, text=True, timeout=NPM_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "service.js"


async def catalog_now(bootstrap_servers: str) -> Catalog:
    """The catalog as a session replica that reads the topic has it now."""
    catalog = Catalog()
    for record in await Topics(bootstrap_servers).read_all(TOOL_CATALOG.name):
        announcement = None if record.value is None else read_contract(Announcement, record.value)
        catalog.put((record.key or b"").decode(), announcement)
    return catalog


async def offered(bootstrap_servers: str, *names: str) -> list[CatalogTool]:
    """Wait until a session would be offered each of ``names``, and return them."""

    async def found() -> list[CatalogTool] | None:
        catalog = await catalog_now(bootstrap_servers)
        tools = [catalog.find(name, datetime.now(UTC)) for name in names]
        return [tool for tool in tools if tool] if all(tools) else None

    return await until(found, 30, f"{names} to be offered")


async def start(program: Path, bootstrap_servers: str, service: str, processes: Processes) -> Proc:
    await apply_topics(KafkaSettings(bootstrap_servers=bootstrap_servers))
    await Topics(bootstrap_servers).create(f"parley.tool.calls.{service}", 2)
    node = shutil.which("node")
    assert node is not None
    environment = {"SERVICE": service, "KAFKA": bootstrap_servers}
    proc = processes.start([node, str(program)], name="node", env=environment)
    await proc.wait_log("announced", 60)
    return proc


async def test_a_foreign_tool_is_offered_called_answered_and_gone_when_its_service_goes(
    bootstrap_servers: str, node_program: Path, processes: Processes
) -> None:
    service = f"money_{uuid.uuid4().hex[:8]}"
    name = f"{service}.convert_currency"
    proc = await start(node_program, bootstrap_servers, service, processes)
    (found,) = await offered(bootstrap_servers, name)
    assert function("convert_currency", found)["parameters"]["required"] == ["amount_usd"]
    async with replica(bootstrap_servers, service) as asker:
        answer = await asker.ask("convert_currency", {"amount_usd": 200})
        assert (answer.result.status, answer.output["amount_eur"]) == ("ok", 180)
        assert answer.partition == asker.partition
        refused = await asker.ask("convert_currency", {})
        assert (refused.result.status, refused.result.code) == ("refused", "invalid_arguments")
    assert await proc.terminate(20) == 0
    assert (await catalog_now(bootstrap_servers)).find(name, datetime.now(UTC)) is None


async def test_one_tool_name_of_two_services_is_told_apart_by_its_service(
    bootstrap_servers: str,
    node_program: Path,
    processes: Processes,
    sqlite_url: str,
    port: Callable[[], int],
) -> None:
    service = f"money_{uuid.uuid4().hex[:8]}"
    await start(node_program, bootstrap_servers, service, processes)
    ours = ServicePlan(bootstrap_servers, sqlite_url)
    await ours.prepare(processes)
    await ours.start(processes, port())
    named = [f"{ours.service}.analyze_deal", f"{service}.convert_currency"]
    tools = await offered(bootstrap_servers, *named)
    assert [name for name, _ in model_names(tools)] == ["analyze_deal", "convert_currency"]
    twin = CatalogTool("other", tools[1].calls_topic, tools[1].spec)
    names = [name for name, _ in model_names([*tools, twin])]
    assert names == ["analyze_deal", f"{service}__convert_currency", "other__convert_currency"]
