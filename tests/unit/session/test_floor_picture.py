"""The picture of the floor in the docs is what the core does."""

from __future__ import annotations

from unit.session.floor_picture import BEGINS, ENDS, PAGE, drawn, edges


def test_the_picture_in_the_docs_is_drawn_from_the_core_as_it_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(BEGINS) == page.count(ENDS) == 1
    assert page == drawn(page), "run .venv/bin/python tests/unit/session/floor_picture.py"


def test_every_phase_can_be_left_and_reached() -> None:
    moves = edges(confirm=False) + edges(confirm=True)
    phases = {"Silent", "Caller", "Agent", "Confirming", "Yielding"}
    assert {phase for phase, _, after in moves if after != phase} == phases
    assert {after for phase, _, after in moves if after != phase} == phases
