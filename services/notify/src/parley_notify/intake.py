"""Takes in lead and case facts: in one transaction, inbox and deliveries. Sends nothing.

Law: a fact is settled only after its deliveries are stored, and a fact that comes twice causes them once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from parley_common.business import Business
from parley_common.clock import Clock
from parley_common.contracts.cases import CaseClosed, CaseOpened, CaseUpdated
from parley_common.contracts.facts import FACTS
from parley_common.contracts.leads import (
    LeadCallScheduled,
    LeadCaptured,
    LeadDisqualified,
    LeadErased,
    LeadQualified,
    LeadUpdated,
)
from parley_common.contracts.record import Envelope, Fact, to_json
from parley_common.contracts.topics import CASE_EVENTS, LEAD_EVENTS
from parley_common.db import Database
from parley_common.errors import InvalidRecord
from parley_common.ids import derived_id
from parley_common.inbox import is_first_time
from parley_common.telemetry import Counter, current_traceparent
from parley_notify.deliveries import FINISHED, Deliveries
from parley_notify.delivery import Delivery
from parley_notify.routes import Defaults, Planned, fact_name, plan
from parley_notify.standing import Told, entries, merged
from parley_notify.tables import CANCELLED, inbox

log = structlog.get_logger("intake")

TOPICS = (LEAD_EVENTS, CASE_EVENTS)
HEARD = frozenset(fact_name(fact.fact_type) for fact in FACTS if fact.topic in TOPICS)
"""The names of the facts that come to this service."""

TAKEN_IN = Counter("parley_notify_facts", "Facts taken in, by what came of them", ["outcome"])

Outcome = Literal["planned", "no_route", "unknown_business", "repeat", "erased_subject"]
HeardFact = (
    LeadCaptured
    | LeadUpdated
    | LeadQualified
    | LeadDisqualified
    | LeadCallScheduled
    | LeadErased
    | CaseOpened
    | CaseUpdated
    | CaseClosed
)


class Intake:
    """The handler of notify's fact consumer."""

    def __init__(
        self,
        database: Database,
        deliveries: Deliveries,
        businesses: Mapping[str, Business],
        defaults: Defaults,
        *,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._deliveries = deliveries
        self._businesses = businesses
        self._defaults = defaults
        self._clock = clock
        self._wake = wake

    async def take(self, envelope: Envelope, fact: Fact) -> None:
        """Store what ``fact`` causes. Raises DependencyUnavailable, and InvalidRecord for a fact of another topic."""
        if not isinstance(fact, HeardFact):
            raise InvalidRecord(f"{envelope.type} does not belong on this topic", code="wrong_topic")
        outcome = await self._take(envelope, fact)
        TAKEN_IN.labels(outcome).inc()
        log.debug("fact.taken_in", fact_id=envelope.id, type=envelope.type, outcome=outcome)
        if outcome == "planned":
            self._wake()

    async def _take(self, envelope: Envelope, fact: HeardFact) -> Outcome:
        business = self._businesses.get(fact.business)
        planned = plan(fact, business, self._defaults) if business else ()
        # What causes nothing is not remembered: when a route or a business is added later, a replay can still tell it.
        if business is None and not isinstance(fact, LeadErased):
            return "unknown_business"
        if not planned and not isinstance(fact, LeadErased | CaseClosed):
            return "no_route"
        now = self._clock.now()
        cancelled: list[Delivery] = []
        async with self._database.begin() as db:
            told = await self._told(db, fact, planned)
            if not told and not isinstance(fact, LeadErased):
                return "no_route"
            if not await is_first_time(db, inbox, envelope.id, now):
                return "repeat"
            if isinstance(fact, LeadErased):
                cancelled = await self._deliveries.erase(db, fact.key, now)
            elif await self._deliveries.is_erased(db, fact.key):
                return "erased_subject"
            new = [_delivery(envelope, fact, each, now) for each in told]
            await self._deliveries.add(db, new)
        for delivery in cancelled:
            FINISHED.labels(delivery.channel, CANCELLED).inc()
        return "planned" if told else "no_route"

    async def _told(self, db: AsyncSession, fact: HeardFact, planned: Sequence[Planned]) -> list[Told]:
        left = await entries(db, fact) if isinstance(fact, CaseClosed) else []
        return merged(planned, left)


def _delivery(envelope: Envelope, fact: HeardFact, told: Told, now: datetime) -> Delivery:
    to = told.to
    return Delivery(
        delivery_id=derived_id(envelope.id, told.name),
        fact_id=envelope.id,
        fact_type=envelope.type,
        fact_source=envelope.source,
        fact_time=envelope.time,
        business=fact.business,
        subject_id=fact.key,
        seq=fact.seq,
        route=to.route,
        channel=to.channel,
        destination=to.destination,
        host=to.host,
        template=to.template,
        payload=to_json(fact).decode(),
        traceparent=current_traceparent() or envelope.traceparent,
        tracestate=envelope.tracestate,
        attempts=0,
        created_at=now,
        booking=told.booking,
    )
