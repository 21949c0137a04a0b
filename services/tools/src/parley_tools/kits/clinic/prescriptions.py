"""The clinic kit's refills: what a verified patient may have again today, and what a pharmacist must look at first."""

from __future__ import annotations

from datetime import date

from parley_tools.kit import (
    Annotated,
    Case,
    CaseOpened,
    DataFile,
    Field,
    JsonValue,
    Kept,
    NewCase,
    Output,
    RecordKind,
    Refused,
    ToolContext,
    tool,
)
from parley_tools.kits.clinic._patients import PATIENT, PATIENTS, Patient, verified_patient
from parley_tools.rules.clinic_refills import Pharmacy, Prescription, Reason, Refill, decide

PHARMACY = DataFile("pharmacy.yaml", Pharmacy)
PRESCRIPTIONS = RecordKind("prescription", Prescription, seed="prescriptions.yaml")
REFILL = "refill"
REVIEW = "refill_review"
WHY: dict[Reason, str] = {
    "no_refills_left": "There are no refills left on it",
    "expired": "That prescription has expired",
    "controlled": "A pharmacist always checks that medication",
}


@tool(cls="read", needs=(PATIENT,), data=(PATIENTS, PHARMACY), records=(PRESCRIPTIONS,))
async def list_prescriptions(ctx: ToolContext) -> Output:
    """List the verified patient's prescriptions on file, with the refills that are left."""
    held = await _held(ctx, verified_patient(ctx))
    if not held:
        raise Refused("There are no prescriptions on your file.", code="no_prescriptions")
    today = _today(ctx)
    listed: list[JsonValue] = [
        {
            "medication": each.data.medication,
            "strength": each.data.strength,
            "refills_left": each.data.refills_left,
            "refill": decide(each.data, ctx.data(PHARMACY), today).decision,
        }
        for each in held
    ]
    said = ", ".join(f"{e.data.medication} with {_refills(e.data.refills_left)} left" for e in held)
    return {"prescriptions": listed, "say": f"On your file I have {said}."}


@tool(
    cls="reversible",
    needs=(PATIENT,),
    emits=(CaseOpened,),
    data=(PATIENTS, PHARMACY),
    records=(PRESCRIPTIONS,),
    personal=("medication",),
)
async def refill_prescription(
    ctx: ToolContext,
    medication: Annotated[
        str, Field(description="Name of the medication to refill", min_length=2, max_length=80)
    ],
) -> Output:
    """Refill a prescription of the verified patient: more of the pills or medicine they take, by the name of the
    medication. Tells when it is too soon, and hands to the pharmacist what may not simply be refilled.
    """
    patient, pharmacy, today = verified_patient(ctx), ctx.data(PHARMACY), _today(ctx)
    wanted = await _wanted(ctx, patient, medication)
    locked = await ctx.records.lock(PRESCRIPTIONS, wanted.record_id)
    prescription = (locked or wanted).data
    ruled = decide(prescription, pharmacy, today)
    if ruled.earliest is not None:
        say = _say_too_soon(prescription, ruled.earliest)
        raise Refused(say, code="too_soon", earliest=ruled.earliest.isoformat())
    if ruled.decision == "review":
        return await _reviewed(ctx, patient, prescription, ruled)
    refilled = prescription.refilled(today)
    await ctx.records.put(PRESCRIPTIONS, prescription.id, refilled)
    case = await _opened(ctx, REFILL, patient, prescription, {"refills_left": refilled.refills_left})
    return {
        "status": "refilled",
        "medication": prescription.medication,
        "reference": case.reference,
        "refills_left": refilled.refills_left,
        "ready_in_h": pharmacy.ready_h,
        "say": f"Your {prescription.medication} will be ready at {pharmacy.name} in about "
        f"{pharmacy.ready_h} hours. You have {_refills(refilled.refills_left)} left.",
    }


async def _held(ctx: ToolContext, patient: Patient) -> list[Kept[Prescription]]:
    return [each for each in await ctx.records.all(PRESCRIPTIONS) if each.data.patient == patient.id]


async def _wanted(ctx: ToolContext, patient: Patient, said: str) -> Kept[Prescription]:
    """Return the prescription a patient means. Raises Refused that names what there is."""
    held = await _held(ctx, patient)
    fitting = [each for each in held if each.data.is_named(said)]
    if len(fitting) == 1:
        return fitting[0]
    names = " and ".join(each.data.medication for each in fitting or held)
    if not names:
        raise Refused("There are no prescriptions on your file.", code="no_prescriptions")
    code = "which_medication" if fitting else "medication_not_found"
    raise Refused(
        f"I don't have that on your file. I see {names}. Which one is it?", code=code, missing=["medication"]
    )


async def _reviewed(ctx: ToolContext, patient: Patient, prescription: Prescription, ruled: Refill) -> Output:
    """Hand it to the pharmacist once; whoever asks again hears of the same case."""
    waiting = [
        case
        for case in await ctx.cases.list(kind=REVIEW, subject=patient.id, is_open=True)
        if case.details.get("prescription") == prescription.id
    ]
    case = (
        waiting[0] if waiting else await _opened(ctx, REVIEW, patient, prescription, {"reason": ruled.reason})
    )
    hours = ctx.data(PHARMACY).review_h
    already = "already has" if waiting else "will look at"
    return {
        "status": "pharmacist_review",
        "reason": ruled.reason,
        "medication": prescription.medication,
        "reference": case.reference,
        "is_new": not waiting,
        "say": f"{WHY[ruled.reason]}, so our pharmacist {already} your request and will call you within "
        f"{hours} hours. Your reference is {' '.join(case.reference)}.",
    }


async def _opened(
    ctx: ToolContext, kind: str, patient: Patient, prescription: Prescription, more: dict[str, JsonValue]
) -> Case:
    new = NewCase(
        kind=kind,
        summary=f"{kind.replace('_', ' ').capitalize()}: {prescription.medication} {prescription.strength}",
        person=patient.person,
        subject=patient.id,
        queue="pharmacy",
    )
    return await ctx.cases.open(
        new, {"prescription": prescription.id, "medication": prescription.medication, **more}
    )


def _say_too_soon(prescription: Prescription, earliest: date) -> str:
    day = f"{earliest:%A}, {earliest:%B} {earliest.day}"
    return f"It's too soon for your {prescription.medication}: it can be refilled from {day}."


def _refills(count: int) -> str:
    return "one refill" if count == 1 else f"{count or 'no'} refills"


def _today(ctx: ToolContext) -> date:
    return ctx.now.astimezone(ctx.business.zone).date()
