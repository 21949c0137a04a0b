"""Drives the session core by hand: events in, effects out, a clock that only the test moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parley_session.core import effects as ef
from parley_session.core import events as ev
from parley_session.core.config import Limits, SessionConfig, ToolTarget
from parley_session.core.continuity import caller_audio_needed_from_ms
from parley_session.core.state import SessionState, initial
from parley_session.core.step import more_audio, next_deadline_ms, step

MS = 24
"""Samples per millisecond."""
LOOKUP = ToolTarget("lookup", "tools", "lookup", "read", 1_000)
SAVE = ToolTarget("save", "tools", "save", "irreversible", 1_000, "lead")


def pcm(ms: int) -> bytes:
    """Return ``ms`` of quiet audio."""
    return bytes(2 * MS * ms)


def message(item_id: str, status: str = "completed", *, audio: bool = True) -> ev.UpstreamItem:
    return ev.UpstreamItem(item_id, "message", "assistant", status, has_audio=audio)  # type: ignore[arg-type]


def call(
    item_id: str, call_id: str, name: str = "lookup", arguments: str = "{}", status: str = "completed"
) -> ev.UpstreamItem:
    return ev.UpstreamItem(
        item_id,
        "function_call",
        "",
        status,
        name=name,
        call_id=call_id,
        arguments=arguments,  # type: ignore[arg-type]
    )


class Driver:
    """A session core with its clock. ``did`` holds the effects of the last event."""

    def __init__(self, **config: Any) -> None:
        limits = config.pop("limits", Limits(idle_hangup_ms=None))
        self.config = SessionConfig(
            session_id="s1", **({"greet_first": False, "tools": (LOOKUP, SAVE), "limits": limits} | config)
        )
        self.now_ms = 0
        self.state: SessionState = initial(self.config, 0)
        self.did: tuple[ef.Effect, ...] = ()
        self.all: list[ef.Effect] = []
        self.short_ways = 0

    def on(self, *events: ev.Event) -> tuple[ef.Effect, ...]:
        """Feed events; returns the effects of all of them."""
        done: list[ef.Effect] = []
        for event in events:
            before = self.state
            self.state, effects = step(before, event, self.now_ms)
            self._check_short_way(before, event, effects)
            self._check_needed(before, event)
            done += effects
        self.did = tuple(done)
        self.all += done
        return self.did

    def _check_short_way(self, before: SessionState, event: ev.Event, effects: tuple[ef.Effect, ...]) -> None:
        """The short way for audio leads where ``step`` does, unless something else is due, too."""
        due_ms = next_deadline_ms(before)
        if not isinstance(event, ev.AudioArrived) or (due_ms is not None and due_ms <= self.now_ms):
            return
        short = more_audio(before, event, self.now_ms)
        if short is not None:
            self.short_ways += 1
            assert short == (self.state, *effects)
            after_ms = next_deadline_ms(self.state)
            assert due_ms is None or after_ms is None or after_ms >= due_ms, "no deadline comes nearer"

    def _check_needed(self, before: SessionState, event: ev.Event) -> None:
        """What is said to the next connection again is what the shell was told to keep."""
        again_ms = self.state.replay_from_ms
        if isinstance(event, ev.UpstreamLost) and again_ms is not None and before.replay_from_ms is None:
            assert again_ms == caller_audio_needed_from_ms(before)

    def wait(self, ms: int) -> tuple[ef.Effect, ...]:
        """Let time pass, waking the core at each deadline on the way."""
        end_ms, done = self.now_ms + ms, []
        while (at := next_deadline_ms(self.state)) is not None and at <= end_ms:
            self.now_ms = max(at, self.now_ms)
            before = self.state
            done += self.on(ev.DeadlinePassed())
            assert self.state != before, f"a deadline at {at} ms changed nothing: the core would spin"
        self.now_ms = end_ms
        self.did = tuple(done)
        return self.did

    def start(self) -> Driver:
        """Bring the session up to where a conversation begins."""
        self.on(ev.UpstreamOpened("sess_1", "gpt-realtime-2.1"), ev.UpstreamConfigured())
        return self

    def say(self, item_id: str, *, silence_ms: int = 500) -> tuple[ef.Effect, ...]:
        """The caller says something, from first sound to commit."""
        done = self.on(ev.CallerSpeechStarted(item_id, 0))
        self.now_ms += 1_000 + silence_ms
        done += self.on(ev.CallerSpeechStopped(item_id, 0), ev.CallerAudioCommitted(item_id, None))
        self.did = done
        return done

    def answer(
        self, response: str, item: str, ms: int, words: str = "", *, create: str | None = None
    ) -> tuple[ef.Effect, ...]:
        """Upstream makes a whole spoken response of one item."""
        return self.on(
            ev.ResponseStarted(response, create),
            *self.deltas(response, item, ms, words),
            ev.AudioEnded(response, item, 0),
            ev.AgentWordsEnded(response, item, 0, words),
            ev.OutputItemDone(response, message(item)),
            ev.ResponseEnded(response, "completed"),
        )

    @staticmethod
    def deltas(response: str, item: str, ms: int, words: str = "") -> list[ev.Event]:
        told: list[ev.Event] = [ev.AgentWordsArrived(response, item, 0, words)] if words else []
        return [*told, ev.AudioArrived(response, item, 0, pcm(ms))]

    def report(self, number: int, played_ms: int, received_ms: int | None = None) -> tuple[ef.Effect, ...]:
        """The client reports in milliseconds, in the current epoch."""
        received = played_ms if received_ms is None else received_ms
        return self.on(ev.PlayoutReported(self.state.playout.epoch, number, received * MS, played_ms * MS))

    def number_of(self, item_id: str) -> int:
        return next(e.number for e in self.state.playout.ledger if e.item_id == item_id)

    def kinds(self) -> list[str]:
        return [type(effect).__name__ for effect in self.did]

    def only(self, *kinds: type) -> list[ef.Effect]:
        return [effect for effect in self.did if isinstance(effect, kinds)]

    def copy(self) -> Driver:
        other = Driver()
        other.config, other.now_ms, other.state = self.config, self.now_ms, replace(self.state)
        return other
