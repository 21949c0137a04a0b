"""`parley migrate`: bring the databases of the services to their newest form."""

from __future__ import annotations

import subprocess
import sys

import typer

from parley_launcher.console import stdout
from parley_launcher.up.plan import MIGRATED


def migrate() -> None:
    """Bring the databases of tools and notify to their newest form.

    Safe to repeat, and side by side. Where the databases are is set by
    TOOLS_DATABASE_URL and NOTIFY_DATABASE_URL; unset, they are SQLite files
    in PARLEY_STATE_DIR.
    """
    for name in MIGRATED:
        done = subprocess.run([sys.executable, "-m", f"parley_{name}.app", "migrate"], check=False)  # noqa: S603
        if done.returncode:
            raise typer.Exit(done.returncode)
        stdout.print(f"{name}: migrated")
