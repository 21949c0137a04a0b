"""Everything a kit is written with, in one import. docs/how-to/write-a-kit.md shows it at work.

Law: these names and what they do are kept; kits in this folder and elsewhere rely on them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from parley_common.contracts.cases import CaseClosed, CaseOpened, CaseUpdated
from parley_common.contracts.leads import (
    LeadCallScheduled,
    LeadCaptured,
    LeadDisqualified,
    LeadQualified,
    LeadUpdated,
)
from parley_common.contracts.people import Consent, Person
from parley_tools.bookings import Booked, Bookings, Owner, Sought
from parley_tools.cases import Cases, NewCase, person_of
from parley_tools.context import ToolContext
from parley_tools.files import DataFile, DataPart, RecordKind
from parley_tools.leads import valid_email, valid_phone
from parley_tools.records import Kept, Records
from parley_tools.refusals import Refused
from parley_tools.registry import Output, Tool, tool
from parley_tools.rules.schedule import SCHEDULING
from parley_tools.rules.slots import read_day, read_time, spoken_moment, spoken_zone
from parley_tools.store import Case, Lead

__all__ = [
    "SCHEDULING",
    "Annotated",
    "Booked",
    "Bookings",
    "Case",
    "CaseClosed",
    "CaseOpened",
    "CaseUpdated",
    "Cases",
    "Consent",
    "DataFile",
    "DataPart",
    "Field",
    "JsonValue",
    "Kept",
    "Lead",
    "LeadCallScheduled",
    "LeadCaptured",
    "LeadDisqualified",
    "LeadQualified",
    "LeadUpdated",
    "Literal",
    "NewCase",
    "Output",
    "Owner",
    "Person",
    "RecordKind",
    "Records",
    "Refused",
    "Sought",
    "Tool",
    "ToolContext",
    "person_of",
    "read_day",
    "read_time",
    "spoken_moment",
    "spoken_zone",
    "tool",
    "valid_email",
    "valid_phone",
]
