"""Compares what a caller says of themselves with what is on file: names, birthdays, numbers, words.

Forgiving about how a thing is said (case, spaces, a middle name), never about what is said. No clock, no I/O.

Law: an empty answer matches nothing.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime

MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
OLDEST_YEAR = 1900
_FORMATS = ("%Y-%m-%d", "%m/%d/%Y", "%m-%d-%Y", "%m.%d.%Y", "%Y/%m/%d")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)\b")


def read_birthday(said: str, today: date) -> date | None:
    """Return a date of birth as callers say it ("1984-03-12", "March 12, 1984"); null when it cannot be one."""
    text = _ORDINAL.sub(r"\1", said.strip().lower())
    found = _by_format(text) or _by_month(text)
    return found if found and found.year >= OLDEST_YEAR and found <= today else None


def _by_format(text: str) -> date | None:
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day, not a moment
        except ValueError:
            continue
    return None


def _by_month(text: str) -> date | None:
    words = re.findall(r"[a-z]+|\d+", text)
    named = [n for n, month in enumerate(MONTHS, 1) for w in words if len(w) >= 3 and month.startswith(w)]
    numbers = [int(word) for word in words if word.isdigit()]
    if len(named) != 1 or len(numbers) != 2:
        return None
    day, year = sorted(numbers)
    try:
        return date(year, named[0], day)
    except ValueError:
        return None


def same_name(said: str, on_file: str) -> bool:
    """Tell whether first and last name agree; names between them do not matter."""
    one, other = _plain(said), _plain(on_file)
    return bool(one) and len(one) > 1 and (one[0], one[-1]) == (other[0], other[-1])


def same_word(said: str, on_file: str) -> bool:
    """Tell whether a code or a word agrees, whatever its case, spaces and marks."""
    return bool(_joined(said)) and _joined(said) == _joined(on_file)


def digits_of(said: str) -> str:
    """Return the digits of a number as it is said: "4001 1872"."""
    return "".join(character for character in said if character.isdigit())


def _plain(text: str) -> list[str]:
    flat = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(c for c in flat if not unicodedata.combining(c)).replace("'", "")
    return re.findall(r"[a-z0-9]+", kept)


def _joined(text: str) -> str:
    return "".join(_plain(text))
