"""Sessions leave nothing behind. The long form, of 10,000 with speech and a barge-in, is tests/load/short_sessions.py."""

from __future__ import annotations

from load.short_sessions import GROWTH_MAX_BYTES, TYPED, growth_bytes


async def test_a_short_session_leaves_less_than_a_kilobyte_behind() -> None:
    assert await growth_bytes(60, warm_up=20, lines=TYPED) < GROWTH_MAX_BYTES
