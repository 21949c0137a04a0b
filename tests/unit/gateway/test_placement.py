"""Placement: two owners by hash, the less loaded of them, and everyone else as a fallback."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from parley_gateway.placement import ReplicaView, placement

REPLICAS = [ReplicaView(f"ws://session-{number}:8081") for number in range(5)]
replicas = st.lists(
    st.builds(
        ReplicaView,
        url=st.sampled_from([replica.url for replica in REPLICAS]),
        is_ready=st.booleans(),
        is_draining=st.booleans(),
        sessions_count=st.integers(0, 20),
        capacity=st.none() | st.integers(1, 20),
    ),
    unique_by=lambda replica: replica.url,
)


def test_a_session_has_the_same_two_owners_whoever_asks_and_in_whatever_order() -> None:
    there = placement("session-1", REPLICAS)
    assert placement("session-1", list(reversed(REPLICAS))) == there
    assert set(there) == {replica.url for replica in REPLICAS}


def test_the_less_loaded_of_the_two_owners_comes_first() -> None:
    first, second, *_ = placement("session-1", REPLICAS)
    busy = [replace(replica, sessions_count=9 * (replica.url == first), capacity=10) for replica in REPLICAS]
    assert placement("session-1", busy)[:2] == (second, first)


def test_load_is_compared_by_what_each_can_bear() -> None:
    first, second, *_ = placement("session-1", REPLICAS)
    loads = {first: (10, 100), second: (5, 10)}
    uneven = [
        replace(
            replica,
            sessions_count=loads.get(replica.url, (0, 1))[0],
            capacity=loads.get(replica.url, (0, 1))[1],
        )
        for replica in REPLICAS
    ]
    assert placement("session-1", uneven)[:2] == (first, second)


def test_an_idle_third_replica_does_not_take_what_two_others_own() -> None:
    first, second, third, *_ = placement("session-1", REPLICAS)
    busy = [
        replace(replica, sessions_count=5 * (replica.url in {first, second}), capacity=10)
        for replica in REPLICAS
    ]
    assert placement("session-1", busy).index(third) == 2


def test_when_an_owner_goes_only_its_own_sessions_move() -> None:
    gone = REPLICAS[0].url
    rest = REPLICAS[1:]
    for number in range(200):
        owners = placement(f"session-{number}", REPLICAS)[:2]
        if gone not in owners:
            assert placement(f"session-{number}", rest)[:2] == owners


def test_sessions_spread_over_all_replicas() -> None:
    first = Counter(placement(f"session-{number}", REPLICAS)[0] for number in range(1_000))
    assert all(130 < first[replica.url] < 270 for replica in REPLICAS), first


def test_without_replicas_there_is_nowhere_to_go() -> None:
    assert placement("session-1", []) == ()


@given(replicas)
def test_draining_replicas_are_left_out_and_good_ones_always_come_before_full_and_unready_ones(
    known: list[ReplicaView],
) -> None:
    order = placement("session-1", known)
    by_url = {replica.url: replica for replica in known}
    assert sorted(order) == sorted(replica.url for replica in known if not replica.is_draining)
    kinds = [2 if not by_url[url].is_ready else int(by_url[url].is_full) for url in order]
    assert kinds == sorted(kinds)
