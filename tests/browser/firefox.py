"""Drives a real Firefox over WebDriver BiDi, which it speaks by itself: for a smoke test that Chromium is not alone.

A small client of the protocol over `websockets`: load, evaluate, click. Elements are found as in chromium.py. It cannot
hear: without a sound device Firefox renders nothing in real time, so tests of sound use offline contexts.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from browser.chromium import FIND
from harness.processes import Processes
from harness.waiting import until

NAMES = ("firefox-esr", "firefox")
ANSWER_WITHIN_S = 30.0
PREFERENCES = {
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#",
    "toolkit.telemetry.enabled": False,
}


def executable() -> str | None:
    """Return the path of a Firefox; null when there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Firefox:
    """A running browser and its one tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        """What the page logged as an error, uncaught ones too."""
        self._socket = socket
        self._ids = itertools.count(1)
        self._tab = ""

    @classmethod
    @asynccontextmanager
    async def running(cls, processes: Processes, folder: Path) -> AsyncIterator[Firefox]:
        """Start one with an empty profile in ``folder``, and drive it."""
        profile = folder / "profile"
        profile.mkdir()
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()
        ]
        (profile / "user.js").write_text("\n".join(lines), encoding="ascii")
        switches = ("--headless", "--no-remote", "--remote-debugging-port", "0")
        switches += ("--profile", str(profile), "about:blank")
        program = executable() or NAMES[0]
        proc = processes.start([program, *switches], name="firefox", env={"HOME": str(folder)})
        try:
            found = await until(
                lambda: re.search(r"BiDi listening on (ws://\S+)", proc.log_tail()), 60, "Firefox to listen"
            )
            url = f"{found[1]}/session"
            async with connect(
                url, compression=None, max_size=None, proxy=None, ping_interval=None
            ) as socket:
                browser = cls(socket)
                await browser._begin()
                yield browser
        finally:
            proc.close()

    async def go(self, url: str) -> None:
        """Load ``url`` and wait for its load event."""
        await self._send("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    async def js(self, expression: str) -> Any:
        """Return the value of an expression, awaited. Raises AssertionError when it throws."""
        answer = await self._send(
            "script.evaluate",
            expression=f"Promise.resolve({expression}).then((value) => JSON.stringify(value) ?? 'null')",
            target={"context": self._tab},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    async def until(self, expression: str, deadline_s: float = 20.0, why: str = "") -> Any:
        """Wait until an expression is truthy; return it."""
        return await until(lambda: self.js(expression), deadline_s, why or expression)

    async def click(self, path: str) -> None:
        """Click in the middle of an element, as a mouse does."""
        x, y = await self.js(
            f"((e) => {{ e.scrollIntoView({{ block: 'nearest' }}); const b = e.getBoundingClientRect();"
            f" return [b.x + b.width / 2, b.y + b.height / 2].map(Math.round); }})(({FIND})({json.dumps(path)}))"
        )
        mouse = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        actions = [{"type": "pointer", "id": "mouse", "actions": mouse}]
        await self._send("input.performActions", context=self._tab, actions=actions)

    async def type(self, path: str, text: str) -> None:
        """Click into a field, write, and press Enter."""
        await self.click(path)
        keys = [{"type": kind, "value": key} for key in (*text, "\ue007") for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keys", "actions": keys}]
        await self._send("input.performActions", context=self._tab, actions=actions)

    async def _begin(self) -> None:
        await self._send("session.new", capabilities={})
        await self._send("session.subscribe", events=["log.entryAdded"])
        self._tab = (await self._send("browsingContext.getTree"))["contexts"][0]["context"]

    async def _send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(await self._socket.recv())
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.complaints.append(message["params"]["text"])
            if message.get("id") == number:
                assert message["type"] == "success", f"{method}: {message}"
                return dict(message["result"])
