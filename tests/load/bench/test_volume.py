"""What a bench at volume counts: calls and answers, facts and their order, duties against the steps beside them."""

from __future__ import annotations

from pathlib import Path

from load.bench.asker import Answered, tally
from load.bench.duties import ALL, DUTIES, NONE, TRACING, DutiesPlan, Pair, Side, costs
from load.bench.ground import Ground
from load.bench.hearing import Ear
from load.bench.judge import Figures, Spread
from load.bench.logs import Log
from load.bench.outbox_volume import Arrived, compare
from load.bench.stamps import FRAME_BYTES, NUMBER_BITS, SILENCE, seq_of, tone, write
from load.bench.steps import Measured, Rung
from load.bench.turns import SILENCE_FRAMES
from load.bench.volume import Found, VolumePlan, parts

SENT = {"a": 1_000, "b": 2_000, "c": 3_000}


def good(call_id: str, at_us: int) -> Answered:
    return Answered(call_id, True, at_us)


def test_each_call_that_is_answered_well_counts_once_with_the_time_to_its_first_answer() -> None:
    found = tally(SENT, [good("a", 11_000), good("b", 22_000), good("c", 63_000)])
    assert (found.asked, found.answered, found.failed, found.lost, found.twice) == (3, 3, 0, 0, 0)
    assert (found.trip_ms.p50, found.trip_ms.worst) == (20.0, 60.0)
    assert found.answered_per_s == round(3 / 0.062, 1)


def test_a_second_answer_is_twice_and_no_answer_is_lost_and_a_bad_one_failed() -> None:
    found = tally(SENT, [good("a", 11_000), good("a", 12_000), Answered("b", False, 9_000), good("other", 1)])
    assert (found.asked, found.answered, found.failed, found.lost, found.twice) == (3, 1, 1, 1, 1)
    assert found.trip_ms == Spread(1, 10.0, 10.0, 10.0, 10.0)


def test_calls_that_nobody_answers_have_no_rate_and_no_time() -> None:
    found = tally(SENT, [])
    assert (found.answered, found.lost, found.answered_per_s, found.trip_ms) == (0, 3, 0.0, Spread(0))


def test_facts_in_order_per_lead_are_whole_however_leads_are_mixed() -> None:
    written = {"one": ["1", "2"], "two": ["3", "4"]}
    read = [("two", "3"), ("one", "1"), ("two", "4"), ("one", "2")]
    assert compare(written, read) == Arrived(facts=4, lost=0, twice=0, out_of_order=0)


def test_a_fact_that_is_missing_twice_there_or_behind_a_later_one_is_told() -> None:
    written = {"one": ["1", "2", "3"], "two": ["4", "5"]}
    read = [("one", "2"), ("one", "1"), ("one", "2"), ("two", "4")]
    assert compare(written, read) == Arrived(facts=5, lost=2, twice=1, out_of_order=1)


def side(duty: str, cpu_ms: float, up_ms: float, **seen: int) -> Side:
    nothing, up = Spread(0), Spread(9, p50=up_ms, p99=2 * up_ms)
    figures = Figures(3, 3, up, *[nothing] * 8, *[0] * 8)
    measured = Measured(
        system="parley",
        rung=Rung(3),
        figures=figures,
        cpu_ms_per_session_s={"session": cpu_ms},
        memory_kb_per_session={},
        held_s=1.0,
        core_pct={},
        generator_pct=0.0,
        upstream_pct=0.0,
        backends_pct=0.0,
        backends_ms_per_session_s={"kafka": 5.0, "tools": 1.0},
        generator_late_ms=0.0,
        upstream_late_ms=0.0,
    )
    return Side(duty, measured, {**{d.name: 0 for d in DUTIES}, "facts": 5, "unsent": 0, **seen})


def test_a_duty_costs_what_it_took_beyond_what_ran_beside_it_in_the_same_pair() -> None:
    first = Pair(off=side("none", 10.0, 1.0), on=side("tracing", 13.0, 1.5, tracing=7))
    other = Pair(off=side("none", 30.0, 1.0), on=side("none", 29.0, 1.0))
    again = Pair(off=side("none", 50.0, 3.0), on=side("tracing", 51.0, 4.0, tracing=7))
    tracing, none = costs([first, other, again])
    assert (tracing.duty, tracing.is_done, none.duty, none.is_done) == ("tracing", True, "none", True)
    assert (tracing.cpu_ms["session"].mean, tracing.cpu_ms["session"].rounds) == (2.0, (3.0, 1.0))
    assert tracing.cpu_ms["tools"].mean == 0.0
    assert (tracing.latency_ms["up p50"].mean, tracing.latency_ms["up p50"].rounds) == (0.75, (0.5, 1.0))
    assert none.cpu_ms["session"].rounds == (-1.0,)


def test_a_duty_that_was_left_on_one_side_or_done_on_the_other_is_not_done() -> None:
    whole, left = side("tracing", 1.0, 1.0, tracing=3), side("tracing", 1.0, 1.0)
    idle, busy = side("none", 1.0, 1.0), side("none", 1.0, 1.0, tracing=1)
    assert [costs([Pair(off, on)])[0].is_done for off in (idle, busy) for on in (whole, left)] == [
        True,
        False,
        False,
        False,
    ]


def test_only_what_should_be_seen_may_be_seen_and_every_fact_is_in_kafka() -> None:
    assert side("tracing", 1.0, 1.0, tracing=3).is_done
    assert not side("tracing", 1.0, 1.0, tracing=3, logs=1).is_done
    assert not side("none", 1.0, 1.0, unsent=1).is_done
    assert not side("none", 1.0, 1.0, facts=0).is_done
    assert side("all", 1.0, 1.0, **{duty.name: 1 for duty in DUTIES}).is_done
    assert not side("all", 1.0, 1.0, tracing=1).is_done


def test_each_round_has_a_pair_of_two_alike_each_duty_alone_and_all_together() -> None:
    order = list(DutiesPlan(rounds=2).order())
    assert order == [(number, duty) for number in (0, 1) for duty in (NONE, *DUTIES, ALL)]
    assert set(ALL.business) == {"facts", "limits"}
    assert (ALL.is_traced, TRACING.is_traced, ALL.env) == (True, True, {"PARLEY_LOG_LEVEL": "info"})


def test_a_volume_has_each_service_in_it_and_as_many_deliveries_however_many_routes() -> None:
    plan = VolumePlan(notify_facts=200, notify_routes=(1, 4), notify_dead_route=True)
    titles = [part.title for part in parts(plan, Ground(None, None), Found(), print)]  # type: ignore[arg-type]
    assert titles == [
        "notify with 1 route",
        "notify with 4 routes",
        "notify with 1 route and a dead one",
        "the relay with facts of 200 leads",
        "tool calls of analyze_deal",
    ]


def test_an_ear_tells_the_begin_and_the_end_of_speech_once_each_and_writes_down_every_frame(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    log = Log(tmp_path, "ear")
    ear = Ear(log, lambda _: told.append("speech"), lambda: told.append("silence"))
    for number in range(2):
        ear.hear(write(seq_of(4, number), 1) + tone())
    assert (told, ear.caller, ear.is_heard) == (["speech"], 4, True)
    for number in range(2, 2 + 2 * SILENCE_FRAMES):
        ear.hear(write(seq_of(4, number), 1) + SILENCE)
    assert (told, ear.is_heard) == (["speech", "silence"], False)
    assert [seq - (4 << NUMBER_BITS) for seq in log.frame[1::3]] == list(range(2 + 2 * SILENCE_FRAMES))
    ear.hear(bytes(FRAME_BYTES))
    assert len(log.frame) == 3 * (2 + 2 * SILENCE_FRAMES)
    log.close()
