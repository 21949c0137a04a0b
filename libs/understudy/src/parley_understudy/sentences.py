"""Cuts what the agent says into sentences to render, words to stream and JSON pieces to send.

Law: the pieces joined are the text, character by character.
"""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"”’)\]]*(?=\s+[\"“(\[]?[A-Z0-9$])")
_TITLES = re.compile(r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|No|approx|e\.g|i\.e|a\.m|p\.m)\.$")
_WORD = re.compile(r"\s*(?:\w[\w'’]*|[^\w\s])", re.UNICODE)
_JSON_PIECE = re.compile(r"\s+|[\w.\-+@]+|[^\w\s]{1,3}")
_LONGEST_CHARS = 240
"""A sentence longer than this is cut at a comma or a space, so that first audio is never far away."""
_LEFT_OPEN = frozenset(
    [
        "a",
        "an",
        "and",
        "as",
        "at",
        "because",
        "but",
        "for",
        "from",
        "his",
        "her",
        "i",
        "if",
        "in",
        "is",
        "it's",
        "my",
        "of",
        "on",
        "or",
        "our",
        "so",
        "than",
        "that",
        "the",
        "their",
        "then",
        "this",
        "to",
        "um",
        "uh",
        "er",
        "well",
        "with",
        "your",
        "when",
        "where",
        "which",
        "who",
    ]
)
"""Words that want another one after them."""


def trails_off(text: str) -> bool:
    """Return whether a caller's words seem to want their rest: an open word, a comma or dots at their end."""
    text = text.rstrip()
    if text.endswith((",", "…", "...", "-", "–")):
        return True
    last = re.findall(r"[\w'’]+", text.lower())[-1:]
    return not text.endswith("?") and bool(last) and last[0].replace("’", "'") in _LEFT_OPEN


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, each with the white space before it."""
    pieces: list[str] = []
    begin = 0
    for end in _SENTENCE_END.finditer(text):
        if not _TITLES.search(text[begin : end.start()].rstrip('"”’)]')):
            pieces.append(text[begin : end.end()])
            begin = end.end()
    if text[begin:]:
        pieces.append(text[begin:])
    return [part for piece in pieces for part in _shortened(piece)]


def words(text: str) -> list[str]:
    """Return the words and signs of a text, each with the white space before it."""
    pieces = _WORD.findall(text)
    rest = text[sum(map(len, pieces)) :]
    return [*pieces, rest] if rest else pieces


def json_pieces(text: str) -> list[str]:
    """Return argument text in pieces about as small as the API's."""
    return _JSON_PIECE.findall(text)


def _shortened(sentence: str) -> list[str]:
    parts = []
    while len(sentence) > _LONGEST_CHARS:
        cut = max(sentence.rfind(mark, 40, _LONGEST_CHARS) for mark in (", ", "; ", ": "))
        cut = cut + 1 if cut > 0 else sentence.rfind(" ", 40, _LONGEST_CHARS)
        cut = cut if cut > 0 else _LONGEST_CHARS
        parts.append(sentence[:cut])
        sentence = sentence[cut:]
    return [*parts, sentence]
