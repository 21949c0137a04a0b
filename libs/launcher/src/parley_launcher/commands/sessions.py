"""`parley sessions`: which sessions run, and ending one; asked of the session replicas themselves."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer
from rich.table import Table

from parley_common.errors import DependencyUnavailable, Permanent
from parley_launcher.console import duration, stdout
from parley_launcher.settings import load_internal_token, load_ports

DEADLINE_S = 5.0
WIDE = 140
"""Columns: ids are to be copied whole, so nothing is cut to the terminal."""

app = typer.Typer(help="List the sessions that run, or end one.", no_args_is_help=True)
Urls = Annotated[
    list[str] | None,
    typer.Option("--url", help="A session replica, such as http://127.0.0.1:8081; repeat it for more."),
]


@app.command("list")
def list_sessions(url: Urls = None) -> None:
    """List every session of the replicas, with what it does and has cost."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("session", no_wrap=True, min_width=36)
    for column in ("business", "mode", "state", "for", "turns", "tools", "tokens", "usd"):
        table.add_column(column)
    count = 0
    for replica in _replicas(url):
        for shown in _ask("GET", replica, "/v1/sessions").json():
            table.add_row(*_row(shown))
            count += 1
    stdout.print(table if count else "no session runs", width=WIDE, crop=False)


@app.command()
def end(
    session: Annotated[str, typer.Argument(help="The session's id, as `parley sessions list` shows it.")],
    url: Urls = None,
) -> None:
    """End one session; its caller is told that the service ended it."""
    for replica in _replicas(url):
        if (
            _ask("DELETE", replica, f"/v1/sessions/{session}", may_miss=True).status_code
            != httpx.codes.NOT_FOUND
        ):
            stdout.print(f"ending {session}")
            return
    raise Permanent(
        f"no replica runs session {session}", remedy="`parley sessions list` names those that run"
    )


def _replicas(urls: list[str] | None) -> list[str]:
    return urls or [f"http://127.0.0.1:{port}" for port in load_ports().sessions_at]


def _ask(method: str, replica: str, path: str, *, may_miss: bool = False) -> httpx.Response:
    headers = {"Authorization": f"Bearer {load_internal_token()}"}
    try:
        with httpx.Client(trust_env=False, timeout=DEADLINE_S) as client:
            answer = client.request(method, replica.rstrip("/") + path, headers=headers)
    except httpx.TransportError as wrong:
        raise DependencyUnavailable(
            f"no session replica answers at {replica}: {type(wrong).__name__}",
            remedy="is it running? `parley up` starts one; --url names others",
        ) from wrong
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise Permanent(f"{replica} does not take our token", remedy="set PARLEY_INTERNAL_TOKEN as it has it")
    if answer.is_error and not (may_miss and answer.status_code == httpx.codes.NOT_FOUND):
        raise Permanent(f"{replica} answered {answer.status_code}")
    return answer


def _row(shown: dict[str, Any]) -> list[str]:
    cost = shown["cost_usd"]
    return [
        shown["session_id"],
        shown["business"],
        shown["mode"],
        shown["state"] if shown["upstream"] == "ready" else f"upstream {shown['upstream']}",
        duration(shown["lasted_s"] * 1000),
        str(shown["turns"]),
        str(shown["tool_calls"]),
        str(shown["tokens"]),
        "-" if cost is None else f"{cost:.4f}",
    ]
