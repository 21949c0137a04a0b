"""`parley up`: start everything on this machine, supervised."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parley_launcher.console import stdout
from parley_launcher.settings import environment, load_up_settings
from parley_launcher.up.plan import STARTABLE, Choices
from parley_launcher.up.run import UpOptions, run_up


def up(
    light: Annotated[
        bool, typer.Option("--light", help="The understudy without speech models: typed text and tones.")
    ] = False,
    facts: Annotated[bool, typer.Option(help="Show each fact that passes Kafka as one line.")] = True,
    only: Annotated[
        str | None,
        typer.Option(
            help=f"Start only these, comma-separated, of: {', '.join(STARTABLE)}. Kafka is always there."
        ),
    ] = None,
    json_ready: Annotated[
        Path | None, typer.Option(help="Write ports and process ids to this file when all is ready.")
    ] = None,
) -> None:
    """Start everything on this machine: Kafka, services, a model to talk to.

    Each part is a process of its own; one that crashes is shown and started
    again. Ctrl-C stops all in order. With OPENAI_API_KEY set the model is
    OpenAI's, without it a stand-in that needs no key. With
    KAFKA_BOOTSTRAP_SERVERS set that Kafka is used, without it a small
    embedded one.

    \b
    Examples:
      parley up
      parley up --light --no-facts
      GATEWAY_PORT=9080 parley up
      parley up --only tools,notify
    """
    names = tuple(name.strip() for name in only.split(",") if name.strip()) if only is not None else None
    options = UpOptions(Choices(light, names), facts, json_ready)
    run_up(load_up_settings(), environment(), options, stdout)
