"""Lets browsers ask for tokens across sites: what is answered may be read by any page, so that a refused one learns why.

Who gets a token is decided in token_access.py. Law: nothing but the answer to a request for a token may be read, and no
page may send an API key.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKENS_PATH = "/v1/tokens"
READABLE = {"Access-Control-Allow-Origin": "*"}
PREFLIGHT = {
    **READABLE,
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "content-type",
    "Access-Control-Max-Age": "600",
}


class ReadableTokens:
    """Lets pages of any site ask for tokens and read the answer; token_access.py decides what it is."""

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
