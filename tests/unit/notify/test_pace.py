"""Which destinations may be bothered now."""

from __future__ import annotations

from parley_notify.pace import HOLD_MAX_S, Pace


def test_a_host_is_free_again_after_its_share_of_a_second() -> None:
    pace = Pace(rate_per_s=10, in_flight_max=5)
    pace.begin("a", 0)
    assert pace.busy(99) == ["a"]
    assert pace.free_at_ms(99) == 100
    assert pace.busy(100) == []


def test_a_host_with_all_its_places_taken_waits_for_one_to_end() -> None:
    pace = Pace(rate_per_s=1_000, in_flight_max=2)
    pace.begin("a", 0)
    pace.begin("a", 1)
    assert pace.busy(1_000) == ["a"]
    assert pace.free_at_ms(1_000) is None
    pace.end("a", 1_000)
    assert pace.busy(1_001) == []


def test_a_host_that_asked_for_time_is_left_alone_so_long() -> None:
    pace = Pace(rate_per_s=1_000, in_flight_max=2)
    pace.begin("a", 0)
    pace.end("a", 10, hold_s=30)
    assert pace.busy(30_009) == ["a"]
    assert pace.busy(30_010) == []


def test_a_host_cannot_hold_its_deliveries_for_longer_than_the_bound() -> None:
    pace = Pace(rate_per_s=1_000, in_flight_max=2)
    pace.begin("a", 0)
    pace.end("a", 0, hold_s=1e9)
    assert pace.busy(HOLD_MAX_S * 1_000) == []


def test_hosts_do_not_wait_for_each_other() -> None:
    pace = Pace(rate_per_s=1, in_flight_max=1)
    pace.begin("a", 0)
    assert pace.busy(1) == ["a"]
    pace.begin("b", 1)
    pace.end("a", 2)
    assert sorted(pace.busy(3)) == ["a", "b"]
    assert pace.busy(1_000) == ["b"]


def test_idle_hosts_are_forgotten() -> None:
    pace = Pace(rate_per_s=1_000, in_flight_max=1)
    for number in range(100):
        pace.begin(f"host-{number}", 0)
        pace.end(f"host-{number}", 0)
    pace.busy(10)
    assert pace._lanes == {}
