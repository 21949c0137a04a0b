"""How much one socket may send: bursts pass, floods do not, and a limit of 0 is none."""

from __future__ import annotations

from parley_gateway.clients.flow import BURST_S, Flow, FlowLimits

LIMITS = FlowLimits(bytes_per_s=192_000, messages_per_s=250)
FRAME_BYTES = 964


def test_a_microphone_with_reports_passes_for_ever() -> None:
    flow = Flow(LIMITS, 0)
    assert all(flow.take(FRAME_BYTES, now_ms) for now_ms in range(0, 3_600_000, 20))
    assert all(flow.take(90, 3_600_000 + now_ms) for now_ms in range(0, 600_000, 100))


def test_ten_seconds_that_come_at_once_pass() -> None:
    flow = Flow(LIMITS, 0)
    assert all(flow.take(FRAME_BYTES, 0) for _ in range(500))


def test_too_many_bytes_are_too_much() -> None:
    flow = Flow(LIMITS, 0)
    passed = [flow.take(60_000, 0) for _ in range(80)]
    assert passed.index(False) == LIMITS.bytes_per_s * BURST_S // 60_000
    assert flow.take(60_000, 20_000), "what was waited is given back"


def test_too_many_messages_are_too_much() -> None:
    flow = Flow(LIMITS, 0)
    passed = [flow.take(2, 0) for _ in range(6_000)]
    assert passed.index(False) == LIMITS.messages_per_s * BURST_S


def test_no_more_than_the_burst_is_saved() -> None:
    flow = Flow(LIMITS, 0)
    flow.take(1, 3_600_000)
    assert [flow.take(1, 3_600_000) for _ in range(5_000)].count(True) == 4_999


def test_zero_is_no_limit() -> None:
    flow = Flow(FlowLimits(), 0)
    assert all(flow.take(65_536, 0) for _ in range(10_000))
