"""What the tools program does once and is done: check a business against its tools, erase a person.

``parley check`` runs the first, because only this service knows the kits' data files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import httpx
from pydantic import SecretStr

from parley_common.business import Business, Finding, load
from parley_common.clock import SystemClock
from parley_common.db import Database
from parley_common.errors import ConfigInvalid, ToolRefused
from parley_common.outbox import Outbox
from parley_common.own_tools import secrets_named
from parley_tools import erasure
from parley_tools.erasure import Erased, Subject
from parley_tools.http_tools import http_tools
from parley_tools.kits import KITS
from parley_tools.kits.knowledge import index_of
from parley_tools.leads import valid_email, valid_phone
from parley_tools.offer import Offer
from parley_tools.registry import Registry
from parley_tools.settings import ToolsSettings
from parley_tools.store import OUTBOX, SCHEMA
from parley_tools.upkeep import migrated

ERASE_USAGE = (
    "usage: parley-tools erase BUSINESS (--email ADDRESS | --phone +NUMBER [--region US] | --lead ID) "
    "[--dry-run] [--json]"
)
ALIKE_MIN = 0.8
NO_REGION = "ZZ"
"""A phone number without a country cannot be told apart from others: an operator writes the whole one, or its region."""


def check(arguments: Sequence[str], service: str) -> int:
    """Write what is wrong with the businesses in ``arguments``, a line each; return the exit code.

    With ``--json`` each line is an object with severity, file, line and message.
    """
    folders = [Path(each) for each in arguments if each != "--json"]
    found = [finding for folder in folders for finding in findings(folder, service)]
    for finding in found:
        sys.stdout.write(f"{_as_json(finding) if '--json' in arguments else finding}\n")
    return 1 if any(finding.severity == "error" for finding in found) else 0


def _as_json(finding: Finding) -> str:
    fields = {"severity": finding.severity, "file": str(finding.file), "line": finding.line}
    return json.dumps({**fields, "message": finding.message})


def findings(folder: Path, service: str) -> list[Finding]:
    """Return what is wrong between a business and the tools it names, articles and declared tools included."""
    try:
        business = load(folder)
        tools = Registry.of_kits(KITS)
        found = tools.findings(business, service) + _misspelt(business, tools, service)
        if found:
            return found
        index_of(business)
        any_secret = dict.fromkeys(_secrets_of(business), SecretStr(""))
        Offer(service, tools, {}).put(business, http_tools(business, httpx.AsyncClient(), any_secret))
    except ConfigInvalid as wrong:
        return [Finding("error", folder / "business.yaml", 0, wrong.message)]
    return []


def _misspelt(business: Business, tools: Registry, service: str) -> list[Finding]:
    """Return the tools it names that we do not have but for a letter or two.

    Other unknown names may be another deployment's: only the catalog knows (``parley check --online``).
    """
    found = []
    for name in business.config.tools:
        ours = name.removeprefix(f"{service}.")
        if "." in ours or ours in tools or ours in business.config.own_tools:
            continue
        for meant in get_close_matches(ours, tools, 1, ALIKE_MIN):
            message = f"tools: no kit has a tool {ours!r}: did you mean {meant!r}?"
            found.append(Finding("error", business.folder / "business.yaml", 0, message))
    return found


def _secrets_of(business: Business) -> set[str]:
    return {name for tool in business.config.http_tools for name in secrets_named(tool.headers)}


@dataclass(frozen=True, slots=True)
class Errand:
    """What the erase program was told."""

    business: str
    whom: Subject
    dry_run: bool = False
    """Only count: everything is taken back."""
    as_json: bool = False


def errand(arguments: Sequence[str]) -> Errand:
    """Read whom to erase. Raises ConfigInvalid."""
    flags = {"--dry-run", "--json"}
    rest = [each for each in arguments if each not in flags]
    region = NO_REGION
    if rest[-2:-1] == ["--region"]:
        rest, region = rest[:-2], rest[-1]
    told = {"dry_run": "--dry-run" in arguments, "as_json": "--json" in arguments}
    try:
        match rest:
            case [business, "--email", value]:
                return Errand(business, Subject(email=valid_email(value)), **told)
            case [business, "--phone", value]:
                return Errand(business, Subject(phone=valid_phone(value, region)), **told)
            case [business, "--lead", value]:
                return Errand(business, Subject(lead_id=value), **told)
    except ToolRefused as wrong:
        raise ConfigInvalid(f"{rest[1][2:]} is not valid: {wrong.stable_code}", remedy=ERASE_USAGE) from wrong
    raise ConfigInvalid(ERASE_USAGE)


class _TakeBack(Exception):
    """Rolls a count back."""


async def erase(settings: ToolsSettings, told: Errand) -> None:
    """Remove a person's data; a running service's relay, or the next one's, sends the facts about it.

    Raises:
        ConfigInvalid: the database was never migrated, so nobody is in it.
    """
    database = Database(settings.resolved_database_url(), schema=SCHEMA)
    try:
        if not await migrated(database):
            raise ConfigInvalid("the tools database is not there or not migrated", remedy="parley migrate")
        erased = Erased((), 0, 0, 0)
        with suppress(_TakeBack):
            async with database.begin() as db:
                outbox = Outbox(OUTBOX, source=settings.service)
                erased = await erasure.erase(db, outbox, told.business, told.whom, SystemClock().now())
                if told.dry_run:
                    raise _TakeBack
        sys.stdout.write(_said(erased, told) + "\n")
    finally:
        await database.aclose()


def _said(erased: Erased, told: Errand) -> str:
    counts = {
        "leads": len(erased.lead_ids),
        "cases": erased.case_count,
        "bookings": erased.booking_count,
        "results": erased.result_count,
    }
    if told.as_json:
        return json.dumps({**counts, "lead_ids": erased.lead_ids, "dry_run": told.dry_run})
    verb = "would erase" if told.dry_run else "erased"
    return f"{verb} {counts['leads']} leads and {counts['cases']} cases"
