"""The help desk's tools through the executor, on both databases: what they say, refuse, and leave behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from parley_common.contracts.cases import CaseClosed, CaseOpened, CaseUpdated
from unit.tools.speaking_caller import SpeakingCaller
from unit.tools.world import World, world

HELPDESK = Path(__file__).parents[3] / "businesses" / "helpdesk"
TOM = {"name": "Tom Baker", "email": "tom.baker@example.com"}
BILL = {"problem": "I was charged twice on my bill", **TOM}
HOUR_MS = 3_600_000
"""The clock stands at Monday, January 5, 11 in the morning in Chicago."""


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, HELPDESK) as made:
        yield made


@pytest.fixture
def caller(place: World) -> SpeakingCaller:
    return SpeakingCaller(place, "helpdesk")


async def answers(caller: SpeakingCaller, *said: bool) -> dict[str, Any]:
    """Answer steps one after the other; returns what came of the last."""
    output: dict[str, Any] = {}
    for is_yes in said:
        output = await caller.output("answer_troubleshooting", answer_is_yes=is_yes)
    return output


async def test_steps_follow_from_answers_until_it_is_solved_and_that_is_kept(caller: SpeakingCaller) -> None:
    first = await caller.output("start_troubleshooting", problem="my internet is down")
    assert (first["step"], first["next"]) == ("light", {"tool": "answer_troubleshooting"})
    assert (await answers(caller, True, False))["step"] == "cable"
    solved = await answers(caller, True)
    assert solved["solved"] is True
    opening, closing = await caller.place.facts()
    assert isinstance(opening, CaseOpened)
    assert isinstance(closing, CaseClosed)
    assert (opening.kind, opening.details["answers"]) == ("issue", ["light: yes", "green: no", "cable: yes"])
    assert closing.resolution == "Online again."


async def test_telling_of_it_again_stays_at_the_step_and_another_problem_starts_anew(
    caller: SpeakingCaller,
) -> None:
    await caller.output("start_troubleshooting", problem="no internet")
    await answers(caller, True)
    again = await caller.output("start_troubleshooting", problem="the internet is down I said")
    assert again["step"] == "green"
    other = await caller.output("start_troubleshooting", problem="my wifi is slow")
    assert other["step"] == "near"
    stranger = caller.another("session-2")
    assert (await stranger.refusal("answer_troubleshooting", answer_is_yes=True))[0] == "not_troubleshooting"


async def test_one_answer_repeated_ten_times_is_one_step(caller: SpeakingCaller) -> None:
    await caller.output("start_troubleshooting", problem="no internet")
    for _ in range(10):
        result = await caller.ask("answer_troubleshooting", call_id="the-same", answer_is_yes=True)
        assert isinstance(result.output, dict)
        assert result.output["step"] == "green"


async def test_what_nobody_has_a_guide_for_is_offered_a_ticket(caller: SpeakingCaller) -> None:
    result = await caller.ask("start_troubleshooting", problem="my garage door is stuck")
    assert (result.status, result.code) == ("refused", "no_guide")
    assert isinstance(result.output, dict)
    assert result.output["error"]["next"] == {"tool": "open_ticket"}  # type: ignore[index, call-overload]
    assert (await caller.refusal("answer_troubleshooting", answer_is_yes=True))[0] == "not_troubleshooting"


async def test_a_walk_that_needs_people_goes_into_the_ticket(caller: SpeakingCaller) -> None:
    await caller.output("start_troubleshooting", problem="no internet")
    ended = await answers(caller, False, False)
    assert (ended["solved"], ended["problem"]) == (
        False,
        "no internet at all: Hub stays dark in two sockets: replace it.",
    )
    assert (await caller.refusal("answer_troubleshooting", answer_is_yes=True))[0] == "not_troubleshooting"
    await caller.output("open_ticket", problem=ended["problem"], **TOM)
    (case,) = await caller.place.facts()
    assert isinstance(case, CaseOpened)
    assert (case.queue, case.details["answers"]) == ("network", ["light: no", "socket: no"])
    assert case.person is not None
    assert case.person.email == "tom.baker@example.com"


@pytest.mark.parametrize(
    ("town", "is_down", "says"),
    [
        ("Fairhaven", True, "a cable that was cut by building work. It should be over in about 5 hours"),
        ("in northgate", False, "no known outage in Northgate"),
    ],
)
async def test_an_outage_is_told_by_town(caller: SpeakingCaller, town: str, is_down: bool, says: str) -> None:
    told = await caller.output("check_outage", town=town)
    assert told["outage"] is is_down
    assert says in told["say"]


async def test_a_town_that_is_not_served_is_said_to_be_none(caller: SpeakingCaller) -> None:
    assert (await caller.refusal("check_outage", town="Gotham"))[0] == "town_not_served"


async def test_a_ticket_goes_to_its_queue_with_a_time_and_a_correction_changes_it(
    caller: SpeakingCaller,
) -> None:
    ticket = await caller.output("open_ticket", **BILL)
    assert (ticket["queue"], ticket["priority"]) == ("billing", "high")
    assert ticket["answer_by"] == "Monday, January 5 at 7 PM"
    corrected = await caller.output("open_ticket", **{**BILL, "email": "t.baker@example.com"})
    assert corrected["ticket_number"] == ticket["ticket_number"]
    opening, update = await caller.place.facts()
    assert isinstance(opening, CaseOpened)
    assert isinstance(update, CaseUpdated)
    assert update.changed == ("email",)
    other = await caller.output("open_ticket", problem="The remote of my TV box is broken", **TOM)
    assert other["ticket_number"] != ticket["ticket_number"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"email": "tom at example"}, "invalid_email"),
        ({"phone": "12"}, "invalid_phone"),
        ({"name": " "}, "invalid_arguments"),
        ({"urgency": "immediately"}, "invalid_arguments"),
    ],
)
async def test_a_ticket_without_a_way_to_answer_is_not_opened(
    caller: SpeakingCaller, changes: dict[str, Any], code: str
) -> None:
    assert (await caller.refusal("open_ticket", **{**BILL, **changes}))[0] == code
    assert await caller.place.facts() == []


async def test_a_ticket_is_told_later_to_whoever_opened_it_and_nobody_else(caller: SpeakingCaller) -> None:
    number = (await caller.output("open_ticket", **BILL))["ticket_number"]
    later = caller.another("session-2")
    spoken = " ".join(number)
    assert (await later.refusal("check_ticket", ticket_number=spoken, email="eve@example.com"))[
        0
    ] == "no_match"
    assert (await later.refusal("check_ticket", ticket_number="999", email=TOM["email"]))[0] == "no_match"
    assert later.grants == ()
    told = await later.output("check_ticket", ticket_number=spoken, email="Tom.Baker@example.com")
    assert told["ticket_state"] == "open"
    assert "is with our billing team. Somebody answers by Monday, January 5 at 7 PM" in told["say"]


async def test_guessing_at_a_ticket_is_locked_and_forgotten_after_hours(caller: SpeakingCaller) -> None:
    number = (await caller.output("open_ticket", **BILL))["ticket_number"]
    codes = []
    for count in range(5):
        guesser = caller.another(f"guesser-{count}")
        code, _ = await guesser.refusal("check_ticket", ticket_number=number, email=f"e{count}@example.com")
        codes.append(code)
    assert codes == [*["no_match"] * 4, "locked"]
    owner = caller.another("session-2")
    assert (await owner.refusal("check_ticket", ticket_number=number, email=TOM["email"]))[0] == "locked"
    await caller.place.clock.advance(13 * HOUR_MS)
    assert (await owner.output("check_ticket", ticket_number=number, email=TOM["email"]))[
        "queue"
    ] == "billing"


async def test_notes_and_closing_need_a_ticket_that_is_the_callers(caller: SpeakingCaller) -> None:
    for tool, arguments in (("add_ticket_note", {"note": "It blinks."}), ("close_ticket", {})):
        result = await caller.ask(tool, **arguments)
        assert (result.status, result.code) == ("refused", "needs_verified:ticket")
    number = (await caller.output("open_ticket", **BILL))["ticket_number"]
    for _ in range(2):
        noted = await caller.output("add_ticket_note", note="It was the December bill.")
    assert noted["ticket_number"] == number
    for _ in range(2):
        closed = await caller.output("close_ticket")
    assert closed["ticket_state"] == "closed"
    assert (await caller.refusal("add_ticket_note", note="One more thing"))[0] == "ticket_closed"
    kinds = [type(fact) for fact in await caller.place.facts()]
    assert kinds == [CaseOpened, CaseUpdated, CaseClosed]
    told = await caller.output("check_ticket", ticket_number=number, email=TOM["email"])
    assert "was closed on Monday, January 5 at 11 AM" in told["say"]


async def test_a_person_takes_over_with_a_summary_once(caller: SpeakingCaller) -> None:
    await caller.output("start_troubleshooting", problem="no internet")
    await answers(caller, True, False)
    for _ in range(2):
        handed = await caller.output("escalate_to_person", problem="My internet line is dead again")
    assert (handed["handed_over"], handed["queue"]) == (True, "network")
    assert handed["summary_for_colleague"] == (
        "Asks for: My internet line is dead again. Tried with the caller (no-internet): light: yes; green: no."
    )
    (case,) = await caller.place.facts()
    assert isinstance(case, CaseOpened)
    assert (case.kind, case.queue) == ("handoff", "network")


async def test_outside_hours_a_call_back_is_arranged_and_needs_a_number(caller: SpeakingCaller) -> None:
    await caller.place.clock.advance(9 * HOUR_MS)  # eight in the evening: billing left at five
    wish = {"problem": "a question about my invoice", "name": "Tom Baker"}
    code, say = await caller.refusal("escalate_to_person", **wish)
    assert code == "outside_hours"
    assert "back Tuesday, January 6 at 9 AM Central time" in say
    assert (await caller.refusal("escalate_to_person", **wish, phone="12"))[0] == "invalid_phone"
    kept = await caller.output("escalate_to_person", **wish, phone="312-555-0144")
    assert kept["handed_over"] is False
    (case,) = await caller.place.facts()
    assert isinstance(case, CaseOpened)
    assert (case.kind, case.queue) == ("callback", "billing")
    assert case.person is not None
    assert case.person.phone == "+13125550144"


async def test_danger_is_urgent_at_any_hour(caller: SpeakingCaller) -> None:
    await caller.place.clock.advance(16 * HOUR_MS)
    handed = await caller.output("escalate_to_person", problem="there is smoke coming out of the hub")
    assert (handed["queue"], handed["priority"]) == ("safety", "urgent")
    assert "our duty engineer" in handed["say"]


async def test_feedback_is_one_case_that_a_correction_changes(caller: SpeakingCaller) -> None:
    await caller.output("record_feedback", rating=5, recommend=9, comment="quick help")
    bad = await caller.output("record_feedback", rating=2)
    assert "I am sorry" in bad["say"]
    opening, update = await caller.place.facts()
    assert isinstance(opening, CaseOpened)
    assert (opening.queue, opening.priority) == ("feedback", "low")
    assert opening.details == {
        "rating": 5,
        "satisfied": True,
        "recommend": 9,
        "recommender": "promoter",
        "comment": "quick help",
    }
    assert isinstance(update, CaseUpdated)
    assert (update.status, update.details["satisfied"]) == ("open", False)
    assert await caller.place.rows("SELECT queue, priority FROM cases") == [("care", "high")]


@pytest.mark.parametrize("wrong", [{"rating": 0}, {"rating": 6}, {"rating": 3, "recommend": 11}, {}])
async def test_a_rating_off_the_scale_is_not_kept(caller: SpeakingCaller, wrong: dict[str, Any]) -> None:
    assert (await caller.refusal("record_feedback", **wrong))[0] == "invalid_arguments"
    assert await caller.place.facts() == []


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("what does a blinking red light on the hub mean", "overheating"),
        ("how much notice do I have to give to leave", "thirty days"),
        ("who won the match in Paris", ""),
    ],
)
async def test_a_question_is_answered_from_the_articles_or_not_at_all(
    caller: SpeakingCaller, question: str, words: str
) -> None:
    told = await caller.output("search_knowledge_base", query=question)
    assert told["found"] is bool(words)
    assert words in told["say"]
