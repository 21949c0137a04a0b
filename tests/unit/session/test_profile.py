"""What the core is told of a session."""

from __future__ import annotations

from parley_common.ids import new_id
from parley_session.profile import rollover_ms


def test_connections_that_began_together_are_replaced_over_a_tenth_of_their_time() -> None:
    due = [rollover_ms(new_id(), 55) for _ in range(2_000)]
    assert all(55 * 60_000 * 0.9 < each <= 55 * 60_000 for each in due)
    minutes = [each // 60_000 for each in due]
    assert all(200 < minutes.count(minute) < 600 for minute in range(50, 54)), "evenly"


def test_a_session_is_due_at_the_same_time_wherever_it_runs() -> None:
    session_id = new_id()
    assert rollover_ms(session_id, 55) == rollover_ms(session_id, 55)
