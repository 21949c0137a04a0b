"""The short form of the ledger: 500 lead facts, told once and in order while notify, Kafka and PostgreSQL break."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.broker import Broker
from load.notify_ledger import LIVE, MAIL, Plan, run

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


async def test_every_lead_is_told_once_and_in_order_while_everything_breaks(
    fresh_broker: Broker, tmp_path: Path
) -> None:
    plan = Plan(facts=500, kills=3, broker_restarts=1, database_restarts=1, deadline_s=420)
    ledger = await run(plan, fresh_broker, tmp_path)
    assert (ledger.kills, ledger.broker_restarts, ledger.database_restarts) == (3, 1, 1)
    assert ledger.published > ledger.facts == 500
    assert all(sum(ledger.failures[name].values()) > 50 for name in LIVE), "the receivers failed often"
    assert ledger.lost == dict.fromkeys([*LIVE, MAIL], 0)
    assert ledger.twice_in_effect == ledger.out_of_order == dict.fromkeys(LIVE, 0)
    assert (ledger.dead_route_waiting, ledger.dead_route_other) == (500, 0)
    assert ledger.dead_letters == 0
    assert ledger.is_balanced, ledger.text()
