"""`parley conform`: does a gateway do what docs/client-protocol.md says? The checks are conformance.py."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from parley_launcher.conformance import Verdict, Visit, judge
from parley_launcher.console import stdout

MARKS = {
    True: Text("pass", "green"),
    False: Text("FAIL", "bold red"),
    None: Text("nothing to see", "yellow"),
}


def conform(
    url: Annotated[str, typer.Argument(help="The gateway, or its audio socket: ws://host:port/v1/audio.")],
    business: Annotated[str, typer.Option(help="A business it serves; short sessions are opened.")] = "cap",
    api_key: Annotated[
        str | None,
        typer.Option(envvar="PARLEY_API_KEY", help="What to show for tokens, where a key is needed."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per check.")] = False,
) -> None:
    """Check that a gateway speaks parley.v1 as its documentation says.

    Opens some twenty short sessions, nearly all of them in text. Exits with
    1 when a check fails. What did not happen cannot be judged, and is said.

    \b
    Examples:
      parley conform ws://127.0.0.1:8080
      parley conform wss://voice.example.com --business cap --json
    """
    verdicts: list[Verdict] = []

    def tell(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if as_json:
            line = {"check": verdict.name, "good": verdict.is_good, "detail": verdict.detail}
            print(json.dumps(line), flush=True)

    asyncio.run(judge(Visit(url, business, api_key), tell))
    if not as_json:
        stdout.print(_table(verdicts))
    if any(verdict.is_good is False for verdict in verdicts):
        raise typer.Exit(1)


def _table(verdicts: list[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in ("check", "verdict", ""):
        table.add_column(head, overflow="fold")
    for verdict in verdicts:
        table.add_row(Text(verdict.name), MARKS[verdict.is_good], Text(verdict.detail))
    return table
