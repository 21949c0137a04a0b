"""The operators' door: which sessions run on this replica, and ending one. For people with the internal token.

Law: nothing personal is shown; a session is named by its id and told by its numbers.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Response
from fastapi.exceptions import HTTPException
from pydantic import BaseModel

from parley_session.host import Host


class SessionAnswer(BaseModel):
    """One session that runs."""

    session_id: str
    business: str
    mode: str
    state: str
    """listening, thinking, speaking, using_tool."""
    upstream: str
    """connecting, ready, away."""
    lasted_s: float
    turns: int
    barge_ins: int
    tool_calls: int
    tokens: int
    cost_usd: float | None
    """Null when the model has no known price."""


def internal_only(internal_token: str) -> Any:
    """Return the dependency of a route that asks for the internal token."""

    def is_operator(authorization: Annotated[str, Header()] = "") -> None:
        shown = authorization.removeprefix("Bearer ")
        if not hmac.compare_digest(shown.encode(), internal_token.encode()):
            raise HTTPException(401, "the internal token is needed")

    return Depends(is_operator)


def add_operators(app: FastAPI, host: Host, internal_token: str) -> None:
    """Add the routes to the service's HTTP app."""
    guard = internal_only(internal_token)

    @app.get("/v1/sessions", dependencies=[guard])
    async def list_sessions() -> list[SessionAnswer]:
        return [SessionAnswer(**shown) for shown in host.shown()]

    @app.delete("/v1/sessions/{session_id}", dependencies=[guard], status_code=202)
    async def end_session(session_id: str) -> Response:
        if not host.end(session_id):
            raise HTTPException(404, "no such session on this replica")
        return Response(status_code=202)
