"""What the CRM channels have in common: calls that end an attempt by themselves, and our values in a CRM's fields.

What a call or an error means is each CRM's own business: hubspot.py, salesforce.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from jinja2 import TemplateError

from parley_common.business import Business
from parley_notify.channels.outcome import Outcome, Refused, TryAgain
from parley_notify.delivery import Delivery
from parley_notify.letters import Letter, Letters

ANSWER_BYTES_MAX = 1_000_000
_CODE = re.compile(r"[A-Za-z_]{1,60}")


class Stopped(Exception):
    """An attempt is over before its last call, with this outcome. Never leaves a channel."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """What a CRM said. ``body`` is null when it is no JSON."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Note:
    """What a delivery tells a CRM: about whom, which fields, and which words."""

    told: Mapping[str, Any]
    """The fact."""
    values: Mapping[str, Any]
    """By the CRM's own field names, as the route maps them."""
    letter: Letter
    marker: str
    """Stands at the end of what is written, so that a repeat finds it."""

    @property
    def person(self) -> Mapping[str, Any]:
        person: Mapping[str, Any] = self.told.get("person") or {}
        return person

    @property
    def email(self) -> str | None:
        return self.person.get("email")

    @property
    def words(self) -> str:
        """Return the letter without its subject, and the marker below it."""
        return f"{self.letter.text.partition(chr(10))[2].strip()}\n\n{self.marker}"

    @property
    def first_and_last(self) -> tuple[str | None, str | None]:
        """Return the person's name in two; a single word counts as the last name."""
        first, _, last = " ".join(str(self.person.get("name") or "").split()).rpartition(" ")
        return first or None, last or None


def note_of(delivery: Delivery, letters: Letters, businesses: Mapping[str, Business]) -> Note:
    """Return what is to be told. Raises Stopped."""
    if delivery.payload is None:
        raise Stopped(Refused("payload_erased"))
    try:
        letter = letters.write(delivery, delivery.payload)
    except TemplateError as wrong:  # a release with a better template may come while it is tried
        raise Stopped(TryAgain(f"template:{type(wrong).__name__}")) from wrong
    told = json.loads(delivery.payload)
    fields = _fields_of(delivery, businesses)
    return Note(told, mapped(told, fields), letter, f"parley-delivery:{delivery.delivery_id}")


def _fields_of(delivery: Delivery, businesses: Mapping[str, Business]) -> Mapping[str, str]:
    business = businesses.get(delivery.business)
    routes = business.config.routes if business else ()
    return next((route.fields for route in routes if route.name == delivery.route), {})


def mapped(told: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return a fact's values by a CRM's field names; what the fact does not have is left out."""
    found = {theirs: _at(told, ours) for ours, theirs in fields.items()}
    return {theirs: _flat(value) for theirs, value in found.items() if value not in (None, "", [], {})}


def _at(told: Any, path: str) -> Any:
    for part in path.split("."):
        told = told.get(part) if isinstance(told, dict) else None
    return told


def _flat(value: Any) -> Any:
    """Lists go in as both CRMs write several choices; what has parts of its own goes in as JSON."""
    if isinstance(value, list) and not any(isinstance(part, (list, dict)) for part in value):
        return ";".join(str(part) for part in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def code_of(value: Any) -> str:
    """Return an error code as a cause may hold it: never a text, which could quote data."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else "unknown"


async def call(http: httpx.AsyncClient, method: str, url: str, **options: Any) -> Answer:
    """Make one call. Raises Stopped when there is no answer."""
    try:
        response = await http.request(method, url, **options)
    except (httpx.ConnectError, httpx.ConnectTimeout) as wrong:
        raise Stopped(TryAgain("connect_failed")) from wrong
    except httpx.TimeoutException as wrong:
        raise Stopped(TryAgain("timed_out")) from wrong
    except (httpx.TransportError, httpx.InvalidURL) as wrong:
        raise Stopped(TryAgain(f"network:{type(wrong).__name__}")) from wrong
    if len(response.content) > ANSWER_BYTES_MAX:
        raise Stopped(TryAgain("answer_too_large"))
    try:
        body = response.json() if response.content else None
    except ValueError:
        body = None
    return Answer(response.status_code, body, response.headers)
