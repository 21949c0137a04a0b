"""The clinic kit's medical history: what a verified patient tells and agreed to have written down, entry by entry.

The entries themselves stay in our database. The case that tells the nurse about them, which also travels as a fact
and an e-mail, carries only how many there are and of which kind.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from parley_tools.kit import (
    Annotated,
    CaseOpened,
    CaseUpdated,
    DataPart,
    Field,
    JsonValue,
    NewCase,
    Output,
    RecordKind,
    Refused,
    ToolContext,
    tool,
)
from parley_tools.kits._consent import keep_answer
from parley_tools.kits.clinic._patients import PATIENT, PATIENTS, Patient, verified_patient

HEALTH = "consent:health"
KIND = "history"
ENTRIES_MAX = 200
WORDING = "May we write what you tell about your health into your medical record?"
Category = Literal["allergy", "condition", "medication", "surgery", "family"]


class Entry(DataPart):
    """One thing a patient told."""

    category: Category
    details: str
    since_year: int | None = None
    told_at: datetime


class History(DataPart):
    """What one patient told, oldest first."""

    entries: tuple[Entry, ...] = ()


class HealthConsent(DataPart):
    """What a patient answered, when, and to which words."""

    given: bool
    at: datetime
    wording: str


HISTORIES = RecordKind("history", History)
CONSENTS = RecordKind("health_consent", HealthConsent)


@tool(cls="reversible", needs=(PATIENT,), grants=(HEALTH,), data=(PATIENTS,), records=(CONSENTS,))
async def record_health_consent(
    ctx: ToolContext,
    consent: Annotated[
        bool,
        Field(
            description="Whether the caller agrees that what they tell about their health is written into their record"
        ),
    ],
) -> Output:
    """Record whether the patient gives permission to write health information into their medical record. Ask first,
    and pass on their own yes or no.
    """
    wording = str(ctx.setting("health_consent", WORDING))
    answer = HealthConsent(given=consent, at=ctx.now, wording=wording)
    await keep_answer(
        ctx,
        CONSENTS,
        verified_patient(ctx).id,
        answer,
        grant=HEALTH if consent else None,
        refusal="That's fine, I won't write anything down. You can tell the doctor in person.",
    )
    return {"consent": True, "say": "Thank you. What would you like me to write down?"}


@tool(
    cls="reversible",
    needs=(PATIENT, HEALTH),
    emits=(CaseOpened, CaseUpdated),
    data=(PATIENTS,),
    records=(HISTORIES,),
    personal=("details",),
)
async def record_medical_history(
    ctx: ToolContext,
    category: Annotated[
        Category, Field(description="Kind of entry: allergy, condition, medication, surgery or family")
    ],
    details: Annotated[
        str, Field(description="What to write down, in the caller's own words", min_length=2, max_length=500)
    ],
    since_year: Annotated[
        int | None, Field(description="Year since when, or in which it happened", ge=1900, le=2100)
    ] = None,
) -> Output:
    """Write one entry into the patient's medical history: an allergy, a condition, a medication they take, a surgery
    they had, or an illness in the family. One call for each thing they tell.
    """
    patient = verified_patient(ctx)
    if since_year is not None and since_year > ctx.now.year:
        raise Refused(
            "That year is still to come. Which year was it?", code="bad_date", missing=["since_year"]
        )
    before = await ctx.records.lock(HISTORIES, patient.id)
    entries = before.data.entries if before else ()
    entry = Entry(
        category=category, details=" ".join(details.split()), since_year=since_year, told_at=ctx.now
    )
    if any(_same(entry, each) for each in entries):
        return {"entries_count": len(entries), "is_new": False, "say": "I have that already. Anything else?"}
    if len(entries) >= ENTRIES_MAX:
        raise Refused("Your history is full; please tell the doctor in person.", code="history_full")
    kept = History(entries=(*entries, entry))
    await ctx.records.put(HISTORIES, patient.id, kept, version=before.version if before else 0)
    reference = await _told(ctx, patient, kept)
    return {
        "entries_count": len(kept.entries),
        "is_new": True,
        "category": category,
        "reference": reference,
        "say": f"I've written that down under {category.replace('family', 'family history')}. Anything else?",
    }


def _same(entry: Entry, other: Entry) -> bool:
    return (entry.category, entry.details.casefold()) == (other.category, other.details.casefold())


async def _told(ctx: ToolContext, patient: Patient, history: History) -> str:
    """Tell the nurse in one case of this session that there is something new to look at."""
    categories: list[JsonValue] = [*sorted({each.category for each in history.entries})]
    details: dict[str, JsonValue] = {"entries_count": len(history.entries), "categories": categories}
    before = await ctx.cases.list(kind=KIND, subject=patient.id, of_session=True, is_open=True)
    if before:
        await ctx.cases.update(before[0], details=details)
        return before[0].reference
    summary = "A patient added to their medical history"
    case = NewCase(
        kind=KIND, summary=summary, person=patient.person, subject=patient.id, queue="nurse", priority="low"
    )
    return (await ctx.cases.open(case, details)).reference
