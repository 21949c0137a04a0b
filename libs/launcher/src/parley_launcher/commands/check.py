"""`parley check`: say everything that is wrong with a business, with file and line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from parley_common import business
from parley_common.business import Finding
from parley_common.errors import ConfigInvalid
from parley_launcher.catalog import announced_tools, unknown_tools
from parley_launcher.console import stdout
from parley_launcher.settings import load_kafka_settings


def check(
    folder: Annotated[Path, typer.Argument(help="The folder of one business, such as businesses/cap.")],
    online: Annotated[
        bool, typer.Option("--online", help="Also ask Kafka whether some service has each tool.")
    ] = False,
) -> None:
    """Explain each mistake in a business with file and line.

    Exits with 1 when there are errors; warnings alone are fine.

    \b
    Examples:
      parley check businesses/cap
      parley check businesses/cap --online
    """
    if not folder.is_dir():
        raise ConfigInvalid(
            f"{folder} is not a folder", remedy="give the folder of one business: businesses/cap"
        )
    findings = findings_of(folder)
    if online and not errors_of(findings):
        announced = asyncio.run(announced_tools(load_kafka_settings()))
        findings += unknown_tools(folder, business.load(folder), announced)
    for finding in findings:
        stdout.print(finding_line(finding))
    if errors_of(findings):
        raise typer.Exit(1)
    stdout.print(Text(f"{folder} is fine" if not findings else f"{folder} is fine but for warnings", "green"))


def findings_of(folder: Path) -> list[Finding]:
    """Return everything that is wrong with a business, as far as it can be known without Kafka."""
    findings = business.check(folder)
    return findings if errors_of(findings) else findings + _with_its_services(folder)


def errors_of(findings: list[Finding]) -> list[Finding]:
    """Return the findings that must be put right; the others are warnings."""
    return [finding for finding in findings if finding.severity == "error"]


def finding_line(finding: Finding) -> Text:
    """Return the line that says it: file, line and what is wrong there."""
    return Text(str(finding), style="red" if finding.severity == "error" else "yellow")


def _with_its_services(folder: Path) -> list[Finding]:
    """Ask the programs that alone know what kits' data and routes must be; nothing of one that is not installed."""
    return [finding for service in ("parley_tools", "parley_notify") for finding in _asked(service, folder)]


def _asked(service: str, folder: Path) -> list[Finding]:
    if find_spec(service) is None:
        return []
    command = [sys.executable, "-m", f"{service}.app", "check", "--json", str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    if said.returncode not in (0, 1):
        raise ConfigInvalid(said.stderr.strip() or f"{' '.join(command)} exited with {said.returncode}")
    read = [json.loads(line) for line in said.stdout.splitlines()]
    return [Finding(each["severity"], Path(each["file"]), each["line"], each["message"]) for each in read]
