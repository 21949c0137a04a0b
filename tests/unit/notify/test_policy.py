"""What an attempt's outcome means: finished, or tried again, and when."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_notify.channels.outcome import Delivered, Outcome, Refused, TryAgain
from parley_notify.policy import Finish, Retry, RetryPolicy, Verdict, backoff_s, judge
from unit.notify.samples import AT

POLICY = RetryPolicy(first_s=5, wait_max_s=3_600, give_up_s=72 * 3_600)


def judged(outcome: Outcome, *, attempts: int = 1, after_s: float = 0, jitter: float = 1) -> Verdict:
    now = AT + timedelta(seconds=after_s)
    return judge(outcome, attempts=attempts, since=AT, now=now, policy=POLICY, jitter=jitter)


def at(after_s: float) -> datetime:
    return AT + timedelta(seconds=after_s)


def test_what_was_taken_is_delivered() -> None:
    assert judged(Delivered()) == Finish("delivered", None)


def test_a_refusal_is_final_at_the_first_attempt() -> None:
    assert judged(Refused("http_410")) == Finish("failed", "http_410")


@pytest.mark.parametrize(
    ("attempts", "wait_s"), [(1, 5), (2, 10), (3, 20), (10, 2_560), (11, 3_600), (900, 3_600)]
)
def test_waits_double_up_to_their_bound(attempts: int, wait_s: float) -> None:
    assert judged(TryAgain("timed_out"), attempts=attempts) == Retry(at(wait_s), "timed_out")


def test_jitter_spreads_a_wait_between_half_and_all_of_it() -> None:
    assert judged(TryAgain("timed_out"), attempts=3, jitter=0) == Retry(at(10), "timed_out")
    assert judged(TryAgain("timed_out"), attempts=3, jitter=0.5) == Retry(at(15), "timed_out")


def test_a_destination_that_says_when_is_not_asked_earlier() -> None:
    assert judged(TryAgain("http_429", retry_after_s=120)) == Retry(at(120), "http_429")


def test_a_short_retry_after_does_not_shorten_the_backoff() -> None:
    assert judged(TryAgain("http_503", retry_after_s=1), attempts=4) == Retry(at(40), "http_503")


def test_the_last_attempt_is_made_when_the_time_to_try_ends_and_not_later() -> None:
    end_s = POLICY.give_up_s
    assert judged(TryAgain("http_500"), attempts=80, after_s=end_s - 60) == Retry(at(end_s), "http_500")
    assert judged(TryAgain("http_429", retry_after_s=1e6)) == Retry(at(end_s), "http_429")


def test_after_the_time_to_try_a_delivery_fails_with_its_last_cause() -> None:
    assert judged(TryAgain("http_500"), attempts=81, after_s=POLICY.give_up_s) == Finish(
        "failed", "gave_up:http_500"
    )


@given(attempts=st.integers(1, 10_000), jitter=st.floats(0, 1))
def test_a_wait_is_never_zero_and_never_above_its_bound(attempts: int, jitter: float) -> None:
    assert 0 < backoff_s(POLICY, attempts, jitter) <= POLICY.wait_max_s
