"""What docs/how-to/embed.md promises a site: its examples run as they stand, and its tables name what there is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

import pytest

from browser.chromium import Chromium, Tab
from browser.npm import source
from browser.page import hang_up_all
from fakes.session_service import FakeSessionService
from harness.http_server import HttpServer, Reply, Request
from harness.waiting import until
from parley_common.contracts import audio_link as wire
from parley_gateway.settings import Timing
from unit.gateway.world import World, running_gateway

pytestmark = pytest.mark.timeout(120)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "embed.md").read_text(encoding="utf-8")
GATEWAY = "https://voice.example.com"
MODULES = resources.files("parley_gateway") / "web" / "parley"
SAID = wire.Transcript(1, "assistant", "Good morning", final=True)
REACT = """<!doctype html><div id="root"></div>
<script src="/react/umd/react.production.min.js"></script>
<script src="/react-dom/umd/react-dom.production.min.js"></script>
<script src="/@babel/standalone/babel.min.js"></script>
<script type="text/plain" id="example">EXAMPLE</script>
<script type="module">
  const { code } = Babel.transform(document.getElementById('example').textContent, { presets: ['react'] });
  const module = code.replace(/'react'|"react"/, `'${location.origin}/react.js'`);
  const { default: Agent } = await import(`data:text/javascript,${encodeURIComponent(module)}`);
  const root = ReactDOM.createRoot(document.getElementById('root'));
  const agent = React.createElement(Agent, { business: 'cap', gateway: 'https://voice.example.com' });
  root.render(React.createElement(React.StrictMode, null, agent));
  window.leave = () => root.unmount();
</script>"""
HOOKS = "export const { useEffect, useState } = globalThis.React;"


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def first_column(heading: str) -> list[str]:
    """Return what stands in backticks in the first column of the table under ``heading``."""
    rows = PAGE.split(f"| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


@asynccontextmanager
async def site(browser: Chromium, html: str) -> AsyncIterator[tuple[Tab, World]]:
    """A page of another site, allowed to open sessions, in a tab."""
    pages = {"/react.js": HOOKS}

    def answer(request: Request) -> Reply:
        if request.path == "/":
            return Reply(200, pages["/"].encode(), {"Content-Type": "text/html"})
        script = pages.get(request.path) or source(request.path.lstrip("/"))
        headers = {"Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*"}
        return Reply(200, script.encode(), headers)

    with HttpServer(answer) as server:
        async with (
            FakeSessionService() as service,
            running_gateway(service, timing=Timing(), allowed_origins=(server.url.rstrip("/"),)) as world,
        ):
            pages["/"] = html.replace(GATEWAY, world.http_url)
            async with browser.tab(server.url) as tab:
                yield tab, world
                assert [c for c in tab.complaints if "favicon" not in c] == []
                hang_up_all(world)


async def test_the_tag_of_the_page_is_a_widget(silent: Chromium) -> None:
    tag, _ = examples("html")
    async with site(silent, f"<!doctype html>{tag}") as (tab, world):
        await tab.click("parley-widget >> button.main")
        link = await world.service.attached()
        await link.received(3)
        named = await tab.js("Object.keys(window).filter((name) => /parley/i.test(name))")
        assert named == [], "nothing is global"


async def test_the_module_example_talks_says_what_was_said_and_stops(silent: Chromium) -> None:
    _, module = examples("html")
    async with site(silent, f"<!doctype html>{module}") as (tab, world):
        await tab.click("#talk")
        link = await world.service.attached()
        await link.received(3)
        await link.send(SAID)
        await tab.until("document.getElementById('said').textContent === 'assistant: Good morning'")
        await tab.click("#stop")
        await until(lambda: wire.Hangup() in link.messages, why="the end")


async def test_the_react_example_runs_in_react_and_leaves_nothing_behind(silent: Chromium) -> None:
    (component,) = examples("jsx")
    async with site(silent, REACT.replace("EXAMPLE", component)) as (tab, world):
        await tab.until("document.querySelector('button')?.disabled === false", 20)
        await tab.click("button")
        link = await world.service.attached()
        await link.received(3)
        await link.send(SAID)
        await tab.until("document.querySelector('p')?.textContent === 'Good morning'")
        await tab.js("leave()")
        await until(lambda: wire.Hangup() in link.messages, why="the end")
        assert len(world.service.links) == 1


async def test_the_methods_of_the_page_are_the_clients(silent: Chromium) -> None:
    methods = {name.partition("(")[0] for name in first_column("method")}
    assert len(methods) > 10
    async with site(silent, f"<script type=module src={GATEWAY}/parley/client.js></script>") as (tab, world):
        absent = await tab.js(
            f"import('{world.http_url}/parley/client.js').then(({{ ParleyClient }}) =>"
            f" {sorted(methods)}.filter((name) => typeof ParleyClient.prototype[name] !== 'function'))"
        )
        assert absent == []


def test_events_attributes_and_variables_of_the_page_are_the_codes() -> None:
    client, widget, styles = (
        (MODULES / f"{name}.js").read_text("utf-8") for name in ("client", "widget", "styles")
    )
    typed = client.split("@typedef {object} Events")[1].split("*/")[0]
    assert set(first_column("event")) == set(re.findall(r"@property \{.*\} (\w+)", typed))
    told = set(
        re.findall(r"^ \* Attributes: (.*?)\. Properties", widget, re.DOTALL | re.MULTILINE)[0].split()
    )
    for attribute in set(first_column("attribute")) - {"dir"}:
        assert f"{attribute}," in told or attribute in told, attribute
    assert set(re.findall(r"--parley-[\w-]+", PAGE)) == set(re.findall(r"--parley-[\w-]+", styles))
