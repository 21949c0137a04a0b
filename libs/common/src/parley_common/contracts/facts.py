"""The registry of every fact type: one list that publishers, readers, schemas and AsyncAPI are made from."""

from __future__ import annotations

from parley_common.contracts import cases, deliveries, leads, sessions
from parley_common.contracts.record import Envelope, Fact, read_contract
from parley_common.errors import InvalidRecord

FACTS: tuple[type[Fact], ...] = (
    sessions.SessionStarted,
    sessions.TurnCompleted,
    sessions.ToolUsed,
    sessions.SessionFeedback,
    sessions.SessionEnded,
    leads.LeadCaptured,
    leads.LeadUpdated,
    leads.LeadQualified,
    leads.LeadDisqualified,
    leads.LeadCallScheduled,
    leads.LeadErased,
    cases.CaseOpened,
    cases.CaseUpdated,
    cases.CaseClosed,
    deliveries.DeliveryDelivered,
    deliveries.DeliveryFailed,
    deliveries.DeliveryCancelled,
)
BY_TYPE: dict[str, type[Fact]] = {fact.fact_type: fact for fact in FACTS}


def read_fact(envelope: Envelope, value: bytes | None) -> Fact:
    """Read the fact in a record. Raises InvalidRecord for an unknown type or a value that is not of its type."""
    model = BY_TYPE.get(envelope.type)
    if model is None:
        raise InvalidRecord(f"no fact of type {envelope.type[:80]!r} is known here", code="unknown_fact_type")
    return read_contract(model, value)
