"""What a client knows of its session, and what it answers: the protocol of the client socket without a socket.

Texts and audio frames go in with the time, texts to send come out; whatever a person may care for is told to an
observer as it happens. It does not decide what the caller says or when: turns.py does.

Law: total. A message that makes no sense is counted as an oddity and answered by nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from parley_common.contracts import audio_link as wire
from parley_common.errors import PeerViolation
from parley_launcher.talk.playout import PlayoutBuffer
from parley_launcher.talk.report import (
    Failure,
    FlushReport,
    Happening,
    ItemReport,
    NoticeReport,
    ToolReport,
)

Observer = Callable[[Happening], None]
FINE_ENDINGS = frozenset({"caller", "agent"})
REMEDIES = {
    "overloaded": "try again in a moment",
    "rate_limited": "try again in a moment",
    "unauthorized": "get a new token: start again",
    "token_expired": "get a new token: start again",
    "token_used": "get a new token: start again",
    "unknown_business": "look into businesses/ for the names",
    "upstream_unavailable": "see .parley/logs/session.log, or the upstream's status",
}


@dataclass(frozen=True, slots=True)
class _ToolSeen:
    name: str
    call: str
    began_at_ms: int
    ended_at_ms: int | None = None
    outcome: str | None = None


class SessionView:
    """One session from the client's side. All times given are absolute; all times kept are since ready."""

    def __init__(self, observer: Observer, *, keep_audio: bool = True) -> None:
        self.ready: wire.Ready | None = None
        self.state: str | None = None
        self.playout = PlayoutBuffer(origin_ms=0, keep_audio=keep_audio)
        self.items: dict[int, ItemReport] = {}
        self.notices: list[NoticeReport] = []
        self.flushes: list[FlushReport] = []
        self.ended: str | None = None
        self.failure: Failure | None = None
        self.round_trip_ms: float | None = None
        self.last_heard_of_ms = 0
        """When the service last sent anything."""
        self.active_at_ms = 0
        """When the agent last did anything: spoke, wrote, thought, used a tool."""
        self.stirred_at_ms: int | None = None
        """When the agent last began to do something; null before the first time."""
        self.words_at_ms: list[int] = []
        """When each agent item showed its first words or audio."""
        self._tools: list[_ToolSeen] = []
        self._wordy: set[int] = set()
        self._oddities: Counter[str] = Counter()
        self._observer = observer
        self._keep_audio = keep_audio
        self._origin_ms = 0

    # -- what arrives -----------------------------------------------------------------------------

    def receive_text(self, text: str | bytes, now_ms: int) -> tuple[wire.FromClient, ...]:
        """Take a text frame; return what to send at once."""
        self.last_heard_of_ms = now_ms
        try:
            message = wire.decode_to_client(text)
        except PeerViolation as wrong:
            self._odd(wrong.stable_code, now_ms)
            return ()
        handler: Callable[[Any, int], tuple[wire.FromClient, ...] | None] = getattr(
            self, f"_on_{type(message).__name__.lower()}"
        )
        return handler(message, now_ms) or ()

    def receive_audio(self, frame: bytes, now_ms: int) -> None:
        """Take a binary frame."""
        self.last_heard_of_ms = now_ms
        try:
            epoch, item, first_sample, pcm = wire.unpack_downlink(frame)
        except PeerViolation as wrong:
            self._odd(wrong.stable_code, now_ms)
            return
        if self.playout.frame(epoch, item, first_sample, pcm, now_ms):
            self.active_at_ms = now_ms
            self._first_words(item, now_ms)

    def tick(self, now_ms: int) -> tuple[wire.FromClient, ...]:
        """Let time pass; return the playout reports that are due."""
        if self.ready is None:
            return ()
        if not self.playout.is_drained:
            self.active_at_ms = now_ms
        return self.playout.tick(now_ms)

    def fail(self, failure: Failure, now_ms: int) -> None:
        """Remember why the session failed; the first reason counts."""
        if self.failure is None:
            self.failure = failure
            self._tell("failed", now_ms, code=failure.code, message=failure.message, remedy=failure.remedy)

    def since_ready(self, now_ms: int) -> int:
        """Return ``now_ms`` on the session's own time line; 0 before it is ready."""
        return now_ms - self._origin_ms if self.ready else 0

    @property
    def origin_ms(self) -> int:
        """When the session was ready, on the clock that is given in."""
        return self._origin_ms

    @property
    def tools(self) -> tuple[ToolReport, ...]:
        return tuple(
            ToolReport(
                t.name, t.call, t.outcome, None if t.ended_at_ms is None else t.ended_at_ms - t.began_at_ms
            )
            for t in self._tools
        )

    @property
    def oddities(self) -> dict[str, int]:
        return dict(self._oddities + self.playout.oddities)

    def item_reports(self) -> tuple[ItemReport, ...]:
        """Return all items in order of their numbers, with what became of their audio."""
        played = {item.number: item for item in self.playout.items}
        for number in played.keys() - self.items.keys():
            self.items[number] = ItemReport(number, "assistant")
        return tuple(
            replace(item, samples=p.received, played=p.played, flushed=p.flushed)
            if (p := played.get(number))
            else item
            for number, item in sorted(self.items.items())
        )

    # -- one method per type ----------------------------------------------------------------------

    def _on_ready(self, message: wire.Ready, now_ms: int) -> None:
        if self.ready is None:
            self._origin_ms = self.active_at_ms = now_ms
            self.playout = PlayoutBuffer(origin_ms=now_ms, epoch=message.epoch, keep_audio=self._keep_audio)
        self.ready = message
        self._tell("ready", now_ms, session=message.session)

    def _on_state(self, message: wire.State, now_ms: int) -> None:
        self.state = message.state
        if message.state != "listening":
            self._stir(now_ms)
        self.active_at_ms = now_ms
        self._tell("state", now_ms, state=message.state)

    def _on_item(self, message: wire.Item, now_ms: int) -> None:
        number, begins = message.number, message.phase == "begins"
        if message.role == "assistant":
            self._stir(now_ms) if begins else None
            self.active_at_ms = now_ms
            if begins:
                self.playout.begins(number, message.epoch, now_ms)
            else:
                self.playout.ends(number, message.samples, now_ms)
        self.items.setdefault(number, ItemReport(number, message.role))
        self._tell(
            "item", now_ms, item=number, role=message.role, phase=message.phase, samples=message.samples
        )

    def _on_transcript(self, message: wire.Transcript, now_ms: int) -> None:
        item = self.items.get(message.item) or ItemReport(message.item, message.role)
        self.items[message.item] = replace(
            item, role=message.role, text=message.text, final=message.final, heard=message.heard
        )
        if message.role == "assistant":
            self.active_at_ms = now_ms
            if message.text:
                self._first_words(message.item, now_ms)
        self._tell(
            "transcript",
            now_ms,
            item=message.item,
            role=message.role,
            text=message.text,
            final=message.final,
            heard=message.heard,
        )

    def _on_tool(self, message: wire.Tool, now_ms: int) -> None:
        self._stir(now_ms)
        self.active_at_ms = now_ms
        took_ms = None
        if message.phase == "begins":
            self._tools.append(_ToolSeen(message.name, message.call, now_ms))
        else:
            took_ms = self._end_tool(message, now_ms)
        self._tell(
            "tool",
            now_ms,
            name=message.name,
            call=message.call,
            phase=message.phase,
            outcome=message.outcome,
            took_ms=took_ms,
        )

    def _end_tool(self, message: wire.Tool, now_ms: int) -> int | None:
        for at, seen in enumerate(self._tools):
            if (seen.name, seen.call, seen.ended_at_ms) == (message.name, message.call, None):
                self._tools[at] = replace(seen, ended_at_ms=now_ms, outcome=message.outcome)
                return now_ms - seen.began_at_ms
        self._odd("tool_ended_unbegun", now_ms)
        return None

    def _on_flush(self, message: wire.Flush, now_ms: int) -> tuple[wire.FromClient, ...]:
        answers = self.playout.flush(message.epoch, now_ms)
        flushed = answers[-1] if answers else None
        if isinstance(flushed, wire.Flushed):
            self.flushes.append(
                FlushReport(flushed.epoch, flushed.item, flushed.played, self.since_ready(now_ms))
            )
            played_ms = flushed.played // wire.SAMPLES_PER_MS
            self._tell("flush", now_ms, epoch=flushed.epoch, item=flushed.item, played_ms=played_ms)
        return answers

    def _on_pause(self, _message: wire.Pause, now_ms: int) -> None:
        self.playout.pause(now_ms)
        self._tell("pause", now_ms)

    def _on_resume(self, _message: wire.Resume, now_ms: int) -> None:
        self.playout.resume(now_ms)
        self._tell("resume", now_ms)

    def _on_notice(self, message: wire.Notice, now_ms: int) -> None:
        self.notices.append(NoticeReport(message.code, message.message, self.since_ready(now_ms)))
        self._tell("notice", now_ms, code=message.code, message=message.message)

    def _on_error(self, message: wire.Error, now_ms: int) -> None:
        data = {"code": message.code, "message": message.message, "retry_after_s": message.retry_after_s}
        self._tell("error", now_ms, **data, fatal=message.fatal)
        if message.fatal or self.ready is None:
            wait = f"try again in {message.retry_after_s:g} s" if message.retry_after_s else None
            self.fail(Failure(message.code, message.message, wait or REMEDIES.get(message.code)), now_ms)

    def _on_pong(self, message: wire.Pong, now_ms: int) -> None:
        self.round_trip_ms = max(0.0, now_ms - message.t_ms)

    def _on_ended(self, message: wire.Ended, now_ms: int) -> None:
        self.ended = message.reason
        self._tell("ended", now_ms, reason=message.reason)
        if message.reason not in FINE_ENDINGS:
            said = f"the service ended the session: {message.reason}"
            self.fail(
                Failure(f"session_{message.reason}", said, _ENDING_REMEDIES.get(message.reason)), now_ms
            )

    # -- inside -----------------------------------------------------------------------------------

    def _stir(self, now_ms: int) -> None:
        self.stirred_at_ms = now_ms

    def _first_words(self, item: int, now_ms: int) -> None:
        if item not in self._wordy:
            self._wordy.add(item)
            self.words_at_ms.append(now_ms)

    def _odd(self, reason: str, now_ms: int) -> None:
        self._oddities[reason] += 1
        self._tell("oddity", now_ms, reason=reason)

    def _tell(self, kind: str, now_ms: int, **data: Any) -> None:
        self._observer(Happening(kind, self.since_ready(now_ms), data))


_ENDING_REMEDIES = {
    "idle": "nobody spoke: give --wav or --text, or answer sooner",
    "limit": "the session reached a limit of its business: see limits in business.yaml",
    "lost": "the service lost this client: look at the network, and .parley/logs/gateway.log",
    "failed": "see .parley/logs/session.log",
    "drained": "the service is going away: start again",
}
