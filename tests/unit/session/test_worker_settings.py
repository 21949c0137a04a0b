"""What each of several workers of the session service runs with: a port, a name, a reply partition, a spool of its own."""

from __future__ import annotations

import pytest

from parley_session.settings import SessionSettings
from parley_session.tool_bridge import reply_partition


def workers(**settings: int) -> list[SessionSettings]:
    shared = SessionSettings(**settings)
    return [shared.of_worker(index) for index in range(shared.workers)]


def test_a_single_process_is_what_its_ordinal_says() -> None:
    alone = SessionSettings(ordinal=3)
    assert (alone.workers, alone.port, alone.replica) == (1, 8081, "session-3")


def test_workers_listen_one_port_after_the_other() -> None:
    assert [each.port for each in workers(workers=3, port=9000)] == [9000, 9001, 9002]


def test_the_first_worker_goes_on_with_the_name_of_a_single_process() -> None:
    assert [each.replica for each in workers(workers=3)] == ["session-0", "session-0-1", "session-0-2"]
    assert [each.replica for each in workers(workers=2, ordinal=4)] == ["session-4", "session-4-1"]


@pytest.mark.parametrize("count", [2, 3, 8])
def test_workers_of_all_replicas_read_partitions_of_their_own(count: int) -> None:
    everyone = [each for ordinal in range(8) for each in workers(workers=count, ordinal=ordinal)]
    assert len({each.replica for each in everyone}) == 8 * count
    partitions = [reply_partition(each.replica, each.ordinal) for each in everyone]
    assert sorted(partitions) == list(range(8 * count))


def test_names_differ_where_machines_have_unlike_numbers_of_workers() -> None:
    everyone = [*workers(workers=8, ordinal=0), *workers(workers=4, ordinal=1)]
    assert len({each.replica for each in everyone}) == 12
