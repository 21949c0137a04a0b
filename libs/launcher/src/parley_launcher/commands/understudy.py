"""`parley understudy`: run the stand-in for the Realtime API alone."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from parley_launcher.settings import environment, load_ports


def understudy(
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Where it listens; default UNDERSTUDY_PORT.")
    ] = None,
    light: Annotated[bool, typer.Option("--light", help="No speech models: typed text and tones.")] = False,
) -> None:
    """Run the local stand-in for OpenAI's Realtime API, with ears, a voice and no key.

    Point any Realtime client, with any key, at
    ws://127.0.0.1:8090/v1/realtime?model=gpt-realtime-2.1

    \b
    Examples:
      parley understudy
      parley understudy --port 9000 --light
    """
    env = {**environment(), "UNDERSTUDY_PORT": str(port or load_ports().understudy_port)}
    if light:
        env["UNDERSTUDY_LIGHT"] = "1"
    argv = [sys.executable, "-m", "parley_understudy.app"]
    os.execve(argv[0], argv, env)  # noqa: S606  (this process becomes the understudy)
