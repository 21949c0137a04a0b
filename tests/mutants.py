"""Plants bugs in a copy of the session core, one at a time, and looks whether a test dies of each.

    make mutants        (or .venv/bin/python tests/mutants.py [name ...])

A bug that survives is a hole in the tests: exit code 1. The bugs are those that are easy to write and hard to hear.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "services" / "session" / "src"
CORE = Path("parley_session") / "core"
TESTS = (
    ("tests/unit/session", "tests/replay", "-k", "not TestWorld"),
    ("tests/unit/session/test_core_laws.py",),
)
"""Tried in turn: the examples are quick, the state machine takes its time to say what it found."""


@dataclass(frozen=True)
class Bug:
    """One planted bug: in ``file``, ``right`` becomes ``wrong``."""

    name: str
    file: str
    right: str
    wrong: str


BUGS = (
    Bug(
        "credits more than was received",
        "playout.py",
        "got = min(entry.sent, max(entry.received, received, played))",
        "got = max(entry.received, received, played)",
    ),
    Bug(
        "truncates at zero instead of deleting",
        "playout.py",
        "if played_ms == 0:",
        "if played_ms < 0:",
    ),
    Bug(
        "plays audio of a cancelled response",
        "playout.py",
        'return state, [Ignored("late_audio")]',
        "pass",
    ),
    Bug(
        "takes a late answer to a flush",
        "floor.py",
        "if not isinstance(floor, Yielding) or event.epoch != floor.flush_epoch:",
        "if not isinstance(floor, Yielding):",
    ),
    Bug(
        "cancels what upstream's VAD cancels",
        "responses.py",
        "return state, [] if by_vad else [CancelResponse(current.response_id)]",
        "return state, [CancelResponse(current.response_id)]",
    ),
    Bug(
        "asks while the caller speaks",
        "responses.py",
        "case Caller() | Confirming():\n            return True",
        "case Caller() | Confirming():\n            return False",
    ),
    Bug(
        "hears a response that the caller has overtaken",
        "responses.py",
        "        if current.doomed:\n",
        "        if False:\n",
    ),
    Bug(
        "runs the arguments of a call that was cut off",
        "toolcalls.py",
        'if item.status != "completed":',
        'if item.status == "never":',
    ),
    Bug(
        "answers after the first of parallel calls",
        "toolcalls.py",
        "if not any(c.response_id == call.response_id for c in state.calls):",
        "if True:",
    ),
    Bug(
        "lets a cough take the floor",
        "confirming.py",
        "loud_ms = floor.loud_ms + now_ms - floor.loud_since_ms",
        "loud_ms = floor.loud_ms + now_ms",
    ),
    Bug(
        "answers a cough",
        "caller.py",
        "    if event.item_id in state.dismissed:\n        return history.remove",
        "    if False:\n        return history.remove",
    ),
    Bug(
        "puts history back as it was made and not as it was heard",
        "playout.py",
        "state = history.put(state, _history_item(state, entry, words, final=True, estimate=True))",
        "state = history.put(state, _history_item(state, entry, entry.words, final=True, estimate=True))",
    ),
    Bug(
        "forgets caller audio that a lost upstream took with it",
        "continuity.py",
        "return replace(state, replay_from_ms=min(starts)), ends",
        "return state, ends",
    ),
    Bug(
        "rolls over while the agent speaks",
        "continuity.py",
        "isinstance(state.floor, Silent)\n        and isinstance(state.response, Idle)",
        "isinstance(state.response, Idle)",
    ),
    Bug(
        "charges cached tokens twice",
        "meter.py",
        "(usage.input_text - usage.cached_text) * prices.input_text",
        "usage.input_text * prices.input_text",
    ),
    Bug(
        "does not wait out a rate limit",
        "responses.py",
        "state = want(replace(state, creates_held_ms=now_ms + wait_ms), kind, retries=retries + 1)",
        "state = want(state, kind, retries=retries + 1)",
    ),
)


def plant(bug: Bug, into: Path) -> None:
    """Copy the session's sources and put one bug into them. Raises AssertionError when its place has moved."""
    shutil.copytree(SOURCE, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    file = into / CORE / bug.file
    text = file.read_text(encoding="utf-8")
    assert text.count(bug.right) == 1, f"{bug.name}: {bug.file} holds its place {text.count(bug.right)} times"
    file.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")


NO_BUG = Bug("no bug at all", "playout.py", "def is_audible(", "def is_audible(")


def killer(bug: Bug) -> str | None:
    """Return the test that died of a bug; null when none did."""
    with tempfile.TemporaryDirectory() as folder:
        plant(bug, Path(folder))
        env = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        for tests in TESTS:
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                dead = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
                return dead[0].split("::")[-1].partition(" - ")[0] if dead else f"pytest: {done.returncode}"
    return None


def main() -> None:
    wanted = set(sys.argv[1:])
    bugs = [bug for bug in BUGS if not wanted or bug.name in wanted]
    if (test := killer(NO_BUG)) is not None:
        print(f"{test} fails without any bug: nothing can be said")
        sys.exit(2)
    survivors = 0
    for bug in bugs:
        began_s = time.monotonic()
        test = killer(bug)
        survivors += test is None
        fate = f"killed by {test}" if test else "SURVIVED"
        print(f"{bug.name:<58} {time.monotonic() - began_s:5.1f} s  {fate}", flush=True)
    print(f"{len(bugs) - survivors} passed, {survivors} failed")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
