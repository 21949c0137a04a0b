"""Plays scenario files against the whole system and prints a table: `python tests/scenarios/run.py shop cap`.

It starts `parley up` on free ports with a state of its own, or uses none but that. What a scenario expects is
compared by scenario.py.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.kafka import kinds_to_try, start_broker
from harness.processes import Processes
from harness.running import RunningParley, Told
from parley_launcher.talk.report import TalkReport
from parley_launcher.talk.run import TalkOptions, run_talk
from parley_launcher.talk.turns import CallerTurn, spoken, typed
from scenarios.scenario import CallSeen, Came, Line, Scenario, dated, faults, load

CALLS_TOPIC, RESULTS_TOPIC = "parley.tool.calls.tools", "parley.tool.results"
FACT_TOPICS = ("parley.lead.events", "parley.case.events")
AT_ONCE = 4
FACTS_DEADLINE_S = 10.0
LOOK_EVERY_S = 0.25
TALK_MAX_S = 240.0


@dataclass(frozen=True)
class Played:
    """One scenario that was played."""

    scenario: Scenario
    came: Came
    report: TalkReport
    faults: list[str]
    took_s: float


async def play_all(parley: RunningParley, scenarios: Sequence[Scenario]) -> list[Played]:
    """Play scenarios, a few at once; spoken ones one after the other, for their models share the cores."""
    typed_gate, spoken_gate = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(1)

    async def one(scenario: Scenario) -> Played:
        async with spoken_gate if scenario.mode == "spoken" else typed_gate:
            return await play(parley, scenario)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(scenario)) for scenario in scenarios]
    return [task.result() for task in tasks]


async def play(parley: RunningParley, scenario: Scenario) -> Played:
    """Hold the session of one scenario, and compare once its facts are there."""
    began = time.monotonic()
    turns = tuple(_turn(line, scenario.mode) for line in scenario.lines)
    report = await run_talk(TalkOptions(scenario.business, turns, parley.url, max_s=TALK_MAX_S))
    deadline = time.monotonic() + FACTS_DEADLINE_S
    while True:
        came = await what_came(parley, report)
        found = faults(scenario, came)
        if not any("fact" in each for each in found) or time.monotonic() > deadline:
            return Played(scenario, came, report, found, time.monotonic() - began)
        await asyncio.sleep(LOOK_EVERY_S)


def _turn(line: Line, mode: str) -> CallerTurn:
    text = dated(line.say, datetime.now().astimezone().date())
    if mode == "typed":
        return typed(text, line.barge_in_ms)
    from parley_understudy import voice

    return spoken(text, voice.render(text), line.barge_in_ms)


async def what_came(parley: RunningParley, report: TalkReport) -> Came:
    """Return calls, facts and words of a session, from where the services leave them."""
    session = str(report.session_id)
    asked: dict[str, Told] = {}
    for told in await parley.facts(CALLS_TOPIC, session_id=session):
        asked.setdefault(str(told.value["call_id"]), told)
    results = {
        told.value["call_id"]: told.value for told in await parley.facts(RESULTS_TOPIC, session_id=session)
    }
    calls = [
        CallSeen(
            str(told.value["tool"]),
            told.value["arguments"],
            str(results.get(call_id, {}).get("status", "unanswered")),
            results.get(call_id, {}).get("code"),
        )
        for call_id, told in asked.items()
    ]
    facts = [told for topic in FACT_TOPICS for told in await parley.facts(topic, session_id=session)]
    facts.sort(key=lambda told: (str(told.value.get("at")), int(told.value.get("seq", 0))))
    named = [(told.type.removeprefix("parley.").rsplit(".v", 1)[0], told.value) for told in facts]
    failure = f"{report.failure.code}: {report.failure.message}" if report.failure else None
    return Came(calls, named, report.agent_text, failure, report.oddities)


def shown(played: Sequence[Played]) -> str:
    """Return the table."""
    rows = []
    for each in played:
        mark = "ok  " if not each.faults else "FAIL"
        rows.append(
            f"{mark} {each.scenario.business:9} {each.scenario.mode:6} {each.took_s:5.1f} s  {each.scenario.name}"
        )
        rows += [f"       {fault}" for fault in each.faults]
    passed = sum(not each.faults for each in played)
    return "\n".join([*rows, f"{passed} of {len(played)} scenarios are as expected"])


def _dialogue(played: Played) -> str:
    """Return what was said and called, for whoever looks into a failure."""
    lines = [f"--- {played.scenario.business}: {played.scenario.name}"]
    for item in played.report.items:
        lines.append(f"  {item.role:9} {item.text if item.heard is None else item.heard + ' [cut]'}")
    lines += [
        f"  called    {call.tool} {dict(call.arguments)} -> {call.status} {call.code or ''}"
        for call in played.came.calls
    ]
    lines += [
        f"  fact      {name} {value.get('kind', '')} {value.get('details', '')}"
        for name, value in played.came.facts
    ]
    return "\n".join(lines)


def main() -> int:
    options = _options()
    mode = "spoken" if options.spoken else "typed"
    chosen = [
        each
        for business in options.businesses
        for each in load(business)
        if each.mode == mode and options.only.lower() in each.name.lower()
    ]
    with tempfile.TemporaryDirectory(prefix="parley-scenarios-") as folder:
        broker, _ = start_broker(kinds_to_try())
        try:
            with Processes(Path(folder)) as processes:
                flags = () if options.spoken else ("--light",)
                only = str(_alone(options.businesses, Path(folder) / "businesses"))
                parley = RunningParley(
                    processes, Path(folder) / "state", broker, *flags, PARLEY_BUSINESSES_DIR=only
                )
                played = asyncio.run(play_all(parley, chosen))
                parley.stop()
        finally:
            broker.close()
    for each in played if options.verbose else ():
        print(_dialogue(each))
    print(shown(played))
    return 1 if any(each.faults for each in played) else 0


def _alone(businesses: Sequence[str], folder: Path) -> Path:
    """Make a folder of these businesses alone: what is wrong in another one is not their scenarios' matter."""
    folder.mkdir()
    for name in businesses:
        (folder / name).symlink_to(Path(__file__).parents[2] / "businesses" / name)
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("businesses", nargs="+")
    parser.add_argument("--only", default="", help="play those whose name has these words")
    parser.add_argument("--spoken", action="store_true", help="the spoken ones instead, with speech models")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what was said and called")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
