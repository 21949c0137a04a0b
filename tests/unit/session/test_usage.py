"""Usage across replicas, switches, rendered speech, prices: what the host decides by, without Kafka."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from parley_common import business as businesses
from parley_common import models
from parley_common.clock import ManualClock
from parley_common.contracts.operations import Switch, UsageReport
from parley_common.contracts.record import to_json
from parley_session import rendered
from parley_session.prices import price_table
from parley_session.switches import Switches
from parley_session.usage import Spent, UsageBook

ROOT = Path(__file__).resolve().parents[3]
CAP = businesses.load(ROOT / "businesses" / "cap")


def told(book: UsageBook, **report: object) -> None:
    """Take in another replica's report."""
    whole = UsageReport.model_validate(
        {"replica": "session-1", "business": "cap", "at": book._clock.now(), "day": book._clock.now().date()}
        | report
    )
    book.take(whole.key, to_json(whole))


# -- usage ----------------------------------------------------------------------------------------


def test_sessions_and_spending_of_all_replicas_are_summed() -> None:
    book = UsageBook("session-0", ManualClock())
    book.count([("s1", Spent("cap", 100, 0.5)), ("s2", Spent("cap", 50, 0.25))])
    told(book, sessions=3, usd_today=2.0)
    assert book.sessions("cap") == 5
    assert book.usd_today("cap") == pytest.approx(2.75)
    assert (book.sessions("clinic"), book.usd_today("clinic")) == (0, 0.0)


async def test_counts_of_a_silent_replica_expire_and_what_it_spent_does_not() -> None:
    clock = ManualClock()
    book = UsageBook("session-0", clock)
    told(book, sessions=3, usd_today=2.0)
    await clock.advance(5_001)
    assert book.sessions("cap") == 0
    assert book.usd_today("cap") == 2.0


def test_spending_is_counted_once_from_second_to_second_and_at_the_end() -> None:
    book = UsageBook("session-0", ManualClock())
    book.count([("s1", Spent("cap", 100, 0.5))])
    book.count([("s1", Spent("cap", 150, 0.7))])
    book.ended("s1", Spent("cap", 180, 0.9))
    book.count([])
    assert book.usd_today("cap") == pytest.approx(0.9)
    (report,) = book.reports()
    assert (report.sessions, report.tokens_per_min) == (0, 150)


async def test_a_new_day_begins_at_nothing() -> None:
    clock = ManualClock(datetime(2026, 1, 5, 23, 59, 59, tzinfo=UTC))
    book = UsageBook("session-0", clock)
    book.count([("s1", Spent("cap", 100, 0.5))])
    told(book, usd_today=2.0)
    await clock.advance(2_000)
    book.count([("s1", Spent("cap", 100, 0.6))])
    assert book.usd_today("cap") == pytest.approx(0.1)


def test_a_replica_that_starts_again_goes_on_from_what_it_had_said() -> None:
    book = UsageBook("session-0", ManualClock())
    told(book, replica="session-0", sessions=7, usd_today=4.0)
    assert book.sessions("cap") == 0, "its sessions are gone"
    assert book.usd_today("cap") == 4.0
    book.count([("s1", Spent("cap", 10, 0.5))])
    assert book.usd_today("cap") == pytest.approx(4.5)


def test_a_business_that_ceased_is_told_once_more_and_then_no_more() -> None:
    book = UsageBook("session-0", ManualClock())
    book.count([("s1", Spent("cap", 0, 0.0))])
    assert [r.sessions for r in book.reports()] == [1]
    book.ended("s1", Spent("cap", 0, 0.0))
    book.count([])
    assert [r.sessions for r in book.reports()] == [0]
    assert book.reports() == []


async def test_a_count_that_changed_is_told_at_once_and_one_that_did_not_every_other_second() -> None:
    clock = ManualClock()
    book = UsageBook("session-0", clock)
    told = []
    for ids in (("s1",), ("s1",), ("s1",), ("s1", "s2"), ("s1", "s2"), ("s1", "s2")):
        book.count([(each, Spent("cap", 10, 0.1)) for each in ids])
        told.append([report.sessions for report in book.reports()])
        await clock.advance(1_000)
    assert told == [[1], [], [1], [2], [], [2]]


def test_a_report_nobody_can_read_changes_nothing() -> None:
    book = UsageBook("session-0", ManualClock())
    book.take("session-1:cap", b"{not json")
    assert book.sessions("cap") == 0


# -- switches -------------------------------------------------------------------------------------


def test_switches_go_off_and_on_and_say_of_which_business() -> None:
    switches, changed = Switches(), list[str]()
    switches.on_change = changed.append
    now = datetime(2026, 1, 5, tzinfo=UTC)
    whole, tool = Switch(business="cap", at=now), Switch(business="cap", tool="save_lead", at=now)
    switches.take(whole.key, to_json(whole))
    switches.take(tool.key, to_json(tool))
    assert switches.is_off("cap")
    assert switches.tools_off("cap") == {"save_lead"}
    switches.take(whole.key, None)
    assert not switches.is_off("cap")
    switches.take("cap/save_lead", b"garbage")
    assert switches.tools_off("cap") == {"save_lead"}
    assert changed == ["cap", "cap", "cap"]


# -- rendered speech ------------------------------------------------------------------------------


def test_rendered_speech_is_found_by_what_it_depends_on(tmp_path: Path) -> None:
    greeting, filler, _ = rendered.sentences(CAP, "gpt-realtime-2.1")
    (tmp_path / greeting.file_name).write_bytes(bytes(48_000))
    audio, pcm = rendered.load(CAP, "gpt-realtime-2.1", tmp_path)
    assert [(a.name, a.samples) for a in audio] == [("greeting", 24_000)]
    assert len(pcm["greeting"]) == 48_000
    assert rendered.load(CAP, "another-model", tmp_path) == ((), {})
    changed = {greeting.file_name, filler.file_name, replace(greeting, text="Hello.").file_name}
    assert len(changed) == 3


def test_an_empty_file_is_no_speech(tmp_path: Path) -> None:
    greeting = rendered.sentences(CAP, "m")[0]
    (tmp_path / greeting.file_name).write_bytes(b"")
    assert rendered.load(CAP, "m", tmp_path) == ((), {})


# -- prices and models ----------------------------------------------------------------------------


def test_every_current_model_has_a_price_and_an_unknown_one_has_none() -> None:
    table = price_table()
    current = [m.name for m in models.MODELS if m.name.startswith("gpt-realtime") and m.shut_down is None]
    assert [name for name in current if table.of(name, None) is None] == []
    assert table.of("somebody-elses-model", "gpt-transcribe") is None


def test_a_price_includes_its_transcription_model() -> None:
    prices = price_table().of("gpt-realtime-2.1", "gpt-realtime-whisper")
    assert prices is not None
    assert (prices.output_audio, prices.cached_audio, prices.transcription_minute) == (64, 0.40, 0.017)


def test_the_table_says_when_it_is_old() -> None:
    table = price_table()
    assert not table.is_old(table.as_of + timedelta(days=90))
    assert table.is_old(table.as_of + timedelta(days=91))


def test_a_model_is_refused_from_the_day_it_is_shut_down_and_warned_of_before() -> None:
    day = date(2027, 1, 20)
    assert (
        models.retired("gpt-realtime", day)
        == "gpt-realtime was shut down on 2027-01-20; use gpt-realtime-2.1"
    )
    assert models.retired("gpt-realtime", day - timedelta(days=1)) is None
    assert models.retiring("gpt-realtime", day - timedelta(days=1)) is not None
    assert models.retired("somebody-elses-model", day) is None
    assert models.takes_effort("gpt-realtime-2.1")
    assert not models.takes_effort("gpt-realtime-1.5")
