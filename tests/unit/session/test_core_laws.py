"""The session core against a world that plays truthfully: an upstream, a client with a speaker, tools, time.

The world is played at random; after every step the laws are checked on what the core asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fakes.core_driver import MS, Driver, call, message, pcm
from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import Limits, TurnTaking
from parley_session.core.state import Connecting, Creating, Idle, Ready, Yielding
from parley_session.core.step import next_deadline_ms

LIMITS = Limits(
    idle_hangup_ms=None, tool_calls_max=20, tool_rounds_max=4, session_max_ms=10**9, rollover_ms=None
)


@dataclass
class Heard:
    """What the client has of one item."""

    item_id: str
    epoch: int
    received: int = 0
    played: int = 0
    reported: int = 0
    sent: int = 0


@dataclass
class Answering:
    """A response as upstream makes it."""

    id: str
    items: list[str] = field(default_factory=list)
    open_item: str | None = None
    cancelled_by: str | None = None


class World(RuleBasedStateMachine):
    """Everything around the core, with the truth about it."""

    def __init__(self) -> None:
        super().__init__()
        self.barge_in = "instant"
        self.is_up = True
        self.replay_due = False
        self.d = Driver(limits=LIMITS)
        self.serial = 0
        self.active: Answering | None = None
        self.creates: list[str] = []
        self.speaking: str | None = None
        self.auto_due = False
        self.epoch = self.d.state.playout.epoch
        self.client_epoch = self.epoch
        self.flushes: list[int] = []
        self.answers: list[ev.FlushAnswered] = []
        self.transit: list[ef.PlayAudio] = []
        self.items: dict[int, Heard] = {}
        self.announced: set[int] = set()
        self.number_of: dict[str, int] = {}
        self.done_items: set[str] = set()
        self.truncated: set[str] = set()
        self.deleted: set[str] = set()
        self.calls: dict[str, str] = {}
        self.outputs: dict[str, int] = {}
        self.requested: list[str] = []
        self.dead: set[str] = set()
        self.ends = 0
        self.seeded: set[str] = set()
        self.seeded_calls: set[str] = set()

    def fresh(self, kind: str) -> str:
        self.serial += 1
        return f"{kind}{self.serial}"

    def is_anything_due(self) -> bool:
        """Tell whether the core has something to do by the clock alone: the next event of any kind sets it off."""
        due_ms = next_deadline_ms(self.d.state)
        return due_ms is not None and due_ms <= self.d.now_ms

    def tell(self, *events: ev.Event) -> None:
        for event in events:
            for effect in self.d.on(event):
                self.judge(effect)

    # -- the laws, on each effect as it comes ---------------------------------------------------

    def judge(self, effect: ef.Effect) -> None:
        match effect:
            case ef.CreateResponse():
                assert self.is_up, "nothing is asked of an upstream that is away"
                dismissed = self.speaking in self.d.state.dismissed
                assert self.speaking is None or dismissed, "nothing is asked while the caller speaks"
                self.creates.append(effect.create_id)
            case ef.CancelResponse():
                self.cancel(effect.response_id)
            case ef.BeginItem():
                self.announced.add(effect.number)
            case ef.PlayAudio():
                self.play(effect)
            case ef.FlushPlayout():
                assert effect.epoch == self.epoch + 1, "the epoch rises by one"
                self.epoch = effect.epoch
                self.transit = [f for f in self.transit if f.epoch >= effect.epoch]
                self.flushes.append(effect.epoch)
            case ef.TruncateItem():
                self.truncate(effect)
            case ef.DeleteItem():
                self.delete(effect.item_id)
            case ef.RequestTool():
                assert self.calls.get(effect.call_id) == "completed", "only complete calls are run"
                self.requested.append(effect.call_id)
            case ef.AddToolCall():
                self.seeded_calls.add(effect.call_id)
            case ef.AddToolOutput() if not self.is_new_output(effect):
                self.seeded.add(effect.call_id)
            case ef.AddToolOutput():
                self.outputs[effect.call_id] = self.outputs.get(effect.call_id, 0) + 1
                assert self.outputs[effect.call_id] == 1, "a call gets one output"
            case ef.EndSession():
                self.ends += 1

    def is_new_output(self, effect: ef.AddToolOutput) -> bool:
        """Tell an answer from one that is put back into a new connection."""
        return effect.call_id not in self.outputs and effect.call_id not in self.seeded_calls

    def cancel(self, response_id: str) -> None:
        if self.active is not None and self.active.id == response_id:
            self.active.cancelled_by = self.active.cancelled_by or "client_cancelled"

    def play(self, effect: ef.PlayAudio) -> None:
        assert effect.number in self.announced, "an item is announced before its audio"
        assert effect.epoch == self.epoch, "no audio of a flushed epoch"
        heard = self.items.setdefault(effect.number, Heard("", effect.epoch))
        assert effect.first_sample == heard.sent, "samples follow each other without gap or repeat"
        heard.sent += len(effect.pcm) // 2
        self.transit.append(effect)

    def truncate(self, effect: ef.TruncateItem) -> None:
        assert effect.item_id not in self.truncated, "one truncation per item"
        assert effect.item_id not in self.deleted
        heard = self.items[self.number_of[effect.item_id]]
        assert 0 < effect.audio_end_ms * MS <= heard.played <= heard.received, "never past what was played"
        self.truncated.add(effect.item_id)

    def delete(self, item_id: str) -> None:
        if item_id.startswith("U"):
            assert item_id in self.d.state.dismissed, "of the caller's items only coughs are deleted"
            return
        assert item_id in self.done_items, "an item is deleted only after it is done"
        assert item_id not in self.deleted, "an item is deleted once"
        assert item_id not in self.truncated
        heard = self.items.get(self.number_of.get(item_id, -1))
        assert heard is None or heard.reported < MS, "what was heard is not deleted"
        self.deleted.add(item_id)

    # -- upstream ---------------------------------------------------------------------------------

    @initialize(barge_in=st.sampled_from(["instant", "instant", "confirm", "off"]))
    def opens(self, barge_in: str) -> None:
        self.barge_in = barge_in
        self.d = Driver(limits=LIMITS, turn_taking=TurnTaking(barge_in=barge_in))  # type: ignore[arg-type]
        self.tell(ev.UpstreamOpened("sess", "model"), ev.UpstreamConfigured())

    @precondition(lambda self: self.is_up)
    @rule(code=st.sampled_from([1001, 1006, 1011]))
    def upstream_is_lost(self, code: int) -> None:
        self.is_up = False
        self.active = None
        self.creates = []
        self.speaking = None
        self.auto_due = False
        self.tell(ev.UpstreamLost(code, ""))

    @precondition(lambda self: not self.is_up)
    @rule()
    def upstream_comes_back(self) -> None:
        is_dialling = False
        while not is_dialling:
            for effect in self.d.wait(500):
                self.judge(effect)
            if self.d.state.is_over:
                return
            is_dialling = isinstance(self.d.state.upstream, Connecting)
        self.is_up = True
        self.creates = []
        self.seeded.clear()
        self.tell(ev.UpstreamOpened("again", "model"), ev.UpstreamConfigured())
        assert isinstance(self.d.state.upstream, Ready)
        pending = {c.call_id for c in self.d.state.calls}
        unanswered = {c for c in self.calls if c in self.seeded_calls and c not in self.seeded}
        assert unanswered <= pending, "what was answered is put back with its answer"

    @precondition(lambda self: self.creates and self.is_up)
    @rule()
    def upstream_takes_a_create(self) -> None:
        create = self.creates.pop(0)
        if self.active is not None:
            code = "conversation_already_has_active_response"
            self.tell(ev.UpstreamRefused("invalid_request_error", code, "", create))
            return
        self.active = Answering(self.fresh("R"))
        started = self.active
        self.tell(ev.ResponseStarted(started.id, create))

    @precondition(lambda self: self.auto_due and self.active is None)
    @rule()
    def upstream_answers_by_itself(self) -> None:
        self.auto_due = False
        self.active = Answering(self.fresh("R"))
        self.tell(ev.ResponseStarted(self.active.id, None))

    @precondition(lambda self: self.active is not None)
    @rule(ms=st.integers(20, 1_500), words=st.sampled_from(["", "some words ", "and more "]))
    def upstream_makes_audio(self, ms: int, words: str) -> None:
        assert self.active is not None
        if self.active.open_item is None:
            self.active.open_item = self.fresh("A")
            self.active.items.append(self.active.open_item)
        item = self.active.open_item
        if words:
            self.tell(ev.AgentWordsArrived(self.active.id, item, 0, words))
        begun = self.d.state.playout.next_number
        self.tell(ev.AudioArrived(self.active.id, item, 0, pcm(ms)))
        entry = next((e for e in self.d.state.playout.ledger if e.item_id == item), None)
        if entry is not None:
            self.number_of[item] = entry.number
            assert entry.number < max(begun, self.d.state.playout.next_number)

    @precondition(
        lambda self: self.active is not None and self.active.open_item and not self.active.cancelled_by
    )
    @rule()
    def upstream_ends_an_item(self) -> None:
        assert self.active is not None
        item = self.active.open_item
        assert item is not None
        self.active.open_item = None
        self.done_items.add(item)
        self.tell(ev.AudioEnded(self.active.id, item, 0), ev.OutputItemDone(self.active.id, message(item)))

    @precondition(lambda self: self.active is not None and not self.active.cancelled_by)
    @rule(status=st.sampled_from(["completed", "completed", "incomplete"]))
    def upstream_calls_a_tool(self, status: str) -> None:
        assert self.active is not None
        call_id = self.fresh("c")
        self.calls[call_id] = status
        item = call(self.fresh("F"), call_id, status=status)
        self.tell(ev.OutputItemDone(self.active.id, item))

    @precondition(lambda self: self.active is not None)
    @rule(status=st.sampled_from(["completed", "completed", "completed", "incomplete", "failed"]))
    def upstream_ends_the_response(self, status: str) -> None:
        assert self.active is not None
        active, self.active = self.active, None
        if active.open_item is not None:
            self.done_items.add(active.open_item)
            ended = "incomplete" if active.cancelled_by else "completed"
            self.tell(ev.OutputItemDone(active.id, message(active.open_item, ended)))
        if active.cancelled_by:
            self.tell(ev.ResponseEnded(active.id, "cancelled", active.cancelled_by))
        else:
            reason = {"failed": "rate_limit_exceeded", "incomplete": "max_output_tokens"}.get(status, "")
            self.tell(ev.ResponseEnded(active.id, status, reason))  # type: ignore[arg-type]

    @precondition(lambda self: self.is_up and not self.is_anything_due())
    @rule(item=st.sampled_from(["A1", "A2", "R9"]))
    def upstream_sends_something_foreign(self, item: str) -> None:
        before = self.d.state
        effects = self.d.on(
            ev.ItemTruncated(item, 5), ev.ItemDeleted(item), ev.UpstreamNoted("rate_limits.updated")
        )
        assert (effects, self.d.state) == ((), replace(before, upstream_heard_ms=self.d.now_ms))

    # -- the caller -------------------------------------------------------------------------------

    @precondition(lambda self: self.speaking is None and self.is_up)
    @rule()
    def caller_begins_to_speak(self) -> None:
        self.speaking = self.fresh("U")
        if self.active is not None and self.barge_in == "instant":
            self.active.cancelled_by = self.active.cancelled_by or "turn_detected"
        self.auto_due = False
        self.tell(ev.CallerSpeechStarted(self.speaking, 0))

    @precondition(lambda self: self.speaking is not None)
    @rule()
    def caller_stops_speaking(self) -> None:
        item, self.speaking = self.speaking, None
        assert item is not None
        self.auto_due = self.barge_in == "instant"
        self.tell(ev.CallerSpeechStopped(item, 0), ev.CallerAudioCommitted(item, None))
        self.tell(ev.ItemAdded(ev.UpstreamItem(item, "message", "user"), None))

    @rule(is_loud=st.booleans())
    def caller_gets_loud_or_quiet(self, is_loud: bool) -> None:
        self.tell(ev.CallerLevelChanged(is_loud))

    @rule(text=st.sampled_from(["hello", "and another thing", "  "]))
    def caller_types(self, text: str) -> None:
        self.tell(ev.CallerTyped(text))

    @precondition(lambda self: self.speaking is not None or self.done_items)
    @rule(final=st.booleans())
    def words_of_the_caller_arrive(self, final: bool) -> None:
        item = self.speaking or "U_late"
        self.tell(ev.CallerTranscriptEnded(item, "words") if final else ev.CallerTranscriptArrived(item, "w"))

    # -- the client -------------------------------------------------------------------------------

    @precondition(lambda self: self.transit)
    @rule(frames=st.integers(1, 5))
    def client_receives(self, frames: int) -> None:
        while self.flushes:  # a flush goes ahead of all audio
            self.client_gets_the_flush()
        for frame in self.transit[:frames]:
            self.items[frame.number].received += len(frame.pcm) // 2
        self.transit = self.transit[frames:]

    @rule(ms=st.integers(1, 2_000), does_report=st.booleans())
    def client_plays(self, ms: int, does_report: bool) -> None:
        self.d.now_ms += ms
        left = ms * MS
        for number, heard in sorted(self.items.items()):
            if heard.epoch != self.client_epoch:
                continue
            played = min(left, heard.received - heard.played)
            heard.played += played
            left -= played
            if does_report and played:
                heard.reported = heard.played if heard.epoch == self.epoch else heard.reported
                self.tell(ev.PlayoutReported(heard.epoch, number, heard.received, heard.played))

    @precondition(lambda self: self.flushes)
    @rule()
    def client_gets_the_flush(self) -> None:
        epoch = self.client_epoch = self.flushes.pop(0)
        played = [(n, h) for n, h in sorted(self.items.items()) if h.epoch == epoch - 1 and h.played]
        number, heard = played[-1] if played else (0, Heard("", 0))
        self.answers.append(ev.FlushAnswered(epoch, number, heard.played))

    @precondition(lambda self: self.answers)
    @rule(again=st.booleans())
    def client_answers_the_flush(self, again: bool) -> None:
        answer = self.answers.pop(0)
        is_awaited = (
            isinstance(self.d.state.floor, Yielding) and self.d.state.floor.flush_epoch == answer.epoch
        )
        if answer.number in self.items and is_awaited:
            self.items[answer.number].reported = max(self.items[answer.number].reported, answer.played)
        self.tell(answer)
        if again:
            assert self.d.on(answer) in {(ef.Ignored("late_flush_answer"),), (ef.Ignored("after_end"),)}

    # -- tools and time ---------------------------------------------------------------------------

    @precondition(lambda self: self.requested)
    @rule(status=st.sampled_from(["ok", "refused", "failed"]), again=st.booleans())
    def a_tool_answers(self, status: str, again: bool) -> None:
        call_id = self.requested.pop(0)
        self.tell(ev.ToolAnswered(call_id, status, "{}"))  # type: ignore[arg-type]
        if again:
            self.tell(ev.ToolAnswered(call_id, "ok", "{}"))

    @rule(ms=st.integers(1, 1_200))
    def time_passes(self, ms: int) -> None:
        for effect in self.d.wait(ms):
            self.judge(effect)

    # -- always -----------------------------------------------------------------------------------

    @invariant()
    def the_core_agrees_with_the_world(self) -> None:
        state = self.d.state
        assert state.playout.epoch == self.epoch
        assert self.ends == int(state.is_over)
        for entry in state.playout.ledger:
            assert 0 <= entry.played <= entry.received <= entry.sent
        for call_id, status in self.calls.items():
            pending = any(c.call_id == call_id for c in state.calls)
            answered = sum(i.role == "tool_output" and i.call_id == call_id for i in state.history)
            assert state.is_over or pending + answered == 1, "a call waits or is answered"
            assert not (pending and status != "completed")

    def teardown(self) -> None:
        if self.d.state.is_over:
            return
        self.tell(ev.CallerHungUp())
        assert self.ends == 1
        assert self.d.state.is_over
        assert isinstance(self.d.state.response, (Idle, Creating)) or self.d.state.response is not None


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
