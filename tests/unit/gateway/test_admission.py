"""Admission: room, rates and limits per address and business, and a table that a flood cannot grow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_common.errors import Overloaded
from parley_gateway.admission import Admission, AdmissionLimits, BusinessLimits, Rate, network_of

HERE, THERE = "192.0.2.1", "192.0.2.2"
FREE = BusinessLimits()


def admission_of(sessions_max: int = 100, per_minute: int = 0, **more: int) -> Admission:
    return Admission(AdmissionLimits(sessions_max, per_minute, **more))


def refusal(act: Callable[..., None], *arguments: object) -> tuple[str, float | None]:
    with pytest.raises(Overloaded) as caught:
        act(*arguments)
    return caught.value.stable_code, caught.value.retry_after_s


def test_a_full_gateway_refuses_until_a_session_ends() -> None:
    admission = admission_of(sessions_max=2)
    admission.begin("cap", FREE, 0, 0)
    admission.begin("oak", FREE, 0, 0)
    assert refusal(admission.begin, "cap", FREE, 0, 0) == ("full", 5.0)
    admission.end("cap")
    admission.begin("cap", FREE, 0, 0)
    assert admission.sessions_count == 2


def test_a_full_gateway_issues_no_tokens_and_still_lets_a_client_in_that_comes_back() -> None:
    admission = admission_of(sessions_max=1)
    admission.enter(HERE, 0)
    admission.begin("cap", FREE, 0, 0)
    assert refusal(admission.check_token, HERE, "cap", FREE, 0, 0) == ("full", 5.0)
    admission.enter(HERE, 0)


def test_sockets_that_open_nothing_are_bounded_too() -> None:
    admission = admission_of(sessions_max=1)
    for _ in range(9):
        admission.enter(HERE, 0)
    assert refusal(admission.enter, THERE, 0) == ("full", 5.0)
    admission.leave(HERE)
    admission.enter(THERE, 0)
    assert admission.sockets_count == 9


def test_an_address_has_so_many_sockets_at_once_and_others_have_theirs() -> None:
    admission = admission_of(address_sockets_max=2)
    admission.enter(HERE, 0)
    admission.enter(HERE, 0)
    assert refusal(admission.enter, HERE, 0) == ("too_many_sockets", 5.0)
    assert refusal(admission.check_token, HERE, "cap", FREE, 0, 0) == ("too_many_sockets", 5.0)
    admission.enter(THERE, 0)
    admission.leave(HERE)
    admission.enter(HERE, 0)


def test_an_address_that_opens_too_often_is_told_when_to_come_back() -> None:
    admission = admission_of(per_minute=6)
    for _ in range(6):
        admission.enter(HERE, 0)
    assert refusal(admission.enter, HERE, 0) == ("too_many_opens", 10.0)
    admission.enter(THERE, 0)
    assert refusal(admission.enter, HERE, 9_999) == ("too_many_opens", 1.0)
    admission.enter(HERE, 10_000)


def test_tokens_and_sockets_are_counted_apart() -> None:
    admission = admission_of(per_minute=1)
    admission.check_token(HERE, "cap", FREE, 0, 0)
    admission.enter(HERE, 0)
    assert refusal(admission.check_token, HERE, "cap", FREE, 0, 0)[0] == "too_many_opens"


def test_what_was_not_used_is_not_saved_beyond_a_minute() -> None:
    rate = Rate(keys_max=10)
    rate.take(HERE, 2, 0)
    later_ms = 3_600_000
    assert [rate.take(HERE, 2, later_ms) > 0 for _ in range(3)] == [False, False, True]


def test_a_draining_gateway_begins_nothing_and_lets_clients_back_to_what_still_runs() -> None:
    admission = admission_of()
    admission.draining = True
    assert refusal(admission.begin, "cap", FREE, 0, 0) == ("draining", 1)
    assert refusal(admission.check_token, HERE, "cap", FREE, 0, 0) == ("draining", 1)
    admission.enter(HERE, 0)


def test_a_business_has_so_many_sessions_at_once_and_others_have_theirs() -> None:
    admission, two = admission_of(), BusinessLimits(sessions_max=2)
    admission.begin("cap", two, 0, 0)
    admission.begin("cap", two, 0, 0)
    assert refusal(admission.begin, "cap", two, 0, 0) == ("business_full", 5.0)
    assert refusal(admission.check_token, HERE, "cap", two, 0, 0) == ("business_full", 5.0)
    admission.begin("oak", two, 0, 0)
    admission.end("cap")
    admission.begin("cap", two, 3_000, 0)


def test_a_business_is_full_by_what_runs_elsewhere_and_what_was_not_told_yet() -> None:
    admission, five = admission_of(), BusinessLimits(sessions_max=5)
    admission.begin("cap", five, 0, 3)
    admission.begin("cap", five, 500, 3)
    assert refusal(admission.begin, "cap", five, 1_000, 3) == ("business_full", 5.0)
    assert refusal(admission.begin, "cap", five, 9_000, 5) == ("business_full", 5.0)
    admission.begin("cap", five, 9_000, 4)


def test_a_business_that_opens_too_often_is_told_when_to_come_back() -> None:
    admission, limits = admission_of(), BusinessLimits(opens_per_minute=2)
    admission.begin("cap", limits, 0, 0)
    admission.end("cap")
    admission.begin("cap", limits, 0, 0)
    assert refusal(admission.begin, "cap", limits, 0, 0) == ("too_many_business_opens", 30.0)
    assert refusal(admission.begin, "cap", limits, 29_999, 0) == ("too_many_business_opens", 1.0)
    admission.begin("cap", limits, 30_000, 0)


def worst(gateways_count: int, limit: int, *, told_late_ms: int | None) -> int:
    """Let every gateway open one session of a business every 100 ms, for 10 s; return the most that ran at once."""
    limits, opened_ms = BusinessLimits(sessions_max=limit), []
    gateways = [admission_of(sessions_max=10_000) for _ in range(gateways_count)]
    for now_ms in range(0, 10_000, 100):
        for gateway in gateways:
            told = 0
            if told_late_ms is not None:
                told = sum(opened <= now_ms - told_late_ms for opened in opened_ms)
            with suppress(Overloaded):
                gateway.begin("cap", limits, now_ms, told)
                opened_ms.append(now_ms)
    return len(opened_ms)


@given(st.integers(1, 5), st.integers(1, 200), st.integers(0, 2_000))
def test_all_gateways_together_exceed_a_limit_by_no_more_than_the_others_open_in_two_seconds(
    gateways_count: int, limit: int, told_late_ms: int
) -> None:
    opened_in_that_time = (gateways_count - 1) * (2_000 // 100 + 1)
    assert worst(gateways_count, limit, told_late_ms=told_late_ms) <= limit + opened_in_that_time


def test_while_nothing_is_told_each_gateway_holds_the_limit_for_itself() -> None:
    assert worst(3, 20, told_late_ms=None) == 3 * 20
    assert worst(1, 20, told_late_ms=None) == 20


def test_the_table_of_addresses_stays_bounded_and_forgets_the_longest_unseen() -> None:
    rate = Rate(keys_max=3)
    for number in range(50):
        rate.take(f"192.0.2.{number}", 1, 0)
    assert len(rate) == 3
    assert rate.take("192.0.2.49", 1, 0) > 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "::ffff:c000:201"),
        ("192.0.2.1", "192.0.2.1"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_host_counts_with_its_whole_network(address: str, network: str) -> None:
    if address.startswith("::ffff"):
        assert "/" not in network_of(address)
    else:
        assert network_of(address) == network
