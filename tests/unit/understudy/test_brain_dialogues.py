"""Whole dialogues, kept as data: what is said, which calls follow, what is heard back."""

from __future__ import annotations

from typing import Any

import pytest

from unit.understudy.brain_dialogues.play import load, misses

WORKED_OUT = load("dialogues.yaml")
PARAPHRASED = load("paraphrases.yaml")


@pytest.mark.parametrize("dialogue", WORKED_OUT, ids=lambda d: d["name"])
def test_a_dialogue_makes_the_calls_it_should(dialogue: dict[str, Any]) -> None:
    assert misses(dialogue) == []


@pytest.mark.parametrize("dialogue", PARAPHRASED, ids=lambda d: d["name"])
def test_a_dialogue_in_other_words_makes_the_same_calls(dialogue: dict[str, Any]) -> None:
    assert misses(dialogue) == []
