"""The pages on adding a business and a tool, followed from scratch: their commands are run, their snippets are used.

What a page shows is read from the page, so that a command or a snippet that no longer works fails here.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.broker import Broker
from harness.processes import Proc, Processes
from harness.running import RunningParley
from harness.waiting import until
from parley_common.business import load
from parley_launcher.talk.client import TalkClient
from parley_launcher.talk.run import TalkOptions, run_talk
from parley_launcher.talk.turns import CallerTurn, typed

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "how-to"
COMMAND_S = 150.0
HERE = """from pathlib import Path
import pytest
from unit.tools.world import World, world

@pytest.fixture
async def here(sqlite_url: str):
    async with world(sqlite_url, Path({folder!r})) as made:
        yield made

"""
QUESTION = "Where can I park when I visit you?"


@dataclass
class Page:
    """A how-to: its commands and snippets, in the order in which they stand there."""

    text: str

    @classmethod
    def named(cls, name: str) -> Page:
        return cls((PAGES / name).read_text(encoding="utf-8"))

    def command(self, *words: str) -> list[str]:
        """Return the arguments of the page's first `parley` command that has these words."""
        lines = re.findall(r"^ {4,}\.venv/bin/parley (.+)$", self.text, re.MULTILINE)
        found = [shlex.split(line) for line in lines]
        return next(each for each in found if all(word in each for word in words))

    def snippet(self, language: str, beginning: str) -> str:
        """Return the one block in a language that begins so, without its indentation."""
        blocks = re.findall(rf"^( *)```{language}\n(.*?)^\1```", self.text, re.MULTILINE | re.DOTALL)
        texts = ["\n".join(line[len(indent) :] for line in block.splitlines()) for indent, block in blocks]
        (only,) = [text for text in texts if text.startswith(beginning)]
        return only + "\n"


@dataclass
class Desk:
    """A folder in which somebody works: a copy of the businesses, and the command."""

    folder: Path
    processes: Processes
    env: Mapping[str, str] = field(default_factory=dict)

    async def parley(self, arguments: list[str], *, said: str = "", code: int = 0) -> str:
        """Run a command to its end; returns what it printed."""
        command = [sys.executable, "-m", "parley_launcher", *arguments]
        if said:  # a pipe, as `echo … | parley try` has
            typed_in = self.folder / "said.txt"
            typed_in.write_text(said)
            command = ["sh", "-c", f"exec {shlex.join(command)} < {shlex.quote(str(typed_in))}"]
        env = {"NO_COLOR": "1", "COLUMNS": "200", **self.env}
        proc: Proc = self.processes.start(command, name=arguments[0], env=env, cwd=self.folder)
        assert await proc.wait_exit(COMMAND_S) == code, proc.log()
        return proc.log()


@pytest.fixture
def desk(tmp_path: Path, processes: Processes, fresh_broker: Broker, port: Callable[[], int]) -> Desk:
    shutil.copytree(ROOT / "businesses", tmp_path / "businesses")
    env = {"KAFKA_BOOTSTRAP_SERVERS": fresh_broker.bootstrap_servers, "GATEWAY_PORT": str(port())}
    return Desk(tmp_path, processes, env)


@pytest.mark.timeout(400)
async def test_the_page_on_a_business_leads_from_nothing_to_an_agent_that_knows_what_was_written(
    desk: Desk,
) -> None:
    page = Page.named("add-a-business.md")
    folder = desk.folder / "businesses" / "my-business"

    said = await desk.parley(page.command("new"))
    assert "is made, and valid: My Lending" in said
    assert load(folder).config.agent.name == "Robin"
    said = await desk.parley(page.command("try"), said="Hello, who is this?\n")
    assert "this is Robin at My Lending" in said

    article = page.snippet("markdown", "# Parking")
    (folder / "knowledge" / "parking.md").write_text(article, encoding="utf-8")
    said = await desk.parley(page.command("try", "--text"))
    assert "tool    search_knowledge_base(" in said
    assert "Cedar Lane" in said

    assert "is fine" in await desk.parley([each for each in page.command("--online") if each != "--online"])
    (folder / "business.yaml").write_text(
        (folder / "business.yaml").read_text().replace("time_zone:", "time_zona:")
    )
    said = await desk.parley(page.command("--online"), code=1)
    assert re.search(r"business\.yaml:\d+: error: time_zona", said)
    assert not list((desk.folder / ".parley").glob("try-*")), "a try leaves nothing behind"


@pytest.mark.timeout(400)
async def test_the_page_on_a_tool_leads_to_an_agent_that_uses_it(desk: Desk) -> None:
    page = Page.named("add-a-tool.md")
    package = desk.folder / "src" / "parley_tools"
    shutil.copytree(ROOT / "services" / "tools" / "src" / "parley_tools", package)
    kit = page.snippet("python", '"""The hours kit')
    (package / "kits" / "hours.py").write_text(kit, encoding="utf-8")
    config = desk.folder / "businesses" / "cap" / "business.yaml"
    named = page.snippet("yaml", "tools:")
    config.write_text(config.read_text().replace("tools:\n", named, 1))
    desk.env = {**desk.env, "PYTHONPATH": str(package.parent)}

    assert "is fine" in await desk.parley(page.command("check", "businesses/cap"))
    said = await desk.parley(page.command("try"))
    assert 'tool    opening_hours(weekday="friday")' in said
    assert "On Friday we are open 09:00-16:00." in said

    own = desk.folder / "test_hours.py"
    own.write_text(HERE.format(folder=str(config.parent)) + page.snippet("python", "async def test_"))
    paths = {"PYTHONPATH": f"{package.parent}:{ROOT / 'tests'}"}
    plugins = ["-p", "no:cacheprovider", "-p", "conftest"]
    argv = [sys.executable, "-m", "pytest", "-q", *plugins, "-c", str(ROOT / "pyproject.toml"), str(own)]
    proc = desk.processes.start(argv, name="pytest", env=paths, cwd=ROOT)
    assert await proc.wait_exit(COMMAND_S) == 0, proc.log()


class AsksAgainAfterAnEdit:
    """A caller who asks, waits until somebody has edited the business, and asks the same again."""

    def __init__(self, edit: Callable[[], Awaitable[None]]) -> None:
        self._edit = edit
        self._asked_count = 0

    async def next_turn(self, client: TalkClient) -> CallerTurn | None:
        self._asked_count += 1
        if self._asked_count == 2:
            await self._edit()
        return typed(QUESTION) if self._asked_count <= 2 else None


@pytest.mark.timeout(400)
async def test_edits_reach_new_sessions_of_a_running_parley_and_a_session_keeps_what_it_began_with(
    desk: Desk, fresh_broker: Broker
) -> None:
    businesses = desk.folder / "businesses"
    await desk.parley(["new", "second", "--like", "cap"])
    article = businesses / "second" / "knowledge" / "parking.md"
    article.write_text("# Parking\n\nVisitors park free in the yard on Cedar Lane.\n")
    parley = RunningParley(
        desk.processes,
        desk.folder / "state",
        fresh_broker,
        "--light",
        "--only",
        "session,tools,gateway",
        PARLEY_BUSINESSES_DIR=str(businesses),
    )
    desk.env = {**desk.env, "GATEWAY_PORT": str(parley.ports["GATEWAY_PORT"])}
    said = await desk.parley(["try", "second", "--text", QUESTION])
    assert f"talking to the Parley that runs at {parley.url}" in said
    assert "Cedar Lane" in said
    assert "is fine" in await desk.parley(["check", "businesses/second", "--online"])

    async def a_new_session_is_told(words: str) -> bool:
        report = await run_talk(TalkOptions("second", (typed(QUESTION),), parley.url, max_s=60))
        return words in report.agent_text

    async def edit() -> None:
        article.write_text("# Parking\n\nVisitors park free in the garage on Birch Street.\n")
        await until(lambda: a_new_session_is_told("Birch Street"), 30, "the edit to reach new sessions")

    await desk.parley(["new", "third", "--like", "second"])
    assert "Cedar Lane" in await desk.parley(["try", "third", "--text", QUESTION]), "known to it or not"
    report = await run_talk(
        TalkOptions("second", (), parley.url, max_s=120), caller=AsksAgainAfterAnEdit(edit)
    )
    assert report.agent_text.count("Cedar Lane") == 2
    assert "Birch Street" not in report.agent_text
    parley.stop()
