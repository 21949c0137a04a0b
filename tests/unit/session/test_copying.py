"""The core's ``replace`` against the standard library's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest

from fakes.core_driver import Driver, pcm
from parley_session.core import events as ev
from parley_session.core import state as of_state
from parley_session.core.copying import replace


def _talking() -> Driver:
    d = Driver().start()
    d.say("u1")
    d.on(ev.ResponseStarted("r1", None), *d.deltas("r1", "a1", 40, "Well"))
    return d


def test_a_copy_with_changes_is_what_the_standard_library_makes() -> None:
    state = _talking().state
    values = [state, state.playout, state.playout.ledger[0], state.config, state.totals, of_state.Silent()]
    for value in values:
        assert replace(value) == dataclasses.replace(value)
        assert replace(value) is not value
    assert replace(state, muted=True, grants=("a",)) == dataclasses.replace(state, muted=True, grants=("a",))
    assert state.muted is False


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="SessionState has no field 'mutd'"):
        replace(_talking().state, mutd=True)  # type: ignore[call-arg]


@dataclass(frozen=True, slots=True)
class Doubled:
    of: int
    is_double: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_double", self.of * 2)


@dataclass(frozen=True)
class Open:
    of: int


@pytest.mark.parametrize("value", [Doubled(1), Open(1)])
def test_what_could_not_be_copied_field_by_field_is_refused(value: Doubled | Open) -> None:
    with pytest.raises(TypeError, match="no plain dataclass with slots"):
        replace(value, of=2)


def test_audio_of_an_item_that_sounds_takes_the_short_way() -> None:
    d = _talking()
    d.short_ways = 0
    for _ in range(5):
        d.on(ev.AudioArrived("r1", "a1", 0, pcm(20)))
    assert d.short_ways == 5
