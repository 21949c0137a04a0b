"""Delivery facts: what became of one notification on one channel. Key: the lead or case it is about."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from parley_common.contracts.record import Fact
from parley_common.contracts.topics import DELIVERY_EVENTS, Topic


class _DeliveryFact(Fact):
    topic: ClassVar[Topic] = DELIVERY_EVENTS
    key_field: ClassVar[str] = "subject_id"

    delivery_id: str
    subject_id: str
    """The lead_id or case_id."""
    seq: int = Field(ge=1)
    business: str
    fact_id: str
    """``ce_id`` of the fact that was to be told."""
    fact_type_told: str
    route: str
    channel: str
    attempts: int = Field(ge=0)
    at: datetime


class DeliveryDelivered(_DeliveryFact):
    """The destination took it."""

    fact_type: ClassVar[str] = "parley.delivery.delivered.v1"


class DeliveryFailed(_DeliveryFact):
    """The destination will never take it, or the time to try was over."""

    fact_type: ClassVar[str] = "parley.delivery.failed.v1"

    cause: str


class DeliveryCancelled(_DeliveryFact):
    """It is no longer to be told, such as when the lead was erased."""

    fact_type: ClassVar[str] = "parley.delivery.cancelled.v1"

    cause: str
