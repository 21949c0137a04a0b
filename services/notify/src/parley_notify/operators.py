"""The operators' door of notify: deliveries and dead letters over HTTP, for people with the internal token.

Law: nothing personal is shown or taken; what was done is logged with ids alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from parley_common.clock import Clock
from parley_common.errors import DependencyUnavailable
from parley_notify.dead_letters import LIST_MAX as LETTERS_MAX
from parley_notify.dead_letters import DeadLetters, Letter
from parley_notify.docket import LIST_MAX, Docket, Done, Wanted

log = structlog.get_logger("operators")

State = Literal["pending", "delivered", "failed", "cancelled"]
_REFUSALS: dict[Done, tuple[int, str]] = {
    "unknown": (404, "no such delivery"),
    "under_way": (409, "an attempt is under way; try again when it has ended"),
    "delivered": (409, "it was delivered"),
    "erased": (409, "its subject was erased, and what it told with it"),
    "finished": (409, "it is finished already"),
}


@dataclass
class Desk:
    """What operators work on; null until the service has connected."""

    docket: Docket | None = None
    letters: DeadLetters | None = None


class DeliveryAnswer(BaseModel):
    """One delivery, without what it tells."""

    delivery_id: str
    state: State
    business: str
    route: str
    channel: str
    host: str
    fact_type: str
    fact_id: str
    subject_id: str
    seq: int
    attempts: int
    cause: str | None
    created_at: datetime
    next_at: datetime
    lease_until: datetime | None
    finished_at: datetime | None
    retried_at: datetime | None


class DeliveryDetails(DeliveryAnswer):
    """One delivery and its surroundings."""

    waits_for: str | None
    """The older delivery of the same lead or case and route that goes first; null: none."""
    is_erased: bool
    traceparent: str | None


class Place(BaseModel):
    """Where a dead letter lies."""

    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)


class ReplayOrder(BaseModel):
    """Which dead letters to send again. ``again``: also those that were replayed before."""

    letters: list[Place] = Field(min_length=1, max_length=LETTERS_MAX)
    again: bool = False


class ReplayAnswer(Place):
    """What came of one replay."""

    outcome: str


def add_operators(app: FastAPI, desk: Desk, internal_token: str, clock: Clock) -> None:
    """Add the routes to the service's HTTP app."""

    def is_operator(authorization: Annotated[str, Header()] = "") -> None:
        shown = authorization.removeprefix("Bearer ")
        if not hmac.compare_digest(shown.encode(), internal_token.encode()):
            raise HTTPException(401, "the internal token is needed")

    @app.exception_handler(DependencyUnavailable)
    async def unavailable(_request: Request, wrong: DependencyUnavailable) -> JSONResponse:
        return JSONResponse({"detail": str(wrong)}, status_code=503)

    router = APIRouter(prefix="/v1", dependencies=[Depends(is_operator)])
    _add_deliveries(router, lambda: _there(desk.docket), clock)
    _add_letters(router, lambda: _there(desk.letters), clock)
    app.include_router(router)


def _add_deliveries(router: APIRouter, docket: Callable[[], Docket], clock: Clock) -> None:
    @router.get("/deliveries")
    async def list_deliveries(
        state: State | None = None,
        business: str | None = None,
        route: str | None = None,
        channel: str | None = None,
        subject: str | None = None,
        fact: str | None = None,
        limit: Annotated[int, Query(ge=1, le=LIST_MAX)] = 100,
    ) -> list[DeliveryAnswer]:
        wanted = Wanted(state, business, route, channel, subject, fact, limit)
        return [DeliveryAnswer(**shown) for shown in await docket().listed(wanted)]

    @router.get("/deliveries/{delivery_id}")
    async def show_delivery(delivery_id: str) -> DeliveryDetails:
        shown = await docket().show(delivery_id)
        if shown is None:
            raise HTTPException(404, "no such delivery")
        return DeliveryDetails(**shown)

    @router.post("/deliveries/{delivery_id}/retry")
    async def retry_delivery(delivery_id: str) -> dict[str, str]:
        return _said("retry", delivery_id, await docket().retry(delivery_id, clock.now()))

    @router.post("/deliveries/{delivery_id}/cancel")
    async def cancel_delivery(delivery_id: str) -> dict[str, str]:
        return _said("cancel", delivery_id, await docket().cancel(delivery_id, clock.now()))


def _add_letters(router: APIRouter, letters: Callable[[], DeadLetters], clock: Clock) -> None:
    @router.get("/dead-letters")
    async def list_letters(
        topic: str | None = None, limit: Annotated[int, Query(ge=1, le=LETTERS_MAX)] = 100
    ) -> list[Letter]:
        return await letters().listed(topic=topic, limit=limit)

    @router.get("/dead-letters/{topic}/{partition}/{offset}")
    async def show_letter(topic: str, partition: int, offset: int) -> Letter:
        letter = await letters().show((topic, partition, offset))
        if letter is None:
            raise HTTPException(404, "no such dead letter")
        return letter

    @router.post("/dead-letters/replay")
    async def replay_letters(order: ReplayOrder) -> list[ReplayAnswer]:
        places = [(place.topic, place.partition, place.offset) for place in order.letters]
        done = await letters().replay(places, clock.now(), again=order.again)
        for (topic, partition, offset), outcome in done:
            log.info("dead_letter.replay", topic=topic, partition=partition, offset=offset, outcome=outcome)
        return [ReplayAnswer(topic=t, partition=p, offset=o, outcome=outcome) for (t, p, o), outcome in done]


def _there(part: Any) -> Any:
    if part is None:
        raise DependencyUnavailable("the service is still starting")
    return part


def _said(what: str, delivery_id: str, done: Done) -> dict[str, str]:
    if done in _REFUSALS:
        status, why = _REFUSALS[done]
        raise HTTPException(status, why)
    log.info("delivery.by_operator", delivery_id=delivery_id, what=what)
    return {"delivery_id": delivery_id, "did": what}
