"""`parley dead-letters`: records that no consumer could process, and sending them again; asked of the notify service."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from parley_common.errors import ConfigInvalid
from parley_launcher.commands.notify_door import Url, ask
from parley_launcher.console import stdout

WIDE = 220
"""Columns: places are to be copied whole, so nothing is cut to the terminal."""

app = typer.Typer(help="List dead letters, show one, or send them again.", no_args_is_help=True)


@app.command("list")
def list_letters(
    topic: Annotated[str | None, typer.Option(help="Only of this topic, such as parley.lead.events.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest.")] = 100,
    url: Url = None,
) -> None:
    """List dead letters, the newest last. What they hold is not shown."""
    params = {"limit": limit} | ({"topic": topic} if topic else {})
    found = ask("GET", url, "/v1/dead-letters", params=params)
    if not found:
        stdout.print("no dead letters")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("letter", "cause", "group", "fact", "key", "died", "replayed"):
        table.add_column(column, no_wrap=True)
    for letter in found:
        table.add_row(*_row(letter))
    stdout.print(table, width=WIDE, crop=False)


@app.command()
def show(
    letter: Annotated[
        str, typer.Argument(help="topic/partition/offset, as `parley dead-letters list` shows it.")
    ],
    url: Url = None,
) -> None:
    """Show one dead letter: why it died, where it came from, how large it is."""
    topic, partition, offset = _place(letter)
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in ask("GET", url, f"/v1/dead-letters/{topic}/{partition}/{offset}").items():
        table.add_row(name.replace("_", " "), "-" if value is None else str(value))
    stdout.print(table, width=WIDE, crop=False)


@app.command()
def replay(
    letter: Annotated[
        list[str] | None, typer.Argument(help="topic/partition/offset; several are replayed in this order.")
    ] = None,
    cause: Annotated[
        str | None, typer.Option(help="Every letter with this cause that was not replayed yet.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="With --cause or --all: only of this topic.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every letter that was not replayed yet.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed before.")] = False,
    url: Url = None,
) -> None:
    """Send dead letters again to the topic they came from, with key and id as they were.

    Consumers that had taken one in do nothing. Letters about erased leads are
    skipped.

    \b
    Examples:
      parley dead-letters replay parley.lead.events.dead/1/42
      parley dead-letters replay --cause RuntimeError
      parley dead-letters replay --all --topic parley.lead.events
    """
    if bool(letter) == bool(cause or everything):
        raise ConfigInvalid(
            "name letters, or --cause, or --all", remedy="`parley dead-letters list` names them"
        )
    places = [_place(each) for each in letter or []] or _chosen(url, topic, cause, again=again)
    if not places:
        stdout.print("nothing to replay")
        return
    order = {"letters": [{"topic": t, "partition": p, "offset": o} for t, p, o in places], "again": again}
    done = ask("POST", url, "/v1/dead-letters/replay", json=order)
    for each in done:
        stdout.print(
            f"{each['topic']}/{each['partition']}/{each['offset']}: {each['outcome'].replace('_', ' ')}"
        )
    if any(each["outcome"] in {"unknown", "source_gone", "refused"} for each in done):
        raise typer.Exit(1)


def _chosen(
    url: str | None, topic: str | None, cause: str | None, *, again: bool
) -> list[tuple[str, int, int]]:
    params: dict[str, Any] = {"limit": 1000} | ({"topic": topic} if topic else {})
    return [
        (each["topic"], each["partition"], each["offset"])
        for each in ask("GET", url, "/v1/dead-letters", params=params)
        if cause in (None, each["cause"]) and (again or each["replayed_at"] is None)
    ]


def _place(text: str) -> tuple[str, int, int]:
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not topic or not partition.isdigit() or not offset.isdigit():
        raise ConfigInvalid(f"{text!r} is not like parley.lead.events.dead/1/42")
    return topic, int(partition), int(offset)


def _row(letter: dict[str, Any]) -> list[str]:
    return [
        f"{letter['topic']}/{letter['partition']}/{letter['offset']}",
        letter["cause"] or "-",
        letter["group"] or "-",
        (letter["fact_type"] or "-").removeprefix("parley."),
        letter["key"],
        letter["died_at"] or "-",
        letter["replayed_at"] or "-",
    ]
