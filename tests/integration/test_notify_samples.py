"""Committed records of version 1, through today's notify: each is planned, and told as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from integration.notify_world import make_world
from parley_common.contracts.export import read_samples
from parley_common.contracts.facts import read_fact
from parley_common.contracts.record import Envelope
from parley_common.contracts.topics import CASE_EVENTS, LEAD_EVENTS
from parley_notify.channels.webhook import event_json
from parley_notify.intake import HEARD
from unit.notify.samples import route

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = {
    f"{name} {kind}": record
    for name, sample in read_samples(DOCS).items()
    for kind, record in sample.items()
    if record["topic"] in {LEAD_EVENTS.name, CASE_EVENTS.name}
}


@pytest.mark.parametrize("name", RECORDS)
async def test_a_record_of_version_1_is_told_by_webhook_with_all_it_says(
    sqlite_url: str, tmp_path: Path, name: str
) -> None:
    record = RECORDS[name]
    told = record["value"]
    everything = route("crm", *sorted(HEARD), channel="webhook", to="https://crm.example.com/in")
    world = await make_world(sqlite_url, tmp_path / "businesses", everything, name=told["business"])
    envelope = Envelope.of_headers(record["headers"])
    await world.intake.take(envelope, read_fact(envelope, json.dumps(told).encode()))
    delivery = await world.claim()
    await world.database.aclose()
    assert delivery is not None
    event = json.loads(event_json(delivery, delivery.payload or ""))
    assert _holds(event["data"], told)
    headers = record["headers"]
    assert (event["id"], event["type"], event["source"], event["subject"]) == tuple(
        headers[f"ce_{part}"] for part in ("id", "type", "source", "subject")
    )


def _holds(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(name in whole and _holds(whole[name], value) for name, value in part.items())
    return bool(whole == part)
