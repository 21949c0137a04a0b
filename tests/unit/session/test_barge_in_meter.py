"""What a barge-in's numbers say: how soon the client was silent, and how far off what was claimed as heard was."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY

from fakes.core_driver import MS, Driver
from parley_session.barge_in_meter import BargeInMeter
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.state import Yielding

SILENCE, ERROR = "parley_barge_in_to_silence_ms", "parley_truncation_error_ms"


class Watched(Driver):
    """A core whose steps are watched, as the conductor does."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.meter = BargeInMeter()

    def on(self, *events: ev.Event) -> tuple[ef.Effect, ...]:
        done: tuple[ef.Effect, ...] = ()
        for event in events:
            before = self.state
            done += super().on(event)
            self.meter.stepped(before, event, self.state, self.now_ms)
        self.did = done
        return done


class Observed:
    """What was observed since this was made: (count, sum) by metric."""

    def __init__(self) -> None:
        self._before = {name: self._now(name) for name in (SILENCE, ERROR)}

    def since(self, name: str) -> tuple[float, float]:
        count, total = self._now(name)
        return count - self._before[name][0], total - self._before[name][1]

    @staticmethod
    def _now(name: str) -> tuple[float, float]:
        return tuple(REGISTRY.get_sample_value(f"{name}_{part}") or 0.0 for part in ("count", "sum"))  # type: ignore[return-value]


def barged_in() -> tuple[Watched, int, int]:
    """An agent that was heard for 900 ms as far as it was reported, and barged in upon; its item and the flush's epoch."""
    d = Watched().start()
    assert isinstance(d, Watched)
    d.say("U1")
    d.answer("R1", "A1", 4_000, "one two three four five six seven eight")
    number = d.number_of("A1")
    d.report(number, 900, 4_000)
    d.on(ev.CallerSpeechStarted("U2", 0))
    assert isinstance(d.state.floor, Yielding)
    return d, number, d.state.floor.flush_epoch


def test_an_answer_in_time_tells_how_soon_it_was_silent_and_the_claim_follows_it() -> None:
    observed = Observed()
    d, number, epoch = barged_in()
    d.now_ms += 70
    d.on(ev.FlushAnswered(epoch, number, 950 * MS + 12))
    assert observed.since(SILENCE) == (1, 70)
    assert observed.since(ERROR) == (1, 0.5), "half a millisecond is lost by rounding down"


def test_a_late_answer_tells_how_far_off_the_last_report_was() -> None:
    observed = Observed()
    d, number, epoch = barged_in()
    d.wait(400)
    d.on(ev.FlushAnswered(epoch, number, 1_140 * MS))
    assert observed.since(SILENCE) == (1, 400)
    assert observed.since(ERROR) == (1, 240)


def test_a_second_answer_is_not_observed() -> None:
    d, number, epoch = barged_in()
    d.on(ev.FlushAnswered(epoch, number, 950 * MS))
    observed = Observed()
    d.on(ev.FlushAnswered(epoch, number, 2_000 * MS))
    assert observed.since(SILENCE) == observed.since(ERROR) == (0, 0)


@pytest.mark.parametrize("item", [0, 77])
def test_an_answer_about_nothing_that_was_claimed_has_no_error(item: int) -> None:
    observed = Observed()
    d, _, epoch = barged_in()
    d.on(ev.FlushAnswered(epoch, item, 0))
    assert observed.since(SILENCE)[0] == 1
    assert observed.since(ERROR) == (0, 0)


def test_a_client_that_never_answers_is_not_observed() -> None:
    observed = Observed()
    d, _, _ = barged_in()
    d.wait(5_000)
    assert observed.since(SILENCE) == observed.since(ERROR) == (0, 0)


def test_a_typed_text_that_takes_the_floor_is_measured_as_well() -> None:
    observed = Observed()
    d = Watched().start()
    assert isinstance(d, Watched)
    d.say("U1")
    d.answer("R1", "A1", 4_000, "one two three")
    d.report(d.number_of("A1"), 900, 4_000)
    d.on(ev.CallerTyped("stop"))
    assert isinstance(d.state.floor, Yielding)
    d.now_ms += 30
    d.on(ev.FlushAnswered(d.state.floor.flush_epoch, d.number_of("A1"), 920 * MS))
    assert observed.since(SILENCE) == (1, 30)
