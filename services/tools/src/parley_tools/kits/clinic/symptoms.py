"""The clinic kit's triage: how urgent a complaint is, and what to do about it. Never what it is.

What is urgent becomes a case for the nurse, with the level and the rules that decided; the caller's words about their
body are not kept, for nobody has agreed to that yet.
"""

from __future__ import annotations

from parley_tools.cases import Priority
from parley_tools.kit import (
    Annotated,
    Case,
    CaseOpened,
    CaseUpdated,
    DataFile,
    Field,
    JsonValue,
    NewCase,
    Output,
    ToolContext,
    tool,
)
from parley_tools.rules.clinic_triage import LEVELS, Assessment, Complaint, Severity, Triage, assess

TRIAGE = DataFile("triage.yaml", Triage)
KIND = "triage"
REPORTED = ("urgent", "emergency")
NEXT = {
    "emergency": "Stay with the caller and repeat the emergency advice. Use no other tool.",
    "urgent": "Offer book_appointment for today.",
    "appointment": "Offer book_appointment.",
}


@tool(
    cls="reversible",
    deadline_ms=4_000,
    emits=(CaseOpened, CaseUpdated),
    data=(TRIAGE,),
    personal=("symptoms",),
)
async def assess_symptoms(
    ctx: ToolContext,
    symptoms: Annotated[
        str,
        Field(
            description="What the caller feels or what happened, in their own words",
            min_length=2,
            max_length=800,
        ),
    ],
    age_years: Annotated[
        float | None, Field(description="Age of the person who is unwell, in years", ge=0, le=120)
    ] = None,
    days: Annotated[int | None, Field(description="How many days it has lasted", ge=0, le=3_650)] = None,
    severity: Annotated[Severity | None, Field(description="How bad it is: mild, moderate or severe")] = None,
    temperature_f: Annotated[
        float | None, Field(description="Body temperature that was measured, in Fahrenheit", ge=80, le=115)
    ] = None,
) -> Output:
    """Assess how urgent symptoms are when someone feels unwell, is sick or hurt: pain, fever, a cough, a runny nose,
    a rash, dizziness, vomiting or throwing up, bleeding, trouble breathing, a burn, a fall or something broken. Tells
    whether it is for self-care, an appointment, urgent care today or an emergency. Call it at once when a caller
    describes how they feel, and say its advice first. It never names an illness, and neither do you.
    """
    triage = ctx.data(TRIAGE)
    found = assess(triage, Complaint(symptoms, age_years, days, severity, temperature_f))
    case = await _reported(ctx, found) if found.level in REPORTED else None
    return {
        "level": found.level,
        "is_diagnosis": False,
        "note": triage.note,
        "say": found.advice,
        **({"next": NEXT[found.level]} if found.level in NEXT else {}),
        **({"reference": case.reference} if case else {}),
    }


async def _reported(ctx: ToolContext, found: Assessment) -> Case:
    """Return the session's case for the nurse, opened or raised to this level; it never falls back."""
    details: dict[str, JsonValue] = {"level": found.level, "rules": list(found.rules)}
    summary = f"A caller was given {found.level} advice"
    priority: Priority = "urgent" if found.level == "emergency" else "high"
    before = next(iter(await ctx.cases.list(kind=KIND, of_session=True, is_open=True)), None)
    if before is None:
        new = NewCase(kind=KIND, summary=summary, priority=priority, queue="nurse")
        return await ctx.cases.open(new, details)
    if LEVELS.index(found.level) > LEVELS.index(before.details["level"]):
        await ctx.cases.update(before, details=details, summary=summary, priority=priority)
    return before
