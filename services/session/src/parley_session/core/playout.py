"""Playout: what agent audio the client was given, what it says it played, and what we may claim was heard.

Decides the numbers and samples of agent items, drops audio of dead responses, and settles items after a
flush: fully heard ones stay, the one being heard is truncated, unheard ones are deleted.

Law: nothing is claimed beyond the client's word, clamped to what it received; an item is settled once.
"""

from __future__ import annotations

from collections.abc import Callable

from parley_session.core import history
from parley_session.core.config import BYTES_PER_SAMPLE, SAMPLES_PER_MS, LocalAudio
from parley_session.core.copying import replace
from parley_session.core.effects import (
    AddAgentText,
    BeginItem,
    DeleteItem,
    Effect,
    EndItem,
    Ignored,
    PausePlayout,
    PlayAudio,
    PlayLocal,
    ResumePlayout,
    ShowTranscript,
    TruncateItem,
)
from parley_session.core.events import (
    AgentWordsArrived,
    AgentWordsEnded,
    AudioArrived,
    AudioEnded,
    OutputItemDone,
    PlayoutReported,
)
from parley_session.core.state import HistoryItem, LedgerItem, Playout, Ready, SessionState

Change = tuple[SessionState, list[Effect]]


# -- looking --------------------------------------------------------------------------------------


def is_audible(playout: Playout) -> bool:
    """Tell whether the client still has agent audio of the current epoch to play."""
    return any(e.epoch == playout.epoch and not e.settled and e.played < e.sent for e in playout.ledger)


def entry_of(playout: Playout, item_id: str, content_index: int) -> LedgerItem | None:
    """Return the ledger's entry for a content part; null when it has none."""
    return next(
        (e for e in playout.ledger if e.item_id == item_id and e.content_index == content_index), None
    )


def entries_of_turn(playout: Playout, turn: int) -> tuple[LedgerItem, ...]:
    """Return what the agent said in a turn."""
    return tuple(e for e in playout.ledger if e.turn == turn)


# -- changing -------------------------------------------------------------------------------------


def _with_entry(state: SessionState, entry: LedgerItem) -> SessionState:
    ledger = tuple(entry if e.number == entry.number else e for e in state.playout.ledger)
    return replace(state, playout=replace(state.playout, ledger=ledger))


def _update(
    state: SessionState, chosen: Callable[[LedgerItem], bool], change: Callable[[LedgerItem], LedgerItem]
) -> SessionState:
    ledger = tuple(change(e) if chosen(e) else e for e in state.playout.ledger)
    return replace(state, playout=replace(state.playout, ledger=ledger))


def take_number(state: SessionState) -> tuple[SessionState, int]:
    """Return the next item number of the audio protocol."""
    number = state.playout.next_number
    return replace(state, playout=replace(state.playout, next_number=number + 1)), number


def _entry(
    state: SessionState, response_id: str, item_id: str, content_index: int
) -> tuple[SessionState, LedgerItem, list[Effect]]:
    """Return the entry of a content part, made and announced if it is new."""
    found = entry_of(state.playout, item_id, content_index)
    if found is not None:
        return state, found, []
    state, number = take_number(state)
    epoch = state.playout.epoch
    turn = state.turn.number if state.turn else 0
    entry = LedgerItem(number, item_id, content_index, response_id, epoch, turn)
    state = replace(state, playout=replace(state.playout, ledger=(*state.playout.ledger, entry)))
    return state, entry, [BeginItem(number, "assistant", epoch)]


def on_audio(state: SessionState, event: AudioArrived, now_ms: int) -> Change:
    """Forward audio at once; audio of a dead response is dropped by its id."""
    if event.response_id in state.dead_responses:
        return state, [Ignored("late_audio")]
    samples = len(event.pcm) // BYTES_PER_SAMPLE
    if not samples:
        return state, [Ignored("empty_audio")]
    state, entry, effects = _entry(state, event.response_id, event.item_id, event.content_index)
    if entry.epoch != state.playout.epoch:
        return state, [*effects, Ignored("stale_epoch")]
    first_sample = entry.sent
    state = _with_entry(state, replace(entry, sent=first_sample + samples, settled=False))
    begins_ms = max(now_ms, state.playout.playing_until_ms)
    playout = replace(state.playout, playing_until_ms=begins_ms + samples // SAMPLES_PER_MS)
    turn = state.turn
    if turn is not None and turn.first_audio_ms is None:
        turn = replace(turn, first_audio_ms=now_ms)
    state = replace(state, playout=playout, turn=turn)
    return state, [*effects, PlayAudio(entry.epoch, entry.number, first_sample, event.pcm)]


def play_local(state: SessionState, audio: LocalAudio, now_ms: int) -> Change:
    """Give the client rendered speech; it enters the conversation as text once it was heard, as far as it was."""
    state, number = take_number(state)
    item_id = f"parley_local_{number}"
    turn = state.turn.number if state.turn else 0
    entry = LedgerItem(
        number,
        item_id,
        0,
        "",
        state.playout.epoch,
        turn,
        is_local=True,
        sent=audio.samples,
        generated=True,
        done=True,
        words=audio.text,
    )
    lasts_ms = audio.samples // SAMPLES_PER_MS
    playout = replace(
        state.playout,
        ledger=(*state.playout.ledger, entry),
        playing_until_ms=max(now_ms, state.playout.playing_until_ms) + lasts_ms,
    )
    totals = replace(state.totals, local_ms=state.totals.local_ms + lasts_ms)
    state = replace(state, playout=playout, totals=totals)
    state = history.put(state, HistoryItem(item_id, "assistant", number, audio.text))
    return state, [
        BeginItem(number, "assistant", entry.epoch),
        PlayLocal(entry.epoch, number, audio.name),
        EndItem(number, "assistant", entry.epoch, audio.samples),
        ShowTranscript(number, "assistant", audio.text, True),
    ]


def on_audio_ended(state: SessionState, event: AudioEnded) -> Change:
    """Upstream has no more audio for this part."""
    entry = entry_of(state.playout, event.item_id, event.content_index)
    if entry is None or event.response_id in state.dead_responses:
        return state, [Ignored("late_audio_end")]
    state = _with_entry(state, replace(entry, generated=True))
    return state, [EndItem(entry.number, "assistant", entry.epoch, entry.sent)]


def on_words(state: SessionState, event: AgentWordsArrived | AgentWordsEnded) -> Change:
    """Show the agent's words as they come; a dead response's words were not heard and are dropped."""
    if event.response_id in state.dead_responses:
        return state, [Ignored("late_words")]
    state, entry, effects = _entry(state, event.response_id, event.item_id, event.content_index)
    final = isinstance(event, AgentWordsEnded)
    words = event.text if isinstance(event, AgentWordsEnded) else entry.words + event.delta
    if final and words == _final_words(state, entry):
        return state, effects
    state = _with_entry(state, replace(entry, words=words))
    state = history.put(state, _history_item(state, entry, words, final=final))
    return state, [*effects, ShowTranscript(entry.number, "assistant", words, final)]


def _final_words(state: SessionState, entry: LedgerItem) -> str | None:
    known = history.find(state, entry.item_id)
    return known.text if known is not None and known.final else None


def _history_item(
    state: SessionState, entry: LedgerItem, words: str, *, final: bool, estimate: bool = False
) -> HistoryItem:
    others = [
        e.words
        for e in state.playout.ledger
        if e.item_id == entry.item_id and e.content_index < entry.content_index
    ]
    text = " ".join([*others, words]).strip()
    return HistoryItem(entry.item_id, "assistant", entry.number, text, final, estimate)


def on_item_done(state: SessionState, event: OutputItemDone) -> Change:
    """An agent message is complete upstream: from now on it can be deleted."""
    item = event.item
    entries = [e for e in state.playout.ledger if e.item_id == item.id]
    if not entries:
        if event.response_id in state.dead_responses and item.has_audio:
            return history.remove(state, item.id), [DeleteItem(item.id)]
        return state, []
    state = _update(state, lambda e: e.item_id == item.id, lambda e: replace(e, done=True, generated=True))
    if all(e.unheard for e in entries) or (
        event.response_id in state.dead_responses and item.has_audio and all(e.sent == 0 for e in entries)
    ):
        return history.remove(state, item.id), [DeleteItem(item.id)]
    if item.has_audio:
        return state, []
    return state, [EndItem(e.number, "assistant", e.epoch, None) for e in entries if not e.generated]


def on_report(state: SessionState, event: PlayoutReported) -> Change:
    """Believe the client, within what it was sent; items it was given before this one are over."""
    playout = state.playout
    if event.epoch != playout.epoch:
        return state, [Ignored("stale_report")]
    if not any(e.number == event.number and e.epoch == event.epoch for e in playout.ledger):
        return state, [Ignored("foreign_report")]
    return _credit(state, event.epoch, event.number, event.received, event.played), []


def _credit(state: SessionState, epoch: int, number: int, received: int, played: int) -> SessionState:
    """Note what the client has and played of an item, never back, never beyond what was sent.

    Playing an item means that those before it were played; merely receiving it does not.
    """

    def earlier(entry: LedgerItem) -> LedgerItem:
        return replace(entry, received=entry.sent, played=entry.sent)

    def named(entry: LedgerItem) -> LedgerItem:
        got = min(entry.sent, max(entry.received, received, played))
        return replace(entry, received=got, played=min(got, max(entry.played, played)))

    def unsettled(entry: LedgerItem) -> bool:
        return entry.epoch == epoch and not entry.settled

    state = _update(state, lambda e: unsettled(e) and e.number == number, named)
    if played > 0:
        state = _update(state, lambda e: unsettled(e) and e.number < number, earlier)
    return state


def settle(state: SessionState, before_epoch: int, answer: tuple[int, int] | None) -> Change:
    """Decide what was heard of everything older than ``before_epoch``.

    ``answer`` is the client's word at the flush (item number, samples played); null: only reports count.
    """
    if answer is not None and answer[0]:
        epochs = [e.epoch for e in state.playout.ledger if e.number == answer[0] and e.epoch < before_epoch]
        if epochs:
            state = _credit(state, epochs[0], answer[0], answer[1], answer[1])
    effects: list[Effect] = []
    for entry in state.playout.ledger:
        if entry.epoch < before_epoch and not entry.settled:
            state, more = _settle_one(state, entry)
            effects += more
    return state, effects


def _settle_one(state: SessionState, entry: LedgerItem) -> Change:
    played_ms = entry.played // SAMPLES_PER_MS
    if entry.is_local:
        return _settle_local(state, entry)
    if entry.is_played_out:
        return _with_entry(state, replace(entry, settled=True)), []
    words = history.heard_words(entry)
    shown = ShowTranscript(entry.number, "assistant", entry.words, True, words)
    if played_ms == 0:
        state = _with_entry(state, replace(entry, settled=True, unheard=True))
        siblings = [e for e in state.playout.ledger if e.item_id == entry.item_id]
        if not all(e.unheard for e in siblings):
            return state, [shown]
        state = history.remove(state, entry.item_id)
        return state, [shown, DeleteItem(entry.item_id)] if entry.done else [shown]
    state = _with_entry(state, replace(entry, settled=True))
    state = history.put(state, _history_item(state, entry, words, final=True, estimate=True))
    return state, [TruncateItem(entry.item_id, entry.content_index, played_ms), shown]


def _settle_local(state: SessionState, entry: LedgerItem) -> Change:
    """Upstream learns of audio that was not its own by what was heard of it."""
    words = history.heard_words(entry)
    effects: list[Effect] = []
    if not entry.is_played_out:
        effects.append(ShowTranscript(entry.number, "assistant", entry.words, True, words))
    state = _with_entry(state, replace(entry, settled=True))
    if not words:
        return history.remove(state, entry.item_id), effects
    state = history.put(
        state,
        HistoryItem(entry.item_id, "assistant", entry.number, words, True, not entry.is_played_out),
    )
    if isinstance(state.upstream, Ready):
        effects.insert(0, AddAgentText(entry.item_id, words, history.known_before(state, entry.item_id)))
    return state, effects


def settle_played_local(state: SessionState) -> Change:
    """Local audio that was heard to its end becomes part of the conversation."""
    effects: list[Effect] = []
    for entry in state.playout.ledger:
        if entry.is_local and not entry.settled and entry.is_played_out:
            state, more = _settle_local(state, entry)
            effects += more
    return state, effects


def let_go(state: SessionState) -> SessionState:
    """Upstream is lost: what the client still plays is ours alone now, the rest of the ledger is history."""
    kept = []
    for entry in state.playout.ledger:
        if entry.settled or entry.epoch != state.playout.epoch or entry.played >= entry.sent:
            continue
        words = entry.words if entry.generated else history.spoken_words(entry)
        kept.append(replace(entry, is_local=True, generated=True, done=True, words=words))
    return replace(state, playout=replace(state.playout, ledger=tuple(kept)))


def pause(state: SessionState, now_ms: int) -> Change:
    """Hold the client's playout where it is."""
    if state.playout.paused_ms is not None:
        return state, []
    return replace(state, playout=replace(state.playout, paused_ms=now_ms)), [PausePlayout()]


def resume(state: SessionState, now_ms: int) -> Change:
    """Let the client play on; all it has ends later by as long as it was held."""
    paused_ms = state.playout.paused_ms
    if paused_ms is None:
        return state, []
    until_ms = state.playout.playing_until_ms + max(0, now_ms - paused_ms)
    playout = replace(state.playout, paused_ms=None, playing_until_ms=until_ms)
    return replace(state, playout=playout), [ResumePlayout()]


def raise_epoch(state: SessionState) -> SessionState:
    """Begin a new playout stream; what is in the old one is to be flushed and settled."""
    playout = replace(state.playout, epoch=state.playout.epoch + 1, playing_until_ms=0, paused_ms=None)
    return replace(state, playout=playout)


def give_up_waiting(state: SessionState) -> SessionState:
    """The client stopped reporting and its audio must be over: stop waiting, credit no more than it said."""

    epoch = state.playout.epoch
    return _update(
        state, lambda e: e.epoch == epoch and e.played < e.sent, lambda e: replace(e, settled=True)
    )


def forget_played(state: SessionState) -> SessionState:
    """Drop entries that nothing can still be asked of."""
    open_turns = {turn.number for turn in (state.turn, state.closing) if turn}
    epoch = state.playout.epoch

    def kept(entry: LedgerItem) -> bool:
        if entry.turn in open_turns and entry.turn:
            return True
        if entry.epoch == epoch:
            return not (entry.done and (entry.is_played_out or entry.settled))
        return not (entry.settled and entry.done)

    ledger = tuple(e for e in state.playout.ledger if kept(e))
    return (
        state
        if len(ledger) == len(state.playout.ledger)
        else replace(state, playout=replace(state.playout, ledger=ledger))
    )
