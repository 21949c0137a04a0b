"""What the brain does with a view: chains, cuts, missing items, choices of tool, and anything at all."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_understudy.brain import Answered, Call, Called, Decision, Item, Said, Tool, View, decide
from unit.understudy.brain_dialogues.play import NOW, answer_turn, load_tools

SAVE, SCORE = "put_away", "judge_it"


def tool(name: str, description: str, properties: dict[str, Any] | None = None, *required: str) -> Tool:
    return Tool(
        name, description, {"type": "object", "properties": properties or {}, "required": list(required)}
    )


CHAIN = (
    tool(SAVE, "Put a jar away.", {"label": {"type": "string", "description": "Label of the jar"}}, "label"),
    tool(SCORE, "Judge a jar.", {"jar_id": {"type": "string"}, "depth": {"type": "integer"}}, "jar_id"),
)


def view(*items: Item, tools: tuple[Tool, ...] = CHAIN, instructions: str = "", choice: str = "auto") -> View:
    return View(instructions, tools, items, NOW, choice)


def after_saving(result: Any, tools: tuple[Tool, ...] = CHAIN) -> Decision:
    items = (
        Said("user", "Put away a jar, the label is Plum"),
        Called("c1", SAVE, json.dumps({"label": "Plum"})),
        Answered("c1", json.dumps(result)),
    )
    return decide(view(*items, tools=tools))


@pytest.mark.parametrize(
    "next_step",
    [
        {"tool": SCORE, "arguments": {"jar_id": "J1"}},
        SCORE,
        f"Now judge this jar with {SCORE}",
        [{"tool": SCORE}],
    ],
)
def test_a_result_that_names_the_next_tool_is_followed(next_step: Any) -> None:
    decision = after_saving({"jar_id": "J1", "say": "It is away.", "next": next_step})
    assert decision == Decision("It is away.", (Call(SCORE, {"jar_id": "J1"}),))


def test_a_description_that_names_its_forerunner_is_followed() -> None:
    tools = (CHAIN[0], replace(CHAIN[1], description=f"Judge a jar. Call after {SAVE}."))
    assert after_saving({"jar_id": "J1", "say": "Done."}, tools).calls == (Call(SCORE, {"jar_id": "J1"}),)


def test_a_description_that_follows_only_on_request_is_not_followed() -> None:
    tools = (CHAIN[0], replace(CHAIN[1], description=f"Judge a jar after {SAVE}, if the caller asks."))
    assert after_saving({"jar_id": "J1", "say": "Done."}, tools).calls == ()


def test_a_result_that_names_its_own_tool_wants_another_answer_rather_than_the_same_again() -> None:
    ready = {"ready": {"type": "boolean", "description": "Whether the jar is ready"}}
    guide = (tool("go_on", "Go on with the jar after an answer.", ready, "ready"),)
    step = {"say": "Is the lid on?", "next": {"tool": "go_on"}}
    items: list[Item] = [
        Said("user", "Go on with the jar"),
        Said("assistant", "Is it right that the jar is ready?"),
        Said("user", "Yes"),
        Called("c1", "go_on", '{"ready": true}'),
        Answered("c1", json.dumps(step)),
    ]
    assert decide(view(*items, tools=guide)) == Decision("Is the lid on?", ())
    items += [Said("assistant", "Is the lid on?"), Said("user", "No")]
    assert decide(view(*items, tools=guide)).calls == (Call("go_on", {"ready": False}),)


def test_a_next_step_that_lacks_an_argument_asks_for_it() -> None:
    decision = after_saving({"say": "It is away.", "next": SCORE})
    assert decision.calls == ()
    assert decision.say.endswith("?")


def test_two_tools_that_name_each_other_stop() -> None:
    items: list[Item] = [Said("user", "Put away a jar, the label is Plum")]
    results = {SAVE: {"jar_id": "J1", "next": SCORE}, SCORE: {"label": "Plum", "next": SAVE}}
    assert len(answer_turn("", CHAIN, results, items).calls) <= 5


def test_a_suggested_tool_is_offered_and_called_only_after_a_yes() -> None:
    told = {"jar_id": "J1", "say": "It is away.", "next": f"Offer to use {SCORE}"}
    items: list[Item] = [
        Said("user", "Put away a jar, the label is Plum"),
        Called("c1", SAVE, '{"label": "Plum"}'),
        Answered("c1", json.dumps(told)),
    ]
    offered = decide(view(*items))
    assert offered.calls == ()
    assert "Would you like" in offered.say
    agreed = decide(view(*items, Said("assistant", offered.say), Said("user", "Yes please")))
    assert agreed.calls == (Call(SCORE, {"jar_id": "J1"}),)


@pytest.mark.parametrize(
    ("output", "heard"),
    [
        ('{"error": {"code": "busy", "message": "The shelf is full."}}', "The shelf is full."),
        ('{"status": "refused", "say": "I may not do that."}', "I may not do that."),
        ('{"error": "no such shelf"}', "no such shelf"),
        ('{"say": "All good."}', "All good."),
        ('{"height_cm": 12, "price_usd": 1250.5}', "The height cm is 12 and the price is $1,250."),
        ('["red", "green"]', "red and green"),
        ("plain words", "plain words"),
        ("", "done"),
        ("null", "."),
        ("[" * 5000, "["),
    ],
)
def test_a_result_is_spoken_plainly(output: str, heard: str) -> None:
    items = (
        Said("user", "Put away a jar, the label is Plum"),
        Called("c1", SAVE, "{}"),
        Answered("c1", output),
    )
    decision = decide(view(*items))
    assert heard in decision.say
    assert decision.calls == ()


def test_an_error_that_names_a_missing_argument_asks_for_it() -> None:
    decision = after_saving({"error": {"message": "I need the label.", "missing": ["label"]}})
    assert decision.calls == ()
    assert "label of the jar" in decision.say


def test_a_call_that_has_no_answer_yet_is_not_made_again() -> None:
    items = (
        Said("user", "Put away a jar, the label is Plum"),
        Called("c1", SAVE, '{"label": "Plum"}'),
        Said("user", "Hello?"),
    )
    assert decide(view(*items)).calls == ()


LENDING = load_tools("lending")[1]
FIRST = Said("user", "I want to buy a rental property for $300,000 with 25% down, my score is 740.")
ASKED = "What is the monthly rent the property brings in, in dollars?"
WHOLE = {
    "purchase_price_usd": 300_000,
    "down_payment_percent": 25,
    "monthly_rent_usd": 2400,
    "credit_score": 740,
}


@pytest.mark.parametrize("heard", [ASKED, ASKED[:28], "What is the monthly", "", None])
def test_a_bare_answer_is_understood_however_much_of_the_question_was_heard(heard: str | None) -> None:
    between = () if heard is None else (Said("assistant", heard),)
    decision = decide(view(FIRST, *between, Said("user", "2,400"), tools=LENDING))
    assert decision.calls == (Call("analyze_deal", WHOLE),)


def test_a_question_alone_tells_what_its_answer_is_for() -> None:
    items = (Said("assistant", "What is your credit score?"), Said("user", "740"))
    asked_next = decide(view(*items, tools=LENDING))
    assert asked_next.calls == ()
    items += (
        Said("assistant", asked_next.say),
        Said("user", "A $300,000 purchase, 25% down, renting for 2400."),
    )
    assert decide(view(*items, tools=LENDING)).calls == (Call("analyze_deal", WHOLE),)


def test_sentences_in_pieces_are_taken_together() -> None:
    items = (
        Said("user", "I want to buy a rental property"),
        Said("user", "for $300,000"),
        Said("user", "25% down"),
    )
    items += (Said("user", "it rents for $2,400 a month"), Said("user", "my credit score is 740"))
    assert decide(view(*items, tools=LENDING)).calls == (Call("analyze_deal", WHOLE),)


def test_a_history_seeded_as_text_goes_on_where_it_was() -> None:
    items = (
        Said("user", "My name is Daniel Cooper, daniel.cooper@example.com, 415-555-0132."),
        Said("assistant", "Do you agree to be contacted about this?"),
        Said("user", "Yes"),
        Said("assistant", "I have Daniel Cooper, daniel.cooper@example.com and 415-555-0132. Is that ri"),
        Said("user", "Yes, correct."),
    )
    assert [c.name for c in decide(view(*items, tools=LENDING)).calls] == ["save_lead"]


def test_consent_is_never_assumed_from_contact_details() -> None:
    said = "I'm Daniel Cooper, daniel.cooper@example.com, you can reach me at 415-555-0132."
    decision = decide(view(Said("user", said), tools=LENDING))
    assert decision == Decision("Do you agree to be contacted about this?", ())


def test_what_is_read_back_can_be_refused_and_said_again() -> None:
    items: list[Item] = [Said("user", "I'm Ann Lee, ann@example.com, 415-555-0132 and you may contact me.")]
    for line in ("No.", "The email.", "lee at example dot com"):
        items.append(Said("assistant", decide(view(*items, tools=LENDING)).say))
        items.append(Said("user", line))
    assert "lee@example.com" in decide(view(*items, tools=LENDING)).say


def test_tool_choice_none_never_calls() -> None:
    said = Said("user", f"{FIRST.text} It rents for 2,400 a month.")
    assert decide(view(said, tools=LENDING)).calls
    decision = decide(view(said, tools=LENDING, choice="none"))
    assert decision.calls == ()
    assert decision.say


def test_tool_choice_by_name_calls_with_what_is_known() -> None:
    decision = decide(view(FIRST, tools=LENDING, choice="analyze_deal"))
    assert decision.calls == (
        Call("analyze_deal", {k: v for k, v in WHOLE.items() if k != "monthly_rent_usd"}),
    )


def test_tool_choice_required_calls_something() -> None:
    assert len(decide(view(Said("user", "Hello"), choice="required")).calls) == 1


def test_an_empty_history_is_greeted_by_name_and_business() -> None:
    decision = decide(view(instructions="You are Cap, a lending agent for Harbor Lending. Be kind."))
    assert decision.say == "Hello, this is Cap from Harbor Lending. How can I help you today?"


def test_a_greeting_in_the_instructions_is_said_word_for_word() -> None:
    decision = decide(view(instructions='Be kind.\n- Greet with: "Ahoy, this is Tide."\nBe brief.'))
    assert decision == Decision("Ahoy, this is Tide.", ())


def test_a_line_to_say_is_said_and_nothing_is_called() -> None:
    assert decide(view(FIRST, tools=LENDING, instructions='Say: "One moment."')) == Decision(
        "One moment.", ()
    )


def test_silence_is_met_with_the_open_question() -> None:
    decision = decide(view(FIRST, Said("assistant", ASKED), tools=LENDING))
    assert decision.say == f"Are you still there? {ASKED}"


def test_what_was_cut_off_is_said_again_whole() -> None:
    items = (Said("user", "Put away a jar, the label is Plum"), Called("c1", SAVE, "{}"))
    items += (Answered("c1", '{"say": "It is on the top shelf."}'), Said("assistant", "It is on the"))
    assert decide(view(*items, Said("user", "Sorry, say that again?"))).say == "It is on the top shelf."


def test_a_goal_can_be_dropped() -> None:
    items = (FIRST, Said("assistant", ASKED), Said("user", "Never mind."))
    assert decide(view(*items, tools=LENDING)) == Decision(
        "All right, let's leave that. What else can I do for you?", ()
    )


def test_ten_thousand_items_are_bounded() -> None:
    items = tuple(
        Said("user" if n % 2 else "assistant", f"Word {n} and $300,000 with 25% down") for n in range(10_000)
    )
    assert decide(view(*items, tools=LENDING)) == decide(view(*items[-200:], tools=LENDING))


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYWORD = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "enum",
        "description",
        "title",
        "format",
        "pattern",
        "minimum",
        "maximum",
        "items",
        "anyOf",
        "$ref",
        "default",
        "const",
    ]
)
_TYPED = st.sampled_from(["string", "number", "integer", "boolean", "array", "object"])
_FIELD = st.dictionaries(_KEYWORD, _JSON | _TYPED | st.lists(st.text(max_size=6), max_size=3), max_size=5)
_NAMES = st.sampled_from(
    ["name", "email", "phone", "price_usd", "starts_at", "query", "order_id", "a.b", "", "date"]
)
_SCHEMA = st.fixed_dictionaries(
    {
        "properties": st.dictionaries(_NAMES, _FIELD, max_size=5) | _JSON,
        "required": st.lists(_NAMES, max_size=5) | _JSON,
    }
)
_TOOL = st.builds(
    Tool, st.sampled_from(["save_it", "find", "", "x"]) | st.text(max_size=6), st.text(max_size=40), _SCHEMA
)
_LINE = st.text(max_size=60) | st.sampled_from(
    [
        "yes", "no", "I want to save it for $300,000", "my email is jo at example dot com", "the second one", "never mind",
        "next Tuesday at three", "415 555 0132", "My name is Jo Hart", "say that again", "find it", "bye", "actually 250k",
    ]
)  # fmt: skip
_OUTPUT = (
    st.text(max_size=40)
    | _JSON.map(json.dumps)
    | st.dictionaries(
        st.sampled_from(["say", "next", "error", "missing", "status", "slots", "results", "order_id"]),
        _JSON,
        max_size=4,
    ).map(json.dumps)
)
_ID = st.sampled_from(["c1", "c2", "c3"])
_ITEM: st.SearchStrategy[Item] = (
    st.builds(Said, st.sampled_from(["user", "assistant", "system"]), _LINE)
    | st.builds(Called, _ID, st.sampled_from(["save_it", "find", "x", "?"]), _OUTPUT)
    | st.builds(Answered, _ID, _OUTPUT)
)
_MOMENTS = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31))  # noqa: DTZ001


@settings(max_examples=250, deadline=None)
@given(
    st.text(max_size=60),
    st.lists(_TOOL, max_size=4).map(tuple),
    st.lists(_ITEM, max_size=8).map(tuple),
    _MOMENTS | _MOMENTS.map(lambda m: m.replace(tzinfo=UTC)),
    st.sampled_from(["auto", "none", "required", "save_it", "?"]),
)
def test_any_view_gives_a_decision_and_the_same_one_again(
    instructions: str, tools: tuple[Tool, ...], items: tuple[Item, ...], now: datetime, choice: str
) -> None:
    shown = View(instructions, tools, items, now, choice)
    decision = decide(shown)
    assert decision == decide(shown)
    assert decision.say or decision.calls
    assert {c.name for c in decision.calls} <= {t.name for t in tools}
    json.dumps([c.arguments for c in decision.calls])


_REAL_LINES = st.sampled_from(
    [
        FIRST.text, "2,400", "740", "yes", "no", "My name is Daniel Cooper", "daniel dot cooper at example dot com",
        "415-555-0132", "Is there a penalty?", "Actually make it 250 thousand", "never mind", "next Tuesday at three",
        "How are rents in Austin?", "thanks", "the second one", "you may contact me",
    ]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(_REAL_LINES, max_size=10))
def test_nothing_is_saved_without_a_consent_that_was_given(lines: list[str]) -> None:
    instructions, tools, results = load_tools("lending")
    items: list[Item] = []
    for line in lines:
        items.append(Said("user", line))
        turn = answer_turn(instructions, tools, results, items)
        saved = [c.arguments for c in turn.calls if c.name == "save_lead"]
        assert all(s["consent"] is True and {"yes", "you may contact me"} & set(lines) for s in saved)
        assert len(turn.calls) <= 5


KEYED = (
    tool("open_vault", "Open a vault.", {"shelf": {"type": "string", "description": "Which shelf"}}, "shelf"),
    tool(
        "show_badge", "Take a badge.", {"badge": {"type": "integer", "description": "Badge number"}}, "badge"
    ),
)
REFUSED = {
    "error": {"code": "needs_badge", "message": "No.", "say": "Not yet.", "next": {"tool": "show_badge"}},
    "say": "Not yet.",
}
ASKED_FOR = (
    Said("user", "Open the vault, the shelf is Cedar"),
    Called("c1", "open_vault", json.dumps({"shelf": "Cedar"})),
    Answered("c1", json.dumps(REFUSED)),
)
SHOWN = (
    Said("assistant", "Not yet. What is the badge number?"),
    Said("user", "4711"),
    Called("c2", "show_badge", json.dumps({"badge": 4711})),
)
OPEN_VAULT = Call("open_vault", {"shelf": "Cedar"})


def test_a_refusal_that_names_what_must_come_first_leads_to_a_question_for_it() -> None:
    decision = decide(view(*ASKED_FOR, tools=KEYED))
    assert decision.calls == ()
    assert decision.say.startswith("Not yet. ")
    assert "badge" in decision.say
    answered = decide(view(*ASKED_FOR, *SHOWN[:2], tools=KEYED))
    assert answered.calls == (Call("show_badge", {"badge": 4711}),)


def test_once_the_first_step_is_done_the_refused_call_is_made_again() -> None:
    done = Answered("c2", json.dumps({"say": "Thank you."}))
    assert decide(view(*ASKED_FOR, *SHOWN, done, tools=KEYED)) == Decision("Thank you.", (OPEN_VAULT,))


def test_a_first_step_that_fails_leaves_the_refused_call_waiting() -> None:
    wrong = Answered("c2", json.dumps({"error": {"code": "no_match", "say": "That is not it."}}))
    missed = (*ASKED_FOR, *SHOWN, wrong)
    assert decide(view(*missed, tools=KEYED)).calls == ()
    again = (
        Said("assistant", "That is not it."),
        Said("user", "Sorry, the badge is 4712"),
        Called("c3", "show_badge", json.dumps({"badge": 4712})),
        Answered("c3", json.dumps({"say": "Thank you."})),
    )
    assert decide(view(*missed, *again, tools=KEYED)).calls == (OPEN_VAULT,)


def test_a_step_that_was_done_and_did_not_help_is_not_asked_for_without_end() -> None:
    refused_again = (
        Answered("c2", json.dumps({"say": "Thank you."})),
        Called("c3", "open_vault", json.dumps({"shelf": "Cedar"})),
        Answered("c3", json.dumps(REFUSED)),
    )
    assert decide(view(*ASKED_FOR, *SHOWN, *refused_again, tools=KEYED)) == Decision("Not yet.", ())


def test_what_the_caller_drops_is_not_taken_up_after_the_first_step() -> None:
    dropped = (Said("assistant", "Not yet. What is the badge number?"), Said("user", "Never mind"))
    later = (
        Said("assistant", "All right."),
        Said("user", "Please take my badge, the number is 4711"),
        Called("c2", "show_badge", json.dumps({"badge": 4711})),
        Answered("c2", json.dumps({"say": "Thank you."})),
    )
    assert decide(view(*ASKED_FOR, *dropped, *later, tools=KEYED)) == Decision("Thank you.", ())


@pytest.mark.parametrize("step", ["show_badge, then again", {"tool": "unheard_of"}, {"tool": 7}, [], None])
def test_a_refusal_that_names_no_tool_of_ours_leads_nowhere(step: Any) -> None:
    error = {"code": "no", "say": "Not yet.", "next": step}
    items = (*ASKED_FOR[:2], Answered("c1", json.dumps({"error": error})))
    assert decide(view(*items, tools=KEYED)) == Decision("Not yet.", ())
