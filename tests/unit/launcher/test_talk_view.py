"""A client's knowledge of its session: every message has its place, and nonsense is counted, not fatal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.gateway import pattern
from parley_common.contracts import audio_link as wire
from parley_launcher.talk.report import Failure, Happening, ToolReport
from parley_launcher.talk.view import SessionView

EPOCH = 1 << 16


class Told(list[Happening]):
    """An observer that remembers."""

    def kinds(self) -> list[str]:
        return [happening.kind for happening in self]


def ready_view(told: Told | None = None) -> SessionView:
    view = SessionView((told if told is not None else Told()).append)
    view.receive_text(wire.encode(wire.Ready("session-1", "resume-1", epoch=EPOCH)), 1_000)
    return view


def tell(view: SessionView, message: wire.ToClient, now_ms: int) -> tuple[wire.FromClient, ...]:
    return view.receive_text(wire.encode(message), now_ms)


def test_times_count_from_ready() -> None:
    told = Told()
    view = ready_view(told)
    tell(view, wire.Notice("wrap_up", "soon over"), 1_250)

    assert [happening.at_ms for happening in told] == [0, 250]
    assert view.notices[0].code == "wrap_up"


def test_a_flush_is_answered_in_the_same_breath() -> None:
    view = ready_view()
    tell(view, wire.Item(1, "assistant", "begins", epoch=EPOCH), 1_000)
    view.receive_audio(wire.pack_downlink(EPOCH, 1, 0, pattern(1, 0, 24_000)), 1_000)

    answers = tell(view, wire.Flush(EPOCH + 1), 1_100)

    assert answers == (wire.Playout(EPOCH, 1, 24_000, 2_400), wire.Flushed(EPOCH + 1, 1, 2_400))
    assert [(flush.item, flush.played, flush.at_ms) for flush in view.flushes] == [(1, 2_400, 100)]


def test_a_transcript_is_replaced_and_the_heard_part_is_kept_beside_the_text() -> None:
    view = ready_view()
    tell(view, wire.Transcript(1, "assistant", "one"), 1_000)
    tell(view, wire.Transcript(1, "assistant", "one two three", final=True), 1_010)
    tell(view, wire.Transcript(1, "assistant", "one two three", final=True, heard="one"), 1_020)

    (item,) = view.item_reports()
    assert (item.text, item.heard, item.final) == ("one two three", "one", True)


def test_a_tool_is_timed_from_its_beginning_to_its_end() -> None:
    view = ready_view()
    tell(view, wire.Tool("look_up", "begins", "call-1"), 1_000)
    tell(view, wire.Tool("look_up", "begins", "call-2"), 1_010)
    tell(view, wire.Tool("look_up", "ends", "call-1", "ok"), 1_070)

    assert view.tools == (
        ToolReport("look_up", "call-1", "ok", 70),
        ToolReport("look_up", "call-2", None, None),
    )


def test_a_tool_that_ends_without_having_begun_is_counted() -> None:
    view = ready_view()
    tell(view, wire.Tool("look_up", "ends", "call-1", "ok"), 1_070)

    assert view.oddities == {"tool_ended_unbegun": 1}


@pytest.mark.parametrize("reason", ["caller", "agent"])
def test_an_orderly_end_is_no_failure(reason: str) -> None:
    view = ready_view()
    tell(view, wire.Ended(reason), 2_000)

    assert (view.ended, view.failure) == (reason, None)


@pytest.mark.parametrize("reason", ["failed", "lost", "idle", "limit", "drained", "a word of tomorrow"])
def test_any_other_end_is_a_failure_with_a_code(reason: str) -> None:
    view = ready_view()
    tell(view, wire.Ended(reason), 2_000)

    assert view.failure is not None
    assert view.failure.code == f"session_{reason}"


def test_an_error_that_is_not_fatal_is_told_and_no_more() -> None:
    told = Told()
    view = ready_view(told)
    tell(view, wire.Error("text_too_long", "4,001 characters"), 2_000)

    assert view.failure is None
    assert told.kinds() == ["ready", "error"]


def test_the_first_failure_is_the_one_that_counts() -> None:
    view = ready_view()
    tell(view, wire.Error("upstream_unavailable", "no model", fatal=True), 2_000)
    tell(view, wire.Ended("failed"), 2_010)

    assert view.failure is not None
    assert view.failure.code == "upstream_unavailable"


def test_an_error_before_ready_says_when_to_come_back() -> None:
    view = SessionView(Told().append)
    tell(view, wire.Error("overloaded", "full", retry_after_s=2.5), 10)

    assert view.failure == Failure("overloaded", "full", "try again in 2.5 s")


@pytest.mark.parametrize(
    ("text", "oddity"),
    [
        ("{", "invalid_json"),
        ('{"type": "sing"}', "unknown_type"),
        ('{"type": "state", "state": "asleep"}', "invalid_message"),
        ('{"type": "attach"}', "unknown_type"),
    ],
)
def test_a_text_that_makes_no_sense_is_counted(text: str, oddity: str) -> None:
    view = ready_view()

    assert view.receive_text(text, 1_000) == ()
    assert view.oddities == {oddity: 1}


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_no_binary_frame_breaks_it(frame: bytes, passes_ms: int) -> None:
    view = ready_view()
    view.receive_audio(frame, 1_000 + passes_ms)
    view.tick(2_000 + passes_ms)

    assert view.playout.played_samples <= max(0, len(frame) - 12) // 2


@given(st.text(max_size=200))
def test_no_text_frame_breaks_it(text: str) -> None:
    assert ready_view().receive_text(text, 1_000) == ()


def test_a_typed_item_of_the_caller_is_nothing_to_play() -> None:
    view = ready_view()
    tell(view, wire.Item(1, "user", "begins"), 1_000)
    tell(view, wire.Item(1, "user", "ends"), 1_000)

    assert view.playout.items == ()
    assert view.item_reports()[0].role == "user"
