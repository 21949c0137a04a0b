"""`parley preview`: what a fact looks like as an e-mail of a business. Sends nothing."""

from __future__ import annotations

import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from parley_common.errors import ConfigInvalid, DependencyUnavailable
from parley_launcher.console import stderr
from parley_launcher.settings import load_up_settings


def preview(
    fact: Annotated[str, typer.Argument(help="A fact as routes name it, such as lead.qualified.")],
    business: Annotated[str, typer.Option(help="Whose letter: the name of a folder of businesses.")],
    template: Annotated[
        str | None, typer.Option(help="Another template than the fact's own, as a route may name one.")
    ] = None,
    bare: Annotated[bool, typer.Option("--bare", help="A fact with nothing but what it must have.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Open the HTML in a browser.")] = False,
) -> None:
    """Print the letter of a sample fact and write its HTML to a file.

    \b
    Examples:
      parley preview lead.qualified --business cap --open
      parley preview case.opened --business cap --bare
    """
    settings = load_up_settings().parley
    folder = settings.businesses_dir / business
    if not (folder / "business.yaml").is_file():
        raise ConfigInvalid(
            f"there is no business {business!r} under {settings.businesses_dir}",
            remedy="set PARLEY_BUSINESSES_DIR, or name a folder there",
        )
    page = settings.state_dir / "preview" / f"{business}.{fact}.html"
    command = [sys.executable, "-m", "parley_notify.app", "preview", fact, str(folder), "--html", str(page)]
    command += ["--template", template] if template else []
    command += ["--bare"] if bare else []
    said = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    if said.returncode:
        raise ConfigInvalid(said.stderr.strip() or f"parley-notify preview exited with {said.returncode}")
    print(said.stdout, end="")
    stderr.print(f"\nHTML: {page}", style="dim")
    if show:
        _open(page)


def _open(page: Path) -> None:
    if not webbrowser.open(page.resolve().as_uri()):
        raise DependencyUnavailable("no browser can be opened here", remedy=f"open {page} yourself")
