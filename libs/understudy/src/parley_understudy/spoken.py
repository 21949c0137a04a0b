"""Rewrites text as it is to be read aloud, where the voice would otherwise stumble.

Numbers, money and times are left alone: the voice reads those well.

Law: the transcript keeps the written form; only the voice is given the spoken one.
"""

from __future__ import annotations

import re

_EMAIL = re.compile(r"\b([A-Za-z0-9._%+\-]+)@([A-Za-z0-9.\-]+\.[A-Za-z]{2,})\b")
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>()]+[^\s<>().,;:!?]", re.IGNORECASE)
_DOMAIN = re.compile(
    r"\b[A-Za-z0-9][A-Za-z0-9\-]*(?:\.[A-Za-z0-9\-]+)*\.(?:com|org|net|io|dev|gov|edu|co|us)\b"
)
_CODE = re.compile(
    r"\b(?=[A-Z0-9\-]*[A-Z])(?=[A-Z0-9\-]*\d)[A-Z0-9]{2,}(?:-[A-Z0-9]+)+\b|\b(?=[A-Z]*\d)[A-Z]+\d+[A-Z0-9]{2,}\b"
)
_TELEPHONE = re.compile(r"(?<![\d-])(?:\+?1[ -])?(?:\(\d{3}\) ?|\d{3}-)?\d{3}-\d{4}(?![\d-])")
_SHORT_FORMS = {
    r"\bext\.\s*(?=\d)": "extension ",
    r"\bsq\.?\s?ft\.?": "square feet",
    r"\bapt\.": "apartment",
    r"\bapprox\.": "approximately",
    r"\be\.g\.": "for example",
    r"\bi\.e\.": "that is",
    r"\bw/o\b": "without",
    r"\bw/(?=\s|\w)": "with ",
    r"/\s?(?:mo|month)\b": " per month",
    r"/\s?(?:yr|year)\b": " per year",
    r"(?<=\d)\s?x\s?(?=\d)": " by ",
    r"(?<=\d)\+": " plus",
    r"\s&\s": " and ",
    r"#\s?(?=\d)": "number ",
    r"(?<=[a-z])/(?=[a-z])": " or ",
    r"~\s?(?=\$?\d)": "about ",
    r"\s[=]\s": " equals ",
    r"[→↦➜]": " to ",
    r"°\s?F\b": " degrees Fahrenheit",
    r"°\s?C\b": " degrees Celsius",
}
_SHORT_FORMS_COMPILED = [(re.compile(form, re.IGNORECASE), spoken) for form, spoken in _SHORT_FORMS.items()]
_MARKS = {".": " dot ", "-": " dash ", "_": " underscore ", "+": " plus ", "%": " percent ", "/": " slash "}


def spoken_form(text: str) -> str:
    """Return what the voice shall be given for ``text``."""
    text = _URL.sub(lambda url: _spelled(re.sub(r"^https?://", "", url.group(), flags=re.IGNORECASE)), text)
    text = _EMAIL.sub(lambda mail: f"{_spelled(mail[1])} at {_spelled(mail[2])}", text)
    text = _DOMAIN.sub(lambda name: _spelled(name.group()), text)
    text = _TELEPHONE.sub(lambda number: _digits(number.group()), text)
    text = _CODE.sub(lambda code: _letters(code.group()), text)
    for form, spoken in _SHORT_FORMS_COMPILED:
        text = form.sub(spoken, text)
    return " ".join(text.split())


def _spelled(address: str) -> str:
    """Return an address in words: its signs by name, its runs of letters as they are, its digits one by one."""
    pieces = [_MARKS.get(piece, piece) for piece in re.split(r"([._\-+%/])", address)]
    apart = re.sub(r"\d", lambda digit: f" {digit.group()} ", "".join(pieces))
    return " ".join(apart.split())


def _digits(number: str) -> str:
    """Return a telephone number digit by digit, for "0142" in it would lose its zero."""
    return ", ".join(" ".join(group) for group in re.findall(r"\d+", number))


def _letters(code: str) -> str:
    return " ".join(" dash " if sign == "-" else sign for sign in code).replace("  ", " ")
