"""One session of the protocol: client events in, server events and jobs out.

No I/O, no clock: time comes as an argument, results of jobs come back as calls. What a turn, an item or a response
is lives in the modules beside it; this one connects them.

Law: any input in any state returns something; a refused event has no effect but its ``error``.
Source: the GA wire as recorded in 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from parley_understudy import response_config, session_config
from parley_understudy.brain.types import Decision
from parley_understudy.caller import Around, Caller
from parley_understudy.client_events import event_id_of, kind_of
from parley_understudy.conversation import Conversation
from parley_understudy.directions import Directions
from parley_understudy.flavours import Flavour
from parley_understudy.g711 import decoded
from parley_understudy.items import audio_bytes, read_item
from parley_understudy.performance import Terms
from parley_understudy.responses import Responses
from parley_understudy.vad import Detector
from parley_understudy.wire import Close, Event, Ids, Out, Outgoing, Refused


@dataclass(frozen=True)
class Options:
    """What a session is given by the program around it.

    ``pace`` is how many times faster than real time audio is sent; None sends it at once.
    """

    flavour: Flavour
    ids: Ids
    make_detector: Callable[[], Detector]
    opened_at: datetime
    lasts_s: float
    pace: float | None
    transcription_only: bool = False


class Session:
    """The protocol state of one socket."""

    def __init__(self, options: Options, now_ms: float) -> None:
        self._options = options
        self._opened_ms = now_ms
        self._out = Outgoing(options.ids)
        self.id = options.ids.new("sess_")
        self.config = session_config.fresh(
            options.flavour,
            self.id,
            int((options.opened_at + timedelta(seconds=options.lasts_s)).timestamp()),
            transcription_only=options.transcription_only,
        )
        self.conversation = Conversation(self._out)
        self.directions = Directions()
        terms = Terms(self.conversation, self._out, options.flavour, options.pace, self.directions)
        self.responses = Responses(terms, self._wall)
        around = Around(self.conversation, self.responses, self._out, self._answer)
        self.caller = Caller(around, options.make_detector, self.config["audio"]["input"])
        self._handlers = self._table()

    @property
    def ids(self) -> Ids:
        """Return where the session's ids come from."""
        return self._out.ids

    def open(self, now_ms: float) -> list[Out]:
        """Return ``session.created``."""
        self._out.send("session.created", session=self.config)
        return self._finish(now_ms)

    def receive(self, event: Any, now_ms: float) -> list[Out]:
        """Take one decoded client event."""
        try:
            self._handlers[kind_of(event)](event, now_ms)
        except Refused as refused:
            self._out.error(refused, event_id_of(event))
        return self._finish(now_ms)

    def refuse(self, refused: Refused, now_ms: float) -> list[Out]:
        """Answer something that is no event at all: a binary frame, or no JSON."""
        self._out.error(refused)
        return self._finish(now_ms)

    def watch(self, watcher: Callable[[Event], None]) -> None:
        """Show every server event to ``watcher`` as it comes about, before what follows it is decided."""
        self._out.watch = watcher

    def collide(self, now_ms: float) -> list[Out]:
        """Create a response of the server's own, as the end of a turn does, unless one is active."""
        self._answer()
        return self._finish(now_ms)

    def heard(self, item_id: str, attempt: int, text: str | None, now_ms: float) -> list[Out]:
        """Take what the ears made of some audio; None when they failed."""
        self.caller.heard(item_id, attempt, text)
        return self._finish(now_ms)

    def decided(self, response_id: str, decision: Decision, now_ms: float) -> list[Out]:
        """Take what the brain decided for a response."""
        if performance := self.responses.find(response_id):
            performance.decided(decision, now_ms)
        return self._finish(now_ms)

    def rendered(self, response_id: str, sentence: int, pcm: bytes, now_ms: float) -> list[Out]:
        """Take the audio of one sentence (PCM16 24 kHz)."""
        if performance := self.responses.find(response_id):
            performance.rendered(sentence, pcm, now_ms)
        return self._finish(now_ms)

    def failed(self, response_id: str, kind: str, code: str | None, now_ms: float) -> list[Out]:
        """Take note that a response's brain or voice gave up."""
        if performance := self.responses.find(response_id):
            performance.fail(kind, code)
        return self._finish(now_ms)

    def advance(self, now_ms: float) -> list[Out]:
        """Send what is due by now."""
        self.responses.advance(now_ms)
        return self._finish(now_ms)

    def expire(self, now_ms: float) -> list[Out]:
        """End the session because it has lasted its longest: open responses get no ``done``."""
        longest_min = self._options.flavour.longest_session_s // 60
        message = f"Your session hit the maximum duration of {longest_min} minutes."
        self._out.error(Refused(message, "session_expired"))
        self._out.do(Close(1001, message))
        return self._finish(now_ms)

    def due_ms(self) -> float | None:
        """Return when :meth:`advance` is to be called next; None when nothing is waiting."""
        return self.responses.due_ms()

    def _finish(self, now_ms: float) -> list[Out]:
        self.responses.think_when_heard(now_ms)
        self.responses.settle(now_ms)
        return self._out.take()

    def _wall(self, now_ms: float) -> datetime:
        return self._options.opened_at + timedelta(milliseconds=now_ms - self._opened_ms)

    def _table(self) -> dict[str, Callable[[Event, float], None]]:
        return {
            "session.update": self._update,
            "session.close": self._close,
            "input_audio_buffer.append": self._append,
            "session.input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.truncate": self._truncate,
            "conversation.item.delete": self._delete,
            "conversation.item.retrieve": self._retrieve,
            "response.create": self._create_response,
            "response.cancel": self._cancel,
        }

    def _update(self, event: Event, _now_ms: float) -> None:
        self.config = session_config.updated(
            self.config,
            event["session"],
            self._options.flavour,
            voice_in_use=self.conversation.has_agent_audio(),
        )
        self.caller.configure(self.config["audio"]["input"])
        self._out.send("session.updated", session=self.config)

    def _append(self, event: Event, now_ms: float) -> None:
        self.caller.append(decoded(audio_bytes(event["audio"], "audio"), self._caller_format), now_ms)

    def _commit(self, _event: Event, _now_ms: float) -> None:
        self.caller.commit()

    def _clear(self, _event: Event, _now_ms: float) -> None:
        self.caller.clear()

    def _create_item(self, event: Event, _now_ms: float) -> None:
        item = read_item(event["item"], self._out.ids, self._caller_format)
        self.conversation.add(item, event.get("previous_item_id"))
        self.conversation.done(item)
        self.caller.listen(item)

    def _truncate(self, event: Event, _now_ms: float) -> None:
        self.conversation.truncate(
            event["item_id"], event["content_index"], event["audio_end_ms"], self._agent_format
        )

    def _delete(self, event: Event, _now_ms: float) -> None:
        self.caller.forget(self.conversation.delete(event["item_id"]))

    def _retrieve(self, event: Event, _now_ms: float) -> None:
        self.conversation.retrieve(event["item_id"], self._caller_format)

    def _create_response(self, event: Event, _now_ms: float) -> None:
        if self.config["type"] == "transcription":
            raise Refused("Responses cannot be created in a transcription session.", "invalid_value", "type")
        self._respond(event.get("response"))

    def _cancel(self, event: Event, now_ms: float) -> None:
        self.responses.cancel(event.get("response_id"), now_ms)

    def _close(self, _event: Event, _now_ms: float) -> None:
        self._out.do(Close(1000, ""))

    def _answer(self) -> None:
        """Create the response that the end of a turn calls for; none while another one is active."""
        if self.responses.active is None and self.config["type"] == "realtime":
            self._respond(None)

    def _respond(self, params: Any) -> None:
        terms = response_config.read(
            params, self.config, self.conversation, self._options.flavour, self._out.ids
        )
        self.responses.create(terms)
        for item in terms.context:
            if self.conversation.find(item.id) is not item:  # given with the response itself
                self.caller.listen(item)

    @property
    def _caller_format(self) -> str:
        return str(self.config["audio"]["input"]["format"]["type"])

    @property
    def _agent_format(self) -> str:
        output = self.config["audio"].get("output")
        return str(output["format"]["type"]) if output else "audio/pcm"
