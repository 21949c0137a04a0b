"""MCP servers of a business: real ones, as a command and over HTTP; what is offered, answered, and what fails."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.processes import Processes
from harness.waiting import until
from parley_common.business import Business, load
from parley_common.contracts.tool_calls import ToolResult
from parley_common.errors import ConfigInvalid
from parley_tools.guarded_http import AddressGuard, guarded_client
from parley_tools.offer import Offer
from parley_tools.own_tools import Keeper, Outside
from parley_tools.registry import Registry
from unit.tools.world import World, business_with, world

SERVER = Path(__file__).parent / "mcp_crm.py"
COMMAND: dict[str, Any] = {"command": [sys.executable, str(SERVER)]}
ALLOWED: list[Any] = [
    "lookup_customer",
    {"name": "addNote", "as": "add_note"},
    {"name": "slow_report", "deadline_ms": 300},
    "huge_report",
    {"name": "vanish", "class": "irreversible"},
    "not_there",
]
ALL = {"lookup_customer", "add_note", "slow_report", "huge_report", "vanish"}


def with_server(folder: Path, **changes: Any) -> Business:
    """Cap, naming one kit's tool and bringing one MCP server."""
    business = business_with(folder, "analyze_deal")
    path = business.folder / "business.yaml"
    declared = {"server": "crm", "tools": ALLOWED, **changes}
    path.write_text(path.read_text() + "\n" + yaml.safe_dump({"mcp_tools": [declared]}))
    return load(business.folder)


class Place:
    """A world whose business brings MCP tools."""

    def __init__(self, made: World, offer: Offer) -> None:
        self.world = made
        self.offer = offer
        self.news_count = 0
        self.asked_count = 0

    def on_change(self) -> None:
        self.news_count += 1

    def names(self) -> set[str]:
        return {spec.name for spec in self.offer.specs()}

    async def ask(self, tool: str, arguments: dict[str, Any], **more: Any) -> ToolResult:
        self.asked_count += 1
        more.setdefault("call_id", f"call-{self.asked_count}")
        return await self.world.ask(self.world.worker(offer=self.offer), tool, arguments, **more)


@asynccontextmanager
async def place(url: str, business: Business, guard: AddressGuard | None = None) -> AsyncIterator[Place]:
    guard = guard or AddressGuard(allow_private=True)
    stop = asyncio.Event()

    async def no_seed(_: Business) -> None:
        return

    async with world(url) as made, guarded_client(guard) as http:
        offer = Offer("tools", Registry.of_kits([]), {"cap": business})
        here = Place(made, offer)
        keeper = Keeper(offer, Outside(http, guard, {}), here.on_change)
        async with asyncio.TaskGroup() as group:
            group.create_task(keeper.run(stop, business.folder.parent, no_seed, 0))
            try:
                yield here
            finally:
                stop.set()


async def offered(here: Place, names: set[str] = ALL) -> None:
    await until(lambda: here.names() == names, 60, f"{sorted(names)} to be offered")


@pytest.fixture
async def by_command(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with place(sqlite_url, with_server(tmp_path, **COMMAND)) as here:
        await offered(here)
        yield here


async def test_the_allowed_tools_of_a_command_are_offered_as_that_businesss_and_answer(
    by_command: Place,
) -> None:
    specs = {spec.name: spec for spec in by_command.offer.specs()}
    assert {spec.business for spec in specs.values()} == {"cap"}
    assert [specs[name].tool_class for name in ("lookup_customer", "add_note")] == ["read", "irreversible"]
    assert specs["lookup_customer"].parameters["required"] == ["name"]
    found = await by_command.ask("lookup_customer", {"name": "Ann Lee"})
    assert found.output == {"name": "Ann Lee", "since": 2019, "say": "Ann Lee has been with us since 2019."}


async def test_an_effect_over_mcp_happens_once_however_often_its_call_is_repeated(by_command: Place) -> None:
    for _ in range(10):
        noted = await by_command.ask("add_note", {"text": "call back"}, call_id="the-same")
        assert isinstance(noted.output, dict)
        assert noted.output["say"] == "1 notes"


@pytest.mark.parametrize(
    ("tool", "arguments", "status", "code"),
    [
        ("lookup_customer", {"name": "nobody"}, "refused", "mcp_error"),
        ("lookup_customer", {}, "refused", "invalid_arguments"),
        ("slow_report", {"seconds": 30}, "failed", "tool_timed_out"),
        ("huge_report", {}, "failed", "provider_talks_too_much"),
        ("not_there", {}, "refused", "unknown_tool"),
    ],
)
async def test_what_a_server_cannot_do_is_an_answer_the_agent_can_speak(
    by_command: Place, tool: str, arguments: dict[str, Any], status: str, code: str
) -> None:
    result = await by_command.ask(tool, arguments)
    assert (result.status, result.code) == (status, code)
    assert isinstance(result.output, dict)
    assert isinstance(result.output["say"], str)


async def test_a_server_that_dies_in_a_call_leaves_it_unknown_is_taken_back_and_comes_again(
    by_command: Place,
) -> None:
    news_count = by_command.news_count
    result = await by_command.ask("vanish", {})
    assert (result.status, result.code) == ("unknown_outcome", "unknown_outcome")
    await until(lambda: by_command.news_count >= news_count + 2, 60, "the tools to go and come back")
    await offered(by_command)
    assert (await by_command.ask("lookup_customer", {"name": "Ann Lee"})).status == "ok"


async def test_a_server_over_http_is_offered_while_it_is_there(
    sqlite_url: str, tmp_path: Path, processes: Processes, port: Callable[[], int]
) -> None:
    number = port()
    business = with_server(tmp_path, url=f"http://127.0.0.1:{number}/mcp")
    async with place(sqlite_url, business) as here:
        assert here.names() == set()
        served = processes.start([sys.executable, str(SERVER), str(number)], name="crm")
        await offered(here)
        assert (await here.ask("lookup_customer", {"name": "Ann Lee"})).status == "ok"
        assert await served.terminate(20) is not None
        gone = await here.ask("lookup_customer", {"name": "Ann Lee"})
        assert (gone.status, gone.code) == ("failed", "provider_unavailable")
        await offered(here, set())


async def test_a_server_at_a_private_address_is_not_asked(
    sqlite_url: str, tmp_path: Path, processes: Processes, port: Callable[[], int]
) -> None:
    judged: list[str] = []

    async def resolve(host: str, number: int) -> list[str]:
        judged.append(host)
        return ["127.0.0.1"]

    business = with_server(tmp_path, url=f"http://crm.example.com:{port()}/mcp")
    async with place(sqlite_url, business, AddressGuard(resolve=resolve)) as here:
        await until(lambda: len(judged) >= 2, 60, "the address to be judged again")
        assert here.names() == set()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "give either url or command"),
        ({**COMMAND, "url": "https://x.example.com/mcp"}, "give either url or command"),
        ({"url": "https://x.example.com/{a}"}, "one address"),
        ({"url": "https://x.example.com/mcp", "env": {"A": "b"}}, "env is for a command"),
        ({**COMMAND, "headers": {"A": "b"}}, "headers are for a url"),
        ({**COMMAND, "tools": ["camelCase"]}, "give it another name with `as`"),
        ({**COMMAND, "tools": ["a_tool", "a_tool"]}, "two tools are called 'a_tool'"),
    ],
)
def test_a_wrong_declaration_of_a_server_is_named_with_file_and_line(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigInvalid, match=r"business\.yaml:\d+: error: ") as wrong:
        with_server(tmp_path, **changes)
    assert says in str(wrong.value)
