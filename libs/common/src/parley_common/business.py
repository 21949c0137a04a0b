"""A business is a folder: business.yaml, prompt.md, knowledge/, data/. This file reads and checks it.

What business.yaml may say is in business_config.py. Neither knows what the tools do with data/ and knowledge/; kits
read those themselves.

Law: whatever is wrong in a folder is said with file and line, all of it at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import ValidationError

from parley_common import models, yaml_source
from parley_common.business_config import BusinessConfig, Hours
from parley_common.errors import ConfigInvalid

PROMPT_WORDS_MAX = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake in a business. ``line`` is 1-based; 0 means the whole file."""

    severity: Literal["error", "warning"]
    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.severity}: {self.message}"


@dataclass(frozen=True, slots=True)
class Business:
    """One business as it was when it was read. ``version`` changes with any byte of the folder."""

    folder: Path
    config: BusinessConfig
    prompt: str
    version: str

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.config.time_zone)

    def data(self, name: str) -> Any:
        """Return a file of data/, YAML or JSON, parsed. Raises ConfigInvalid that names the file."""
        path = self.folder / "data" / name
        try:
            return yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as wrong:
            raise ConfigInvalid(f"{path}: {wrong}") from wrong


def load(folder: Path) -> Business:
    """Read one business. Raises ConfigInvalid with the first mistake's file and line; warnings pass."""
    config, prompt, findings = _read(folder)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors or config is None:
        more = f" (and {len(errors) - 1} more: parley check {folder})" if len(errors) > 1 else ""
        raise ConfigInvalid(f"{errors[0]}{more}")
    return Business(folder, config, prompt, _version(folder))


def load_all(root: Path) -> dict[str, Business]:
    """Read every business under ``root``, by name. Raises ConfigInvalid when there is none, or one is wrong."""
    folders = sorted(path.parent for path in root.glob("*/business.yaml"))
    if not folders:
        raise ConfigInvalid(
            f"no business under {root}", remedy="set PARLEY_BUSINESSES_DIR, or add a folder there"
        )
    return {business.name: business for business in map(load, folders)}


def load_changed(root: Path, known: dict[str, Business]) -> tuple[dict[str, Business], list[str]]:
    """Read the businesses under ``root`` again: what did not change is the same object as in ``known``.

    One that is wrong now stays as it was known; the second value says what is wrong, one line each.
    """
    found: dict[str, Business] = {}
    mistakes: list[str] = []
    for folder in sorted(path.parent for path in root.glob("*/business.yaml")):
        before = known.get(folder.name)
        try:
            unchanged = before is not None and before.version == _version(folder)
            business = before if before is not None and unchanged else load(folder)
        except (ConfigInvalid, OSError) as wrong:
            mistakes.append(str(wrong))
            if before is None:
                continue
            business = before
        found[business.name] = business
    return found, mistakes


def check(folder: Path) -> list[Finding]:
    """Return everything wrong with a business, in the order of its files and lines."""
    return sorted(_read(folder)[2], key=lambda finding: (str(finding.file), finding.line))


def _read(folder: Path) -> tuple[BusinessConfig | None, str, list[Finding]]:
    findings: list[Finding] = []
    prompt = _read_prompt(folder / "prompt.md", findings)
    config = _read_config(folder / "business.yaml", findings)
    return config, prompt, findings


def _read_prompt(path: Path, findings: list[Finding]) -> str:
    try:
        prompt = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as wrong:
        findings.append(Finding("error", path, 0, f"cannot be read: {wrong}"))
        return ""
    words = len(prompt.split())
    if not words:
        findings.append(Finding("error", path, 0, "is empty: the agent needs instructions"))
    if words > PROMPT_WORDS_MAX:
        message = f"{words} words; agents follow prompts of at most {PROMPT_WORDS_MAX} words better"
        findings.append(Finding("warning", path, 0, message))
    return prompt


def _read_config(path: Path, findings: list[Finding]) -> BusinessConfig | None:
    try:
        node, raw = yaml_source.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as wrong:
        findings.append(Finding("error", path, 0, f"cannot be read: {wrong}"))
        return None
    except (yaml.YAMLError, ValueError) as wrong:
        mark = getattr(wrong, "problem_mark", None)
        problem = getattr(wrong, "problem", None) or str(wrong)
        findings.append(Finding("error", path, mark.line + 1 if mark else 0, f"not YAML: {problem}"))
        return None
    for key, line in yaml_source.repeated_keys(node):
        findings.append(Finding("error", path, line, f"{key}: stands here twice"))
    name = raw.get("name") if isinstance(raw, dict) else None
    if isinstance(name, str) and name != path.parent.name:
        message = f"name is {name!r} but the folder is {path.parent.name!r}"
        findings.append(Finding("error", path, line_of(node, ("name",)), message))
    try:
        config = BusinessConfig.model_validate(raw)
    except ValidationError as wrong:
        for fault in wrong.errors(include_url=False, include_context=False):
            where = ".".join(str(part) for part in fault["loc"])
            message = f"{where}: {fault['msg']}" if where else fault["msg"]
            findings.append(Finding("error", path, line_of(node, fault["loc"]), message))
        return None
    findings += _retiring(config, path, node)
    findings += _unmeetable(config, path, node)
    return config


def _unmeetable(config: BusinessConfig, path: Path, node: yaml.Node | None) -> list[Finding]:
    """Warn of routes that wait for opening hours which nobody stated."""
    if config.hours != Hours():
        return []
    message = "this business states no `hours`, so it is always closed"
    return [
        Finding("warning", path, line_of(node, ("routes", number, "when", "hours")), message)
        for number, route in enumerate(config.routes)
        if route.when.hours
    ]


def _retiring(config: BusinessConfig, path: Path, node: yaml.Node | None) -> list[Finding]:
    today, voice = datetime.now(UTC).date(), config.voice
    named: list[tuple[tuple[str, ...], str | None]] = [(("voice", "model"), voice.model)]
    if voice.transcription:
        named.append((("voice", "transcription", "model"), voice.transcription.model))
    return [
        Finding("warning", path, line_of(node, place), why)
        for place, name in named
        if name and (why := models.retiring(name, today))
    ]


def line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Return the 1-based line of the deepest part of ``location`` that stands in the file."""
    line = node.start_mark.line + 1 if node else 0
    for part in location:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    found, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line + 1
        node = found or node
    return line


def _version(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
