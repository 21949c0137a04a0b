"""The gateway's HTTP: tokens, businesses, call-backs, and the page at /.

It decides nothing: admission, tokens and sessions are elsewhere. Law: every error has the one body shape,
whoever raises it, and no answer repeats what a client sent beyond a short name.
"""

from __future__ import annotations

import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parley_common.contracts.audio_link import Mode
from parley_common.errors import DependencyUnavailable, ParleyError, PeerViolation
from parley_common.service import Readiness, http_app
from parley_gateway.callbacks import check_callback, request_callback
from parley_gateway.cross_origin import ReadableTokens
from parley_gateway.door import AUDIO_PATH
from parley_gateway.facts_stream import FactsWatch, stream_events
from parley_gateway.gateway import Gateway
from parley_gateway.metrics import REFUSED
from parley_gateway.refusals import error_body, http_status, retry_after_s
from parley_gateway.token_access import TokenAccess
from parley_gateway.tokens import Channel
from parley_gateway.web_files import add_web_files

FACTS_PATH = "/v1/sessions/{session_id}/facts"
_EVENT_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
BODY_MAX_BYTES = 16 * 1024
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


class TokenRequest(BaseModel):
    """What a token is asked for."""

    business: str = Field(max_length=100)
    mode: Mode = "voice"
    """``text``: the session stays without a voice."""
    channel: Channel = "browser"


class TokenAnswer(BaseModel):
    """A token, and where to use it."""

    token: str
    expires_in_s: int
    url: str
    session_id: str
    facts_token: str | None = None
    """Watches this session's facts at /v1/sessions/{session_id}/facts; null outside development."""


class ErrorDetail(BaseModel):
    """What went wrong. ``retry_after_s`` is null when trying again cannot help."""

    code: str
    message: str
    remedy: str | None = None
    retry_after_s: float | None = None


class ErrorAnswer(BaseModel):
    """The body of every error."""

    error: ErrorDetail


class BusinessAnswer(BaseModel):
    """A business one can talk to."""

    name: str
    title: str
    callback: bool = False
    """Whom it has no room for may leave a number at /v1/callbacks."""


class CallbackWanted(BaseModel):
    """Who wants to be called back by which business, and about what."""

    business: str = Field(max_length=64)
    name: str = Field(min_length=2, max_length=200)
    phone: str = Field(min_length=3, max_length=40)
    about: str | None = Field(default=None, max_length=1_000)


class CallbackAnswer(BaseModel):
    """The case is open."""

    say: str
    reference: str


def build_app(
    gateway: Gateway,
    readiness: Readiness,
    public_url: str | None = None,
    *,
    access: TokenAccess,
    facts: FactsWatch | None = None,
) -> FastAPI:
    """Return the gateway's ASGI application; ``facts`` null: nobody may watch facts here."""
    app = http_app("gateway", readiness, docs=True)
    add_web_files(app)
    _add_errors(app)

    @app.post("/v1/tokens", responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}})
    async def issue_token(request: Request, wanted: TokenRequest) -> TokenAnswer:
        origin = access.check(request.headers, wanted.business)
        gateway.check_business(wanted.business)
        gateway.check_token(_address(request), wanted.business)
        if not gateway.replicas.ready_count:
            raise DependencyUnavailable("no session service answers", code="service_unavailable")
        token, grant = gateway.tokens.issue(
            wanted.business, gateway.clock.now(), channel=wanted.channel, mode=wanted.mode, origin=origin
        )
        return TokenAnswer(
            token=token,
            expires_in_s=gateway.tokens.ttl_s,
            url=_audio_url(request, public_url),
            session_id=grant.session_id,
            facts_token=_facts_token(gateway, grant.session_id) if facts else None,
        )

    @app.get("/v1/businesses")
    async def list_businesses() -> list[BusinessAnswer]:
        return [
            BusinessAnswer(name=name, title=title, callback=name in gateway.callbacks)
            for name, title in sorted(gateway.businesses.items())
        ]

    @app.post("/v1/callbacks", responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}})
    async def callback(request: Request, wanted: CallbackWanted) -> CallbackAnswer:
        access.check(request.headers, wanted.business)
        gateway.check_business(wanted.business)
        check_callback(gateway, _address(request), wanted.business)
        return CallbackAnswer(**await request_callback(gateway, wanted.model_dump(exclude_none=True)))

    if facts is not None:
        app.router.routes.append(Route(FACTS_PATH, FactsEndpoint(gateway, facts), methods=["GET"]))
    app.add_middleware(BodyLimit)
    app.add_middleware(ReadableTokens)
    return app


class FactsEndpoint:
    """GET /v1/sessions/{session_id}/facts: server-sent events for the bearer of that session's facts token."""

    def __init__(self, gateway: Gateway, facts: FactsWatch) -> None:
        self._gateway = gateway
        self._facts = facts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self._check(request)
        with self._facts.watch(request.path_params["session_id"]) as watcher:
            await send({"type": "http.response.start", "status": 200, "headers": _EVENT_STREAM})

            async def write(body: bytes) -> None:
                await send({"type": "http.response.body", "body": body, "more_body": True})

            async def disconnected() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass

            await stream_events(watcher, write, disconnected)
            await send({"type": "http.response.body", "body": b""})

    def _check(self, request: Request) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise PeerViolation("show the session's facts token: Authorization: Bearer", code="unauthorized")
        grant = self._gateway.tokens.verify_facts(token.strip(), self._gateway.clock.now())
        if grant.session_id != request.path_params["session_id"]:
            raise PeerViolation("this token is of another session", code="other_session")


class BodyLimit:
    """Refuses HTTP bodies larger than any request of this service needs, while they come in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size_bytes = 0

        async def limited() -> Message:
            nonlocal size_bytes
            message = await receive()
            size_bytes += len(message.get("body", b""))
            if size_bytes > BODY_MAX_BYTES:
                raise HTTPException(413)
            return message

        await self._app(scope, limited, send)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ParleyError)
    async def refused(_: Request, wrong: ParleyError) -> JSONResponse:
        REFUSED.labels(wrong.stable_code).inc()
        retry_s = retry_after_s(wrong)
        headers = {"Retry-After": str(math.ceil(retry_s))} if retry_s is not None else None
        body = error_body(wrong.stable_code, wrong.message, remedy=wrong.remedy, retry_after_s=retry_s)
        return JSONResponse(body, http_status(wrong), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, wrong: RequestValidationError) -> JSONResponse:
        fault = wrong.errors()[0]
        where = ".".join(str(part) for part in fault["loc"] if part != "body")[:100]
        message = f"{where}: {fault['msg']}" if where else str(fault["msg"])
        return JSONResponse(error_body("invalid_request", message), 400)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, wrong: HTTPException) -> JSONResponse:
        if wrong.status_code == 413:
            body = error_body("body_too_large", f"a body has at most {BODY_MAX_BYTES} bytes")
        else:
            code = _HTTP_CODES.get(wrong.status_code, "http_error")
            body = error_body(code, str(wrong.detail))
        return JSONResponse(body, wrong.status_code, wrong.headers)

    @app.exception_handler(Exception)
    async def internal(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse(error_body("internal", "something broke here; it was logged"), 500)


def _facts_token(gateway: Gateway, session_id: str) -> str:
    return gateway.tokens.issue_facts(session_id, gateway.clock.now())


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _audio_url(request: Request, public_url: str | None) -> str:
    if public_url:
        return public_url.rstrip("/") + AUDIO_PATH
    scheme = "wss" if request.url.scheme == "https" else "ws"
    return f"{scheme}://{request.url.netloc}{AUDIO_PATH}"
