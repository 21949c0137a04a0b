"""Which sites' pages may ask this gateway for tokens: our own, and those of a setting.

A browser names the site of a page in ``Origin``; other programs send none, and are not its business. What is answered
to a request for a token may be read by any page, so that a refused one learns why; nothing else may.

Law: a page of a foreign site gets no token, whatever it sends.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parley_common.errors import PeerViolation

TOKENS_PATH = "/v1/tokens"
READABLE = {"Access-Control-Allow-Origin": "*"}
PREFLIGHT = {
    **READABLE,
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "content-type",
    "Access-Control-Max-Age": "600",
}


def check_origin(headers: Headers, allowed: tuple[str, ...]) -> None:
    """Raise PeerViolation (origin_not_allowed) for a page that is neither ours nor of an allowed site."""
    origin = headers.get("origin")
    # A proxy may speak TLS for us, so that only the host can be compared.
    if origin is None or origin in allowed or urlsplit(origin).netloc == headers.get("host"):
        return
    raise PeerViolation(
        "pages of this site may not open sessions here: see GATEWAY_ALLOWED_ORIGINS",
        code="origin_not_allowed",
    )


class ReadableTokens:
    """Lets pages of any site ask for tokens and read the answer; ``check_origin`` decides what it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != TOKENS_PATH:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=PREFLIGHT)(scope, receive, send)
            return

        async def readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(READABLE)
            await send(message)

        await self._app(scope, receive, readable)
