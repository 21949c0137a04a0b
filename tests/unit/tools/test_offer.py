"""What is offered changes while the service runs: edited businesses, versions of sessions that began before, checks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harness.waiting import until
from parley_common.business import Business, load
from parley_common.clock import ManualClock
from parley_common.contracts.tool_calls import Announcement
from parley_common.kafka import Incoming
from parley_common.settings import KafkaSettings
from parley_tools import commands
from parley_tools.catalog import Announcer
from parley_tools.consumer import CallConsumer, Membership
from parley_tools.dispatch import Dispatcher, Leave
from parley_tools.guarded_http import AddressGuard, guarded_client
from parley_tools.kits import KITS
from parley_tools.offer import VERSIONS_KEPT_MAX, Offer
from parley_tools.own_tools import Keeper, Outside
from parley_tools.registry import Registry
from parley_tools.replies import Replies
from unit.tools.world import Published, World, business_with


class Place:
    """An offer that follows a folder."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.seeded: list[str] = []
        self.changes_count = 0

    async def seed(self, business: Business) -> None:
        self.seeded.append(business.version)

    def on_change(self) -> None:
        self.changes_count += 1


@asynccontextmanager
async def following(business: Business) -> AsyncIterator[Place]:
    guard, stop = AddressGuard(), asyncio.Event()
    async with guarded_client(guard) as http:
        place = Place(Offer("tools", Registry.of_kits(KITS), {business.name: business}))
        keeper = Keeper(place.offer, Outside(http, guard, {}), place.on_change)
        async with asyncio.TaskGroup() as group:
            group.create_task(keeper.run(stop, business.folder.parent, place.seed, 0.02))
            yield place
            stop.set()


def edit(business: Business, old: str, new: str) -> None:
    path = business.folder / "business.yaml"
    path.write_text(path.read_text().replace(old, new))


async def test_an_edited_business_is_read_again_and_a_session_keeps_the_version_it_began_with(
    tmp_path: Path,
) -> None:
    before = business_with(tmp_path, "analyze_deal")
    async with following(before) as place:
        edit(before, "  - analyze_deal\n", "  - analyze_deal\n  - research_market\n")
        await until(lambda: place.offer.businesses["cap"].version != before.version, 20)
        await until(lambda: place.seeded, 20)
        after = place.offer.businesses["cap"]
        assert place.offer.tool(after, "research_market") is not None
        began_before = place.offer.business("cap", before.version)
        assert began_before is before
        assert place.offer.tool(before, "research_market") is None
        assert place.offer.business("cap", "a version nobody knows") is after
        assert place.changes_count >= 1


async def test_a_business_that_is_wrong_now_stays_as_it_was_until_it_is_right(tmp_path: Path) -> None:
    before = business_with(tmp_path, "analyze_deal")
    products = before.folder / "data" / "products.yaml"
    text = products.read_text()
    async with following(before) as place:
        products.write_text("note: [")
        edit(before, "title: Harborlight Lending", "title: Harborlight")
        other = business_with(tmp_path / "more", "search_knowledge_base").folder
        edit(load(other), "name: cap\n", "name: second\n")
        other.rename(before.folder.parent / "second")
        await until(lambda: "second" in place.offer.businesses, 20)
        assert place.offer.businesses["cap"] is before
        products.write_text(text)
        await until(lambda: place.offer.businesses["cap"].config.title == "Harborlight", 20)


async def test_a_business_whose_folder_is_gone_is_offered_no_more(tmp_path: Path) -> None:
    before = business_with(tmp_path, "analyze_deal")
    async with following(before) as place:
        (before.folder / "business.yaml").unlink()
        await until(lambda: not place.offer.businesses, 20)


def test_only_so_many_versions_are_kept(tmp_path: Path) -> None:
    business = business_with(tmp_path, "analyze_deal")
    offer = Offer("tools", Registry.of_kits(KITS), {})
    versions = [Business(business.folder, business.config, "", str(n)) for n in range(VERSIONS_KEPT_MAX + 2)]
    for each in versions:
        offer.put(each)
    assert offer.business("cap", "0") is versions[-1]
    assert offer.business("cap", "2") is versions[2]


async def test_a_change_of_tools_is_announced_at_once() -> None:
    published, stop = Published(), asyncio.Event()
    specs = list(Registry.of_kits(KITS).specs())
    announcer = Announcer(published, ManualClock(), lambda: tuple(specs), service="tools", instance="tools-1")
    async with asyncio.TaskGroup() as group:
        group.create_task(announcer.run(stop, lambda is_ready, why: None))
        await until(lambda: len(published.records) == 1)
        gone = specs.pop()
        announcer.announce_now()
        await until(lambda: len(published.records) == 2)
        stop.set()
    first, second = (Announcement.model_validate_json(r.value or b"") for r in published.records[:2])
    assert {spec.name for spec in first.tools} - {spec.name for spec in second.tools} == {gone.name}


async def test_a_flood_of_one_business_delays_another_by_no_more_than_what_already_runs() -> None:
    order: list[str] = []
    may_end = asyncio.Event()

    async def handle(item: str, _leave: Leave) -> None:
        order.append(item)
        await may_end.wait()

    async with Dispatcher[str](handle, limit_of=lambda lane: 4) as dispatcher:
        for number in range(500):
            dispatcher.submit("tool", "flooding", f"flooding-{number}")
        dispatcher.submit("tool", "quiet", "quiet")
        await until(lambda: len(order) == 4)
        may_end.set()
        await dispatcher.drain(30)
    assert order.index("quiet") <= 5
    assert len(order) == 501


class Held:
    """A dispatcher that keeps all it is given."""

    def __init__(self) -> None:
        self.items: list[tuple[str, str]] = []

    @property
    def in_flight(self) -> int:
        return len(self.items)

    def held(self, business: str) -> int:
        return sum(name == business for _, name in self.items)

    def submit(self, lane: str, business: str, item: object, *, at_once: bool = False) -> None:
        self.items.append((lane, business))


async def test_a_business_that_floods_keeps_to_half_once_another_calls_and_alone_may_have_it_all(
    here: World,
) -> None:
    held = Held()
    consumer = CallConsumer(
        KafkaSettings(),
        held,  # type: ignore[arg-type] # all the consumer uses of one
        lambda arrived: False,
        Replies(here.published, here.clock, source="tools"),
        lane_of=lambda business, tool: tool,
        membership=Membership("tools", "tools-1"),
        in_flight_max=10,
    )

    async def accept(business: str) -> None:
        value = here.arrived("analyze_deal", business=business).call.model_dump_json().encode()
        sent_ms = int(here.clock.now().timestamp() * 1000)
        await consumer._accept(Incoming("calls", 0, 0, b"session-1", value, (), sent_ms))

    for _ in range(8):
        await accept("flooding")
    assert held.held("flooding") == 8
    await accept("quiet")
    for _ in range(3):
        await accept("flooding")
    assert (held.held("flooding"), held.held("quiet")) == (8, 1)
    assert {result.code for result in here.published.results()} == {"overloaded"}
    held.items.clear()
    await accept("flooding")
    assert held.held("flooding") == 1


# -- parley-tools check ---------------------------------------------------------------------------


def test_a_business_that_is_fine_has_no_findings(tmp_path: Path) -> None:
    assert (
        commands.findings(business_with(tmp_path, "analyze_deal", "search_knowledge_base").folder, "tools")
        == []
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("business.yaml", "  - analyze_deal\n", "  - analyse_deal\n", "did you mean 'analyze_deal'?"),
        (
            "data/products.yaml",
            "rate_pct: 7.0",
            "rate_pct: high",
            "products.yaml:5: error: defaults.rate_pct",
        ),
        ("business.yaml", "\nhours:", "\nhttp_tools:\n  - {name: x}\nhours:", "business.yaml"),
    ],
)
def test_a_mistake_is_said_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, says: str
) -> None:
    folder = business_with(tmp_path, "analyze_deal").folder
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert commands.check([str(folder)], "tools") == 1
    assert says in capsys.readouterr().out
    assert commands.check(["--json", str(folder)], "tools") == 1
    found = json.loads(capsys.readouterr().out.splitlines()[0])
    assert set(found) == {"severity", "file", "line", "message"}
