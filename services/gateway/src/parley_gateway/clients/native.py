"""A client that speaks parley.v1: from its first message to a running session, or to a clear refusal.

Placing and attaching happen here, forwarding in relay.py. Law: whatever a client sends, it is answered with a
stable code and the process goes on; nothing here writes an address, a page or a word into a log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from parley_common.contracts.audio_link import SUBPROTOCOL, Attach, Caller, Open, Ready, encode
from parley_common.errors import (
    DependencyUnavailable,
    LocalViolation,
    Overloaded,
    ParleyError,
    PeerViolation,
    Transient,
)
from parley_common.telemetry import (
    SpanKind,
    current_traceparent,
    join_logs,
    new_traceparent,
    span,
    valid_traceparent,
)
from parley_common.websocket import Closed, WebSocket
from parley_gateway import metrics
from parley_gateway.clients.relay import Relay, Surroundings
from parley_gateway.clients.uplink import check_open, page_of, read_message
from parley_gateway.gateway import Gateway
from parley_gateway.placement import placement
from parley_gateway.refusals import CLOSE_OPEN_TIMEOUT, CLOSE_PROTOCOL, client_error, close_code
from parley_gateway.session_link import SessionLink, dial
from parley_gateway.tokens import Grant, ResumeGrant

FIRST_FENCE = 1

log = structlog.get_logger("gateway")


def offered(headers: Mapping[str, str]) -> list[str]:
    """Return the subprotocols that a client offers."""
    return [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]


async def serve_client(gateway: Gateway, socket: WebSocket) -> None:
    """Serve one client until its socket is closed."""
    try:
        with gateway.socket(socket.address) as leave:
            await _serve_admitted(gateway, socket, leave)
    except Closed:
        return
    except ParleyError as wrong:
        _refuse(socket, wrong)
    except Exception as bug:  # noqa: BLE001 - the edge: a bug costs one session, and the client a clear answer
        log.error("session.broke", kind=type(_innermost(bug)).__name__)
        _refuse(socket, LocalViolation("something broke here; open a new session"))


async def _serve_admitted(gateway: Gateway, socket: WebSocket, leave: Callable[[], None]) -> None:
    if SUBPROTOCOL not in offered(socket.headers):
        raise PeerViolation(
            f"offer the subprotocol {SUBPROTOCOL}", code="unsupported_protocol", close_code=CLOSE_PROTOCOL
        )
    opening = await _first_message(gateway, socket)
    if opening.resume is not None:
        await _resume(gateway, socket, opening, opening.resume, leave)
        return
    grant = _grant(gateway, socket, opening)
    with gateway.place(grant.business):
        relay, link = await _open_session(gateway, socket, opening, grant)
        metrics.OPENED.labels(grant.business).inc()
        log.info("session.opened", channel=grant.channel)
        await _run_session(gateway, relay, link, grant)


async def _run_session(gateway: Gateway, relay: Relay, link: SessionLink, grant: Grant | ResumeGrant) -> None:
    began_ms = gateway.clock.now_ms()
    reason = "failed"
    try:
        with gateway.running(relay, grant.session_id, link.url):
            reason = (await relay.run(link)).reason
    finally:
        metrics.ENDED.labels(grant.business, reason).inc()
        log.info(
            "session.ended",
            reason=reason,
            duration_s=round((gateway.clock.now_ms() - began_ms) / 1000, 1),
        )


async def _resume(
    gateway: Gateway, socket: WebSocket, opening: Open, token: str, leave: Callable[[], None]
) -> None:
    """Give a client its session back, at this socket. Raises PeerViolation."""
    grant = gateway.tokens.verify_resume(token, gateway.clock.now())
    join_logs(session_id=grant.session_id, traceparent=None, business=grant.business)
    relay = gateway.sessions.get(grant.session_id)
    if relay is None:
        await _take_over(gateway, socket, opening, grant)
        return
    seat = relay.resume(socket, opening.have or ())
    if gateway.admission.draining:
        relay.move()
    # The session's own place, of the socket that opened it, counts on: this one is the same client's.
    leave()
    log.info("session.resumed")
    await relay.serve(seat)


async def _take_over(gateway: Gateway, socket: WebSocket, opening: Open, grant: ResumeGrant) -> None:
    """Take a session over from another gateway, or from our own last life. Raises PeerViolation, Transient."""
    attach = Attach(
        session_id=grant.session_id,
        business=grant.business,
        fence=grant.fence,
        token_id="",
        mode=grant.mode,
        resume=True,
        have=opening.have,
    )
    with gateway.place_again(grant.business):
        relay, link = await _attach_again(gateway, socket, attach, grant)
        metrics.RESUMED.labels("taken_over").inc()
        await _run_session(gateway, relay, link, grant)


async def _attach_again(
    gateway: Gateway, socket: WebSocket, attach: Attach, grant: ResumeGrant
) -> tuple[Relay, SessionLink]:
    try:
        return await _try_replica(gateway, socket, attach, grant.replica, text_only=grant.mode == "text")
    except Transient as away:
        metrics.PLACEMENT_MISSES.labels(away.stable_code).inc()
        raise DependencyUnavailable(
            "the session service that holds this session does not answer", code="service_unavailable"
        ) from away


def _refuse(socket: WebSocket, wrong: ParleyError) -> None:
    metrics.REFUSED.labels(wrong.stable_code).inc()
    log.info("session.refused", code=wrong.stable_code)
    socket.send(encode(client_error(wrong)))
    socket.close(close_code(wrong), wrong.stable_code)


async def _first_message(gateway: Gateway, socket: WebSocket) -> Open:
    try:
        async with asyncio.timeout(gateway.timing.open_within_ms / 1000):
            text = await socket.receive()
    except TimeoutError as late:
        raise PeerViolation(
            "nothing was opened in time", code="open_timeout", close_code=CLOSE_OPEN_TIMEOUT
        ) from late
    message = read_message(text) if isinstance(text, str) else None
    if not isinstance(message, Open):
        raise PeerViolation("the first message is open", code="open_expected")
    check_open(message)
    return message


def _grant(gateway: Gateway, socket: WebSocket, opening: Open) -> Grant:
    grant = gateway.tokens.verify(opening.token or "", gateway.clock.now())
    gateway.check_business(grant.business)
    origin = socket.headers.get("origin")
    if grant.origin is not None and origin is not None and origin != grant.origin:
        raise PeerViolation("this token was given to a page of another site", code="origin_not_allowed")
    return grant


async def _open_session(
    gateway: Gateway, socket: WebSocket, opening: Open, grant: Grant
) -> tuple[Relay, SessionLink]:
    """Attach the session to the first replica that takes it, under the session's root span."""
    attributes = {
        "parley.session_id": grant.session_id,
        "parley.business": grant.business,
        "parley.channel": grant.channel,
    }
    begun = valid_traceparent(opening.traceparent)
    with span("session.open", parent=begun, kind=SpanKind.SERVER, attributes=attributes):
        # With no client's trace and no exporter there is no span to name; the logs are joined all the same.
        traceparent = current_traceparent() or begun or new_traceparent()
        join_logs(session_id=grant.session_id, traceparent=traceparent, business=grant.business)
        attach = _attach_message(opening, grant, traceparent)
        return await _place(gateway, socket, attach, text_only=grant.mode == "text")


def _attach_message(opening: Open, grant: Grant, traceparent: str) -> Attach:
    return Attach(
        session_id=grant.session_id,
        business=grant.business,
        fence=FIRST_FENCE,
        token_id=grant.token_id,
        caller=Caller(
            channel=grant.channel,
            page=page_of(opening),
            locale=opening.locale,
            time_zone=opening.time_zone,
        ),
        mode="text" if grant.mode == "text" else opening.mode,
        traceparent=traceparent,
    )


async def _place(
    gateway: Gateway, socket: WebSocket, attach: Attach, *, text_only: bool
) -> tuple[Relay, SessionLink]:
    """Try the replicas in the order of placement. Raises the refusal when none takes the session."""
    refusal: ParleyError = DependencyUnavailable("no session service answers", code="service_unavailable")
    for url in placement(attach.session_id, gateway.replicas.views()):
        try:
            return await _try_replica(gateway, socket, attach, url, text_only=text_only)
        except Overloaded as full:
            metrics.PLACEMENT_MISSES.labels(full.stable_code).inc()
            refusal = Overloaded("all lines are busy", code="full", retry_after_s=full.retry_after_s or 5.0)
        except Transient as away:
            metrics.PLACEMENT_MISSES.labels(away.stable_code).inc()
            gateway.replicas.failed(url)
            log.warning("replica.missed", replica=url, code=away.stable_code)
    raise refusal


async def _try_replica(
    gateway: Gateway, socket: WebSocket, attach: Attach, url: str, *, text_only: bool
) -> tuple[Relay, SessionLink]:
    relay = Relay(socket, _surroundings(gateway, attach, url, text_only=text_only))
    began_ms = gateway.clock.now_ms()
    link = await dial(url, gateway.internal_token, relay, gateway.clock, gateway.timing.link_open_ms)
    try:
        await relay.attach(link, attach)
    except BaseException:
        link.abort()
        raise
    metrics.LINK_OPEN_MS.observe(gateway.clock.now_ms() - began_ms)
    return relay, link


def _innermost(bug: BaseException) -> BaseException:
    while isinstance(bug, BaseExceptionGroup):
        bug = bug.exceptions[0]
    return bug


def _surroundings(gateway: Gateway, attach: Attach, url: str, *, text_only: bool) -> Surroundings:
    def resume_token(ready: Ready) -> str:
        lasts_s = ready.limits.session_max_s + gateway.timing.resume_grace_ms // 1000
        return gateway.tokens.issue_resume(
            ResumeGrant(
                business=attach.business,
                session_id=attach.session_id,
                replica=url,
                fence=attach.fence,
                exp=int(gateway.clock.now().timestamp()) + lasts_s,
                gateway=gateway.instance,
                mode="text" if text_only else "voice",
            )
        )

    return Surroundings(
        timing=gateway.timing,
        clock=gateway.clock,
        downlink_queue_bytes=gateway.downlink_queue_bytes,
        resume_token=resume_token,
        on_load=lambda load: gateway.replicas.told(url, load),
        text_only=text_only,
        flow=gateway.flow,
    )
