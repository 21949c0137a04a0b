"""A brain for tests of the understudy's protocol: obvious rules, no language.

It stands for ``parley_understudy.brain.decide``: pure, deterministic, never raises. It cannot fill a tool's
arguments by meaning; it puts the caller's last words into the first string parameter.
"""

from __future__ import annotations

from parley_understudy.brain.types import Answered, Call, Decision, Said, View

LONG_ANSWER = (
    "Certainly. Here is the whole story, from the beginning to the end, with nothing left out. "
    "First we looked at the house on the hill. Then we asked the owner for the papers. "
    "After that the bank sent its own surveyor, who stayed for an hour. "
    "In the end everyone was content, and the keys changed hands on a Friday."
)


def decide(view: View) -> Decision:
    """Answer a tool's output, call a tool that is named, tell a long story, or repeat what was said."""
    last = view.items[-1] if view.items else None
    if isinstance(last, Answered):
        return Decision(f"The answer is: {last.output}", ())
    if not isinstance(last, Said):
        return Decision("Hello.", ())
    text = last.text.lower()
    named = [tool for tool in view.tools if tool.name.replace("_", " ") in text or tool.name in text]
    if named:
        calls = tuple(Call(tool.name, _arguments(tool.parameters, last.text)) for tool in named)
        return Decision("Let me look." if "please" in text else "", calls)
    if "story" in text:
        return Decision(LONG_ANSWER, ())
    if "how many" in text:
        return Decision(f"You see {len(view.items)} items: " + " / ".join(_shown(view)), ())
    return Decision(f"You said: {last.text}", ())


def _arguments(parameters: dict[str, object], text: str) -> dict[str, object]:
    properties = parameters.get("properties")
    return dict.fromkeys(list(properties)[:1], text) if isinstance(properties, dict) else {}


def _shown(view: View) -> list[str]:
    return [item.text if isinstance(item, Said) else type(item).__name__ for item in view.items]
