"""The `parley` command: what it offers, and how it ends when something is wrong.

Each command stands in commands/ under its own name. Law: no traceback for what a person can put right; an error is one
line and its remedy. Exit codes: 0 done, 1 failed, 2 wrong usage, 78 wrong setting, 130 Ctrl-C.
"""

from __future__ import annotations

import sys

import typer

from parley_common.errors import ConfigInvalid, ParleyError
from parley_launcher.commands import (
    bench,
    check,
    conform,
    dead_letters,
    deliveries,
    erase,
    events,
    migrate,
    new,
    preview,
    render,
    sessions,
    switch,
    talk,
    topics,
    try_it,
    understudy,
    up,
)
from parley_launcher.console import print_error

HELP = """
Voice agents for many businesses over the OpenAI Realtime API, as services over Kafka.

A business is a folder under businesses/. Its agent speaks with callers
and calls tools; what comes of it (leads, cases) are facts on Kafka, which
notifications and CRM teams read.

\b
Begin with two terminals:
  parley up                        start everything on this machine
  parley talk --business cap       talk to Cap: type, or give --wav files

\b
Make your own:
  parley new my-shop --like shop   a business from one that works
  parley try my-shop               talk to it, and see its tools at work

\b
Then look closer:
  parley events --from-beginning   every fact that Kafka still has
  parley check businesses/cap      what is wrong with a business, and where
  parley sessions list             what runs now, and what it has cost

Each command explains itself: parley talk --help
"""

app = typer.Typer(
    name="parley",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up.up)
app.command()(talk.talk)
app.command()(events.events)
app.add_typer(topics.app, name="topics")
app.command()(migrate.migrate)
app.command()(new.new)
app.command()(check.check)
app.command(name="try")(try_it.try_it)
app.command()(understudy.understudy)
app.command()(conform.conform)
app.command()(bench.bench)
app.command()(render.render)
app.add_typer(sessions.app, name="sessions")
app.command()(preview.preview)
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(switch.app, name="switch")
app.command()(erase.erase)


def main() -> None:
    """Run the command and exit."""
    try:
        app()
    except ParleyError as wrong:
        print_error(wrong)
        sys.exit(ConfigInvalid.exit_code if isinstance(wrong, ConfigInvalid) else 1)
