"""Admission: room, rates per address, and a table that a flood cannot grow."""

from __future__ import annotations

import pytest

from parley_common.errors import Overloaded
from parley_gateway.admission import Admission, AdmissionLimits, Rate, network_of

HERE, THERE = "192.0.2.1", "192.0.2.2"


def refusal(admission: Admission, address: str = HERE, now_ms: int = 0) -> tuple[str, float | None]:
    with pytest.raises(Overloaded) as caught:
        admission.enter(address, now_ms)
    return caught.value.stable_code, caught.value.retry_after_s


def test_a_full_gateway_refuses_until_a_socket_leaves() -> None:
    admission = Admission(AdmissionLimits(sessions_max=2, address_opens_per_minute=0))
    admission.enter(HERE, 0)
    admission.enter(HERE, 0)
    assert refusal(admission) == ("full", 5.0)
    admission.leave()
    admission.enter(HERE, 0)
    assert admission.sockets_count == 2


def test_a_full_gateway_issues_no_tokens() -> None:
    admission = Admission(AdmissionLimits(sessions_max=1, address_opens_per_minute=0))
    admission.enter(HERE, 0)
    with pytest.raises(Overloaded, match="busy"):
        admission.check_token(HERE, 0)


def test_an_address_that_opens_too_often_is_told_when_to_come_back() -> None:
    admission = Admission(AdmissionLimits(sessions_max=100, address_opens_per_minute=6))
    for _ in range(6):
        admission.enter(HERE, 0)
    assert refusal(admission) == ("too_many_opens", 10.0)
    admission.enter(THERE, 0)
    assert refusal(admission, now_ms=9_999) == ("too_many_opens", 1.0)
    admission.enter(HERE, 10_000)


def test_tokens_and_sockets_are_counted_apart() -> None:
    admission = Admission(AdmissionLimits(sessions_max=100, address_opens_per_minute=1))
    admission.check_token(HERE, 0)
    admission.enter(HERE, 0)
    with pytest.raises(Overloaded, match="too many"):
        admission.check_token(HERE, 0)


def test_what_was_not_used_is_not_saved_beyond_a_minute() -> None:
    rate = Rate(per_minute=2, addresses_max=10)
    rate.take(HERE, 0)
    later_ms = 3_600_000
    assert [rate.take(HERE, later_ms) > 0 for _ in range(3)] == [False, False, True]


def test_a_draining_gateway_refuses_everyone() -> None:
    admission = Admission(AdmissionLimits(sessions_max=10, address_opens_per_minute=0))
    admission.draining = True
    assert refusal(admission) == ("draining", 1)


def test_the_table_of_addresses_stays_bounded_and_forgets_the_longest_unseen() -> None:
    rate = Rate(per_minute=1, addresses_max=3)
    for number in range(50):
        rate.take(f"192.0.2.{number}", 0)
    assert len(rate) == 3
    assert rate.take("192.0.2.49", 0) > 0


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
