"""Writes the words of an e-mail: a fact, its business and its template become subject, text and HTML.

Does not know MIME or SMTP. What the caller said is data here: escaped in HTML, on one line in a subject.

Law: a field that is missing leaves a gap in the letter, never a letter unwritten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Template, Undefined, select_autoescape

from parley_common.business import Business
from parley_common.contracts.facts import BY_TYPE
from parley_common.contracts.people import Person
from parley_common.contracts.record import read_contract
from parley_notify.delivery import Delivery
from parley_notify.routes import fact_name

FOLDER = Path(__file__).parent / "templates"
TEMPLATES = frozenset(path.name.removesuffix(".html.j2") for path in FOLDER.glob("*.*.html.j2"))
"""The names of the letters there are, such as ``lead.captured``."""

SUBJECT_CHARS_MAX = 150
GROUPED_FROM = 10_000
"""Smaller whole numbers are as often years and scores as amounts, so they stay ungrouped."""
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Letter:
    """An e-mail's words."""

    subject: str
    text: str
    html: str


class Letters:
    """The templates, and what is known of each business."""

    def __init__(
        self, businesses: Mapping[str, Business], *, undefined: type[Undefined] = ChainableUndefined
    ) -> None:
        self._businesses = businesses
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER),
            autoescape=select_autoescape(enabled_extensions=("html.j2",)),
            undefined=undefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._templates.filters.update(_FILTERS)

    def write(self, delivery: Delivery, payload: str) -> Letter:
        """Return the letter of a delivery. Raises jinja2.TemplateError for a template that is broken."""
        name = delivery.template or fact_name(delivery.fact_type)
        context = self._context(delivery, payload)
        text = self._templates.get_template(f"{name}.txt.j2")
        html = self._templates.get_template(f"{name}.html.j2")
        subject = _one_line(_block(text, "subject", context), SUBJECT_CHARS_MAX)
        return Letter(
            subject=subject,
            text=_tidy(text.render(context | {"subject": subject})),
            html=html.render(context | {"subject": subject}),
        )

    def _context(self, delivery: Delivery, payload: str) -> dict[str, Any]:
        fact = read_contract(BY_TYPE[delivery.fact_type], payload.encode())
        business = self._businesses.get(delivery.business)
        zone = business.zone if business else ZoneInfo("UTC")
        return {
            "fact": fact,
            "person": getattr(fact, "person", None) or Person(),
            "business": business.config.title if business else delivery.business,
            "fictional": bool(business and business.config.fictional),
            "language": business.config.language if business else "en",
            "zone": zone,
            "subject_id": delivery.subject_id,
            "delivery_id": delivery.delivery_id,
            "takes_out_entry": delivery.booking is not None,
        }


def human(value: Any) -> str:
    """Return a value of a business's own fields as people write it."""
    match value:
        case None | "":
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}" if abs(value) >= GROUPED_FROM else str(value)
        case float():
            return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:g}"
        case list() | tuple():
            return ", ".join(human(part) for part in value) or "–"
        case dict():
            return "; ".join(f"{label(key)}: {human(part)}" for key, part in value.items()) or "–"
        case _:
            return " ".join(_UNPRINTABLE.sub(" ", str(value)).split())


def label(key: str) -> str:
    """Return a field's name as people read it: ``loan_amount`` is ``Loan amount``."""
    words = _UNPRINTABLE.sub(" ", str(key)).replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]


def moment(value: datetime, zone: ZoneInfo | str) -> str:
    """Return a time as it reads on a clock in ``zone``, such as ``Mon 5 Jan 2026, 11:00 CST``."""
    try:
        where = ZoneInfo(zone) if isinstance(zone, str) else zone
    except (ValueError, OSError, KeyError):  # a zone from a fact may be one that this machine does not know
        where = ZoneInfo("UTC")
    local = value.astimezone(where)
    return f"{local:%a} {local.day} {local:%b %Y, %H:%M %Z}"


def _link(scheme: str) -> Callable[[str], str]:
    return lambda value: f"{scheme}:{quote(value, safe='@+')}"


def _block(template: Template, name: str, context: dict[str, Any]) -> str:
    return "".join(template.blocks[name](template.new_context(context)))


def _one_line(text: str, chars_max: int) -> str:
    line = " ".join(_UNPRINTABLE.sub(" ", text).split())
    return line if len(line) <= chars_max else line[: chars_max - 1] + "…"


def _tidy(text: str) -> str:
    """Return text with single blank lines, however many parts of its template stayed empty."""
    lines = (line.rstrip() for line in _UNPRINTABLE.sub(" ", text).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


_FILTERS: dict[str, Callable[..., Any]] = {
    "human": human,
    "label": label,
    "moment": moment,
    "mailto": _link("mailto"),
    "tel": _link("tel"),
}
