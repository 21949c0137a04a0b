"""Erasing a person: what is gone, what stays without them, what is told, and what happens when they come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parley_common.contracts.cases import CaseOpened
from parley_common.contracts.leads import LeadCaptured, LeadErased
from parley_common.contracts.people import Person
from parley_common.contracts.tool_calls import CallerContext
from parley_common.errors import ConfigInvalid
from parley_tools import commands
from parley_tools.cases import NewCase
from parley_tools.commands import Errand
from parley_tools.context import Resources, ToolContext
from parley_tools.erasure import Erased, Subject, erase
from parley_tools.settings import ToolsSettings
from parley_tools.store import METADATA
from unit.tools.world import World

DETAILS: dict[str, Any] = {
    "name": "Daniel Cooper",
    "email": "daniel@example.com",
    "phone": "415-555-0132",
    "consent": True,
    "notes": "lives with Mia Stone",
}
TRACES = ("Cooper", "daniel@", "5550132", "Stone")


async def save(here: World, session_id: str = "session-1") -> Any:
    result = await here.ask(
        here.worker(), "save_lead", DETAILS, session_id=session_id, call_id=f"call-{session_id}"
    )
    here.published.records.clear()
    return result.output


async def erase_now(here: World, **whom: str) -> Erased:
    async with here.database.begin() as db:
        return await erase(db, here.outbox, "cap", Subject(**whom), here.clock.now())


async def everything(here: World) -> str:
    """Every row of every table as text, but what has not been published yet."""
    found = []
    async with here.database.begin() as db:
        for table in METADATA.sorted_tables:
            if table.name != "outbox":
                found += [str(row) for row in (await db.execute(table.select())).all()]
    return "\n".join(found)


async def test_nothing_of_an_erased_person_is_left_and_it_is_told(anywhere: World) -> None:
    saved = await save(anywhere)
    await anywhere.ask(
        anywhere.worker(),
        "schedule_call",
        {"preferred_day": "tuesday", "preferred_time": "10:00"},
        call_id="c2",
    )
    before = await everything(anywhere)
    assert [trace for trace in TRACES if trace not in before] == []
    erased = await erase_now(anywhere, email="daniel@example.com")
    assert erased == Erased((saved["lead_id"],), 0, booking_count=1, result_count=2)
    left = await everything(anywhere)
    assert [trace for trace in TRACES if trace in left] == []
    fact = (await anywhere.facts())[-1]
    assert isinstance(fact, LeadErased)
    assert (fact.lead_id, fact.seq, fact.session_id) == (saved["lead_id"], 3, None)
    assert len(fact.subject_hash) == 64
    assert await anywhere.rows("SELECT status FROM bookings") == [("cancelled",)]


async def test_erasing_again_or_nobody_changes_nothing(here: World) -> None:
    await save(here)
    await erase_now(here, phone="+14155550132")
    before = await everything(here)
    assert await erase_now(here, phone="+14155550132") == Erased((), 0)
    assert await erase_now(here, email="nobody@example.com") == Erased((), 0)
    assert await everything(here) == before


async def test_an_erased_person_who_comes_back_is_a_new_lead_with_a_consent_of_its_own(here: World) -> None:
    first = await save(here)
    await erase_now(here, lead_id=first["lead_id"])
    worker = here.worker()
    at_once = await here.ask(worker, "save_lead", DETAILS, session_id="session-2", call_id="again")
    assert (at_once.status, at_once.code) == ("refused", "consent_required")
    await here.clock.advance(1_000)
    here.published.records.clear()
    second = await save(here, "session-3")
    assert second["lead_id"] != first["lead_id"]
    captured = (await here.facts())[-1]
    assert isinstance(captured, LeadCaptured)
    assert (captured.seq, captured.consent.at) == (1, here.clock.now())


async def test_a_repeat_of_an_old_call_does_not_bring_the_data_back(here: World) -> None:
    await save(here)
    await erase_now(here, email="daniel@example.com")
    repeat = await here.ask(here.worker(), "save_lead", DETAILS, call_id="call-session-1", attempt=2)
    assert (repeat.status, repeat.code) == ("refused", "erased")
    assert await here.rows("SELECT 1 FROM leads") == []


async def test_a_case_about_an_erased_person_stays_without_them(here: World) -> None:
    async with here.database.begin() as db:
        resources = Resources(here.outbox, here.http, earlier=None)  # type: ignore[arg-type] # not used here
        ctx = ToolContext(
            here.businesses["cap"],
            "session-1",
            "call-1",
            CallerContext(),
            db,
            here.clock.now(),
            resources,
            emits=(CaseOpened,),
        )
        new = NewCase("ticket", "Daniel Cooper's door", person=Person(email="daniel@example.com"))
        await ctx.cases.open(new, {"neighbour": "Mia Stone"})
    assert (await erase_now(here, email="daniel@example.com")).case_count == 1
    rows = await here.rows("SELECT kind, status, summary, email, details FROM cases")
    assert [tuple(row)[:4] for row in rows] == [("ticket", "open", "(erased)", None)]
    assert "Stone" not in await everything(here)


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        (["cap", "--email", "Ann@EXAMPLE.com"], Subject(email="Ann@example.com")),
        (["cap", "--phone", "+1 415 555 0132"], Subject(phone="+14155550132")),
        (["cap", "--lead", "abc"], Subject(lead_id="abc")),
    ],
)
def test_an_operator_says_whom_to_erase(arguments: list[str], subject: Subject) -> None:
    assert commands.errand(arguments) == Errand("cap", subject)
    counting = commands.errand([*arguments, "--dry-run", "--json"])
    assert counting == Errand("cap", subject, dry_run=True, as_json=True)


@pytest.mark.parametrize(
    "arguments",
    [[], ["cap"], ["cap", "--email", "no"], ["cap", "--phone", "555-0132"], ["cap", "--name", "x"]],
)
def test_an_operator_who_does_not_say_it_clearly_is_told_how(arguments: list[str]) -> None:
    with pytest.raises(ConfigInvalid, match="usage: parley-tools erase"):
        commands.errand(arguments)


async def test_an_operator_may_count_before_anything_is_erased(
    anywhere: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await save(anywhere)
    settings = ToolsSettings(database_url=anywhere.database.url)
    whom = ["cap", "--email", "daniel@example.com", "--json"]
    before = await everything(anywhere)
    await commands.erase(settings, commands.errand([*whom, "--dry-run"]))
    counted = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert await everything(anywhere) == before
    await commands.erase(settings, commands.errand(whom))
    erased = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert counted == {**erased, "dry_run": True}
    assert (erased["leads"], erased["cases"], erased["results"]) == (1, 0, 1)
    assert await anywhere.rows("SELECT 1 FROM leads") == []


async def test_a_database_that_was_never_migrated_is_said(tmp_path: Path) -> None:
    settings = ToolsSettings(database_url=f"sqlite+aiosqlite:///{tmp_path}/empty.db")
    with pytest.raises(ConfigInvalid, match="not migrated"):
        await commands.erase(settings, commands.errand(["cap", "--email", "daniel@example.com"]))
