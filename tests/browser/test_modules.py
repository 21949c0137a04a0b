"""The widget's pure modules, run in node: the resampler by its numbers, the playout buffer against the reference."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

from parley_launcher.talk.playout import PlayoutBuffer

HERE = Path(__file__).resolve().parent
MODULES = resources.files("parley_gateway") / "web" / "parley"
Step = tuple[Any, ...]


def node(script: str, stdin: str = "") -> Any:
    """Run one of our scripts in node and return the JSON that it prints."""
    program = shutil.which("node")
    assert program, "no node here: apt-get install nodejs"
    done = subprocess.run(
        [program, "--no-warnings", "--experimental-default-type=module", str(HERE / script), str(MODULES)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_resampler_keeps_a_tone_clean_and_level_and_lets_nothing_alias() -> None:
    measured = node("resampler_quality.mjs")
    for found in measured["results"]:
        print(found)
    tones = [found for found in measured["results"] if "hz" in found]
    assert min(tone["snr_db"] for tone in tones) > 75
    assert max(tone["thd_db"] for tone in tones) < -80
    assert max(abs(tone["gain_db"]) for tone in tones) < 0.1
    aliases = [found["alias_db"] for found in measured["results"] if "alias_db" in found]
    assert max(aliases) < -75
    assert 24_000 * 60 - 64 < measured["samples_of_a_minute"] <= 24_000 * 60, "nothing drifts"


def test_the_playout_buffer_agrees_with_the_reference_on_what_was_received_played_and_flushed() -> None:
    scenarios = [scenario(random.Random(seed)) for seed in range(400)]
    ours = node("playout_replay.mjs", json.dumps(scenarios))
    for steps, found in zip(scenarios, ours, strict=True):
        assert found == reference(steps), steps


def scenario(chance: random.Random) -> list[Step]:
    """A session's worth of items, frames whole, repeated or missing, pauses, flushes, and time in between."""
    steps: list[Step] = []
    epoch, number, paused = 0, 0, False
    open_items: dict[int, int] = {}
    for _ in range(chance.randrange(5, 60)):
        what = chance.choices(
            ["begins", "frame", "frame", "frame", "ends", "pass", "pass", "flush", "stale", "hold"], k=1
        )[0]
        if what == "begins":
            number += 1
            open_items[number] = 0
            steps.append(("begins", number, epoch))
        elif what == "frame" and open_items:
            item = max(open_items)
            first = max(0, open_items[item] + chance.choice([0, 0, 0, 0, -240, 480]))
            count = 24 * chance.randrange(1, 60)
            steps.append(("frame", epoch, item, first, count))
            if first <= open_items[item]:
                open_items[item] = max(open_items[item], first + count)
        elif what == "ends" and open_items:
            item = max(open_items)
            steps.append(("ends", item, open_items.pop(item)))
        elif what == "pass":
            steps.append(("pass", chance.randrange(1, 80)))
        elif what == "flush":
            epoch += 1
            open_items.clear()
            paused = False
            steps.append(("flush", epoch))
        elif what == "stale":
            steps.append(
                ("frame", max(0, epoch - 1), 999 if epoch else number or 1, 0, 24) if epoch else ("pass", 1)
            )
        elif what == "hold":
            paused = not paused
            steps.append(("pause",) if paused else ("resume",))
    return steps


def reference(steps: list[Step]) -> dict[str, Any]:
    buffer, now_ms = PlayoutBuffer(origin_ms=0, keep_audio=False), 0
    answers: list[dict[str, int] | None] = []
    for what, *args in steps:
        if what == "pass":
            now_ms += args[0]
            buffer.tick(now_ms)
        elif what == "frame":
            epoch, item, first, count = args
            buffer.frame(epoch, item, first, bytes(2 * count), now_ms)
        elif what == "flush":
            said = buffer.flush(args[0], now_ms)
            last = said[-1] if said else None
            answers.append(
                {"epoch": last.epoch, "item": last.item, "played": last.played} if last is not None else None
            )
        else:
            getattr(buffer, what)(*args, now_ms)
    items = [[item.number, item.received, item.played] for item in buffer.items]
    return {"answers": answers, "items": items, "oddities": dict(buffer.oddities)}
