"""The patients of a clinic as they are on file, and the one this session has verified."""

from __future__ import annotations

from datetime import date

from parley_tools.kit import DataFile, DataPart, Field, Person, Refused, ToolContext
from parley_tools.rules.clinic_insurance import Coverage

PATIENT = "verified:patient"


class Patient(DataPart):
    """One patient."""

    id: str
    name: str
    born: date
    postcode: str
    phone: str
    email: str | None = None
    doctor: str
    coverage: Coverage | None = None
    """Null: pays for themselves."""

    @property
    def person(self) -> Person:
        return Person(name=self.name, email=self.email, phone=self.phone)

    @property
    def first_name(self) -> str:
        return self.name.split(" ")[0]


class Patients(DataPart):
    """data/patients.yaml."""

    note: str
    patients: tuple[Patient, ...] = Field(min_length=1)

    def get(self, patient_id: str) -> Patient | None:
        return next((each for each in self.patients if each.id == patient_id), None)


PATIENTS = DataFile("patients.yaml", Patients)


def verified_patient(ctx: ToolContext) -> Patient:
    """Return the patient of this session, for tools that declare ``needs=(PATIENT,)``.

    Raises:
        Refused: code ``patient_gone``: they were on file when they were verified, and are not any more.
    """
    patient = ctx.data(PATIENTS).get(ctx.verified("patient"))
    if patient is None:
        raise Refused("I can't find your record any more. Our front desk can help.", code="patient_gone")
    return patient
