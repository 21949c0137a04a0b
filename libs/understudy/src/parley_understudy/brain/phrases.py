"""What everyday phrases imply without saying the word: "money back" is a refund, "running out" wants a refill.

General English only; no business and no tool is behind any line.

Law: a phrase adds words to what was said and takes none away.
"""

from __future__ import annotations

import re

from .words import canon, each_of

_PHRASES = tuple(
    (re.compile(form, re.IGNORECASE), tuple(canon(w) for w in each_of(meant)))
    for form, meant in (
        (r"\bwhere(?:'s| is| are)\b", "status track location"),
        (
            r"\b(?:hasn't|haven't|has not|have not|didn't|never) (?:arrived?|come|received?|shown? up)\b",
            "order delivery status",
        ),
        (r"\b(?:package|parcel)\b", "order delivery"),
        (r"\b(?:looking|shopping|searching|in the market) for\b", "find recommend"),
        (r"\bhow (?:much|expensive)\b|\bwhat does it cost\b|\bwhat do you charge\b", "price cost"),
        (r"\b(?:talk|speak|put me through|connect me|chat) (?:to|with)\b", "person call contact escalate"),
        (r"\b(?:get back to|call) me\b", "person call contact escalate"),
        (r"\bhow (?:do|can|should) i\b", "faq"),
        (r"\b(?:send|take|bring|give|sending|taking) (?:(?:it|this|them|that) )?back\b", "return"),
        (r"\bmoney back\b", "refund return"),
        (r"\bdo you (?:have|carry|sell)\b", "stock available"),
        (
            r"\b(?:doesn't|does not|isn't|won't|can't|stopped|not) (?:work|start|turn on|load|open)",
            "issue ticket",
        ),
        (r"\bkeeps? (?:crash|jam|freez|fail|stopp)", "issue ticket"),
        (r"\b(?:what's|what is|how's) (?:going on|happening|the latest)\b", "status"),
        (r"\b(?:any|the latest) (?:news|update)", "status"),
        (r"\bworth (?:it|buying)\b|\bgood deal\b|\bmake sense\b", "analyze"),
        (r"\brun (?:the|some) numbers\b|\bcrunch\b", "analyze"),
        (r"\bi(?:'ve| have)? lost\b|\bcan't find (?:my|the)\b|\bleft behind\b", "lost"),
        (r"\b(?:i|we) (?:left|forgot) (?:my|the|our|a)\b", "lost"),
        (r"\b(?:come|get) in\b|\bsee (?:a|an|the|my|someone)\b|\bbe seen\b", "appointment"),
        (r"\b(?:run|running|ran) (?:out|low)\b|\balmost out of\b", "refill reorder"),
        (
            r"\b(?:cough|fever|headache|chills|rash|nausea|dizz|vomit|hurt|pain|ache|swollen|bleeding)",
            "symptom",
        ),
        (r"\bfeel(?:ing)? (?:sick|ill)\b", "symptom"),
        (
            r"\bbring (?:it|my|the|our)\b|\bdrop (?:it|my|the|our)\b.*\boff\b|\bcome by\b",
            "book visit appointment",
        ),
        (r"\bsign (?:me )?up\b", "register subscribe"),
        (r"\b(?:stay|put up) for\b|\bto stay\b", "board night"),
    )
)


def spans(text: str) -> list[tuple[int, int]]:
    """Return where the phrases stand, so that their words are not taken for what is talked about."""
    return [m.span() for form, _ in _PHRASES for m in form.finditer(text)]


def implied(text: str) -> tuple[str, ...]:
    """Return the canonical words that ``text`` implies by its phrases."""
    return tuple(dict.fromkeys(w for form, words in _PHRASES if form.search(text) for w in words))
