"""Draws the floor as the core itself moves it: every phase, every event, what follows. For docs/architecture.md.

`.venv/bin/python tests/unit/session/floor_picture.py` writes the picture anew; test_floor_picture.py finds a stale one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fakes.core_driver import MS, Driver
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import TurnTaking

PAGE = Path(__file__).resolve().parents[3] / "docs" / "architecture.md"
BEGINS, ENDS = "<!-- floor: drawn by tests/unit/session/floor_picture.py -->", "<!-- floor: end -->"
TOLD = (
    ef.FlushPlayout,
    ef.PausePlayout,
    ef.ResumePlayout,
    ef.TruncateItem,
    ef.DeleteItem,
    ef.CancelResponse,
    ef.CreateResponse,
)


def silent(confirm: bool) -> Driver:
    return Driver(turn_taking=TurnTaking(barge_in="confirm" if confirm else "instant")).start()


def caller(confirm: bool) -> Driver:
    d = silent(confirm)
    d.on(ev.CallerSpeechStarted("U1", 0))
    return d


def agent(confirm: bool) -> Driver:
    d = silent(confirm)
    d.on(ev.CallerTyped("hello"))
    (create,) = d.only(ef.CreateResponse)
    d.answer("R1", "A1", 4_000, "one two three four", create=create.create_id)  # type: ignore[union-attr]
    d.report(d.number_of("A1"), 1_000, 4_000)
    return d


def confirming(confirm: bool) -> Driver:
    d = agent(confirm)
    d.on(ev.CallerSpeechStarted("U2", 0))
    return d


def yielding(confirm: bool) -> Driver:
    d = agent(False)
    d.on(ev.CallerSpeechStarted("U2", 0))
    return d


PHASES: dict[str, Callable[[bool], Driver]] = {
    "Silent": silent,
    "Caller": caller,
    "Agent": agent,
    "Confirming": confirming,
    "Yielding": yielding,
}


def _number(d: Driver) -> int:
    return next((e.number for e in d.state.playout.ledger if e.sent), 0)


EVENTS: dict[str, Callable[[Driver], object]] = {
    "the caller speaks": lambda d: d.on(ev.CallerSpeechStarted("U9", 0)),
    "the caller pauses": lambda d: d.on(ev.CallerSpeechStopped("U2", 0)),
    "the caller types": lambda d: d.on(ev.CallerTyped("stop")),
    "agent audio arrives": lambda d: d.on(ev.ResponseStarted("R9", None), *d.deltas("R9", "A9", 500, "hi")),
    "all was played": lambda d: d.report(_number(d), 4_000),
    "the flush is answered": lambda d: d.on(ev.FlushAnswered(d.state.playout.epoch, _number(d), 1_200 * MS)),
    "its time is over": lambda d: d.wait(300),
    "the sound ends": lambda d: d.on(ev.CallerLevelChanged(is_loud=False)),
    "the sound lasts": lambda d: d.wait(350),
}


def edges(confirm: bool) -> list[tuple[str, str, str]]:
    """Return (phase, what happens and is asked for, next phase) of everything that moves the floor or silences."""
    found = []
    for phase, make in PHASES.items():
        if (phase == "Confirming") is not confirm and phase != "Agent":
            continue
        for event, happen in EVENTS.items():
            if event.startswith("the sound") and phase != "Confirming":
                continue
            d = make(confirm)
            assert type(d.state.floor).__name__ == phase, (phase, d.state.floor)
            known = len(d.all)
            happen(d)
            after = type(d.state.floor).__name__
            asked = [type(e).__name__ for e in d.all[known:] if isinstance(e, TOLD)]
            if after != phase or any(name.endswith("Playout") for name in asked):
                found.append((phase, " / ".join([event, *dict.fromkeys(asked)]), after))
    return found


def picture() -> str:
    """Return the part of the page between the marks."""
    lines = [BEGINS, "", "```mermaid", "stateDiagram-v2", "    [*] --> Silent"]
    lines += [f"    {phase} --> {after}: {what}" for phase, what, after in edges(confirm=False)]
    lines += [
        "```",
        "",
        "Where a barge-in is to be confirmed (`barge_in: confirm`), these replace the Agent's:",
        "",
    ]
    lines += ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {phase} --> {after}: {what}" for phase, what, after in edges(confirm=True)]
    return "\n".join([*lines, "```", "", ENDS])


def drawn(page: str) -> str:
    """Return the page with the picture as the code draws it now."""
    before, _, rest = page.partition(BEGINS)
    _, _, after = rest.partition(ENDS)
    return before + picture() + after


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(picture())
