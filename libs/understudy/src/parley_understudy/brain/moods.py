"""Tells small talk by its phrases: goodbye, thanks, hello, say it again, never mind and the like.

It decides nothing: a sentence that is small talk may still hold an answer or a request.

Law: of several moods in one sentence, the one that ends or holds up the conversation counts.
"""

from __future__ import annotations

import re
from typing import Literal

Mood = Literal[
    "", "bye", "thanks", "hello", "repeat", "abilities", "dropped", "refused", "rejected", "wait", "who"
]

_FORMS: tuple[tuple[Mood, str], ...] = (
    (
        "repeat",
        r"\b(?:say (?:that|it) again|repeat (?:that|it)|come again|what did you say|pardon|one more time)\b",
    ),
    ("repeat", r"\bcan you repeat\b|\bdidn't (?:catch|hear|get) (?:that|you)\b"),
    ("abilities", r"\bwhat (?:can|could|do) you (?:do|offer|help)|\bhow can you help"),
    ("abilities", r"\bwhat (?:are you able|else can you)|\bwhat services"),
    ("who", r"\bwho (?:are you|am i (?:speaking|talking))|\bwhat(?:'s| is) your name"),
    ("who", r"\bare you (?:a |an )?(?:human|robot|bot|real|machine|person|ai)\b"),
    (
        "dropped",
        r"\b(?:never ?mind|forget (?:it|that|about it)|cancel that|skip (?:it|that)|leave it|drop it)\b",
    ),
    ("dropped", r"\b(?:don't bother|not now)\b"),
    (
        "bye",
        r"\b(?:good ?bye|bye|see you|talk to you later|that's all|that is all|that will be all|i'm done|hang up)\b",
    ),
    ("bye", r"\bhave a (?:good|nice|great) (?:day|one|evening|night)\b|\bnothing else\b"),
    ("wait", r"^(?:um,? )?(?:wait|hold on|hang on)[\s.,!a-z]{0,12}$"),
    ("wait", r"^(?:um,? )?(?:one|just a|give me a) (?:moment|second|sec|minute)[\s.,!a-z]{0,12}$"),
    ("thanks", r"\b(?:thanks|thank you|appreciate it|cheers)\b"),
    ("hello", r"^(?:hi|hello|hey|good (?:morning|afternoon|evening)|howdy|greetings|how are you)\b"),
)
_MOODS = tuple((mood, re.compile(form, re.IGNORECASE)) for mood, form in _FORMS)


def mood_of(text: str) -> Mood:
    """Return the small talk that a sentence is, "" when it is none."""
    return next((mood for mood, form in _MOODS if form.search(text)), "")
