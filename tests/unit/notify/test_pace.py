"""Which destinations may be bothered now."""

from __future__ import annotations

from parley_notify.pace import AHEAD_MS, HOLD_MAX_S, Circuit, Pace

CIRCUIT = Circuit(failures_max=3, first_s=1, wait_max_s=4)
FAST = 1e9


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


def test_a_fast_host_gets_several_at_once_and_each_waits_for_its_own_moment() -> None:
    pace = Pace(rate_per_s=100, in_flight_max=9)
    assert pace.each_max == pace.room("a") == 5
    assert [pace.begin("a", 0) for _ in range(4)] == [0, 10, 20, 30]
    assert (pace.busy(39), pace.busy(40)) == (["a"], [])
    assert pace.room("a") == 5


def test_a_slow_host_gets_one_at_a_time() -> None:
    assert Pace(rate_per_s=20, in_flight_max=9).each_max == 1


def test_a_host_gets_no_more_at_once_than_it_has_places_left() -> None:
    pace = Pace(rate_per_s=FAST, in_flight_max=3)
    pace.begin("a", 0)
    pace.begin("a", 0)
    assert (pace.room("a"), pace.room("b")) == (1, 3)


def test_a_host_whose_circuit_is_open_has_room_for_one() -> None:
    pace = Pace(rate_per_s=FAST, in_flight_max=4, circuit=CIRCUIT)
    failing(pace, "a", 0, 0, 0)
    assert pace.room("a") == 1


def test_an_attempt_claimed_before_its_host_asked_for_time_does_not_hold_its_place_so_long() -> None:
    pace = Pace(rate_per_s=FAST, in_flight_max=4)
    pace.begin("a", 0)
    pace.end("a", 0, hold_s=30)
    assert pace.begin("a", 0) == AHEAD_MS


def failing(pace: Pace, host: str, *moments_ms: float) -> None:
    for now_ms in moments_ms:
        pace.begin(host, now_ms)
        pace.end(host, now_ms, failed=True)


def test_a_host_that_failed_often_in_a_row_rests() -> None:
    pace = Pace(rate_per_s=FAST, in_flight_max=4, circuit=CIRCUIT)
    failing(pace, "a", 0, 10)
    assert pace.busy(11) == []
    failing(pace, "a", 20)
    assert (pace.busy(1_019), pace.busy(1_020)) == (["a"], [])
    assert pace.open_count() == 1


def test_after_its_rest_one_attempt_goes_alone_and_its_failure_doubles_the_rest_up_to_a_bound() -> None:
    pace = Pace(rate_per_s=FAST, in_flight_max=4, circuit=CIRCUIT)
    failing(pace, "a", 0, 0, 0)
    pace.begin("a", 1_000)
    assert pace.busy(1_001) == ["a"]
    pace.end("a", 1_001, failed=True)
    assert (pace.busy(3_000), pace.busy(3_001)) == (["a"], [])
    failing(pace, "a", 4_000, 10_000)
    assert (pace.busy(13_999), pace.busy(14_000)) == (["a"], [])


def test_attempts_that_fail_together_count_as_one_rest() -> None:
    pace = Pace(rate_per_s=FAST, in_flight_max=9, circuit=CIRCUIT)
    for _ in range(6):
        pace.begin("a", 0)
    for _ in range(6):
        pace.end("a", 5, failed=True)
    assert (pace.busy(1_004), pace.busy(1_005)) == (["a"], [])


def test_one_success_closes_the_circuit() -> None:
    pace = Pace(rate_per_s=FAST, in_flight_max=4, circuit=CIRCUIT)
    failing(pace, "a", 0, 0, 0)
    pace.begin("a", 1_000)
    pace.end("a", 1_001)
    assert pace.open_count() == 0
    failing(pace, "a", 1_002, 1_003)
    assert pace.busy(1_004) == []


def test_one_host_resting_leaves_the_others_alone() -> None:
    pace = Pace(rate_per_s=FAST, in_flight_max=4, circuit=CIRCUIT)
    failing(pace, "a", 0, 0, 0)
    pace.begin("b", 1)
    assert pace.busy(2) == ["a"]
