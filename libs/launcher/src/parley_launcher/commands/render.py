"""`parley render`: have the model speak a business's fixed sentences once, to be played without a response."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from parley_launcher.settings import environment, load_up_settings
from parley_launcher.up.plan import upstream_of


def render(
    business: Annotated[
        list[str] | None, typer.Argument(help="Businesses to render; all of them when none is named.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Render also what is there already.")] = False,
) -> None:
    """Render greeting, filler and apology in each business's own voice.

    A session plays what was rendered at once and without paying for a
    response: the greeting first, the filler while a tool is slow, the apology
    when the model cannot be reached. Audio is kept by text, voice, speed and
    model: a changed sentence is rendered anew. Speaks with what
    `parley up` speaks with: OpenAI when there is a key, else the understudy.
    """
    flags = ["--again"] if again else []
    inherited = environment()
    env = {**inherited, **upstream_of(load_up_settings(), inherited).env}
    command = [sys.executable, "-m", "parley_session.app", "render", *flags, *(business or [])]
    done = subprocess.run(command, env=env, check=False)  # noqa: S603
    if done.returncode:
        raise typer.Exit(done.returncode)
