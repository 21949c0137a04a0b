"""`parley try`: talk to a business by typing, in one command, and see its tools at work."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from parley_common.errors import ConfigInvalid
from parley_launcher.commands.check import errors_of, finding_line, findings_of
from parley_launcher.commands.talk import as_error, stdin_lines
from parley_launcher.commands.try_start import Place, fresh_place, running_place, runs_at
from parley_launcher.commands.try_view import Watcher
from parley_launcher.console import print_error, stderr, stdout
from parley_launcher.settings import load_ports, load_up_settings
from parley_launcher.talk import show, turns
from parley_launcher.talk.prompt import HELP, PromptCaller, kept_terminal
from parley_launcher.talk.report import Happening, TalkReport
from parley_launcher.talk.run import TalkOptions, run_talk

LAST_RECORDS_S = 1.5
"""How long facts of the last turn may take to arrive: the outbox of the tools service is on their way."""


def try_it(
    business: Annotated[str, typer.Argument(help="The business: a folder under businesses/.")],
    text: Annotated[
        list[str] | None, typer.Option(help="Say this instead of asking you; repeat it for more.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start a Parley for this alone, also when one runs.")
    ] = False,
    max_s: Annotated[float, typer.Option(min=1, help="Give up after this many seconds.")] = 3_600.0,
) -> None:
    """Talk to a business by typing, and see its tools at work.

    The business is checked first. Then the Parley that runs here is used
    (`parley up`); when none runs, one is started for this business alone,
    with the understudy as its model, so that no key is needed, and stopped
    afterwards with all it wrote. Each tool call is shown with its arguments,
    each refusal with its code and what it wants first, each fact as it goes
    out. Edit the folder meanwhile: the next try has what you wrote.

    \b
    Examples:
      parley try my-clinic
      parley try my-clinic --text "Do you take Bluewater?"
      parley try my-clinic --fresh
    """
    folder = folder_of(business)
    said = tuple(turns.typed(line) for line in text or ())
    prompt = PromptCaller(stdout) if not said and sys.stdin.isatty() else None
    if not said and prompt is None:
        said = tuple(turns.typed(line.strip()) for line in stdin_lines())
        if not said:
            raise ConfigInvalid("there is nothing to say", remedy="give --text, or start it on a terminal")
    _check(folder)
    with _place(folder, fresh) as place:
        if prompt:
            stdout.print(HELP, style="dim")
        with kept_terminal():
            options = TalkOptions(business, said, place.url, max_s=max_s)
            report = asyncio.run(_talk(options, place, prompt))
    if report.failure:
        print_error(as_error(report.failure), stderr)
    if not report.ok:
        raise typer.Exit(1)


def folder_of(business: str) -> Path:
    """Return the folder of a business. Raises ConfigInvalid that says which there are."""
    root = load_up_settings().parley.businesses_dir
    known = sorted(path.parent.name for path in root.glob("*/business.yaml"))
    if business not in known:
        near = get_close_matches(business, known, 1)
        guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
        raise ConfigInvalid(
            f"there is no business {business!r} under {root}",
            remedy=f"{guess}; `parley new {business} --like cap` makes one",
        )
    return root / business


def _check(folder: Path) -> None:
    findings = findings_of(folder)
    for finding in findings:
        stdout.print(finding_line(finding))
    if errors_of(findings):
        raise ConfigInvalid(f"{folder} has mistakes", remedy="put them right, and try again")


@contextmanager
def _place(folder: Path, fresh: bool) -> Iterator[Place]:
    running = None if fresh else _running(folder.name)
    if running is not None:
        stdout.print(Text(f"talking to the Parley that runs at {running.url}", "dim"))
        yield running
        return
    stdout.print(Text("starting Parley for this business alone, with the understudy …", "dim"))
    with fresh_place(folder) as place:
        yield place
        stdout.print(Text("stopping", "dim"))


def _running(business: str) -> Place | None:
    url = f"http://127.0.0.1:{load_ports().gateway_port}"
    if not runs_at(url):
        return None
    place = asyncio.run(running_place(url, business))
    if place is None:
        stdout.print(
            Text(f"the Parley that runs at {url} does not know {business}: start it again for that", "yellow")
        )
    return place


async def _talk(options: TalkOptions, place: Place, prompt: PromptCaller | None) -> TalkReport:
    watcher = Watcher(stdout.print)

    def on_happening(happening: Happening) -> None:
        if happening.kind == "ready":
            watcher.session = str(happening.data["session"])
        if happening.kind == "tool" and watcher.is_watching:
            return  # shown with arguments and outcome as Kafka has them
        if (line := show.happening_line(happening)) is not None:
            stdout.print(line)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watcher.run(place.kafka))
        report = await run_talk(options, observer=on_happening, caller=prompt)
        if watcher.is_watching:
            await asyncio.sleep(LAST_RECORDS_S)
        watching.cancel()
    return report
