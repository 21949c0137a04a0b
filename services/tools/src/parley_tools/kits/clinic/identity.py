"""The clinic kit's check of who a patient is, before anything of theirs is read or changed."""

from __future__ import annotations

from parley_tools.kit import Annotated, Field, Output, Refused, ToolContext, tool
from parley_tools.kits import _identity
from parley_tools.kits.clinic._patients import PATIENT, PATIENTS, Patient
from parley_tools.rules.identity import read_birthday, same_name, same_word


@tool(
    cls="reversible",
    grants=(PATIENT,),
    data=(PATIENTS,),
    records=(_identity.ATTEMPTS,),
    personal=("name", "date_of_birth", "postcode"),
)
async def verify_patient(
    ctx: ToolContext,
    name: Annotated[str, Field(description="The patient's full name", min_length=1, max_length=200)],
    date_of_birth: Annotated[
        str,
        Field(
            description="The patient's date of birth, as a date such as 1984-03-12",
            min_length=4,
            max_length=40,
        ),
    ],
    postcode: Annotated[
        str,
        Field(description="The postcode the patient is registered with", min_length=3, max_length=12),
    ],
) -> Output:
    """Verify who a patient is by their full name, when they were born (date of birth) and their postcode (zip code).
    Needed before their insurance, prescriptions or medical history may be used.
    """
    born = read_birthday(date_of_birth, ctx.now.astimezone(ctx.business.zone).date())
    if born is None:
        raise Refused(
            "I didn't get that as a date of birth. Could you say it with day, month and year?",
            code="bad_date",
            missing=["date_of_birth"],
        )
    attempt = await _identity.begin(ctx, f"patient {' '.join(name.split())}")
    found = [
        each
        for each in ctx.data(PATIENTS).patients
        if each.born == born and same_name(name, each.name) and same_word(postcode, each.postcode)
    ]
    if len(found) != 1:
        raise _identity.no_match(attempt)
    await _identity.forgive(ctx, attempt)
    ctx.grant(f"{PATIENT}-{found[0].id}")
    return _greeted(found[0])


def _greeted(patient: Patient) -> Output:
    return {
        "verified": True,
        "doctor": patient.doctor,
        "has_insurance_on_file": patient.coverage is not None,
        "say": f"Thank you {patient.first_name}, I found your record. What can I do for you?",
    }
