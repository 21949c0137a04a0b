"""Lead facts: a consenting person's interest, from capture to erasure. Topic parley.lead.events, key lead_id.

``seq`` counts the facts of one lead from 1 without gaps: what a consumer orders and checks by.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from parley_common.contracts.people import Consent, Person
from parley_common.contracts.record import Fact
from parley_common.contracts.topics import LEAD_EVENTS, Topic


class _LeadFact(Fact):
    topic: ClassVar[Topic] = LEAD_EVENTS
    key_field: ClassVar[str] = "lead_id"

    lead_id: str
    seq: int = Field(ge=1)
    business: str
    session_id: str | None = None
    """The session it came from; null when an operator did it."""
    at: datetime


class LeadCaptured(_LeadFact):
    """Someone agreed to be contacted about something."""

    fact_type: ClassVar[str] = "parley.lead.captured.v1"

    person: Person
    consent: Consent
    interest: dict[str, JsonValue] = {}
    """What they want, in the business's own fields (for lending: product, price, credit score ...)."""
    channel: str = "browser"
    page: str | None = None


class LeadUpdated(_LeadFact):
    """More, or something else, is known of a lead. Carries the whole person and interest as they now are."""

    fact_type: ClassVar[str] = "parley.lead.updated.v1"

    person: Person
    interest: dict[str, JsonValue] = {}
    changed: tuple[str, ...] = ()


class LeadQualified(_LeadFact):
    """The business's rules say this lead is worth following up."""

    fact_type: ClassVar[str] = "parley.lead.qualified.v1"

    score: int = Field(ge=0, le=100)
    disposition: str
    """hot, warm, or a word of the business's own rules."""
    reasons: tuple[str, ...] = ()
    offer: str | None = None
    person: Person
    interest: dict[str, JsonValue] = {}
    rules_version: str = "1"


class LeadDisqualified(_LeadFact):
    """The business's rules say this lead is not for them."""

    fact_type: ClassVar[str] = "parley.lead.disqualified.v1"

    score: int = Field(ge=0, le=100)
    disposition: str
    reasons: tuple[str, ...] = ()
    person: Person
    interest: dict[str, JsonValue] = {}
    rules_version: str = "1"


class LeadCallScheduled(_LeadFact):
    """A person will call the lead in this slot."""

    fact_type: ClassVar[str] = "parley.lead.call_scheduled.v1"

    booking_id: str
    starts_at: datetime
    ends_at: datetime
    time_zone: str
    """IANA name: the one the caller was told the time in."""
    with_whom: str | None = None
    person: Person
    status: Literal["booked", "moved", "cancelled"] = "booked"


class LeadErased(_LeadFact):
    """Personal data of this lead was removed; consumers must remove theirs."""

    fact_type: ClassVar[str] = "parley.lead.erased.v1"

    subject_hash: str
