"""Two typed scenarios of each business, through the whole system. All of them: make scenarios."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.kafka import kinds_to_try, start_broker
from harness.processes import Processes
from harness.running import RunningParley
from scenarios.run import play_all
from scenarios.scenario import HERE, load

BUSINESSES = sorted(path.stem for path in HERE.glob("*.yaml"))
EACH = 2

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def parley(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningParley]:
    folder = tmp_path_factory.mktemp("scenarios")
    broker, _ = start_broker(kinds_to_try())
    with Processes(folder) as processes:
        running = RunningParley(processes, folder / "state", broker, UNDERSTUDY_LIGHT="true")
        yield running
        running.stop()
    broker.close()


@pytest.mark.parametrize("business", BUSINESSES)
async def test_callers_of_a_business_get_what_they_came_for(parley: RunningParley, business: str) -> None:
    sample = [scenario for scenario in load(business) if scenario.mode == "typed"][:EACH]
    assert len(sample) == EACH
    played = await play_all(parley, sample)
    wrong = {each.scenario.name: each.faults for each in played if each.faults}
    assert wrong == {}
