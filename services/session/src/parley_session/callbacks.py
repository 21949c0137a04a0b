"""Call-backs for callers who found no room: the gateway asks, a tool opens the case. No session, no upstream.

Law: the answer is given only once the tool has answered; asked again with the same id it is the same case.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from fastapi import FastAPI
from pydantic import BaseModel, Field

from parley_common.business import Business
from parley_common.business_config import CALLBACK_TOOL
from parley_common.contracts.tool_calls import CallerContext
from parley_common.errors import DependencyUnavailable, ParleyError, PeerViolation
from parley_session.core.effects import RequestTool
from parley_session.core.events import ToolAnswered
from parley_session.operators import internal_only
from parley_session.tool_bridge import Requester, ToolBridge

ATTEMPTS_MAX = 3
DEADLINE_MS = 3_000


class CallbackRequest(BaseModel):
    """What a gateway hands on: who wants to be called back."""

    request_id: str = Field(min_length=8, max_length=64)
    business: str = Field(max_length=64)
    name: str = Field(max_length=200)
    phone: str = Field(max_length=40)
    about: str | None = Field(default=None, max_length=1_000)


class CallbackAnswer(BaseModel):
    """The tool's answer; ``code`` is null when the case is open."""

    say: str
    reference: str | None = None
    code: str | None = None


class Callbacks:
    """Asks the tool for one caller at a time, each with a call of its own."""

    def __init__(self, bridge: ToolBridge, businesses: Mapping[str, Business]) -> None:
        self._bridge = bridge
        self._businesses = businesses

    async def request(self, wanted: CallbackRequest) -> CallbackAnswer:
        """Return what the tool said. Raises PeerViolation (callback_not_offered), DependencyUnavailable."""
        business = self._businesses.get(wanted.business)
        if business is None or not business.config.busy.callback:
            raise PeerViolation("this business calls nobody back", code="callback_not_offered")
        answered: asyncio.Future[ToolAnswered] = asyncio.get_running_loop().create_future()
        requester = Requester(
            wanted.request_id,
            business.name,
            business.version,
            1,
            CallerContext(mode="text"),
            lambda answer: None if answered.done() else answered.set_result(answer),
        )
        fields = wanted.model_dump(include={"name", "phone", "about"}, exclude_none=True)
        try:
            for attempt in range(1, ATTEMPTS_MAX + 1):
                call = RequestTool(
                    f"callback-{wanted.request_id}",
                    attempt,
                    "tools",
                    CALLBACK_TOOL,
                    json.dumps(fields),
                    DEADLINE_MS,
                    (),
                )
                self._bridge.request(requester, call, None)
                done, _ = await asyncio.wait({answered}, timeout=DEADLINE_MS / 1000)
                if done:
                    return _answer(answered.result())
        finally:
            self._bridge.forget(wanted.request_id)
        raise DependencyUnavailable("no tool took the call-back in time", code="callback_not_taken")


def _answer(answered: ToolAnswered) -> CallbackAnswer:
    output = json.loads(answered.output)
    if answered.status == "ok":
        return CallbackAnswer(say=output["say"], reference=output["reference"])
    return CallbackAnswer(say=output["say"], code=answered.code or answered.status)


def add_callbacks(app: FastAPI, callbacks: Callbacks, internal_token: str) -> None:
    """Add the route to the service's HTTP app, for gateways."""

    @app.post("/v1/callbacks", dependencies=[internal_only(internal_token)])
    async def request_callback(wanted: CallbackRequest) -> CallbackAnswer:
        try:
            return await callbacks.request(wanted)
        except ParleyError as wrong:
            return CallbackAnswer(say=wrong.message, code=wrong.stable_code)
