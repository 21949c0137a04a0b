"""Case facts: any other outcome of a session (appointment, ticket, application, refill ...). Key case_id."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from parley_common.contracts.people import Person
from parley_common.contracts.record import Fact
from parley_common.contracts.topics import CASE_EVENTS, Topic


class _CaseFact(Fact):
    topic: ClassVar[Topic] = CASE_EVENTS
    key_field: ClassVar[str] = "case_id"

    case_id: str
    seq: int = Field(ge=1)
    business: str
    session_id: str | None = None
    at: datetime
    kind: str
    """appointment, ticket, application, refill, call_back ... : the business's own words."""


class CaseOpened(_CaseFact):
    """Something is to be done for someone."""

    fact_type: ClassVar[str] = "parley.case.opened.v1"

    summary: str
    person: Person | None = None
    priority: Literal["low", "normal", "high", "urgent"] = "normal"
    queue: str | None = None
    details: dict[str, JsonValue] = {}


class CaseUpdated(_CaseFact):
    """Something about a case changed; carries the whole details as they now are."""

    fact_type: ClassVar[str] = "parley.case.updated.v1"

    summary: str
    person: Person | None = None
    status: str
    changed: tuple[str, ...] = ()
    details: dict[str, JsonValue] = {}


class CaseClosed(_CaseFact):
    """Nothing more is to be done."""

    fact_type: ClassVar[str] = "parley.case.closed.v1"

    resolution: str
    person: Person | None = None
