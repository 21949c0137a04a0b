"""What a kit is written with: the example in the how-to, run as it stands there, and each part of the surface."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from parley_common.business import load
from parley_common.contracts.cases import CaseOpened
from parley_common.contracts.tool_calls import CallerContext, ToolResult
from parley_common.errors import ConfigInvalid
from parley_tools.registry import Registry
from parley_tools.upkeep import seed_records
from unit.tools.world import World, business_with, world

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "write-a-kit.md"
PARTS = """- {sku: chain-9, name: nine-speed chain, price_usd: 24, in_stock: 2}
- {sku: bell, name: bell, price_usd: 5, in_stock: 0}
"""
OWNERS = 'owners: [{frame: WK4417, postcode: "97201"}]\n'
VERIFIED = CallerContext(grants=("verified:owner-WK4417",))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The worked example of the how-to, as a module."""
    code = re.findall(r"```python\n(\"\"\".*?)```", HOW_TO.read_text(), re.DOTALL)[-1]
    path = tmp_path_factory.mktemp("kit") / "workshop.py"
    path.write_text(code)
    spec = spec_from_file_location("workshop_of_the_how_to", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # type hints are looked up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
async def workshop(database_url: str, tmp_path: Path, kit: ModuleType) -> AsyncIterator[World]:
    """A business with the example's tools and data, on both databases."""
    tools = Registry.of_kits([kit])
    folder = business_with(tmp_path, *tools).folder
    (folder / "data" / "parts.yaml").write_text(PARTS)
    (folder / "data" / "owners.yaml").write_text(OWNERS)
    async with world(database_url) as made:
        made.businesses = {"cap": load(folder)}
        await seed_records(made.database, tools, made.businesses.values(), "tools", made.clock)
        yield made


async def ask(place: World, kit: ModuleType, tool: str, arguments: dict[str, Any], **more: Any) -> ToolResult:
    worker = place.worker(kits=[kit])
    more.setdefault("call_id", f"call-{len(place.published.records)}")
    return await place.ask(worker, tool, arguments, **more)


async def test_the_example_of_the_how_to_takes_a_part_from_stock_and_opens_a_case(
    workshop: World, kit: ModuleType
) -> None:
    said = {"frame": "wk 4417", "postcode": "97201"}
    verified = await ask(workshop, kit, "verify_bicycle_owner", said)
    assert (verified.status, verified.grants) == ("ok", ("verified:owner-WK4417",))
    context = CallerContext(grants=verified.grants)
    ordered = await ask(workshop, kit, "order_bicycle_part", {"sku": "chain-9"}, context=context)
    assert isinstance(ordered.output, dict)
    assert ordered.output["left_in_stock"] == 1
    (fact,) = await workshop.facts()
    assert isinstance(fact, CaseOpened)
    assert (fact.kind, fact.seq, fact.summary) == ("fitting", 1, "Fit nine-speed chain to WK4417")
    assert await workshop.rows("SELECT reference FROM cases") == [(ordered.output["reference"],)]


async def test_a_tool_that_needs_an_identity_is_refused_with_the_tool_that_establishes_it(
    workshop: World, kit: ModuleType
) -> None:
    for grants in ((), ("verified:ownership-1",), ("consent:contact",)):
        context = CallerContext(grants=grants)
        refused = await ask(workshop, kit, "order_bicycle_part", {"sku": "chain-9"}, context=context)
        assert (refused.status, refused.code) == ("refused", "needs_verified:owner")
        assert isinstance(refused.output, dict)
        assert refused.output["error"]["next"] == {"tool": "verify_bicycle_owner"}  # type: ignore[index, call-overload]
        assert refused.output["say"] == "Before I do that I need to check who you are."


async def test_failures_counted_with_a_refusal_lock_and_a_refusal_without_that_leaves_nothing(
    workshop: World, kit: ModuleType
) -> None:
    wrong = {"frame": "WK4417", "postcode": "00000"}
    codes = [(await ask(workshop, kit, "verify_bicycle_owner", wrong)).code for _ in range(5)]
    assert codes == ["no_match", "no_match", "no_match", "locked", "locked"]
    right = await ask(workshop, kit, "verify_bicycle_owner", wrong | {"postcode": "97201"})
    assert (right.code, right.grants) == ("locked", ())
    sold_out = await ask(workshop, kit, "order_bicycle_part", {"sku": "bell"}, context=VERIFIED)
    assert (sold_out.status, sold_out.code) == ("refused", "sold_out")
    assert await workshop.rows("SELECT 1 FROM cases") == []


async def test_of_many_callers_at_once_only_as_many_get_a_part_as_there_are(
    workshop: World, kit: ModuleType
) -> None:
    worker = workshop.worker(kits=[kit])
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            more = {"session_id": f"session-{number}", "context": VERIFIED}
            arrived = workshop.arrived("order_bicycle_part", {"sku": "chain-9"}, **more)
            group.create_task(worker.executor.handle(arrived))
    codes = [result.code for result in workshop.published.results()]
    assert sorted(codes, key=str) == [None, None, *["sold_out"] * 6]


async def test_one_call_id_ten_times_takes_one_part_and_opens_one_case(
    workshop: World, kit: ModuleType
) -> None:
    for _ in range(10):
        await ask(
            workshop, kit, "order_bicycle_part", {"sku": "chain-9"}, call_id="the-same", context=VERIFIED
        )
    assert len({str(result.output) for result in workshop.published.results()}) == 1
    assert len(await workshop.facts()) == len(await workshop.rows("SELECT 1 FROM cases")) == 1
    rows = await workshop.rows("SELECT version FROM records WHERE record_id = 'chain-9'")
    assert rows == [(2,)]


async def test_seeding_again_follows_the_file_but_never_overwrites_what_a_tool_changed(
    workshop: World, kit: ModuleType
) -> None:
    await ask(workshop, kit, "order_bicycle_part", {"sku": "chain-9"}, context=VERIFIED)
    folder = workshop.businesses["cap"].folder
    (folder / "data" / "parts.yaml").write_text(
        PARTS.replace("in_stock: 2", "in_stock: 9").replace("price_usd: 5", "price_usd: 7")
    )
    tools = Registry.of_kits([kit])
    await seed_records(workshop.database, tools, [load(folder)], "tools", workshop.clock)
    bell, chain = await workshop.rows("SELECT data, version FROM records ORDER BY record_id")
    assert ("7.0" in str(bell[0]), bell[1]) == (True, 1)
    assert ("'in_stock': 1" in str(chain[0]).replace('"', "'"), chain[1]) == (True, 2)


def test_a_need_that_no_tool_of_the_business_grants_stops_the_start(tmp_path: Path, kit: ModuleType) -> None:
    business = business_with(tmp_path, "order_bicycle_part")
    (business.folder / "data" / "parts.yaml").write_text(PARTS)
    with pytest.raises(ConfigInvalid, match="order_bicycle_part needs 'verified:owner', which no tool"):
        Registry.of_kits([kit]).check_data([business], "tools")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            PARTS + "- {sku: lamp, name: lamp, price_usd: 0, in_stock: 1}\n",
            r"parts\.yaml:3: error: 2.price_usd",
        ),
        (
            PARTS + "- {sku: bell, name: bell, price_usd: 1, in_stock: 1}\n",
            r"parts\.yaml:3: error: 2.sku: 'bell' is",
        ),
        ("- [", r"parts\.yaml:1: error: not YAML"),
    ],
)
def test_a_wrong_seed_file_is_named_with_its_line(
    tmp_path: Path, kit: ModuleType, text: str, says: str
) -> None:
    tools = Registry.of_kits([kit])
    business = business_with(tmp_path, *tools)
    (business.folder / "data" / "owners.yaml").write_text(OWNERS)
    (business.folder / "data" / "parts.yaml").write_text(text)
    with pytest.raises(ConfigInvalid, match=says):
        tools.check_data([business], "tools")
