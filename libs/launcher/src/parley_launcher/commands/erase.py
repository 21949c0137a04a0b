"""`parley erase`: remove a person from one business's data, and say what is left where, and until when.

The tools service's own program does it, on its database: in one unit of work, with the facts that tell everybody
else. Law: nothing is erased without a yes, and what cannot be erased from here is said, never passed over.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from parley_common.business import load
from parley_common.contracts.topics import CASE_EVENTS, LEAD_EVENTS, SESSION_EVENTS, TOOL_RESULTS
from parley_common.errors import ConfigInvalid, Permanent
from parley_launcher.commands.topics import kept
from parley_launcher.console import stdout
from parley_launcher.settings import environment, load_up_settings


@dataclass(frozen=True, slots=True)
class Whom:
    """A person in one business, as the tools program is told."""

    business: str
    flag: str
    value: str


def erase(
    business: Annotated[str, typer.Argument(help="The business whose data it is.")],
    subject: Annotated[
        str, typer.Argument(help="The person's e-mail address or phone number; or a lead's id with --lead.")
    ],
    lead: Annotated[bool, typer.Option("--lead", help="The subject is a lead's id.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be erased.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Erase a person from one business.

    Leads with their history, the person's details in cases, bookings to come
    and stored answers of their sessions are removed from the database of the
    tools service (TOOLS_DATABASE_URL; unset, the file in PARLEY_STATE_DIR).
    The person is remembered by a hash, so that nothing comes back without a
    new consent, and parley.lead.erased tells notify and CRM teams. Running it
    twice is the same as once.

    \b
    Examples:
      parley erase cap ann.lee@example.com
      parley erase cap +14155550132 --yes
      parley erase cap 415-555-0132 --dry-run
    """
    whom = _whom(business, subject, lead)
    if dry_run or not yes:
        counted = _ask(whom, "--dry-run")
        stdout.print(f"{subject} in {business}: {_counts(counted)}")
        if dry_run or not _is_anything(counted):
            return
        if not typer.confirm("Erase it? This cannot be undone."):
            raise typer.Exit(1)
    erased = _ask(whom)
    if not _is_anything(erased):
        stdout.print(f"{business} has nothing of {subject}")
        return
    stdout.print(Text(f"erased {_counts(erased)}", "green"))
    for line in what_is_left(erased["leads"]):
        stdout.print(f"  {line}")


def _whom(business: str, subject: str, is_lead: bool) -> Whom:
    if is_lead:
        return Whom(business, "--lead", subject)
    if "@" in subject:
        return Whom(business, "--email", subject)
    if not any(sign.isdigit() for sign in subject):
        raise ConfigInvalid(
            f"{subject!r} is neither an e-mail address nor a phone number",
            remedy="ann.lee@example.com, +14155550132, or --lead with a lead's id",
        )
    return Whom(business, "--phone", subject)


def what_is_left(lead_count: int) -> list[str]:
    """Return what is elsewhere after an erasure, and until when it is."""
    told = (
        "notify removes its copies and cancels what waits once it reads parley.lead.erased"
        if lead_count
        else "no lead, so no parley.lead.erased: what notify holds of their cases goes after NOTIFY_FINISHED_KEPT_DAYS"
    )
    kafka = (
        f"Kafka keeps older facts until their retention: {LEAD_EVENTS.name} and {CASE_EVENTS.name} "
        f"{kept(CASE_EVENTS)} (and what is in their .dead), {SESSION_EVENTS.name} {kept(SESSION_EVENTS)} "
        f"where facts.heard_text is on, tool calls and results {kept(TOOL_RESULTS)}"
    )
    mark = (
        "remembered by hash: the person comes back only with a new consent"
        if lead_count
        else "no hash is kept"
    )
    return [
        mark,
        told,
        kafka,
        "what was delivered (letters, webhooks, CRM entries) is its receivers' to remove",
    ]


def _ask(whom: Whom, *flags: str) -> dict[str, Any]:
    """Run the tools program's own command. Raises what it says."""
    command = [sys.executable, "-m", "parley_tools.app", "erase", whom.business, whom.flag, whom.value]
    settings = load_up_settings().parley
    region = _region(settings.businesses_dir / whom.business) if whom.flag == "--phone" else None
    command += ["--region", region] if region else []
    said = subprocess.run(  # noqa: S603 - our own program
        [*command, "--json", *flags], capture_output=True, text=True, check=False, env=dict(environment())
    )
    if said.returncode == ConfigInvalid.exit_code:
        raise ConfigInvalid(_last_line(said.stderr).removeprefix("tools: "))
    if said.returncode:
        raise Permanent(
            f"the tools program could not do it: {_last_line(said.stderr)}",
            remedy="is TOOLS_DATABASE_URL right, and does the database answer?",
        )
    answer: dict[str, Any] = json.loads(_last_line(said.stdout))
    return answer


def _region(folder: Path) -> str | None:
    """Return where phone numbers without a country are from; null when the business is gone or does not say."""
    try:
        region = load(folder).config.settings.get("phone_region")
    except ConfigInvalid:
        return None
    return region if isinstance(region, str) else None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _is_anything(counts: dict[str, Any]) -> bool:
    return any(counts[name] for name in ("leads", "cases", "bookings", "results"))


def _counts(counts: dict[str, Any]) -> str:
    named = {
        "leads": ("lead", "leads"),
        "cases": ("case", "cases"),
        "bookings": ("booking to come", "bookings to come"),
        "results": ("stored answer", "stored answers"),
    }
    said = [f"{counts[name]} {one if counts[name] == 1 else more}" for name, (one, more) in named.items()]
    return ", ".join(each for each in said if not each.startswith("0 ")) or "nothing"
