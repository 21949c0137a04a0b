"""How a client gets in: a token for a business over HTTP, and the address of the audio socket.

Law: whatever stands in the way is said with its code and a remedy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from parley_common.errors import ConfigInvalid, DependencyUnavailable, Overloaded, ParleyError, Permanent

TOKEN_DEADLINE_S = 10.0
AUDIO_PATH = "/v1/audio"
TOKENS_PATH = "/v1/tokens"


@dataclass(frozen=True, slots=True)
class Door:
    """Where tokens are asked for and which socket is dialled; ``audio_url`` null: the one the answer names."""

    tokens_url: str
    audio_url: str | None


@dataclass(frozen=True, slots=True)
class Ticket:
    """A token and the socket it opens."""

    token: str
    audio_url: str


def door_of(url: str) -> Door:
    """Return the addresses that ``url`` means: an audio socket (ws, wss), or a gateway (http, https).

    Raises ConfigInvalid for anything else.
    """
    parts = urlsplit(url)
    secure = {"ws": "", "http": "", "wss": "s", "https": "s"}.get(parts.scheme)
    if secure is None or not parts.netloc:
        raise ConfigInvalid(
            f"--url {url!r} is not an address", remedy="give one such as ws://127.0.0.1:8080/v1/audio"
        )
    is_socket = parts.scheme.startswith("ws")
    base = parts.path.rstrip("/").removesuffix(AUDIO_PATH)
    tokens_url = urlunsplit((f"http{secure}", parts.netloc, base + TOKENS_PATH, "", ""))
    path = parts.path if parts.path.strip("/") else AUDIO_PATH
    audio_url = urlunsplit((f"ws{secure}", parts.netloc, path, parts.query, "")) if is_socket else None
    return Door(tokens_url, audio_url)


async def get_ticket(url: str, business: str) -> Ticket:
    """Ask the gateway for a token.

    Raises:
        DependencyUnavailable: nothing answers there, or what answers is in trouble.
        Overloaded: the gateway takes no more sessions now.
        Permanent: it refuses, for instance because it knows no such business.
    """
    door = door_of(url)
    answer = await _post(door.tokens_url, business)
    if answer.status_code not in (httpx.codes.OK, httpx.codes.CREATED):
        raise _refusal(answer, business)
    body = _json(answer)
    token, named_url = body.get("token"), body.get("url")
    if not isinstance(token, str) or not token:
        raise Permanent(f"{door.tokens_url} answered without a token", remedy="is that a Parley gateway?")
    audio_url = door.audio_url or (named_url if isinstance(named_url, str) and named_url else None)
    return Ticket(
        token, audio_url or door.tokens_url.replace("http", "ws", 1).replace(TOKENS_PATH, AUDIO_PATH)
    )


async def _post(tokens_url: str, business: str) -> httpx.Response:
    try:
        # A proxy of the environment is for the internet, never for a gateway given by address.
        async with httpx.AsyncClient(trust_env=False, timeout=TOKEN_DEADLINE_S) as client:
            return await client.post(tokens_url, json={"business": business, "channel": "cli"})
    except (httpx.TransportError, httpx.InvalidURL) as wrong:
        why = str(wrong) or type(wrong).__name__
        raise DependencyUnavailable(
            f"cannot reach the gateway at {tokens_url}: {why}",
            code="gateway_unreachable",
            remedy="is it running? `parley up` starts it; --url names another",
        ) from wrong


def _refusal(answer: httpx.Response, business: str) -> ParleyError:
    fault = _fault(_json(answer))
    code, message = fault.get("code"), fault.get("message") or f"HTTP {answer.status_code}"
    if answer.status_code in (404, 422) and code in (None, "unknown_business"):
        return Permanent(
            f"the gateway knows no business {business!r}" if code else f"{answer.url}: {message}",
            code="unknown_business" if code else "no_gateway",
            remedy="--business takes the name of a folder under businesses/"
            if code
            else "is that a Parley gateway?",
        )
    if answer.status_code in (429, 503):
        wait = fault.get("retry_after_s") or answer.headers.get("retry-after")
        retry_after_s = float(wait) if str(wait or "").replace(".", "", 1).isdigit() else None
        return Overloaded(
            f"the gateway takes no session now: {message}", retry_after_s=retry_after_s, code=code
        )
    if answer.status_code >= 500:
        return DependencyUnavailable(
            f"the gateway failed: {message}", code=code, remedy="see .parley/logs/gateway.log"
        )
    return Permanent(f"the gateway refused: {message}", code=code)


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _fault(body: dict[str, Any]) -> dict[str, Any]:
    """Errors come as {"error": {code, message}}, {"code", "message"}, or a framework's {"detail": ...}."""
    for candidate in (body.get("error"), body.get("detail"), body):
        if isinstance(candidate, dict):
            return candidate
    detail = body.get("detail")
    return {"message": detail} if isinstance(detail, str) else {}
