"""Continuity: upstream connections come and go, the conversation goes on.

A lost or expired connection is dialled again, capped and backed off; a new one is configured with turns held,
given the history as it was heard, told in a system item what happened, then let loose, and the caller audio
that was lost is appended again. Long before a connection expires it is replaced at a quiet moment.

Law: what the caller said is answered or said to have failed; what the client plays goes on playing.
"""

from __future__ import annotations

from parley_session.core import confirming, ending, floor, history, meter, playout, responses
from parley_session.core.copying import replace
from parley_session.core.effects import (
    AddAgentText,
    AddCallerText,
    AddSystemText,
    AddToolCall,
    AddToolOutput,
    CloseUpstream,
    CommitCallerAudio,
    ConfigureUpstream,
    DeleteItem,
    Effect,
    EndItem,
    Ignored,
    OpenUpstream,
    RecordStarted,
    ReplayCaller,
    ShowNotice,
    TruncateItem,
    WelcomeClient,
)
from parley_session.core.events import UpstreamLost, UpstreamOpened
from parley_session.core.state import (
    Active,
    Agent,
    Away,
    Caller,
    Connecting,
    Create,
    Creating,
    HistoryItem,
    Idle,
    Ready,
    SessionState,
    Silent,
    local_audio,
)

Change = tuple[SessionState, list[Effect]]

REFUSED_CODES = frozenset({3000, 4000})
"""Closes that no retry can help (realtime.md 1.7)."""
BACKOFF_FIRST_MS = 250
BACKOFF_MAX_MS = 4_000
SEED_ITEMS_MAX = 200
SEED_CHARS_MAX = 60_000
RESTORED = (
    "The line was interrupted and restored. Everything above was said before, as far as it was heard. Go on from "
    "there: do not greet again, do not mention the interruption unless asked, do not repeat yourself."
)
LEFT_OUT = " The beginning of the conversation is left out."
GO_ON = (
    "You were cut off in the middle of an answer. Go on where you stopped, without repeating what was said."
)


# -- a connection begins --------------------------------------------------------------------------


def on_opened(state: SessionState, event: UpstreamOpened) -> Change:
    """Upstream accepted the socket: configure it; turns are held while there is history to put back."""
    if not isinstance(state.upstream, Connecting):
        return state, [Ignored("second_open")]
    started = [] if state.was_started else [RecordStarted(state.mode, event.model)]
    configure = ConfigureUpstream(state.mode, holds_turns=state.was_welcomed)
    return replace(state, was_started=True), [configure, *started]


def on_configured(state: SessionState, now_ms: int) -> Change:
    """Upstream applied our configuration: the conversation begins, or goes on."""
    if not isinstance(state.upstream, Connecting):
        return state, []
    if state.was_welcomed:
        return _restore(state, now_ms)
    state = replace(state, upstream=Ready(now_ms), was_welcomed=True, last_activity_ms=now_ms)
    state, greeted = _greet(state, now_ms)
    return state, [WelcomeClient(state.playout.epoch), *greeted]


def _greet(state: SessionState, now_ms: int) -> Change:
    config, rendered = state.config, local_audio(state, "greeting")
    if not config.greet_first:
        return state, []
    if rendered is not None:
        return playout.play_local(state, rendered, now_ms)
    words = f'\nSay exactly: "{config.greeting}"' if config.greeting else ""
    instructions = f"Greet the caller.{words}"
    return responses.want(state, "greeting", instructions=instructions, may_call_tools=False), []


def _restore(state: SessionState, now_ms: int) -> Change:
    """Give a new connection what the lost one knew, then let it take turns."""
    assert isinstance(state.upstream, Connecting)  # noqa: S101 - on_configured has looked
    was_lost = state.upstream.lost_ms is not None
    items, left_out = _seeds(state)
    note_id = f"parley_note_{state.next_create}"
    effects: list[Effect] = [effect for item in items if (effect := _seed(item)) is not None]
    effects += [
        AddSystemText(note_id, RESTORED + (LEFT_OUT if left_out else "")),
        ConfigureUpstream(state.mode, "turns"),
        *_replay(state, was_lost=was_lost),
    ]
    if was_lost:
        effects.append(ShowNotice("reconnected", ""))
    state = replace(state, upstream=Ready(now_ms), next_create=state.next_create + 1, replay_from_ms=None)
    return state, effects


def _replay(state: SessionState, *, was_lost: bool) -> list[Effect]:
    """Caller audio to append again; a key that is up again has ended what was said with it."""
    if not state.config.turn_taking.push_to_talk:
        return [ReplayCaller(state.replay_from_ms, was_lost)]
    if state.replay_from_ms is None:
        return []
    commit = [CommitCallerAudio()] if state.talk_began_ms is None else []
    return [ReplayCaller(state.replay_from_ms, was_lost), *commit]


def _seeds(state: SessionState) -> tuple[list[HistoryItem], bool]:
    """Return the newest history that a new connection is given, and whether older items were left out.

    What the client still plays is told when it was heard. A tool output goes with its call, or not at all.
    """
    playing = {e.item_id for e in state.playout.ledger if e.is_local and not e.settled}
    known = [item for item in state.history if item.text and item.item_id not in playing]
    kept: list[HistoryItem] = []
    chars = 0
    for item in reversed(known):
        chars += len(item.text or "") + len(item.arguments)
        if len(kept) == SEED_ITEMS_MAX or chars > SEED_CHARS_MAX:
            break
        kept.append(item)
    kept.reverse()
    called = {item.call_id for item in kept if item.role == "tool_call"}
    seeds = [item for item in kept if item.role != "tool_output" or item.call_id in called]
    return seeds, len(seeds) < len(known)


def _seed(item: HistoryItem) -> Effect | None:
    text = item.text or ""
    match item.role:
        case "user":
            return AddCallerText(item.item_id, text)
        case "assistant":
            return AddAgentText(item.item_id, text)
        case "tool_call":
            return AddToolCall(item.item_id, item.call_id, text, item.arguments)
        case "tool_output":
            return AddToolOutput(item.item_id, item.call_id, text)


# -- a connection ends ----------------------------------------------------------------------------


def on_lost(state: SessionState, event: UpstreamLost, now_ms: int) -> Change:
    """The connection is gone: dial again, unless upstream has refused us or there was time enough."""
    upstream = state.upstream
    if isinstance(upstream, Away):
        return state, [Ignored("lost_again")]
    if event.close_code in REFUSED_CODES:
        code = event.reason.rpartition(".")[2] or "refused"
        return ending.fail(state, f"upstream_{code}", now_ms)
    return _dial_again(*_let_go(state, now_ms), now_ms)


def _dial_again(state: SessionState, effects: list[Effect], now_ms: int) -> Change:
    upstream = state.upstream
    if isinstance(upstream, Connecting):
        lost_ms = upstream.lost_ms if upstream.lost_ms is not None else upstream.since_ms
        attempt = upstream.attempt + 1
    else:
        lost_ms, attempt = now_ms, 1
    if now_ms - lost_ms >= _patience_ms(state):
        state, failed = ending.fail(state, "upstream_lost", now_ms)
        return state, [*effects, *failed]
    if state.was_welcomed and attempt == 1:
        effects.append(ShowNotice("reconnecting", "The line was interrupted; one moment."))
    away = Away(now_ms + _backoff_ms(state, attempt), attempt, lost_ms)
    totals = replace(state.totals, reconnects=state.totals.reconnects + 1)
    return replace(state, upstream=away, totals=totals), effects


def _patience_ms(state: SessionState) -> int:
    limits = state.config.limits
    return limits.reconnect_ms if state.was_welcomed else limits.connect_ms


def _backoff_ms(state: SessionState, attempt: int) -> int:
    """Doubling, capped; spread over sessions by their id, so that they do not come back all at once."""
    whole_ms = min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS << min(attempt - 1, 8))
    spread = sum(state.config.session_id.encode()) % 100
    return whole_ms * 3 // 4 + whole_ms * spread // 400


def _let_go(state: SessionState, now_ms: int) -> Change:
    """Forget what lived in the connection; keep what was heard, and what is still to be answered."""
    state, dismissed = confirming.give_up(state, now_ms)
    state, settled = floor.settle_open_flush(state)
    effects: list[Effect] = [
        e for e in [*dismissed, *settled] if not isinstance(e, (TruncateItem, DeleteItem))
    ]
    unheard = _unheard(state)
    if state.turn is None or state.turn.caller_item_id not in {item.item_id for item in unheard}:
        state = _want_again(state)
    state, taken_back = _take_back(state, unheard)
    effects += taken_back
    aside = state.floor.aside if isinstance(state.floor, Agent) else None
    speaks = isinstance(state.floor, Caller) or aside is not None
    state = playout.let_go(replace(state, floor=Silent() if speaks else state.floor))
    return replace(
        state,
        response=Idle(),
        auto_response_due_ms=None,
        creates_held_ms=None,
        dead_responses=(),
        dismissed=(),
    ), effects


def _want_again(state: SessionState) -> SessionState:
    """A response that the connection took with it is asked for again; one that was being heard goes on."""
    current = state.response
    if isinstance(current, Creating):
        if current.doomed or current.create in state.creates:
            return state
        return _requeue(state, current.create)
    if isinstance(current, Active) and current.response_id not in state.dead_responses:
        spoken = any(e.response_id == current.response_id and e.sent for e in state.playout.ledger)
        if spoken:
            return responses.want(state, "continuation", instructions=GO_ON, after_playout=True)
        if current.create is not None:
            return _requeue(state, current.create)
        return responses.want(state, "answer")
    if isinstance(current, Idle) and state.auto_response_due_ms is not None and state.turn is not None:
        return responses.want(state, "answer")
    return state


def _requeue(state: SessionState, create: Create) -> SessionState:
    return responses.want(
        state,
        create.kind,
        instructions=create.instructions,
        may_call_tools=create.may_call_tools,
        retries=create.retries,
        after_playout=create.after_playout,
    )


def _unheard(state: SessionState) -> list[HistoryItem]:
    """Return the caller's items that upstream took with it before their words were known.

    Of those committed only that of a turn nothing was done about yet: what was answered needs no second answer.
    """
    turn = state.turn
    untouched = (
        turn is not None
        and not turn.answered
        and not turn.tool_calls
        and not any(e.sent for e in playout.entries_of_turn(state.playout, turn.number))
    )
    return [
        item
        for item in state.history
        if item.audio_start_ms is not None
        and not item.final
        and (not item.committed or (untouched and turn is not None and item.item_id == turn.caller_item_id))
    ]


def _starts_ms(state: SessionState, unheard: list[HistoryItem]) -> list[int]:
    starts = [item.audio_start_ms for item in unheard if item.audio_start_ms is not None]
    return starts if state.talk_from_ms is None else [*starts, state.talk_from_ms]


def caller_audio_needed_from_ms(state: SessionState) -> int | None:
    """Return from where on caller audio of this connection would be said again, were it lost now; null: nothing."""
    return min(_starts_ms(state, _unheard(state)), default=None)


def _take_back(state: SessionState, unheard: list[HistoryItem]) -> Change:
    """What upstream did not hear is said to the next connection again; its turn has not happened yet."""
    starts = _starts_ms(state, unheard)
    if not starts:
        return state, []
    if state.turn is not None and any(item.item_id == state.turn.caller_item_id for item in unheard):
        creates = tuple(c for c in state.creates if c.kind not in {"answer", "continuation"})
        state = replace(meter.forget_turn(state), creates=creates)
    for item in unheard:
        state = history.remove(state, item.item_id)
    epoch = state.playout.epoch
    ends: list[Effect] = [EndItem(item.number, "user", epoch, None) for item in unheard]
    return replace(state, replay_from_ms=min(starts)), ends


# -- deadlines ------------------------------------------------------------------------------------


def deadline_ms(state: SessionState) -> int | None:
    """When a connection is dialled, given up as silent, or replaced."""
    upstream, limits_ = state.upstream, state.config.limits
    if state.farewell is not None:
        return None
    if isinstance(upstream, Away):
        return upstream.retry_ms
    if isinstance(upstream, Connecting):
        return upstream.since_ms + limits_.attempt_ms
    expects = not isinstance(state.response, Idle) or state.auto_response_due_ms is not None
    silent_ms = state.upstream_heard_ms + limits_.upstream_silent_ms if expects else None
    due_ms = _rollover_ms(state) if is_quiet(state) else None
    return min((ms for ms in (silent_ms, due_ms) if ms is not None), default=None)


def _rollover_ms(state: SessionState) -> int | None:
    after_ms = state.config.limits.rollover_ms
    return state.upstream.opened_ms + after_ms if after_ms and isinstance(state.upstream, Ready) else None


def is_quiet(state: SessionState) -> bool:
    """Nobody speaks, nothing is under way upstream: a moment in which a connection can be replaced unnoticed."""
    return (
        isinstance(state.floor, Silent)
        and isinstance(state.response, Idle)
        and not (state.creates or state.calls)
        and state.auto_response_due_ms is None
        and state.talk_began_ms is None
    )


def keep(state: SessionState, now_ms: int) -> Change:
    """Do what is due about the connection."""
    due_ms = deadline_ms(state)
    if due_ms is None or now_ms < due_ms:
        return state, []
    upstream = state.upstream
    if isinstance(upstream, Away):
        if now_ms - upstream.lost_ms >= _patience_ms(state):
            return ending.fail(state, "upstream_lost", now_ms)
        opening = Connecting(now_ms, upstream.attempt, upstream.lost_ms)
        return replace(state, upstream=opening, upstream_heard_ms=now_ms), [OpenUpstream()]
    if isinstance(upstream, Ready) and is_quiet(state):
        return _roll_over(state, now_ms)
    state, effects = _dial_again(*_let_go(state, now_ms), now_ms)
    return state, [CloseUpstream(), Ignored("upstream_silent"), *effects]


def _roll_over(state: SessionState, now_ms: int) -> Change:
    state, effects = _let_go(state, now_ms)
    opening = Connecting(now_ms)
    state = replace(state, upstream=opening, upstream_heard_ms=now_ms)
    return state, [CloseUpstream(), *effects, OpenUpstream()]
