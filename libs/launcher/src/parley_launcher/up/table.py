"""What `parley up` shows when all runs: what runs where, and how to talk to an agent. Rendering only."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from parley_launcher.up.plan import HOST, Plan, ProcessSpec
from parley_launcher.up.supervisor import Keeper

FAVOURITE_BUSINESS = "cap"


def what_runs(plan: Plan, keepers: Sequence[Keeper]) -> Table:
    """Return the table of names, addresses, processes and purposes."""
    pids = {keeper.name: keeper.pid for keeper in keepers}
    table = Table(
        title="Parley runs", title_justify="left", title_style="bold green", header_style="bold", box=None
    )
    for column in ("what", "where", "pid", "what for"):
        table.add_column(column, no_wrap=True)
    kafka_for = "facts, tool calls (embedded)" if plan.broker else "facts, tool calls"
    table.add_row("kafka", plan.kafka.bootstrap_servers, _pid(pids.get("kafka")), kafka_for)
    for spec in plan.processes:
        table.add_row(spec.name, spec.url, _pid(pids.get(spec.name)), spec.purpose)
        for name, url in _worker_rows(spec):
            table.add_row(name, url, "", "" if spec.port in spec.workers_at else "its health and metrics")
    return table


def _worker_rows(spec: ProcessSpec) -> list[tuple[str, str]]:
    """Return name and address of each worker but one that has the service's own; the others may not be dialled."""
    is_dialled = spec.port in spec.workers_at
    scheme = "ws" if is_dialled else "http"
    rows = [(f"· worker {at}", f"{scheme}://{HOST}:{port}") for at, port in enumerate(spec.workers_at)]
    return rows[1:] if is_dialled else rows


def how_to_talk(plan: Plan, program: str) -> list[Text]:
    """Return the lines that tell who answers and how to go on; none when no gateway runs here."""
    gateway = next((spec for spec in plan.services if spec.name == "gateway"), None)
    if gateway is None:
        return []
    parley, business = command_name(program), a_business(plan)
    at = "" if gateway.port == 8080 else f" --url {gateway.url}"
    return [
        Text("model ", "bold") + Text(plan.upstream),
        Text("read  ", "bold") + Text(f"{gateway.url}/", "underline") + Text(" in a browser"),
        Text("type  ", "bold") + Text(f"{parley} talk --business {business}{at}", "cyan"),
        Text("speak ", "bold")
        + Text(f"{parley} talk --business {business}{at} --wav caller.wav --out agent.wav", "cyan"),
    ]


def command_name(program: str) -> str:
    """Return what to type for this command: its name when the shell finds it, else the way it was started."""
    found = shutil.which("parley")
    if found and Path(found).resolve() == Path(program).resolve():
        return "parley"
    path = Path(program)
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return program


def a_business(plan: Plan) -> str:
    """Return the name of a business to talk to: the example when it is there, else the first."""
    root = Path(plan.inherited.get("PARLEY_BUSINESSES_DIR") or "businesses")
    names = sorted(path.parent.name for path in root.glob("*/business.yaml"))
    return FAVOURITE_BUSINESS if not names or FAVOURITE_BUSINESS in names else names[0]


def _pid(pid: int | None) -> str:
    return "" if pid is None else str(pid)
