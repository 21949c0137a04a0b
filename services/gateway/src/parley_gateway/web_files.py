"""Serves the page at / and the widget's modules: a fixed table of names, and the headers that guard them.

Nothing is looked up on disk by what a client asks for. Modules are sent without comments, indentation and empty
lines, so that a site pays for code only (under 60,000 bytes, all of it).

Law: no inline script or style anywhere; the page may load, and talk to, nothing that it does not need.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from fastapi import FastAPI, Request, Response

PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
WIDGET_MODULES = (
    "widget.js",
    "client.js",
    "link.js",
    "audio.js",
    "errors.js",
    "styles.js",
    "words.js",
    "capture-worklet.js",
    "playback-worklet.js",
    "playout.js",
    "resampler.js",
)
"""All that a site loads."""

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self' ws:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
MODULE_HEADERS = {
    # Any site may load the widget; whether it may open sessions is decided where tokens are issued.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}
_COMMENT = re.compile(
    r"^[ \t]*/\*\*.*?\*/[ \t]*$|[ \t]+//[ ][^\n'\"`]*$|^//[^\n]*$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class WebFile:
    """One file as it is sent."""

    body: bytes
    media_type: str
    headers: dict[str, str]


def add_web_files(app: FastAPI) -> None:
    """Add the routes of the page and of the widget."""
    for path, file in _files().items():
        _add(app, path, file)


def without_comments(source: str) -> str:
    """Return a module without comments, indentation and empty lines.

    It knows our own files only: block comments and comments at a line's end that hold no quotes.
    """
    lines = (line.strip() for line in _COMMENT.sub("", source).split("\n"))
    return "\n".join(line for line in lines if line)


def tight_sheet(source: str) -> str:
    """Return the module that holds the style sheet without the spaces that CSS does not need."""
    return re.sub(r"([:;{},]) +| +(?=[{}])", r"\1", source)


def _files() -> dict[str, WebFile]:
    web = resources.files("parley_gateway") / "web"
    files = {
        path: _file((web / name).read_bytes(), media_type, PAGE_HEADERS)
        for path, (name, media_type) in PAGE_FILES.items()
    }
    for name in WIDGET_MODULES:
        source = without_comments((web / "parley" / name).read_text("utf-8"))
        body = tight_sheet(source) if name == "styles.js" else source
        files[f"/parley/{name}"] = _file(body.encode(), "text/javascript", MODULE_HEADERS)
    return files


def _file(body: bytes, media_type: str, headers: dict[str, str]) -> WebFile:
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    # Asked again each time, answered with 304: a new version of the gateway is a new widget at once.
    return WebFile(body, media_type, {**headers, "ETag": etag, "Cache-Control": "no-cache"})


def _add(app: FastAPI, path: str, file: WebFile) -> None:
    async def serve(request: Request) -> Response:
        if file.headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=file.headers)
        return Response(file.body, media_type=file.media_type, headers=file.headers)

    app.add_api_route(path, serve, methods=["GET", "HEAD"], include_in_schema=False)
