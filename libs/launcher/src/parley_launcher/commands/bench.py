"""`parley bench`: measure this checkout on this machine. The bench itself is tests/load/bench; it needs the test tools."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from parley_common.errors import ConfigInvalid
from parley_launcher.settings import environment

PROGRAM = Path("tests") / "load" / "bench" / "__main__.py"


def bench(
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="All parts, finer and longer, for up to an hour; each service alone too."
        ),
    ] = False,
    volume: Annotated[
        bool,
        typer.Option(
            "--volume", help="Only services at volume: tool calls, the relay of an outbox, webhooks."
        ),
    ] = False,
    duties: Annotated[
        bool,
        typer.Option(
            "--duties", help="Only what optional duties cost: tracing, words in facts, logs, limits."
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Where bench.json, bench.md and bench.svg go.")] = Path(
        ".parley/bench"
    ),
    budget_s: Annotated[
        float | None, typer.Option(help="How long it may take; 540, with --full 3600.")
    ] = None,
    step: Annotated[
        int | None, typer.Option(min=1, help="Callers from rung to rung; 25, with --full 10.")
    ] = None,
    callers_max: Annotated[int, typer.Option(min=10, max=4_000, help="Never more callers than this.")] = 300,
    upstream: Annotated[
        str,
        typer.Option(help="The model's stand-in: lean, burst (13 times faster than speech) or understudy."),
    ] = "lean",
    service_core: Annotated[
        int | None, typer.Option(min=0, help="The core of what is measured; the last one.")
    ] = None,
    rest_core: Annotated[
        int | None, typer.Option(min=0, help="The core of callers, stand-in, Kafka and tools; the first one.")
    ] = None,
) -> None:
    """Measure sessions per core, added latency, memory and CPU of a session.

    Callers speak in real time through the real services to a stand-in
    for the model; a minimal relay and an echo are measured beside them.
    Then services at volume: tool calls a second through Kafka, facts a
    second from a database, webhooks a second; a few seconds of each.
    What would not fit into the time is left out, and the report says so.
    Linux, in a checkout with its test tools. Keep the machine quiet.

    \b
    Examples:
      parley bench
      parley bench --full --out results
      parley bench --volume
      parley bench --duties
      parley bench --upstream understudy --callers-max 30
    """
    program = _program()
    chosen = {
        "--budget-s": budget_s,
        "--step": step,
        "--service-core": service_core,
        "--rest-core": rest_core,
    }
    argv = [sys.executable, "-m", "load.bench", "--out", str(out), "--upstream", upstream]
    flags = {"--full": full, "--volume": volume, "--duties": duties}
    argv += ["--callers-max", str(callers_max), *(flag for flag, is_set in flags.items() if is_set)]
    for option, value in chosen.items():
        argv += [] if value is None else [option, str(value)]
    env = {**environment(), "PYTHONPATH": str(program.parents[2])}
    os.execve(argv[0], argv, env)  # noqa: S606  (this process becomes the bench)


def _program() -> Path:
    """Return the bench of the checkout that we run from. Raises ConfigInvalid where there is none, or no tools for it."""
    for folder in (Path.cwd(), *Path(__file__).resolve().parents):
        if (folder / PROGRAM).is_file():
            break
    else:
        raise ConfigInvalid("the bench is not installed", remedy="run it in a checkout of the repository")
    if find_spec("picows") is None or find_spec("psutil") is None:
        raise ConfigInvalid("the bench's tools are not installed", remedy="make setup-test")
    return folder / PROGRAM
