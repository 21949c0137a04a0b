"""History: the conversation as it was heard, ordered by upstream's item chain and never by arrival.

Truncation deletes the server's transcript, so the heard words are kept here: in proportion to the audio,
because the model gives no timing, and marked as an estimate.
"""

from __future__ import annotations

from parley_session.core.config import SAMPLES_PER_MS
from parley_session.core.copying import replace
from parley_session.core.state import HistoryItem, LedgerItem, SessionState

SPEECH_CHARS_PER_S = 14
"""Slow speech: where generation was cut off, words ahead of their audio must not be credited as heard."""


def find(state: SessionState, item_id: str) -> HistoryItem | None:
    """Return the history item of an upstream item; null when there is none."""
    return next((item for item in reversed(state.history) if item.item_id == item_id), None)


def put(state: SessionState, item: HistoryItem, after: str | None = None) -> SessionState:
    """Add or replace an item; a new one goes right after ``after`` when that is known, else to the end."""
    history = state.history
    for index in range(len(history) - 1, -1, -1):
        if history[index].item_id == item.item_id:
            return replace(state, history=(*history[:index], item, *history[index + 1 :]))
    for index in range(len(history) - 1, -1, -1):
        if after is not None and history[index].item_id == after:
            return replace(state, history=(*history[: index + 1], item, *history[index + 1 :]))
    return replace(state, history=(*history, item))


def known_before(state: SessionState, item_id: str) -> str:
    """Return the item that ``item_id`` follows, of those upstream has; ``root`` when there is none."""
    playing = {e.item_id for e in state.playout.ledger if e.is_local and not e.settled}
    before = "root"
    for item in state.history:
        if item.item_id == item_id:
            break
        if item.item_id not in playing:
            before = item.item_id
    return before


def remove(state: SessionState, item_id: str) -> SessionState:
    """Forget an item that upstream was told to delete."""
    return replace(state, history=tuple(item for item in state.history if item.item_id != item_id))


def heard_words(entry: LedgerItem) -> str:
    """Return the words of ``entry`` that fit into what was played of it, cut at a word's end; never too many."""
    if entry.is_played_out:
        return entry.words
    return _words_within(entry, entry.played)


def spoken_words(entry: LedgerItem) -> str:
    """Return the words of an item that upstream left unfinished, as far as their audio came."""
    return _words_within(entry, entry.sent)


def _words_within(entry: LedgerItem, samples: int) -> str:
    spoken = len(entry.words) * 1000 * SAMPLES_PER_MS // SPEECH_CHARS_PER_S
    whole = entry.sent if entry.generated else max(entry.sent, spoken)
    if whole <= 0 or samples <= 0:
        return ""
    chars = min(len(entry.words), len(entry.words) * samples // whole)
    if chars == len(entry.words) or entry.words[chars : chars + 1].isspace():
        return entry.words[:chars].rstrip()
    cut = entry.words.rfind(" ", 0, chars)
    return entry.words[:cut].rstrip() if cut > 0 else ""
