"""Businesses are read again while a service runs, and what is wrong stays as it was."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from harness.waiting import until
from parley_common.business import Business, load_all
from parley_common.reloading import keep_reloaded

CAP = Path(__file__).resolve().parents[3] / "businesses" / "cap"


async def test_changes_new_folders_and_removals_are_seen_and_mistakes_change_nothing(tmp_path: Path) -> None:
    shutil.copytree(CAP, tmp_path / "cap")
    businesses: dict[str, Business] = load_all(tmp_path)
    before, stop, changes = businesses["cap"], asyncio.Event(), list[str]()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            keep_reloaded(
                tmp_path, businesses, stop, every_s=0.02, on_change=lambda: changes.append("changed")
            )
        )
        (tmp_path / "cap" / "prompt.md").write_text("You are Cap. Be brief.")
        await until(lambda: businesses["cap"].prompt == "You are Cap. Be brief.", 10, "the new prompt")
        assert before.prompt != "You are Cap. Be brief.", "what a session holds does not change under it"
        changed = businesses["cap"]
        (tmp_path / "cap" / "business.yaml").write_text("name: cap\ntitel: wrong\n")
        second = tmp_path / "second"
        shutil.copytree(CAP, second)
        text = (second / "business.yaml").read_text().replace("name: cap", "name: second", 1)
        (second / "business.yaml").write_text(text)
        await until(lambda: "second" in businesses, 10, "the new business")
        assert businesses["cap"] is changed
        shutil.rmtree(second)
        await until(lambda: "second" not in businesses, 10, "it to be gone")
        stop.set()
    assert len(changes) >= 3
