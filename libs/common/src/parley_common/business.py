"""A business is a folder: business.yaml, prompt.md, knowledge/, data/. This file reads and checks it.

It does not know what the tools do with data/ and knowledge/; kits read those themselves.

Law: whatever is wrong in a folder is said with file and line, all of it at once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from parley_common.contracts.facts import BY_TYPE
from parley_common.errors import ConfigInvalid

PROMPT_WORDS_MAX = 500
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TOOL = re.compile(r"^([a-z][a-z0-9_]{0,31}\.)?[a-z][a-z0-9_]{0,47}$")
_FACT = re.compile(r"^parley\.(.+)\.v\d+$")
FACT_NAMES = frozenset(m.group(1) for m in map(_FACT.match, BY_TYPE) if m)
"""Fact types as people write them in routes: ``lead.captured`` for ``parley.lead.captured.v1``."""


class Part(BaseModel):
    """A part of business.yaml: frozen, and a key nobody knows is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Agent(Part):
    """Who answers."""

    name: str
    greeting: str | None = None
    """Spoken first when ``greet_first``; null leaves the words to the model."""
    greet_first: bool = True


class ServerVad(Part):
    """Turn detection by silence. Source: realtime.md section 3."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(default=0.5, ge=0, le=1)
    prefix_padding_ms: int = Field(default=300, ge=0, le=2000)
    silence_duration_ms: int = Field(default=500, ge=100, le=5000)


class SemanticVad(Part):
    """Turn detection by meaning."""

    type: Literal["semantic_vad"]
    eagerness: Literal["auto", "low", "medium", "high"] = "auto"


class Transcription(Part):
    """How the caller's words are written down."""

    model: str = "gpt-transcribe"
    language: str | None = "en"
    prompt: str | None = Field(default=None, max_length=1024)


class Voice(Part):
    """How the agent sounds and takes turns."""

    model: str | None = None
    """Null: the deployment's default model."""
    voice: str = "marin"
    speed: float = Field(default=1.0, ge=0.25, le=1.5)
    turn_detection: Annotated[ServerVad | SemanticVad, Field(discriminator="type")] = ServerVad()
    barge_in: Literal["instant", "confirm", "off"] = "instant"
    transcription: Transcription | None = Transcription()
    noise_reduction: Literal["near_field", "far_field"] | None = None
    reasoning_effort: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    """Null: not sent. Only 2.x models take one."""


class SessionLimits(Part):
    """What one session of this business may take."""

    session_max_s: int = Field(default=1_800, ge=30, le=3_600 * 3)
    idle_nudge_s: int | None = Field(default=None, ge=5)
    idle_hangup_s: int | None = Field(default=120, ge=10)
    tool_calls_max: int = Field(default=50, ge=1)


class Consent(Part):
    """The words in which the agent asks to keep and use contact details."""

    wording: str = "May we keep your details and contact you about this?"


class When(Part):
    """What a fact must satisfy for a route; null parts do not matter."""

    min_score: int | None = Field(default=None, ge=0, le=100)
    dispositions: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None


class Route(Part):
    """Who is told of which facts, on which channel."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,47}$")
    facts: tuple[str, ...] = Field(min_length=1)
    channel: Literal["email", "webhook"]
    to: str | None = None
    """An e-mail address or URL; null: the deployment's own setting for that channel."""
    template: str | None = None
    """Null: the template named as the fact."""
    when: When = When()

    @field_validator("facts")
    @classmethod
    def _facts_are_known(cls, facts: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [fact for fact in facts if fact not in FACT_NAMES]
        if unknown:
            raise ValueError(f"unknown facts {', '.join(unknown)}; known are {', '.join(sorted(FACT_NAMES))}")
        return facts

    @model_validator(mode="after")
    def _email_has_an_address(self) -> Route:
        if self.channel == "email" and not (self.to and "@" in self.to):
            raise ValueError("an email route needs `to`, an e-mail address")
        return self


class FactOptions(Part):
    """What this business puts into facts beyond numbers."""

    heard_text: bool = False


class Hours(Part):
    """Opening hours by weekday, each a list of ``HH:MM-HH:MM``; a missing day is closed."""

    monday: tuple[str, ...] = ()
    tuesday: tuple[str, ...] = ()
    wednesday: tuple[str, ...] = ()
    thursday: tuple[str, ...] = ()
    friday: tuple[str, ...] = ()
    saturday: tuple[str, ...] = ()
    sunday: tuple[str, ...] = ()

    @field_validator(*WEEKDAYS)
    @classmethod
    def _spans_are_readable(cls, spans: tuple[str, ...]) -> tuple[str, ...]:
        for span in spans:
            opens, closes = _span(span)
            if opens >= closes:
                raise ValueError(f"{span!r} closes before it opens")
        return spans

    def on(self, weekday: int) -> tuple[tuple[time, time], ...]:
        """Return the open spans of a weekday (Monday is 0)."""
        return tuple(_span(span) for span in getattr(self, WEEKDAYS[weekday]))


def _span(text: str) -> tuple[time, time]:
    match = re.fullmatch(r"(\d\d:\d\d)-(\d\d:\d\d)", text)
    if not match:
        raise ValueError(f"{text!r} is not like 09:00-17:30")
    return time.fromisoformat(match[1]), time.fromisoformat(match[2])


class BusinessConfig(Part):
    """business.yaml."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    title: str
    fictional: bool = False
    language: str = "en"
    time_zone: str = "UTC"
    agent: Agent
    voice: Voice = Voice()
    tools: tuple[str, ...] = ()
    """``tool`` of our own tool service, or ``service.tool``."""
    hours: Hours = Hours()
    limits: SessionLimits = SessionLimits()
    consent: Consent = Consent()
    routes: tuple[Route, ...] = ()
    facts: FactOptions = FactOptions()
    settings: dict[str, JsonValue] = {}
    """Free for kits: each reads its own key."""

    @field_validator("time_zone")
    @classmethod
    def _time_zone_exists(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"no such time zone: {name}")
        return name

    @field_validator("tools")
    @classmethod
    def _tools_are_names(cls, tools: tuple[str, ...]) -> tuple[str, ...]:
        for tool in tools:
            if not _TOOL.match(tool):
                raise ValueError(f"{tool!r} is not a tool name such as save_lead or tools.save_lead")
        if len(set(tools)) != len(tools):
            raise ValueError("a tool is named twice")
        return tools

    @field_validator("routes")
    @classmethod
    def _routes_have_own_names(cls, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        names = [route.name for route in routes]
        if len(set(names)) != len(names):
            raise ValueError("two routes share a name")
        return routes


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
        except (OSError, yaml.YAMLError) as wrong:
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


def check(folder: Path) -> list[Finding]:
    """Return everything wrong with a business, in the order of its files and lines."""
    return sorted(_read(folder)[2], key=lambda finding: (str(finding.file), finding.line))


def _read(folder: Path) -> tuple[BusinessConfig | None, str, list[Finding]]:
    findings: list[Finding] = []
    prompt = _read_prompt(folder / "prompt.md", findings)
    config = _read_config(folder / "business.yaml", findings)
    if config and config.name != folder.name:
        message = f"name is {config.name!r} but the folder is {folder.name!r}"
        findings.append(Finding("error", folder / "business.yaml", 1, message))
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
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as wrong:
        findings.append(Finding("error", path, 0, f"cannot be read: {wrong}"))
        return None
    except yaml.YAMLError as wrong:
        mark = getattr(wrong, "problem_mark", None)
        problem = getattr(wrong, "problem", None) or str(wrong)
        findings.append(Finding("error", path, mark.line + 1 if mark else 0, f"not YAML: {problem}"))
        return None
    try:
        return BusinessConfig.model_validate(raw)
    except ValidationError as wrong:
        for fault in wrong.errors(include_url=False, include_context=False):
            where = ".".join(str(part) for part in fault["loc"])
            message = f"{where}: {fault['msg']}" if where else fault["msg"]
            findings.append(Finding("error", path, _line_of(node, fault["loc"]), message))
        return None


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
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
