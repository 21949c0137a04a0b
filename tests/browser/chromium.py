"""Drives a real Chromium over the Chrome DevTools Protocol: tabs, clicks, keys, permissions, screenshots.

A small client of the protocol over `websockets`, no more than the tests of this folder need. Elements are found by
CSS selectors; ``>>`` steps into a shadow root.

Law: what the browser does wrong (an uncaught error, a refused load) is remembered, so that a test can insist on none.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from harness.processes import Proc, Processes
from harness.waiting import until, until_blocking

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ANSWER_WITHIN_S = 20.0
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # Chromium refuses to run as root with one, and containers run tests as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-port=0",
    "--window-size=1440,900",
)
FIND = """
(path) => path.split(' >> ').reduce((from, css) => from && (from.shadowRoot ?? from).querySelector(css), document)
"""
MIDDLE = """
(e) => { e.scrollIntoView({ block: 'nearest' }); const b = e.getBoundingClientRect();
  return [b.x + b.width / 2, b.y + b.height / 2]; }
"""
IS_HIT = """
async (e, x, y, middle) => {
  for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
  let hit = document.elementFromPoint(x, y);
  while (hit?.shadowRoot?.elementFromPoint(x, y) && hit.shadowRoot.elementFromPoint(x, y) !== hit)
    hit = hit.shadowRoot.elementFromPoint(x, y);
  return `${middle(e)}` === `${[x, y]}` && Boolean(hit) && (e.contains(hit) || hit.contains(e));
}
"""


def start(processes: Processes, folder: Path, microphone: Path) -> tuple[Proc, str]:
    """Start a browser with an empty profile in ``folder``; return it and where its DevTools are.

    ``microphone`` is the WAV file that its fake microphone plays, once, from when a page opens it.
    """
    profile = folder / "profile"
    switches = (
        *SWITCHES,
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        f"--user-data-dir={profile}",
    )
    proc = processes.start(
        [executable(), *switches, "about:blank"], name="chromium", env={"HOME": str(folder)}
    )

    def listening() -> list[str]:
        assert proc.is_running, f"Chromium ended: {proc.log_tail()}"
        file = profile / "DevToolsActivePort"
        return file.read_text(encoding="ascii").split() if file.exists() else []

    port, path = until_blocking(lambda: listening()[:2], 30, "Chromium to listen")
    return proc, f"ws://127.0.0.1:{port}{path}"


class Chromium:
    """A running browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last_id = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str) -> AsyncIterator[Chromium]:
        """Drive the browser whose DevTools are at ``url``; it stays when the block ends."""
        async with connect(url, compression=None, max_size=None, proxy=None, ping_interval=None) as socket:
            browser = cls(socket)
            try:
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(browser._read())
                    try:
                        yield browser
                    finally:
                        reading.cancel()
            except BaseExceptionGroup as group:
                raise _innermost(group) from None  # a test's own failure, not a bundle of one

    @classmethod
    @asynccontextmanager
    async def running(cls, processes: Processes, folder: Path, microphone: Path) -> AsyncIterator[Chromium]:
        """Start a browser of this block alone, and drive it."""
        proc, url = start(processes, folder, microphone)
        try:
            async with cls.at(url) as browser:
                yield browser
        finally:
            proc.close()

    @asynccontextmanager
    async def tab(
        self, url: str = "about:blank", *, width: int = 1440, height: int = 900, microphone: str = "granted"
    ) -> AsyncIterator[Tab]:
        """Open a tab in a context of its own: no cookies, cache or permissions of others."""
        context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        where = {"url": "about:blank", "browserContextId": context}
        target = (await self.send("Target.createTarget", **where))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = self._tabs[session] = Tab(self, session, context)
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                await tab.send(f"{domain}.enable")
            await tab.resize(width, height)
            await tab.permit("microphone", microphone)
            await tab.go(url)
            yield tab
        finally:
            with suppress(AssertionError):
                await self.send("Target.disposeBrowserContext", browserContextId=context)
            self._tabs.pop(session)

    async def send(self, method: str, session: str | None = None, /, **params: Any) -> dict[str, Any]:
        """Send one command and return its result. Raises AssertionError with the browser's complaint."""
        self._last_id += 1
        number, message = self._last_id, {"id": self._last_id, "method": method, "params": params}
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        async with asyncio.timeout(ANSWER_WITHIN_S):
            answer = await future
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                future = self._answers.pop(message["id"])
                if not future.done():
                    future.set_result(message)
            elif message.get("sessionId") in self._tabs:
                self._tabs[message["sessionId"]].happened(message["method"], message["params"])


class Tab:
    """One tab."""

    def __init__(self, browser: Chromium, session: str, context: str) -> None:
        self.complaints: list[str] = []
        """Uncaught errors, refused loads, and what the page logged as an error."""
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._browser = browser
        self._session = session
        self._context = context

    async def send(self, method: str, /, **params: Any) -> dict[str, Any]:
        """Send one command to this tab."""
        return await self._browser.send(method, self._session, **params)

    async def go(self, url: str) -> None:
        """Load ``url`` and wait until it has loaded and its network is quiet."""
        self.events["Page.lifecycleEvent"].clear()
        await self.send("Page.setLifecycleEventsEnabled", enabled=True)
        loader = (await self.send("Page.navigate", url=url))["loaderId"]
        await until(lambda: "networkIdle" in self._lifecycle(loader), 20, f"{url} to load")

    def _lifecycle(self, loader: str) -> set[str]:
        return {e["name"] for e in self.events["Page.lifecycleEvent"] if e["loaderId"] == loader}

    async def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be as wide as a phone, or as dark as the night."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[feature])

    async def permit(self, name: str, setting: str) -> None:
        """Answer every question for a permission with granted, denied or prompt."""
        await self._browser.send(
            "Browser.setPermission",
            permission={"name": name},
            setting=setting,
            browserContextId=self._context,
        )

    async def js(self, expression: str) -> Any:
        """Return the value of an expression, awaited. Raises AssertionError when it throws."""
        answer = await self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=False,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str, deadline_s: float = 15.0, why: str = "") -> Any:
        """Wait until an expression is truthy; return it."""
        return await until(lambda: self.js(expression), deadline_s, why or expression)

    async def text(self, path: str) -> str:
        """Return the text that people see of an element; empty when there is none, or it is hidden."""
        return str(await self.js(f"({FIND})({json.dumps(path)})?.innerText ?? ''"))

    async def is_visible(self, path: str) -> bool:
        return bool(await self.js(f"({FIND})({json.dumps(path)})?.checkVisibility() ?? false"))

    async def click(self, path: str) -> None:
        """Click in the middle of an element, as a mouse does."""
        await self.press(path)
        await self.release()

    async def press(self, path: str) -> None:
        """Move there and hold the mouse button down, once it stands still under the pointer."""
        await until(lambda: self.is_visible(path), 10, f"{path} to be there")
        await until(lambda: self._is_at(path), 10, f"{path} to stand still")
        await self.send("Input.dispatchMouseEvent", type="mousePressed", **self._at)

    async def _is_at(self, path: str) -> bool:
        """Move the pointer there; false when the page has moved meanwhile, or something else lies there."""
        element = f"({FIND})({json.dumps(path)})"
        x, y = await self.js(f"(({MIDDLE})({element}))")
        self._at = {"x": x, "y": y, "button": "left", "clickCount": 1}
        await self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return bool(await self.js(f"({IS_HIT})({element}, {x}, {y}, ({MIDDLE}))"))

    async def release(self) -> None:
        """Let the mouse button go."""
        await self.send("Input.dispatchMouseEvent", type="mouseReleased", **self._at)

    async def type(self, path: str, text: str) -> None:
        """Click into a field and write."""
        await self.click(path)
        await self.send("Input.insertText", text=text)

    async def key(self, key: str, *, phase: str = "both") -> None:
        """Press a key, hold it (``down``) or let it go (``up``)."""
        code = {" ": ("Space", 32, " "), "Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, "")}[key]
        named = {"key": key, "code": code[0], "windowsVirtualKeyCode": code[1]}
        if phase != "up":
            await self.send("Input.dispatchKeyEvent", type="keyDown", text=code[2], **named)
        if phase != "down":
            await self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    async def screenshot(self, path: Path, *, full_page: bool = False) -> Path:
        """Write what is seen as a PNG."""
        shot = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=full_page)
        await asyncio.to_thread(_write, path, base64.b64decode(shot["data"]))
        return path

    def happened(self, method: str, params: dict[str, Any]) -> None:
        """Take an event of the browser."""
        self.events[method].append(params)
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "assert"}:
            self.complaints.append(str([arg.get("value") for arg in params["args"]]))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _innermost(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def executable() -> str:
    """Return the path of a Chromium. Raises AssertionError that says how to get one."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "no Chromium here: apt-get install chromium"
    return found
