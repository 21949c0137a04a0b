"""The person a lead or case is about, and what they agreed to."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from parley_common.contracts.record import Contract


class Person(Contract):
    """How to reach someone. Personal data: never in a log, span or metric. Null: not given."""

    name: str | None = None
    email: str | None = None
    phone: str | None = None
    """E.164."""


class Consent(Contract):
    """What the caller agreed to, when, and in which words the agent asked."""

    given: bool
    at: datetime
    wording: str
    channels: tuple[Literal["email", "phone", "sms"], ...] = ("email", "phone")
