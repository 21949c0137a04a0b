"""The understudy's brain: a rule-based stand-in for a language model that uses tools.

It reads a conversation and the tools it was given, and decides what to say and what to call. It has no
model, no network and no memory of its own, and it knows no business.

Law: equal views give equal decisions, and no view makes it raise.
"""

from __future__ import annotations

from .dialogue import decide
from .types import Answered, Call, Called, Decision, Item, Said, Tool, View

__all__ = ["Answered", "Call", "Called", "Decision", "Item", "Said", "Tool", "View", "decide"]
