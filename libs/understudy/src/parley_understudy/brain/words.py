"""Turns text into comparable words: splits, stems, folds general English synonyms together.

It knows no business and no tool; the synonyms are those any English speaker would grant.

Law: two words that should match have the same ``canon``.
"""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", " ": " "})
_MIN_STEM = 3

_SYNONYMS = """
buy purchase acquire; email mail inbox; phone telephone cell mobile cellphone; appointment slot visit
reservation; book schedule reserve arrange; cost price fee; find search lookup browse; question faq; cancel
scrap; change update modify edit alter; help support assist assistance; problem issue trouble fault
malfunction broken broke; loan mortgage financing finance borrow; house home property; lease tenancy;
transfer wire; refund reimburse reimbursement; medicine medication drug prescription rx; doctor physician
dr; analyze analyse analysis evaluate calculate compute crunch; save record register store capture; verdict
outcome; start begin; end stop finish; show list display; feedback review survey; recommend suggest
recommendation suggestion advice advise; inventory stock; freeze lock block; lost stolen missing; human
person people representative someone passenger guest; insurance coverage; symptom ache pain hurt hurts sore;
market neighborhood neighbourhood; cheap inexpensive affordable; city town; buyer purchaser; applicant
borrower; delivery deliver shipping shipment ship; repair fix mend; colour color; child kid; picture photo
photograph; car vehicle auto automobile; zip postal postcode; quote estimate; speak talk; invoice bill;
pickup collect; job occupation profession; salary income earnings earn; weigh weight; tall height; yearly
annual annually; monthly month; bedroom bed bedrooms; bathroom bath; bookshelf bookcase; couch sofa; happy
satisfied; complaint complain; remove delete; add include; open create; close shut; apartment flat; film
movie; fridge refrigerator; track tracking trace; suspicious fraud fraudulent unauthorized unrecognized;
wifi wi-fi internet; maximum max highest under below ceiling; minimum min lowest least above; laptop
notebook computer pc;
"""


def each_of(text: str) -> list[str]:
    """Return the words of a list that is written as one line of text."""
    return text.split()


STOP = frozenset(
    each_of("""
a an the and or but if of to in on at by for from with about as is are was were be been being am i i'm i'd
i've i'll me my mine we our us you your yours he she it its it's they them their this that these those there
here what what's which who whom whose when where why how do does did done doing have has had having will
would shall should can could may might must not no yes yeah ok okay please thanks thank hi hello hey um uh
er so well just like want wanted wants need needs needed get got getting let let's tell know give make makes
made say says said go going goes really very some any all each every more most much many few also too then
than now again up out off over into back actually think guess see look looking wondering wonder one ones
thing things something anything someone sure maybe right around roughly approximately kind sort bit little
lot don't doesn't didn't can't you're that's there's who's able try trying put take new old same other use
using used via per caller customer user client kindly hold wait possible way currently today
""")
)


def plain(text: str) -> str:
    """Return ``text`` with typographic quotes, dashes and hard spaces made plain."""
    return text.translate(_QUOTES)


def tokens(text: str) -> list[str]:
    """Return the lower-case words of ``text``, digits included."""
    return _WORD.findall(plain(text).lower())


def name_words(name: str) -> list[str]:
    """Return the words of an identifier: ``monthlyRent_usd`` gives monthly, rent, usd."""
    return tokens(_CAMEL.sub(" ", name).replace("_", " ").replace("-", " "))


_SUFFIXES = (
    ("ications", "i"),
    ("ication", "i"),
    ("ations", ""),
    ("ation", ""),
    ("ments", ""),
    ("ment", ""),
    ("ions", ""),
    ("ion", ""),
    ("ings", ""),
    ("ing", ""),
    ("ies", "i"),
    ("ied", "i"),
    ("sses", "ss"),
    ("xes", "x"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("ed", ""),
    ("ly", ""),
    ("s", ""),
)


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Return ``word`` without its common endings; numbers and short words stay as they are."""
    word = word.removesuffix("'s").replace("'", "")
    if len(word) <= _MIN_STEM or not word.isalpha():
        return word
    for suffix, ending in _SUFFIXES:
        if not word.endswith(suffix) or word.endswith(("ss", "us", "is")):
            continue
        base = word[: -len(suffix)] + ending
        if len(base) >= _MIN_STEM and re.search("[aeiouy]", base):
            word = base
            break
    return _tidy(word)


def _tidy(word: str) -> str:
    """Fold what endings leave behind: doubled consonants, a final e, a final y."""
    if len(word) > _MIN_STEM and word[-1] == word[-2] and word[-1] not in "aeiou":
        word = word[:-1]
    if len(word) > _MIN_STEM and word[-1] == "e":
        word = word[:-1]
    if len(word) > _MIN_STEM and word[-1] == "y":
        word = word[:-1] + "i"
    return word


def _fold() -> dict[str, str]:
    table: dict[str, str] = {}
    for group in _SYNONYMS.replace("\n", " ").split(";"):
        members = group.split()
        for member in members:
            table.setdefault(stem(member), stem(members[0]))
    return table


_CANON = _fold()


@lru_cache(maxsize=8192)
def canon(word: str) -> str:
    """Return the one form that stands for ``word``, its inflections and its synonyms."""
    base = stem(word)
    return _CANON.get(base, base)


@lru_cache(maxsize=2048)
def content(text: str) -> tuple[str, ...]:
    """Return the canonical words of ``text`` that carry meaning, in order, numbers left out."""
    text = plain(text).lower().replace("e-mail", "email").replace("wi-fi", "wifi")
    return tuple(canon(w) for w in _WORD.findall(text) if w not in STOP and not w.isdigit())


def near(one: str, other: str) -> bool:
    """Return whether two words differ by one letter at most (two in long ones), as misheard words do."""
    if one == other:
        return True
    allowed = 2 if min(len(one), len(other)) >= 8 else 1
    if min(len(one), len(other)) < 4 or abs(len(one) - len(other)) > allowed:
        return False
    return _distance(one[:40], other[:40]) <= allowed


def _distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def join(parts: list[str] | tuple[str, ...], word: str = "and") -> str:
    """Return "a", "a and b" or "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"
