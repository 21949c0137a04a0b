"""Responses: never two at once. Decides when to ask for one, and what to do with those that come and go.

Creates queue here; each carries its own id in its metadata, so that upstream's VAD-made responses are told
apart. A create sent before the caller spoke, whose response comes after, is cancelled by id.

Law: one response under way; a queued answer that upstream's own response has covered is not asked again.
"""

from __future__ import annotations

from parley_session.core import ending, meter, playout
from parley_session.core.copying import replace
from parley_session.core.effects import (
    CancelResponse,
    CreateResponse,
    Effect,
    Ignored,
    ShowError,
    ShowNotice,
)
from parley_session.core.events import ItemAdded, ResponseEnded, ResponseStarted, UpstreamRefused
from parley_session.core.state import (
    Active,
    Agent,
    Caller,
    Cancelling,
    Confirming,
    Create,
    CreateKind,
    Creating,
    Idle,
    Ready,
    SessionState,
    Yielding,
)

Change = tuple[SessionState, list[Effect]]

DEAD_KEPT = 8
RETRIES_MAX = 1
RATE_LIMIT_RETRIES_MAX = 3
RATE_LIMIT_WAIT_MS = 2_000
"""When upstream's rate limit names no time."""
COLLISION_WAIT_MS = 1_500
"""How long upstream's own response, which was first, is awaited before ours is asked for again."""
CONTINUE = (
    "Your last answer was cut off in the middle. Finish it in one short sentence, without repeating it."
)
FATAL_CODES = frozenset(
    {
        "invalid_api_key",
        "insufficient_quota",
        "billing_hard_limit_reached",
        "account_deactivated",
        "credit_balance_exhausted",
        "invalid_model",
        "missing_model",
        "beta_api_shape_disabled",
    }
)
"""Source: realtime.md section 4, error codes."""
HARMLESS_CODES = frozenset(
    {
        "response_cancel_not_active",
        "item_truncate_invalid_item_id",
        "item_delete_invalid_item_id",
        "input_audio_buffer_commit_empty",
        "session_expired",  # the close that follows it is what counts
    }
)
"""What a race with upstream's own doing produces; the state it wanted is already there."""
_CALLER_WORDS = {
    "rate_limit_exceeded": "The service is very busy. Please try again in a moment.",
    "content_filter": "The agent may not answer that. Please ask something else.",
}


def want(
    state: SessionState,
    kind: CreateKind,
    *,
    unseen: frozenset[str] = frozenset(),
    instructions: str | None = None,
    may_call_tools: bool = True,
    retries: int = 0,
    after_playout: bool = False,
) -> SessionState:
    """Queue a response. Answers coalesce: one response answers everything that is in the conversation."""
    waiting = next((c for c in state.creates if c.kind == kind), None)
    if waiting is not None:
        merged = replace(
            waiting,
            unseen=waiting.unseen | unseen,
            may_call_tools=waiting.may_call_tools and may_call_tools,
            retries=max(waiting.retries, retries),
            after_playout=waiting.after_playout and after_playout,
        )
        return replace(state, creates=tuple(merged if c is waiting else c for c in state.creates))
    create = Create(
        f"create_{state.next_create}", kind, unseen, instructions, may_call_tools, retries, after_playout
    )
    return replace(state, creates=(*state.creates, create), next_create=state.next_create + 1)


def if_ready(state: SessionState, *effects: Effect) -> list[Effect]:
    """Return effects for upstream; none while it is away, for what they would add is put back with the history."""
    return list(effects) if isinstance(state.upstream, Ready) else []


def send_next(state: SessionState, now_ms: int) -> Change:
    """Ask for the next queued response if nothing speaks against it now."""
    if not state.creates or not isinstance(state.upstream, Ready) or not isinstance(state.response, Idle):
        return state, []
    held = state.creates_held_ms is not None and now_ms < state.creates_held_ms
    if _caller_speaks(state) or held or state.auto_response_due_ms is not None or state.farewell:
        return state, []
    waits = playout.is_audible(state.playout)
    off = state.config.turn_taking.barge_in == "off"
    create = next((c for c in state.creates if not (waits and (off or c.after_playout))), None)
    if create is None:
        return state, []
    rest = tuple(c for c in state.creates if c is not create)
    state = replace(state, creates=rest, creates_held_ms=None, response=Creating(create))
    return state, [CreateResponse(create.id, create.instructions, create.may_call_tools)]


def _caller_speaks(state: SessionState) -> bool:
    match state.floor:
        case Caller() | Confirming():
            return True
        case Yielding(caller_item_id=item) | Agent(aside=item):
            return item is not None
        case _:
            return state.talk_began_ms is not None


def on_item_seen(state: SessionState, event: ItemAdded) -> SessionState:
    """Upstream confirmed an item: responses that start from now on have it in their context."""
    seen = event.item.id

    def saw(create: Create) -> Create:
        return replace(create, unseen=create.unseen - {seen}) if seen in create.unseen else create

    state = replace(state, creates=tuple(map(saw, state.creates)))
    if isinstance(state.response, Creating):
        state = replace(state, response=replace(state.response, create=saw(state.response.create)))
    return state


def on_started(state: SessionState, event: ResponseStarted, now_ms: int) -> Change:
    """A response begins: ours, upstream's own, or one of ours that the caller has overtaken."""
    current = state.response
    if state.turn is not None and state.turn.response_ms is None:
        state = replace(state, turn=replace(state.turn, response_ms=now_ms))
    if isinstance(current, Creating) and event.create_id == current.create.id:
        if current.doomed:
            state = bury(replace(state, response=Cancelling(event.response_id)), event.response_id)
            return state, [CancelResponse(event.response_id)]
        return replace(state, response=Active(event.response_id, current.create)), []
    if event.create_id is not None:
        # One of ours that is no longer wanted, such as after its refusal was reported.
        state = bury(state, event.response_id)
        return state, [CancelResponse(event.response_id), Ignored("foreign_response")]
    if isinstance(current, Creating) and not current.doomed:
        state = replace(state, creates=(current.create, *state.creates))
    answered = tuple(c for c in state.creates if c.kind == "answer" and c.unseen)
    state = replace(
        state, creates=answered, response=Active(event.response_id, None), auto_response_due_ms=None
    )
    return state, []


def on_ended(state: SessionState, event: ResponseEnded, now_ms: int) -> Change:
    """A response is over; a failed one is tried once more or told."""
    current = state.response
    ours = isinstance(current, (Active, Cancelling)) and current.response_id == event.response_id
    create = current.create if isinstance(current, Active) and ours else None
    state = meter.on_usage(state, event.usage)
    if not ours:
        return state, [Ignored("foreign_response_end")]
    state = replace(state, response=Idle(), last_activity_ms=now_ms)
    is_dead = event.response_id in state.dead_responses
    if event.status == "failed":
        return _on_failed(state, event, create, now_ms)
    if event.status == "incomplete" and not is_dead:
        return _on_incomplete(state, event, create)
    if state.turn is not None and not is_dead:
        state = replace(state, turn=replace(state.turn, answered=True))
    if event.status == "cancelled" and not is_dead:
        # Upstream cancelled what we did not: its own VAD, before its speech_started reached us.
        state = bury(state, event.response_id)
    return state, []


def _on_failed(state: SessionState, event: ResponseEnded, create: Create | None, now_ms: int) -> Change:
    code = event.reason or "response_failed"
    retries = create.retries if create else 0
    kind: CreateKind = create.kind if create else "answer"
    if code in FATAL_CODES:
        return ending.fail(state, f"upstream_{code}", now_ms)
    if code == "rate_limit_exceeded":
        return _wait_as_told(state, kind, retries, event.retry_after_ms, now_ms)
    if code in {"server_error", "response_failed"} and retries < RETRIES_MAX:
        return _again(state, kind, create, retries + 1), [Ignored("response_retried")]
    return _answered(state), [_could_not(code)]


def _again(state: SessionState, kind: CreateKind, create: Create | None, retries: int) -> SessionState:
    instructions = create.instructions if create else None
    may_call_tools = create.may_call_tools if create else True
    return want(state, kind, instructions=instructions, may_call_tools=may_call_tools, retries=retries)


def _wait_as_told(
    state: SessionState, kind: CreateKind, retries: int, retry_after_ms: int | None, now_ms: int
) -> Change:
    """Upstream is at its rate limit: ask again when it says, if that is bearable, and say so."""
    wait_ms = RATE_LIMIT_WAIT_MS if retry_after_ms is None else retry_after_ms
    if retries >= RATE_LIMIT_RETRIES_MAX or wait_ms > state.config.limits.rate_limit_wait_max_ms:
        return _answered(state), [_could_not("rate_limit_exceeded")]
    state = want(replace(state, creates_held_ms=now_ms + wait_ms), kind, retries=retries + 1)
    return state, [ShowNotice("rate_limited", "The service is busy; the agent answers in a moment.")]


def _on_incomplete(state: SessionState, event: ResponseEnded, create: Create | None) -> Change:
    """The model stopped short: what it was saying is brought to an end, once; what it may not say is told."""
    state = _answered(state)
    if event.reason == "content_filter":
        return state, [_could_not("content_filter")]
    if event.reason != "max_output_tokens" or (create is not None and create.kind == "continuation"):
        return state, []
    return want(state, "continuation", instructions=CONTINUE, may_call_tools=False), []


def _answered(state: SessionState) -> SessionState:
    return state if state.turn is None else replace(state, turn=replace(state.turn, answered=True))


def _could_not(code: str) -> ShowError:
    words = _CALLER_WORDS.get(code, "The agent could not answer. Please say that again.")
    return ShowError(f"upstream_{code}", words, fatal=False)


def on_refused(state: SessionState, event: UpstreamRefused, now_ms: int) -> Change:
    """Upstream refused something: fatal, a race that does not matter, or a create to be asked again."""
    if event.code in FATAL_CODES:
        return ending.fail(state, f"upstream_{event.code}", now_ms)
    if event.code in HARMLESS_CODES:
        return state, [Ignored(event.code)]
    if not isinstance(state.upstream, Ready):
        return ending.fail(state, f"upstream_{event.code or event.kind}", now_ms)
    if event.code == "conversation_already_has_active_response":
        return _on_collision(state, now_ms), [Ignored("create_collided")]
    if isinstance(state.response, Creating) and event.event_id == state.response.create.id:
        create = state.response.create
        state = replace(state, response=Idle())
        if event.code == "rate_limit_exceeded":
            return _wait_as_told(state, create.kind, create.retries, event.retry_after_ms, now_ms)
        return _answered(state), [_could_not(event.code or event.kind)]
    return state, [Ignored("upstream_refused")]


def _on_collision(state: SessionState, now_ms: int) -> SessionState:
    """Upstream's own response was first: an answer is asked again after it, should it still be needed."""
    if not isinstance(state.response, Creating):
        return state
    create, doomed = state.response.create, state.response.doomed
    state = replace(state, response=Idle(), auto_response_due_ms=now_ms + COLLISION_WAIT_MS)
    again = create.kind == "answer" and not doomed
    return replace(state, creates=(create, *state.creates)) if again else state


def yield_floor(state: SessionState, *, by_vad: bool) -> Change:
    """The caller takes over: whatever is under way must not be heard, nor what was about to be asked first.

    Upstream cancels an active response by itself when its VAD heard the caller; a cancel of ours would race
    with it and could hit the next response (realtime.md 4.2).
    """
    state = replace(state, creates=tuple(c for c in state.creates if c.kind == "answer"))
    current = state.response
    if isinstance(current, Creating):
        return replace(state, response=replace(current, doomed=True)), []
    if isinstance(current, Active):
        state = bury(replace(state, response=Cancelling(current.response_id)), current.response_id)
        return state, [] if by_vad else [CancelResponse(current.response_id)]
    return state, []


def bury(state: SessionState, response_id: str) -> SessionState:
    """From now on deltas of this response are dropped."""
    if response_id in state.dead_responses:
        return state
    return replace(state, dead_responses=(*state.dead_responses, response_id)[-DEAD_KEPT:])
