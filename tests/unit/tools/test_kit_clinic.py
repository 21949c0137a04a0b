"""The clinic's tools through the executor, on both databases: what they say, refuse, and leave behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from parley_common.contracts.cases import CaseClosed, CaseOpened, CaseUpdated
from parley_common.contracts.tool_calls import CallerContext
from parley_tools.kits._identity import LOCK_MIN
from parley_tools.kits.clinic.insurance import INSURANCE
from parley_tools.kits.clinic.prescriptions import PRESCRIPTIONS
from parley_tools.rules.clinic_refills import Prescription
from unit.tools.kit_caller import KitCaller
from unit.tools.world import World, world

CLINIC = Path(__file__).parents[3] / "businesses" / "clinic"
MARIA = {"name": "Maria Lopez", "date_of_birth": "1984-03-12", "postcode": "60691"}
NEW = {"name": "Ana Petrov", "phone": "(312) 555-0199"}
TUESDAY = {"preferred_day": "2026-01-06", "preferred_time": "10:00"}
"""The clock stands at Monday, January 5, 11 in the morning in Chicago."""
MINUTE_MS = 60_000


def caller_of(place: World, session_id: str = "session-1") -> KitCaller:
    return KitCaller(place, "clinic", session_id)


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, CLINIC) as made:
        yield made


@pytest.fixture
async def lite(sqlite_url: str) -> AsyncIterator[World]:
    """For what does not depend on the database."""
    async with world(sqlite_url, CLINIC) as made:
        yield made


@pytest.fixture
def caller(place: World) -> KitCaller:
    return caller_of(place)


@pytest.fixture
def anyone(lite: World) -> KitCaller:
    return caller_of(lite)


@pytest.fixture
async def maria(caller: KitCaller) -> KitCaller:
    await caller.output("verify_patient", **MARIA)
    return caller


async def verified(place: World, name: str, born: str, postcode: str) -> KitCaller:
    made = caller_of(place, f"session-{name}")
    await made.output("verify_patient", name=name, date_of_birth=born, postcode=postcode)
    return made


# -- triage -------------------------------------------------------------------------------------------------------


async def test_chest_pain_is_an_emergency_whose_advice_comes_first_and_whose_words_are_not_kept(
    caller: KitCaller,
) -> None:
    output = await caller.output(
        "assess_symptoms", symptoms="My chest feels tight and I feel sick", age_years=61
    )
    assert (output["level"], output["is_diagnosis"]) == ("emergency", False)
    assert output["say"].startswith("This could be an emergency. Please call 911 now")
    (fact,) = await caller.place.facts()
    assert isinstance(fact, CaseOpened)
    assert (fact.kind, fact.priority, fact.queue, fact.person) == ("triage", "urgent", "nurse", None)
    assert fact.details == {"level": "emergency", "rules": ["chest-pain"]}
    assert await caller.place.rows("SELECT 1 FROM cases WHERE summary LIKE '%tight%'") == []


async def test_a_cold_is_watched_at_home_and_leaves_no_case(anyone: KitCaller) -> None:
    output = await anyone.output("assess_symptoms", symptoms="a runny nose", days=2, severity="mild")
    assert output["level"] == "self_care"
    assert await anyone.place.facts() == []


async def test_a_complaint_that_becomes_worse_raises_its_case_and_never_lowers_it(caller: KitCaller) -> None:
    first = await caller.output("assess_symptoms", symptoms="a deep cut in my hand")
    second = await caller.output("assess_symptoms", symptoms="a deep cut, and the bleeding won't stop")
    third = await caller.output("assess_symptoms", symptoms="it is a deep cut")
    assert [o["level"] for o in (first, second, third)] == ["urgent", "emergency", "urgent"]
    assert first["reference"] == second["reference"] == third["reference"]
    opened, updated = await caller.place.facts()
    assert isinstance(opened, CaseOpened)
    assert isinstance(updated, CaseUpdated)
    assert updated.details["level"] == "emergency"


# -- identity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"date_of_birth": "1984-03-13"},
        {"postcode": "60692"},
        {"name": "Maria Gomez"},
        {"name": "Nobody Known"},
        {"name": "Henry Whitfield"},
    ],
)
async def test_whichever_part_is_wrong_the_answer_is_the_same(
    anyone: KitCaller, wrong: dict[str, str]
) -> None:
    result = await anyone.ask("verify_patient", **(MARIA | wrong))
    assert (result.status, result.code, result.grants) == ("refused", "no_match", ())
    assert isinstance(result.output, dict)
    assert result.output["say"] == "That doesn't match what I have on file. Shall we go through it once more?"


async def test_a_date_that_is_none_is_asked_again_and_not_counted(anyone: KitCaller) -> None:
    for said in ("the year of the cat", "2084-03-12", "1984-02-30"):
        assert await anyone.refusal("verify_patient", **(MARIA | {"date_of_birth": said})) == "bad_date"
    assert await anyone.place.rows("SELECT 1 FROM records WHERE kind = 'identity_attempts'") == []


async def test_the_third_wrong_answer_locks_for_everyone_until_time_has_passed(place: World) -> None:
    guesser, owner = caller_of(place, "guesser"), caller_of(place, "owner")
    wrong = MARIA | {"postcode": "00000"}
    codes = [await guesser.refusal("verify_patient", **wrong) for _ in range(4)]
    assert codes == ["no_match", "no_match", "locked", "locked"]
    assert await owner.refusal("verify_patient", **MARIA) == "locked"
    await place.clock.advance((LOCK_MIN - 1) * MINUTE_MS)
    assert await owner.refusal("verify_patient", **MARIA) == "locked"
    await place.clock.advance(MINUTE_MS)
    assert (await owner.output("verify_patient", **MARIA))["verified"] is True


async def test_guessing_many_names_locks_the_session_and_a_right_answer_forgets_the_wrong_ones(
    place: World,
) -> None:
    guesser = caller_of(place, "guesser")
    names = ("Ada One", "Ben Two", "Cy Three", "Maria Lopez")
    codes = [
        await guesser.refusal("verify_patient", **(MARIA | {"name": n, "postcode": "1234"})) for n in names
    ]
    assert codes == ["no_match", "no_match", "locked", "locked"]
    forgetful = caller_of(place, "forgetful")
    for _ in range(2):
        assert await forgetful.refusal("verify_patient", **(MARIA | {"postcode": "1234"})) == "no_match"
        assert (await forgetful.output("verify_patient", **MARIA))["verified"] is True


async def test_whoever_was_verified_last_is_who_is_meant_also_when_it_is_somebody_from_before(
    lite: World,
) -> None:
    caller = await verified(lite, *MARIA.values())
    await caller.output("verify_patient", name="Grace Kim", date_of_birth="1976-09-05", postcode="60695")
    assert (await caller.output("verify_insurance"))["plan"] == "Northern Mutual Saver"
    await caller.output("verify_patient", **MARIA)
    assert (await caller.output("verify_insurance"))["plan"] == "Bluewater Basic"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("verify_insurance", {}),
        ("list_prescriptions", {}),
        ("refill_prescription", {"medication": "lisinopril"}),
        ("record_health_consent", {"consent": True}),
        ("record_medical_history", {"category": "allergy", "details": "penicillin"}),
    ],
)
async def test_what_is_a_patients_own_needs_their_identity(
    anyone: KitCaller, tool: str, arguments: dict[str, Any]
) -> None:
    result = await anyone.ask(tool, **arguments)
    assert (result.status, result.code) == ("refused", "needs_verified:patient")
    assert isinstance(result.output, dict)
    assert result.output["error"]["next"] == {"tool": "verify_patient"}  # type: ignore[index, call-overload]


# -- appointments -------------------------------------------------------------------------------------------------


async def test_a_new_patient_is_booked_with_a_name_and_a_phone_number(caller: KitCaller) -> None:
    wish = {"reason": "check-up", "doctor": "Dr. Okafor", **TUESDAY}
    assert await caller.refusal("book_appointment", **wish) == "contact_needed"
    output = await caller.output("book_appointment", **wish, **NEW)
    assert output["starts_at"] == "2026-01-06T10:00:00-06:00"
    assert output["with_whom"] == "Dr. Amara Okafor"
    (fact,) = await caller.place.facts()
    assert isinstance(fact, CaseOpened)
    assert (fact.kind, fact.details["service"]) == ("appointment", "check-up")
    assert fact.details["booking_id"] == output["booking_id"]
    assert fact.person is not None
    assert (fact.person.name, fact.person.phone) == ("Ana Petrov", "+13125550199")
    assert await caller.place.rows("SELECT case_id, status FROM bookings") == [(fact.case_id, "booked")]


async def test_asking_again_for_the_same_visit_books_it_once(caller: KitCaller) -> None:
    wish = {"reason": "check-up", "doctor": "Okafor", **TUESDAY, **NEW}
    first, again = [await caller.output("book_appointment", **wish) for _ in range(2)]
    assert first["reference"] == again["reference"]
    assert len(await caller.place.facts()) == 1


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"reason": "check-up", "preferred_day": "2026-01-06"}, "any_time"),
        ({"reason": "check-up", "preferred_day": "2026-01-06", "preferred_time": "20:00"}, "outside_hours"),
        ({"reason": "check-up", "preferred_day": "2026-01-11", "preferred_time": "10:00"}, "closed"),
        ({"reason": "check-up", "preferred_day": "2026-01-19", "preferred_time": "10:00"}, "holiday"),
        ({"reason": "check-up", "preferred_day": "2026-01-05", "preferred_time": "11:15"}, "too_soon"),
        ({"reason": "check-up", "preferred_day": "2026-06-02", "preferred_time": "10:00"}, "too_far"),
        ({"reason": "check-up", "preferred_day": "2026-02-09", "doctor": "Brandt"}, "away"),
        ({"reason": "a flu shot", "preferred_day": "2026-01-10", "preferred_time": "13:00"}, "outside_hours"),
    ],
)
async def test_a_time_that_cannot_be_had_is_answered_with_others(
    anyone: KitCaller, wish: dict[str, str], reason: str
) -> None:
    output = await anyone.output("book_appointment", **wish, **NEW)
    assert (output["booked"], output["reason"]) == (False, reason)
    assert 1 <= len(output["slots"]) <= 3
    assert await anyone.place.facts() == []


async def test_a_slot_that_somebody_has_is_offered_to_nobody_else(place: World) -> None:
    wish = {"reason": "check-up", "doctor": "Okafor", **TUESDAY}
    await caller_of(place, "first").output("book_appointment", **wish, **NEW)
    other = await caller_of(place, "second").output(
        "book_appointment", **wish, name="Bo Li", phone="312 555 0198"
    )
    assert (other["booked"], other["reason"]) == (False, "taken")


@pytest.mark.parametrize(
    ("wish", "code", "missing"),
    [
        ({"reason": "a haircut"}, "service_not_understood", ["reason"]),
        ({"preferred_day": "when the moon is full"}, "day_not_understood", ["preferred_day"]),
        ({"doctor": "Dr. Strange"}, "resource_not_understood", ["doctor"]),
        ({"doctor": "Whitlock"}, "wrong_resource", ["doctor"]),
    ],
)
async def test_what_was_not_understood_is_named(
    anyone: KitCaller, wish: dict[str, str], code: str, missing: list[str]
) -> None:
    result = await anyone.ask("book_appointment", **({"reason": "check-up", **TUESDAY, **NEW} | wish))
    assert (result.status, result.code) == ("refused", code)
    assert isinstance(result.output, dict)
    assert result.output["error"]["missing"] == missing  # type: ignore[index, call-overload]


@pytest.mark.parametrize(("phone", "code"), [("12", "invalid_phone"), ("+1 312 555 0199", None)])
async def test_a_phone_number_that_is_none_is_refused(
    anyone: KitCaller, phone: str, code: str | None
) -> None:
    result = await anyone.ask(
        "book_appointment", reason="check-up", **TUESDAY, name="Ana Petrov", phone=phone
    )
    assert result.code == code


async def test_a_visit_is_moved_and_then_cancelled_by_whoever_booked_it(caller: KitCaller) -> None:
    booked = await caller.output("book_appointment", reason="check-up", doctor="Okafor", **TUESDAY, **NEW)
    moved = await caller.output("reschedule_appointment", preferred_day="2026-01-08", preferred_time="14:30")
    assert (moved["starts_at"], moved["reference"]) == ("2026-01-08T14:30:00-06:00", booked["reference"])
    kept = await caller.output("reschedule_appointment", preferred_day="2026-01-07", preferred_time="15:00")
    assert (kept["booked"], kept["reason"]) == (False, "outside_hours")
    cancelled = await caller.output("cancel_appointment")
    assert (cancelled["cancelled"], cancelled["is_late"]) == (True, False)
    opened, updated, closed = await caller.place.facts()
    assert isinstance(opened, CaseOpened)
    assert isinstance(updated, CaseUpdated)
    assert isinstance(closed, CaseClosed)
    assert {"starts_at", "booking_id", "status"} <= set(updated.changed)
    statuses = await caller.place.rows("SELECT status FROM bookings ORDER BY starts_at")
    assert statuses == [("cancelled",), ("cancelled",)]
    assert await caller.refusal("cancel_appointment") == "already_cancelled"
    assert await caller.refusal("reschedule_appointment", **TUESDAY) == "already_cancelled"


async def test_cancelling_on_short_notice_says_so_and_what_is_over_cannot_be_cancelled(
    caller: KitCaller,
) -> None:
    shot = {"reason": "a flu shot", "preferred_day": "today", "preferred_time": "14:00"}
    first = await caller.output("book_appointment", reason="check-up", doctor="Okafor", **TUESDAY, **NEW)
    second = await caller.output("book_appointment", **shot, **NEW)
    assert await caller.refusal("cancel_appointment") == "which_appointment"
    assert await caller.refusal("reschedule_appointment", preferred_day="2026-01-08") == "which_appointment"
    output = await caller.output("cancel_appointment", reference=second["reference"])
    assert (output["is_late"], output["service"]) == (True, "vaccination")
    assert "late cancellation fee" in output["say"]
    await caller.place.clock.advance(2 * 24 * 60 * MINUTE_MS)
    assert await caller.refusal("cancel_appointment", reference=first["reference"]) == "already_over"
    assert await caller.refusal("cancel_appointment") == "already_over"


async def test_a_visit_of_an_earlier_session_is_found_by_its_reference_and_phone_number_only(
    place: World,
) -> None:
    booked = await caller_of(place, "before").output(
        "book_appointment", reason="check-up", doctor="Okafor", **TUESDAY, **NEW
    )
    reference = booked["reference"]
    later = caller_of(place, "later")
    assert await later.refusal("cancel_appointment", reference=reference) == "needs_verified:appointment"
    assert await later.refusal("find_appointment", reference=reference) == "reference_needed"
    wrong = {"reference": reference, "phone": "312 555 0100"}
    assert await later.refusal("find_appointment", **wrong) == "no_match"
    found = await later.output("find_appointment", reference=" ".join(reference), phone="(312) 555-0199")
    assert found["label"] == booked["label"]
    assert (await later.output("cancel_appointment"))["cancelled"] is True


async def test_somebody_elses_reference_is_not_mine_even_when_i_have_a_visit_of_my_own(place: World) -> None:
    theirs = await caller_of(place, "them").output("book_appointment", reason="check-up", **TUESDAY, **NEW)
    me = caller_of(place, "me")
    await me.output(
        "book_appointment", reason="flu shot", preferred_day="2026-01-06", preferred_time="9:00", **NEW
    )
    assert await me.refusal("cancel_appointment", reference=theirs["reference"]) == "not_verified"
    assert await me.refusal("reschedule_appointment", reference="999999", **TUESDAY) == "not_verified"


async def test_guessing_references_locks(lite: World) -> None:
    guesser = caller_of(lite, "guesser")
    codes = [
        await guesser.refusal("find_appointment", reference=f"10000{n}", phone="312 555 0199")
        for n in range(4)
    ]
    assert codes == ["no_match", "no_match", "locked", "locked"]


async def test_a_verified_patient_is_booked_from_their_record_and_finds_their_visits(
    maria: KitCaller,
) -> None:
    assert await maria.refusal("find_appointment") == "appointment_not_found"
    await maria.output("book_appointment", reason="check-up", doctor="Okafor", **TUESDAY)
    (fact,) = await maria.place.facts()
    assert isinstance(fact, CaseOpened)
    assert fact.person is not None
    assert fact.person.email == "maria.lopez@example.com"
    again = await verified(maria.place, "Maria Lopez", "March 12, 1984", "6 0 6 9 1")
    found = await again.output("find_appointment")
    assert (found["appointments_count"], found["starts_at"]) == (1, "2026-01-06T10:00:00-06:00")
    assert [each["reference"] for each in found["appointments"]] == [found["reference"]]


# -- insurance ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "plan", "in_network"),
    [
        ("bluewater", "Bluewater Basic", True),
        ("my Summit Family plan", "Summit Family", True),
        ("Northern Mutual", "Northern Mutual Saver", False),
    ],
)
async def test_anyone_may_ask_whether_a_plan_is_taken(
    anyone: KitCaller, said: str, plan: str, in_network: bool
) -> None:
    output = await anyone.output("find_insurance_plan", plan_name=said)
    assert (output["plan"], output["in_network"]) == (plan, in_network)


async def test_a_plan_nobody_knows_is_refused_with_those_that_are_known(anyone: KitCaller) -> None:
    result = await anyone.ask("find_insurance_plan", plan_name="Moonbeam Gold")
    assert (result.status, result.code) == ("refused", "plan_not_found")
    assert isinstance(result.output, dict)
    assert result.output["error"]["known_plans"] == [  # type: ignore[index, call-overload]
        *("Bluewater Basic", "Fernhill Care Plus", "Summit Family")
    ]


@pytest.mark.parametrize(
    ("who", "service", "standing", "copay"),
    [
        (("Maria Lopez", "1984-03-12", "60691"), "check-up", "covered", 25),
        (("Maria Lopez", "1984-03-12", "60691"), "blood work", "not_covered", None),
        (("Henry Whitfield", "1951-11-02", "60692"), "blood test", "referral_needed", 15),
        (("Priya Raman", "1997-07-24", "60693"), "check-up", "ended", None),
        (("Grace Kim", "1976-09-05", "60695"), "check-up", "out_of_network", None),
    ],
)
async def test_a_patients_own_plan_is_judged_by_the_rules(
    lite: World, who: tuple[str, str, str], service: str, standing: str, copay: int | None
) -> None:
    patient = await verified(lite, *who)
    output = await patient.output("verify_insurance", service=service)
    assert (output["standing"], output["copay_usd"]) == (standing, copay)
    assert output["eligible"] == (standing in ("covered", "referral_needed"))


async def test_coverage_questions_that_cannot_be_answered_are_refused(lite: World) -> None:
    maria = await verified(lite, *MARIA.values())
    daniel = await verified(lite, "Daniel Osei", "1990-01-30", "60694")
    assert await daniel.refusal("verify_insurance") == "no_plan_on_file"
    assert await maria.refusal("verify_insurance", service="a haircut") == "service_not_understood"
    assert await maria.refusal("verify_insurance", day="someday") == "bad_date"


def test_every_plan_on_a_patients_file_is_one_the_clinic_knows(lite: World) -> None:
    business = lite.businesses["clinic"]
    patients, plans = business.data("patients.yaml")["patients"], INSURANCE.read(business)
    named = [each["coverage"]["plan"] for each in patients if "coverage" in each]
    assert all(plans.named(plan) for plan in named)


# -- prescriptions ------------------------------------------------------------------------------------------------


async def test_a_refill_takes_one_off_opens_a_case_and_the_next_one_is_too_soon(maria: KitCaller) -> None:
    output = await maria.output("refill_prescription", medication="my Lisinopril please")
    assert (output["status"], output["refills_left"]) == ("refilled", 2)
    (fact,) = await maria.place.facts()
    assert isinstance(fact, CaseOpened)
    assert (fact.kind, fact.queue, fact.details["prescription"]) == ("refill", "pharmacy", "RX-1")
    again = await maria.ask("refill_prescription", medication="lisinopril")
    assert (again.status, again.code) == ("refused", "too_soon")
    assert isinstance(again.output, dict)
    assert again.output["error"]["earliest"] == "2026-01-28"  # type: ignore[index, call-overload]
    assert len(await maria.place.facts()) == 1


async def test_what_may_not_simply_be_refilled_is_for_the_pharmacist_once(place: World) -> None:
    henry = await verified(place, "Henry Whitfield", "1951-11-02", "60692")
    first = await henry.output("refill_prescription", medication="metformin")
    again = await henry.output("refill_prescription", medication="metformin")
    expired = await henry.output("refill_prescription", medication="statin")
    assert (first["status"], first["reason"], first["is_new"]) == (
        "pharmacist_review",
        "no_refills_left",
        True,
    )
    assert (again["is_new"], again["reference"]) == (False, first["reference"])
    assert (expired["reason"], expired["is_new"]) == ("expired", True)
    assert [fact.fact_type for fact in await place.facts()] == ["parley.case.opened.v1"] * 2


@pytest.mark.parametrize(
    ("medication", "code"),
    [
        ("cetirizine", "too_soon"),
        ("metformin", "medication_not_found"),
        ("lisinopril and cetirizine", "which_medication"),
    ],
)
async def test_a_refill_that_cannot_be_is_refused(lite: World, medication: str, code: str) -> None:
    maria = await verified(lite, *MARIA.values())
    assert await maria.refusal("refill_prescription", medication=medication) == code
    assert await maria.place.facts() == []


async def test_prescriptions_are_listed_and_only_the_patients_own(place: World, maria: KitCaller) -> None:
    output = await maria.output("list_prescriptions")
    assert [each["medication"] for each in output["prescriptions"]] == ["lisinopril", "cetirizine"]
    daniel = await verified(place, "Daniel Osei", "1990-01-30", "60694")
    assert await daniel.refusal("list_prescriptions") == "no_prescriptions"
    assert await daniel.refusal("refill_prescription", medication="anything") == "no_prescriptions"


async def test_one_refill_call_repeated_takes_one_refill(maria: KitCaller) -> None:
    more: dict[str, Any] = {"business": "clinic", "context": CallerContext(grants=maria.grants)}
    for _ in range(5):
        await maria.place.ask(
            maria.worker, "refill_prescription", {"medication": "lisinopril"}, call_id="the-same", **more
        )
    assert len(await maria.place.facts()) == 1
    rows = await maria.place.rows("SELECT version FROM records WHERE record_id = 'RX-1'")
    assert rows == [(2,)]


def test_every_prescription_is_of_a_patient_on_file(lite: World) -> None:
    business = lite.businesses["clinic"]
    patients = {each["id"] for each in business.data("patients.yaml")["patients"]}
    held: list[Prescription] = list(PRESCRIPTIONS.read_seed(business).values())
    assert {each.patient for each in held} <= patients


# -- medical history ----------------------------------------------------------------------------------------------


async def test_nothing_is_written_down_before_the_patient_agreed(maria: KitCaller) -> None:
    entry = {"category": "allergy", "details": "penicillin gives me a rash"}
    result = await maria.ask("record_medical_history", **entry)
    assert (result.status, result.code) == ("refused", "needs_consent:health")
    assert isinstance(result.output, dict)
    assert result.output["error"]["next"] == {"tool": "record_health_consent"}  # type: ignore[index, call-overload]
    assert await maria.refusal("record_health_consent", consent=False) == "consent_refused"
    assert await maria.refusal("record_medical_history", **entry) == "needs_consent:health"
    (row,) = await maria.place.rows("SELECT data FROM records WHERE kind = 'health_consent'")
    assert "false" in str(row[0]).lower()
    assert await maria.place.rows("SELECT 1 FROM records WHERE kind = 'history'") == []


async def test_agreed_history_is_kept_entry_by_entry_and_its_fact_carries_no_illness(
    maria: KitCaller,
) -> None:
    await maria.output("record_health_consent", consent=True)
    first = await maria.output(
        "record_medical_history", category="surgery", details="Appendix taken out", since_year=2009
    )
    again = await maria.output("record_medical_history", category="surgery", details="appendix  taken out")
    second = await maria.output("record_medical_history", category="allergy", details="penicillin")
    assert (first["entries_count"], again["is_new"], second["entries_count"]) == (1, False, 2)
    opened, updated = await maria.place.facts()
    assert isinstance(opened, CaseOpened)
    assert isinstance(updated, CaseUpdated)
    assert updated.details == {"entries_count": 2, "categories": ["allergy", "surgery"]}
    assert "ppendix" not in opened.model_dump_json() + updated.model_dump_json()


async def test_a_year_still_to_come_is_no_history(maria: KitCaller) -> None:
    await maria.output("record_health_consent", consent=True)
    code = await maria.refusal(
        "record_medical_history", category="condition", details="asthma", since_year=2027
    )
    assert code == "bad_date"
