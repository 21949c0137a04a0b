"""Which transactions a caller asks about: days as they say them, amounts, and a merchant by part of its name.

Pure: given today and the transactions. A weekday is the last one, for nobody asks a bank what happened next Tuesday.

Law: a transaction outside what was asked for is never told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from pydantic import Field

from parley_tools.files import DataPart
from parley_tools.refusals import Refused

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SPANS = {"day": 1, "week": 7, "month": 30, "year": 365}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ONES = frozenset({"a", "an", "last", "past"})
DEFAULT_DAYS = 30
DAYS_MAX = 366
Direction = Literal["in", "out"]


class Transaction(DataPart):
    """One movement of money. Days ago are counted back from today, so that a sample does not age."""

    id: str
    account: str
    merchant: str
    amount_usd: Decimal
    """Below zero: money out."""
    days_ago: int = Field(ge=0, le=DAYS_MAX)
    category: str | None = None

    def day(self, today: date) -> date:
        return today - timedelta(days=self.days_ago)


@dataclass(frozen=True, slots=True)
class Sought:
    """What is asked for; both days included. Amounts are as spoken of: without a sign."""

    first: date
    last: date
    merchant: str | None = None
    min_usd: Decimal | None = None
    max_usd: Decimal | None = None
    direction: Direction | None = None


def read_past_day(said: str, today: date) -> date | None:
    """Return the day meant by a date, a weekday (the last one), today, yesterday or "two weeks ago"; null when none."""
    text = said.strip().lower()
    if iso := re.match(r"\d{4}-\d{2}-\d{2}", text):
        try:
            return date.fromisoformat(iso[0])
        except ValueError:
            return None
    if "yesterday" in text:
        return today - timedelta(days=2 if "before" in text else 1)
    if text in ("today", "now"):
        return today
    if back := _span(text):
        return today - timedelta(days=back)
    for number, name in enumerate(WEEKDAYS):
        if re.search(rf"\b{name}\b", text):
            return today - timedelta(days=(today.weekday() - number - 1) % 7 + 1)
    return None


def _span(text: str) -> int | None:
    """Return how many days back "two weeks ago" or "last month" is; null when no such span is said."""
    found = re.search(r"\b(\d{1,3}|[a-z]+)\s+(day|week|month|year)s?\b", text)
    if found is None:
        return None
    word = found[1]
    if word in NUMBERS or word.isdigit():
        count = int(word) if word.isdigit() else NUMBERS.index(word)
    elif word in ONES:
        count = 1
    else:
        return None
    return count * SPANS[found[2]]


def read_range(first: str | None, last: str | None, today: date) -> tuple[date, date]:
    """Return the days a caller asks about, the last thirty by default.

    Raises:
        Refused: ``bad_date``, ``dates_reversed``, ``date_ahead`` or ``too_far_back``.
    """
    ends = read_past_day(last, today) if last else today
    begins = read_past_day(first, today) if first else (ends - timedelta(days=DEFAULT_DAYS) if ends else None)
    if begins is None or ends is None:
        lacking = "from_day" if begins is None else "to_day"
        raise Refused("From which day on? A date or a weekday is fine.", code="bad_date", missing=[lacking])
    if begins > today or ends > today:
        raise Refused("That day is still to come. Which days would you like to hear?", code="date_ahead")
    if begins > ends:
        raise Refused(
            "The first day is after the last. Which days would you like to hear?", code="dates_reversed"
        )
    if begins < today - timedelta(days=DAYS_MAX):
        raise Refused(
            "I can look back one year. Older statements are in online banking.", code="too_far_back"
        )
    return begins, ends


def matching(transactions: Iterable[Transaction], sought: Sought, today: date) -> list[Transaction]:
    """Return those that fit, the newest first."""
    fitting = [each for each in transactions if _fits(each, sought, today)]
    return sorted(fitting, key=lambda each: (each.days_ago, each.id))


def _fits(each: Transaction, sought: Sought, today: date) -> bool:
    amount = abs(each.amount_usd)
    return (
        sought.first <= each.day(today) <= sought.last
        and (sought.merchant is None or is_merchant(sought.merchant, each.merchant))
        and (sought.min_usd is None or amount >= sought.min_usd)
        and (sought.max_usd is None or amount <= sought.max_usd)
        and (sought.direction is None or (each.amount_usd > 0) == (sought.direction == "in"))
    )


def is_merchant(said: str, merchant: str) -> bool:
    """Tell whether a caller means a merchant: every telling word they said is in its name."""
    words = set(_words(said)) - {"the", "at", "from", "to", "shop", "store"}
    return bool(words) and words <= set(_words(merchant))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("\u2019", ""))
