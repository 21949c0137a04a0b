"""What a business may set in its business.yaml: each part, its defaults, and what cannot be.

business.py reads the file, and says where it is wrong.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from parley_common import models
from parley_common.contracts.facts import BY_TYPE
from parley_common.contracts.people import Person
from parley_common.own_tools import HttpTool, McpServer

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TOOL = re.compile(r"^([a-z][a-z0-9_]{0,31}\.)?[a-z][a-z0-9_]{0,47}$")
_FACT = re.compile(r"^parley\.(.+)\.v\d+$")
FACT_NAMES = frozenset(m.group(1) for m in map(_FACT.match, BY_TYPE) if m)
"""Fact types as people write them in routes: ``lead.captured`` for ``parley.lead.captured.v1``."""


CALLBACK_TOOL = "request_callback"
"""Called for a caller who found no room; no model sees it unless a business names it among its tools."""


class Part(BaseModel):
    """A part of business.yaml: frozen, and a key nobody knows is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Agent(Part):
    """Who answers."""

    name: str
    greeting: str | None = None
    """Spoken first when ``greet_first``; null leaves the words to the model."""
    greet_first: bool = True
    filler: str = Field(default="One moment, please.", max_length=200)
    """Said while a slow tool runs, where ``parley render`` has made audio of it."""
    apology: str = Field(
        default="I am sorry, I cannot go on just now. Please try again in a few minutes.", max_length=300
    )
    """Said when the model cannot be reached any more, where ``parley render`` has made audio of it."""


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


class PushToTalk(Part):
    """No turn detection: the client's key marks turns."""

    type: Literal["none"]


class RetentionRatio(Part):
    """How much of a full context upstream keeps."""

    type: Literal["retention_ratio"] = "retention_ratio"
    retention_ratio: float = Field(gt=0, le=1)


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
    turn_detection: Annotated[ServerVad | SemanticVad | PushToTalk, Field(discriminator="type")] = ServerVad()
    barge_in: Literal["instant", "confirm", "off"] = "instant"
    """``confirm``: a cough pauses the agent, speech takes the floor. ``off``: the agent always finishes."""
    min_speech_ms: int = Field(default=350, ge=100, le=2_000)
    """With ``confirm``: caller sound shorter than this is a cough."""
    transcription: Transcription | None = Transcription()
    noise_reduction: Literal["near_field", "far_field"] | None = None
    reasoning_effort: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    """Null: not sent. Only 2.x models take one."""
    truncation: Literal["auto", "disabled"] | RetentionRatio | None = None
    """What upstream does with a full context; null: its own default."""
    max_output_tokens: int | None = Field(default=None, ge=1, le=4_096)
    """Of one response; null: no limit."""

    @model_validator(mode="after")
    def _models_are_there(self) -> Voice:
        today = datetime.now(UTC).date()
        named = [self.model, self.transcription.model if self.transcription else None]
        gone = [why for name in named if name and (why := models.retired(name, today))]
        if gone:
            raise ValueError("; ".join(gone))
        if self.reasoning_effort and self.model and not models.takes_effort(self.model):
            raise ValueError(f"reasoning_effort: {self.model} takes none, only 2.x models do")
        return self


class SessionLimits(Part):
    """What one session of this business may take."""

    session_max_s: int = Field(default=1_800, ge=30, le=3_600 * 3)
    idle_nudge_s: int | None = Field(default=None, ge=5)
    idle_hangup_s: int | None = Field(default=120, ge=10)
    tool_calls_max: int = Field(default=50, ge=1)
    filler_after_ms: int | None = Field(default=1_200, ge=200)
    """How long a tool may take before the agent says its filler; null: never."""
    tokens_max: int | None = Field(default=None, ge=1_000)
    usd_max: float | None = Field(default=None, gt=0)
    """What one session may use; at four fifths of it the agent is told to wrap up."""
    usd_per_day: float | None = Field(default=None, gt=0)
    """What all sessions of a day (UTC) may cost together; new ones are refused after that."""
    sessions_max: int | None = Field(default=None, ge=1)
    """How many sessions of this business may run at once on all replicas; null: as many as there is room for."""
    opens_per_minute: int | None = Field(default=None, ge=1)
    """How many sessions each gateway opens for this business in a minute; null: no limit but the others."""


class Busy(Part):
    """What is done for callers for whom there is no room."""

    callback: bool = False
    """They may leave a name and a number: a case of kind ``callback``, opened by the tool of that name."""


class Consent(Part):
    """The words in which the agent asks to keep and use contact details."""

    wording: str = "May we keep your details and contact you about this?"


class When(Part):
    """What a fact must satisfy for a route; null parts do not matter, and all others must hold."""

    min_score: int | None = Field(default=None, ge=0, le=100)
    max_score: int | None = Field(default=None, ge=0, le=100)
    dispositions: tuple[str, ...] | None = None
    products: tuple[str, ...] | None = None
    """What ``product`` in a lead's interest or a case's details must be one of, in any case of letters."""
    kinds: tuple[str, ...] | None = None
    hours: Literal["open", "closed"] | None = None
    """Whether the fact happened in the business's opening hours, by its own clock."""

    @model_validator(mode="after")
    def _scores_leave_room(self) -> When:
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            raise ValueError("min_score is above max_score, so no fact can meet it")
        return self


CRM_CHANNELS = frozenset({"hubspot", "salesforce"})
_CRM_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


class Route(Part):
    """Who is told of which facts, on which channel."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,47}$")
    facts: tuple[str, ...] = Field(min_length=1)
    channel: Literal["email", "webhook", "slack", "hubspot", "salesforce"]
    to: str | None = None
    """An e-mail address, a URL, or the name of a Slack hook; null: the deployment's own setting for that channel."""
    template: str | None = None
    """Null: the template named as the fact."""
    fields: dict[str, str] = {}
    """For a CRM: which of our values, such as ``interest.product``, goes into which of its fields."""
    when: When = When()

    @field_validator("facts")
    @classmethod
    def _facts_are_known(cls, facts: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [fact for fact in facts if fact not in FACT_NAMES]
        if unknown:
            raise ValueError(f"unknown facts {', '.join(unknown)}; known are {', '.join(sorted(FACT_NAMES))}")
        return facts

    @field_validator("fields")
    @classmethod
    def _fields_are_names(cls, fields: dict[str, str]) -> dict[str, str]:
        for ours, theirs in fields.items():
            if not _CRM_FIELD.fullmatch(theirs):
                raise ValueError(f"{ours}: {theirs!r} is no field's name in a CRM")
        if len(set(fields.values())) != len(fields):
            raise ValueError("two of our values go into one field")
        return fields

    @model_validator(mode="after")
    def _channel_has_what_it_needs(self) -> Route:
        if self.channel == "email" and not (self.to and "@" in self.to):
            raise ValueError("an email route needs `to`, an e-mail address")
        if self.channel in CRM_CHANNELS:
            self._check_crm()
        elif self.fields:
            raise ValueError(f"`fields` are for CRM channels, not for {self.channel}")
        return self

    def _check_crm(self) -> None:
        if self.to:
            raise ValueError(
                f"a {self.channel} route has no `to`: the deployment's settings say which CRM it is"
            )
        if "lead.erased" in self.facts:
            raise ValueError(
                "a CRM finds people by e-mail, which an erased lead has not: use webhook or email"
            )
        models = [BY_TYPE[f"parley.{fact}.v1"] for fact in self.facts]
        for ours in self.fields:
            root, _, rest = ours.partition(".")
            if not any(root in model.model_fields for model in models):
                raise ValueError(f"fields: {ours!r} is in none of the facts of this route")
            if root == "person" and rest not in Person.model_fields:
                raise ValueError(f"fields: a person has no {rest or 'value of its own'!r}; use person.email")


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


def is_origin(text: str) -> bool:
    """Return whether a browser could name a site so: scheme, host and port, nothing more."""
    return re.fullmatch(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?", text) is not None


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
    """``tool`` of our own tool service, or ``service.tool``. What the two lists below declare is added."""
    http_tools: tuple[HttpTool, ...] = ()
    mcp_tools: tuple[McpServer, ...] = ()
    hours: Hours = Hours()
    limits: SessionLimits = SessionLimits()
    busy: Busy = Busy()
    consent: Consent = Consent()
    origins: tuple[str, ...] = ()
    """Sites, such as https://www.example.com, whose pages may open sessions with this business."""
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

    @model_validator(mode="after")
    def _own_tools_are_offered(self) -> BusinessConfig:
        own = self.own_tools
        for name in own:
            if own.count(name) > 1 or any(tool.rpartition(".")[2] == name for tool in self.tools):
                raise ValueError(
                    f"two tools are called {name!r}: http_tools and mcp_tools need names of their own"
                )
        object.__setattr__(self, "tools", (*self.tools, *own))
        return self

    @field_validator("origins")
    @classmethod
    def _origins_are_sites(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not is_origin(origin):
                raise ValueError(f"{origin!r} is not a site such as https://www.example.com")
        return origins

    @field_validator("routes")
    @classmethod
    def _routes_have_own_names(cls, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        names = [route.name for route in routes]
        if len(set(names)) != len(names):
            raise ValueError("two routes share a name")
        return routes

    @property
    def own_tools(self) -> tuple[str, ...]:
        """Return the names of the tools that this business declares itself."""
        of_servers = (tool.own_name for server in self.mcp_tools for tool in server.tools)
        return (*(tool.name for tool in self.http_tools), *of_servers)
