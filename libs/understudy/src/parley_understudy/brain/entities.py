"""Finds e-mail addresses, phone numbers, names, codes, and yes or no in what was said.

It does not know which parameter they are for. Both spoken forms ("dan at example dot com", "double five")
and the half formatted ones that speech recognition writes ("dan at example.com") are read.

Law: nothing is guessed: a form that is not whole is not found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from .numbers import SMALL
from .words import STOP, each_of, plain

_LOCAL = r"[a-z0-9][\w+'-]*(?:\.[\w+'-]+)*"
_HOST = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_EMAIL = re.compile(rf"{_LOCAL}@{_HOST}(?:\.{_HOST})*\.[a-z]{{2,24}}", re.IGNORECASE)
_DOMAIN_AFTER_AT = re.compile(
    rf"\s+at\s+((?:{_HOST}|[a-z](?: [a-z])+)(?:(?:\s*\.\s*|\s+dot\s+){_HOST}){{0,3}}(?:\s*\.\s?|"
    rf"\s+dot\s+)[a-z]{{2,24}})\b",
    re.IGNORECASE,
)
_SPELLED_AS = re.compile(r"\b([a-z])\s+(?:as in|for|like)\s+[a-z]+\b,?", re.IGNORECASE)
_JOINTS = {
    "dot": ".",
    "period": ".",
    "underscore": "_",
    "dash": "-",
    "hyphen": "-",
    "minus": "-",
    "plus": "+",
}
_NOT_LOCAL = frozenset(
    each_of(
        "me work am look looking is are was reach find found located live lives store him her them "
        "us you it be stay "
        "arrive start home here office there meet call up back early late come"
    )
)
_BEFORE_LOCAL = frozenset(
    each_of(
        "is email mail address to it's its use at me that's as be the my it and or yes no sure it'd "
        "by contact new"
    )
)
_PHONE = re.compile(r"(?<![\w$.,-])\+?\(?\d[\d\s().-]*(?:,\s\d[\d\s().-]*){0,4}\d(?!\w)")
_DIGIT_WORD = r"(?:zero|oh|o|one|two|three|four|five|six|seven|eight|nine|\d+)"
_DIGIT_RUN = re.compile(
    rf"(?<![\w$.,])(?:plus\s+|\+)?(?:(?:double|triple)\s+)?{_DIGIT_WORD}"
    rf"(?:(?:[\s,.-]+|\b)(?:(?:double|triple)\s+)?(?:{_DIGIT_WORD}|hundred))+\b(?!\s*(?:thousand|"
    rf"million|dollars|percent|%))",
    re.IGNORECASE,
)
_OTHER_NUMBER = re.compile(
    r"\b(?:account|order|ticket|policy|card|member|reference|confirmation|case|serial|zip|tracking|"
    r"invoice|booking)"
    r"(?: (?:number|no|id|code))?(?: is| was|:)?\W*$",
    re.IGNORECASE,
)
_DATE_LIKE = re.compile(r"\d{4}-\d\d-\d\d|\d{1,2}/\d{1,2}/\d{2,4}")


@dataclass(frozen=True)
class Found:
    """A piece of what was said: where, and its normal form."""

    start: int
    end: int
    value: str


@lru_cache(maxsize=1024)
def emails(text: str) -> tuple[Found, ...]:
    """Return the e-mail addresses in ``text``, in lower case."""
    found = [Found(m.start(), m.end(), m.group().lower()) for m in _EMAIL.finditer(text)]
    for match in _DOMAIN_AFTER_AT.finditer(text):
        local = _local_before(text[: match.start()])
        if local is None or any(f.start <= match.start() < f.end for f in found):
            continue
        host = re.sub(r"\s*\.\s*|\s+dot\s+", ".", match.group(1).lower()).replace(" ", "")
        found.append(Found(local.start, match.end(), f"{local.value}@{host}"))
    return tuple(sorted(found, key=lambda f: f.start))


def _local_before(text: str) -> Found | None:
    """Return the part of a spoken address before "at": the longest tail of ``text`` that can be one."""
    blanked = _SPELLED_AS.sub(lambda m: m.group(1).ljust(len(m.group())), text)
    words = list(re.finditer(r"[\w.+'-]+", blanked))
    first = len(words)
    joined, pieces = False, list[str]()
    while first > 0 and len(pieces) < 30:
        word = words[first - 1].group().lower().strip(".'")
        stop = words[first - 1].group().endswith(".") and (first == 1 or _bounded(words, first))
        joint = word in _JOINTS or stop
        if not (pieces == [] or joined or joint or _spells(word) or _bounded(words, first)):
            break
        if not pieces and (word in _NOT_LOCAL or word in STOP):
            return None
        if word in STOP and not joint and len(word) > 1:
            break
        pieces.insert(0, _JOINTS.get(word, _digit(word)))
        dotted = words[first - 1].group().endswith(".") and len(pieces) > 1
        if dotted and pieces[0] not in _JOINTS.values():
            pieces[0] += "."
        joined = word in _JOINTS or (word in SMALL and word not in STOP)
        first -= 1
    local = "".join(pieces).strip(".-_+")
    if not local or not re.fullmatch(r"[\w.+-]+", local, re.ASCII):
        return None
    return Found(words[first].start(), len(text), re.sub(r"\.{2,}", ".", local))


def _digit(word: str) -> str:
    return str(SMALL[word]) if word in SMALL else word


def _spells(word: str) -> bool:
    return len(word) == 1 or word.isdigit() or word in SMALL


def _bounded(words: list[re.Match[str]], first: int) -> bool:
    """Return whether the word before is one of few that stand between a cue such as "is" and the address."""
    for back in range(first - 1, max(-1, first - 4), -1):
        if words[back].group().lower() in _BEFORE_LOCAL:
            return back < first - 1
    return False


@lru_cache(maxsize=1024)
def phones(text: str) -> tuple[Found, ...]:
    """Return the phone numbers in ``text``: "415-555-0132", or "+" and digits when a country was said."""
    found = list[Found]()
    for match in (*_PHONE.finditer(text), *_DIGIT_RUN.finditer(text)):
        digits = run_of_digits(match.group())
        named = _OTHER_NUMBER.search(text[max(0, match.start() - 30) : match.start()]) is not None
        apart = not named and all(match.end() <= f.start or match.start() >= f.end for f in found)
        dated = _DATE_LIKE.search(match.group())
        figures = re.fullmatch(r"\s*\d+(?: \d+)+\s*", match.group()) is not None and len(digits) < 10
        if apart and 7 <= len(digits) <= 15 and not dated and not figures:
            plus = match.group().lstrip().lower().startswith(("+", "plus"))
            found.append(Found(match.start(), match.end(), _phone_form(digits, plus=plus)))
    return tuple(sorted(found, key=lambda f: f.start))


def _phone_form(digits: str, *, plus: bool) -> str:
    if plus and len(digits) > 7:
        return f"+{digits}"
    if len(digits) == 11 and digits.startswith("1"):
        digits = digits[1:]
    if len(digits) == 10:
        return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
    return f"{digits[:3]}-{digits[3:]}" if len(digits) == 7 else digits


def run_of_digits(text: str) -> str:
    """Return the digits of a spoken or written run: "four one five, double five" is 41555."""
    digits, times = "", 1
    for word in re.findall(r"[a-z]+|\d+", text.lower()):
        value = "0" if word == "o" else _digit(word)
        if word in {"double", "triple"}:
            times = 2 if word == "double" else 3
        elif word == "hundred":
            digits += "00"
        elif value.isdigit():
            digits, times = digits + value * times, 1
    return digits


_NAME_WORD = r"[^\W\d_]+(?:['-][^\W\d_]+)*\.?"
_NAME_CUE = re.compile(
    r"\b(?:my (?:full |first |last |legal )?name is|my (?:full )?name's|the name is|name is|this is|call me|"
    r"under the name(?: of)?|i am|i'm|it's|it is|name:)\s+",
    re.IGNORECASE,
)
_STRONG_CUE = re.compile(r"name|call me", re.IGNORECASE)
_SPEAKING = re.compile(rf"\b((?:{_NAME_WORD} ){{1,3}})(?:here|speaking|calling)\b")
_LISTED = re.compile(rf"(?:^|[.!?,:]\s+)([A-Z]{_NAME_WORD}(?: [A-Z]{_NAME_WORD}){{1,2}}),?\s+(?=\S*[@\d(+])")
_NOT_NAME = STOP | frozenset(
    each_of("""
calling speaking interested buying selling looking afraid sorry good fine great happy trying not just in
from with having going done ready back very still correct wrong yes no about urgent regarding because since
asking late ill sick here there hoping planning thinking applying paying ok okay thirty twenty single
married and but so actually monday tuesday wednesday thursday friday saturday sunday tomorrow today perfect
hello hi
""")
)  # fmt: skip


@lru_cache(maxsize=1024)
def names(text: str) -> tuple[Found, ...]:
    """Return the person's name that the speaker gives as their own; empty when none is introduced."""
    text = plain(text)
    for match in _NAME_CUE.finditer(text):
        strong = _STRONG_CUE.search(match.group()) is not None
        value, end = name_at(text, match.end(), capitals_only=not strong)
        others = re.search(
            r"(?:\b(?:her|his|its|their)|'s)\s+(?:\w+\s+)?$", text[: match.start()], re.IGNORECASE
        )
        if value and others is None:
            return (Found(match.end(), end, _spelling(text[end:], value)),)
    listed = _LISTED.search(text)
    if listed is not None and any(f.start == listed.end() for f in (*emails(text), *phones(text))):
        value, end = name_at(text, listed.start(1), capitals_only=True)
        if value == listed.group(1):
            return (Found(listed.start(1), end, value),)
    spoken = _SPEAKING.search(text)
    if spoken is not None:
        value, end = name_at(text, spoken.start(1), capitals_only=True)
        if value:
            return (Found(spoken.start(1), end, value),)
    return ()


def name_at(text: str, start: int, *, capitals_only: bool) -> tuple[str, int]:
    """Return the name that begins at ``start`` ("" when none does) and where it ends."""
    parts, end = list[str](), start
    for match in re.finditer(rf"\s*({_NAME_WORD})", text[start : start + 80]):
        word = match.group(1)
        contiguous = start + match.start() == end
        initial = len(word.rstrip(".")) == 1 and word[0].isupper()
        if not contiguous or len(parts) == 4 or (word.lower().strip(".") in _NOT_NAME and not initial):
            break
        capital = word[0].isupper()
        if not capital and (
            capitals_only or (parts and parts[-1][0].isupper() and word not in {"de", "van", "von"})
        ):
            break
        parts.append(word)
        end = start + match.end()
        if word.endswith(".") and not initial:
            break
    name = " ".join(parts).rstrip(".")
    whole = any(len(p.rstrip(".")) > 1 for p in parts)
    return (_cased(name), end) if whole else ("", start)


def _cased(name: str) -> str:
    return " ".join(w[:1].upper() + w[1:] for w in name.split()) if name.islower() else name


def _spelling(rest: str, name: str) -> str:
    """Return ``name`` with its last word as it is spelled right after ("Cooper, C-O-O-P-E-R")."""
    spelled = re.match(r"[,.]?\s*(?:that's\s+|spelled\s+)?((?:[A-Za-z][-\s.]){2,}[A-Za-z])\b", rest)
    if spelled is None:
        return name
    letters = re.sub(r"[^A-Za-z]", "", spelled.group(1))
    first, _, last = name.rpartition(" ")
    same = last[:1].lower() == letters[:1].lower()
    return f"{first} {letters.capitalize()}".strip() if same else name


_YES = re.compile(
    r"^(?:(?:um|uh|oh|well|okay|ok|and|hi|great|so)[\s,.!]+)*(?:yes|yeah|yep|yup|ya|aye|sure|correct|"
    r"right|exactly|"
    r"absolutely|definitely|certainly|of course|please do|i do|i agree|i consent|i accept|i (?:am|"
    r"have|would|did)(?=[\s.!]*$|,)|"
    r"that's (?:right|correct|fine|it|good|great|perfect|me|okay)|that is (?:right|correct|fine)|"
    r"it is|sounds (?:good|right|great)|"
    r"go ahead|go for it|you (?:may|can)|no problem|no worries|fine|perfect|all (?:good|right|correct)|"
    r"looks (?:good|right)|"
    r"ok|okay|agreed|affirmative|please(?=[\s.!]*$)|feel free|confirmed|great|do it|yes please|it does|"
    r"they are|that works|happy to)\b(?!')",
    re.IGNORECASE,
)
_NO = re.compile(
    r"^(?:(?:um|uh|oh|well|okay|ok|and|hi|wait|hold on|hang on|sorry|actually)[\s,.!]+)*(?:no|nope|"
    r"nah|negative|not (?!bad)|"
    r"never|i don't|i do not|don't|do not|i'd rather not|i'm not|incorrect|wrong|that's (?:not|wrong|"
    r"incorrect)|"
    r"that is (?:not|wrong)|it's (?:not|wrong)|i didn't|i haven't|i have not|absolutely not|please don't)\b",
    re.IGNORECASE,
)
_NOT_NO = re.compile(
    r"^no (?:problem|worries|objection|issue)s?\b|^no,? (?:that's|it's) (?:right|correct|fine)", re.IGNORECASE
)


def agreement(text: str) -> bool | None:
    """Return True for a yes, False for a no, None for neither; only how the sentence begins counts."""
    text = plain(text).strip().lower()
    if _NO.match(text) and not _NOT_NO.match(text):
        return False
    return True if _YES.match(text) or _NOT_NO.match(text) else None


_CODE = re.compile(r"#?\b(?:[A-Z]{1,5}\s|[A-Za-z]{1,6}-?)?\d[\dA-Za-z]*(?:-[\dA-Za-z]+)*\b")
_SPOKEN_CODE = re.compile(
    rf"(?<!')\b(?:[a-z]\b(?:[\s,.-]+)){{0,4}}(?:dash\s+)?(?:(?:double|"
    rf"triple)\s+)?{_DIGIT_WORD}(?:[\s,.-]+(?:dash\s+)?(?:(?:double|triple)\s+)?(?:{_DIGIT_WORD}|"
    rf"[a-z]))*\b",
    re.IGNORECASE,
)


def codes(text: str) -> tuple[Found, ...]:
    """Return what may be codes or reference numbers in ``text``, longest first: "A-1042", "a one zero four two"."""
    figures = (Found(m.start(), m.end(), m.group().strip("#").upper()) for m in _CODE.finditer(text))
    spoken = (
        Found(m.start(), m.end(), _spoken_code(m.group()))
        for m in _SPOKEN_CODE.finditer(text)
        if " " in m.group()
    )
    found = [*figures, *spoken]
    usable = [f for f in found if any(c.isdigit() for c in f.value)]
    return tuple(sorted(usable, key=lambda f: (f.start - f.end, f.start)))


def _spoken_code(text: str) -> str:
    parts, times = list[str](), 1
    for word in re.findall(r"[a-z]+|\d+", text.lower()):
        if word in {"double", "triple"}:
            times = 2 if word == "double" else 3
            continue
        parts.append("-" if word == "dash" else _digit(word).upper() * times)
        times = 1
    return "".join(parts)
