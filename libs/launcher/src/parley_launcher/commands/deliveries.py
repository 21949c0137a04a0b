"""`parley deliveries`: what became of notifications, and retrying or cancelling one; asked of the notify service."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from parley_launcher.commands.notify_door import Url, ask
from parley_launcher.console import stdout

WIDE = 220
"""Columns: ids are to be copied whole, so nothing is cut to the terminal."""
_STYLES = {"pending": "yellow", "delivered": "green", "failed": "bold red", "cancelled": "dim"}

app = typer.Typer(help="List deliveries, show, retry or cancel one.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The delivery's id, as `parley deliveries list` shows it.")]


@app.command("list")
def list_deliveries(
    state: Annotated[str | None, typer.Option(help="pending, delivered, failed or cancelled.")] = None,
    business: Annotated[str | None, typer.Option(help="Only of this business.")] = None,
    route: Annotated[str | None, typer.Option(help="Only on this route.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only on this channel.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only about this lead or case.")] = None,
    fact: Annotated[str | None, typer.Option(help="Only of the fact with this ce_id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many, the newest.")] = 100,
    url: Url = None,
) -> None:
    """List deliveries, the newest first. What they tell is not shown.

    \b
    Examples:
      parley deliveries list --state failed
      parley deliveries list --subject 0198c0de-6b21-7c4f-8d52-3a7e9f1b2c02
    """
    wanted = {
        "state": state,
        "business": business,
        "route": route,
        "channel": channel,
        "subject": subject,
        "fact": fact,
        "limit": limit,
    }
    params = {name: value for name, value in wanted.items() if value is not None}
    found = ask("GET", url, "/v1/deliveries", params=params)
    if not found:
        stdout.print("no such deliveries")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("delivery", no_wrap=True, min_width=36)
    for column in ("state", "business", "route", "fact", "to", "attempts", "cause", "planned"):
        table.add_column(column, no_wrap=True)
    for shown in found:
        table.add_row(*_row(shown))
    stdout.print(table, width=WIDE, crop=False)


@app.command()
def show(delivery: Id, url: Url = None) -> None:
    """Show one delivery: its fact, attempts, cause, and what it waits for."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in ask("GET", url, f"/v1/deliveries/{delivery}").items():
        table.add_row(name.replace("_", " "), "-" if value is None else str(value))
    stdout.print(table, width=WIDE, crop=False)


@app.command()
def retry(delivery: Id, url: Url = None) -> None:
    """Try a delivery again now: one that waits, failed, or was cancelled. Its id stays, so receivers know a repeat."""
    ask("POST", url, f"/v1/deliveries/{delivery}/retry")
    stdout.print(f"retrying {delivery}")


@app.command()
def cancel(delivery: Id, url: Url = None) -> None:
    """Give up a delivery that waits; the next of its lead and route goes on."""
    ask("POST", url, f"/v1/deliveries/{delivery}/cancel")
    stdout.print(f"cancelled {delivery}")


def _row(shown: dict[str, Any]) -> list[str]:
    style = _STYLES.get(shown["state"], "")
    return [
        shown["delivery_id"],
        f"[{style}]{shown['state']}[/]" if style else shown["state"],
        shown["business"],
        shown["route"],
        shown["fact_type"].removeprefix("parley."),
        shown["host"],
        str(shown["attempts"]),
        shown["cause"] or "-",
        shown["created_at"],
    ]
