"""One response on the wire, from ``response.created`` to ``response.done``.

It sends its script step by step at the pace it is given, waits for audio where none is rendered yet, and can be
cut short at any step. It does not decide what to say, nor whether it may begin.

Law: ``created`` comes first and ``done`` last, once each; whatever was opened is shut before ``done``; what was not
sent was not said.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

from parley_understudy import usage
from parley_understudy.brain.types import Decision
from parley_understudy.conversation import Conversation
from parley_understudy.directions import Directions
from parley_understudy.flavours import Flavour
from parley_understudy.items import Item, base64_of
from parley_understudy.rendering import Rendering
from parley_understudy.response_config import ResponseConfig
from parley_understudy.script import Form, Open, Piece, Step, Voice, script_of
from parley_understudy.usage import Tokens
from parley_understudy.wire import Event, Outgoing

PIECE_MS = 3
_ERROR_MESSAGE = (
    "The server had an error while processing your request. Sorry about that! We recommend you retry your "
    "request."
)


class Stage(Enum):
    """How far a response is."""

    LISTENING = "listening"
    THINKING = "thinking"
    SENDING = "sending"
    OVER = "over"


@dataclass(frozen=True)
class Terms:
    """What all responses of a session share: where they are sent, how fast, and what a fault script asks of them.

    ``pace`` is how many times faster than real time audio is sent; None sends all of it at once.
    """

    conversation: Conversation
    outgoing: Outgoing
    flavour: Flavour
    pace: float | None
    directions: Directions


class Performance:
    """One response."""

    def __init__(self, config: ResponseConfig, terms: Terms) -> None:
        self.config = config
        self.id = terms.outgoing.ids.new("resp_")
        self.stage = Stage.LISTENING
        self.read = self._seen_before = Tokens()
        self.usage: Event | None = None
        self.status = "in_progress"
        self.due_ms: float | None = None
        self._terms = terms
        self._out = terms.outgoing
        self._steps: deque[Step] = deque()
        self._opened: list[Item] = []
        self._rendering = Rendering(self.id, config, terms.outgoing)
        self._sent_ms: dict[str, int] = {}
        self._cut: tuple[str, int] | None = (
            None  # why it is being cancelled, and how many deltas are still to come
        )
        self._out.send("response.created", response=self._response([], None, None))

    @property
    def over(self) -> bool:
        """Return whether ``response.done`` has been sent."""
        return self.stage is Stage.OVER

    @property
    def audio_ms(self) -> int:
        """Return how much audio was sent."""
        return sum(self._sent_ms.values())

    def reading(self, read: Tokens, seen_before: Tokens) -> None:
        """Begin to think: note what is read, and what the session's last response had read."""
        self.stage = Stage.THINKING
        self.read, self._seen_before = read, seen_before

    def decided(self, decision: Decision, now_ms: float) -> None:
        """Take the brain's decision and begin to send."""
        if self.stage is not Stage.THINKING:
            return
        direction = self._terms.directions.of(self.id)
        decision = direction.decision or decision
        allowed = decision.calls if self.config.tool_choice != "none" else ()
        calls = allowed if self.config.parallel else allowed[:1]
        form = Form(self._terms.flavour, self.config.spoken, direction.messages_count)
        script = script_of(Decision(decision.say, calls), form, self._out.ids)
        self._steps = deque(script.steps)
        self.stage = Stage.SENDING
        self.due_ms = now_ms
        self._rendering.begin(script.sentences)
        self.advance(now_ms)

    def rendered(self, sentence: int, pcm: bytes, now_ms: float) -> None:
        """Take the audio of a sentence."""
        if self.stage is not Stage.SENDING:
            return
        self._rendering.receive(sentence, pcm)
        if self.due_ms is None:
            self.due_ms = now_ms
        self.advance(now_ms)

    def advance(self, now_ms: float) -> None:
        """Send all that is due."""
        while self.stage is Stage.SENDING and self.due_ms is not None and self.due_ms <= now_ms:
            if not self._steps:
                self._come_to_its_end()
                return
            took_ms = self._perform(self._steps[0])
            self.due_ms = None if took_ms is None else self.due_ms + took_ms
            if self._cut is not None and self._cut[1] <= 0:
                self._finish_cancelled(self._cut[0])
            elif self._has_written_enough():
                self.finish("incomplete", {"type": "incomplete", "reason": "max_output_tokens"})
            self.obey()

    def cancel(self, reason: str, now_ms: float) -> None:
        """Cut the response short: by the caller's speech (``turn_detected``) or by the client.

        One more delta is already on its way when it is asked for, or as many as a script wants: clients must drop
        late ones. Until those are sent the response stays active.
        """
        if self.over or self._cut is not None:
            return
        late = self._terms.directions.of(self.id).late_deltas_count
        step = self._steps[0] if self._steps else None
        if late is not None and late > 0 and self.stage is Stage.SENDING:
            self._cut = (reason, late)
            self.advance(now_ms)
            return
        if late is None and isinstance(step, Voice) and self._rendering.has(step.sentence):
            self._speak(step)
        self._finish_cancelled(reason)

    def obey(self) -> None:
        """End now if a script asks for it."""
        ending = self._terms.directions.of(self.id).ending
        if ending is not None and not self.over:
            self.finish(ending.status, ending.details)

    def fail(self, kind: str, code: str | None, message: str = _ERROR_MESSAGE) -> None:
        """End as failed: an event of its own, not an ``error``."""
        if not self.over:
            self.finish(
                "failed", {"type": "failed", "error": {"type": kind, "code": code, "message": message}}
            )

    def finish(self, status: str, details: Event | None) -> None:
        """Shut what is open and send ``response.done``."""
        self.status = status
        for item in self._opened:
            if item.status == "in_progress":
                self._shut(item, "completed" if status == "completed" else "incomplete")
        self.stage, self.due_ms = Stage.OVER, None
        self._steps.clear()
        output = [item.wire() for item in self._opened]
        self.usage = self._usage(status)
        self._out.send("response.done", response=self._response(output, details, self.usage))

    def _come_to_its_end(self) -> None:
        if self._cut is not None:
            self._finish_cancelled(self._cut[0])
        else:
            self.finish("completed", None)

    def _finish_cancelled(self, reason: str) -> None:
        self.finish("cancelled", {"type": "cancelled", "reason": reason})

    def _count_late(self) -> None:
        if self._cut is not None:
            self._cut = (self._cut[0], self._cut[1] - 1)

    def _perform(self, step: Step) -> float | None:
        """Do one step; return how long the next has to wait, or None when this one waits for audio."""
        if isinstance(step, Voice):
            return self._speak(step)
        self._steps.popleft()
        if isinstance(step, Open):
            self._open(step.item)
        elif isinstance(step, Piece):
            self._piece(step)
            return PIECE_MS if self._terms.pace else 0
        else:
            self._shut(step.item, "completed")
        return 0

    def _speak(self, step: Voice) -> float | None:
        delta = self._rendering.take(step.sentence)
        if delta is None:
            return None
        chunk, sent_ms, is_last = delta
        if is_last:
            self._steps.popleft()
        if not chunk:
            return 0
        part = step.item.content[0]
        part.audio += chunk
        part.audio_ms += sent_ms
        self._sent_ms[step.item.id] = self._sent_ms.get(step.item.id, 0) + sent_ms
        self._count_late()
        self._out.send("response.output_audio.delta", **self._place(step.item), delta=base64_of(chunk))
        return sent_ms / self._terms.pace if self._terms.pace else 0

    def _open(self, item: Item) -> None:
        self._opened.append(item)
        self._out.send(
            "response.output_item.added",
            response_id=self.id,
            output_index=self._opened.index(item),
            item=item.opened(),
        )
        if not self.config.outside:
            self._terms.conversation.add(item)
        if item.kind == "message":
            part = {"type": "audio", "transcript": ""} if self.config.spoken else {"type": "text", "text": ""}
            self._part("response.content_part.added", item, part)

    def _piece(self, step: Piece) -> None:
        item = step.item
        if item.kind == "function_call" or not self.config.spoken:
            self._count_late()  # of a spoken message the audio counts
        if item.kind == "function_call":
            item.arguments += step.text
            self._out.delta("response.function_call_arguments.delta", step.text, **self._place(item))
            return
        part = item.content[0]
        if self.config.spoken:
            part.transcript = (part.transcript or "") + step.text
            self._out.delta("response.output_audio_transcript.delta", step.text, **self._place(item))
        else:
            part.text = (part.text or "") + step.text
            self._out.delta("response.output_text.delta", step.text, **self._place(item))

    def _shut(self, item: Item, status: str) -> None:
        item.status = status
        place = self._place(item)
        if item.kind == "function_call":
            self._out.send(
                "response.function_call_arguments.done", **place, name=item.name, arguments=item.arguments
            )
        elif self.config.spoken:
            transcript = item.content[0].transcript
            self._out.send("response.output_audio.done", **place)
            self._out.send("response.output_audio_transcript.done", **place, transcript=transcript)
            self._part("response.content_part.done", item, {"type": "audio", "transcript": transcript})
        else:
            text = item.content[0].text
            self._out.send("response.output_text.done", **place, text=text)
            self._part("response.content_part.done", item, {"type": "text", "text": text})
        if not self.config.outside:
            self._terms.conversation.done(item)
        self._out.send(
            "response.output_item.done",
            response_id=self.id,
            output_index=place["output_index"],
            item=item.wire(),
        )

    def _part(self, kind: str, item: Item, part: Event) -> None:
        repeated = {"content": part} if self._terms.flavour.azure else {}
        self._out.send(kind, **self._place(item), part=part, **repeated)

    def _place(self, item: Item) -> dict[str, Any]:
        """Return the fields that say where in the response an event belongs."""
        place = {"response_id": self.id, "item_id": item.id, "output_index": self._opened.index(item)}
        if item.kind == "function_call":
            return {**place, "call_id": item.call_id}
        return {**place, "content_index": 0}

    def _has_written_enough(self) -> bool:
        limit = self.config.max_output_tokens
        if self.stage is not Stage.SENDING or not isinstance(limit, int) or not self._steps:
            return False
        written = self._written()
        return written.text + written.audio >= limit

    def _written(self) -> Tokens:
        total = Tokens()
        for item in self._opened:
            total += usage.of_output(item, self._sent_ms.get(item.id, 0))
        return total

    def _usage(self, status: str) -> Event:
        flavour = self._terms.flavour
        if status == "failed" or not self._opened:
            return usage.report(Tokens(), Tokens(), Tokens(), 0, azure=flavour.azure)
        reasoning = usage.REASONING_TOKENS[self.config.effort] if flavour.reasons else 0
        return usage.report(self.read, self._seen_before, self._written(), reasoning, azure=flavour.azure)

    def _response(self, output: list[Event], details: Event | None, used: Event | None) -> Event:
        config = self.config
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": details,
            "output": output,
            "conversation_id": None if config.outside else self._terms.conversation.id,
            "output_modalities": ["audio"] if config.spoken else ["text"],
            "max_output_tokens": config.max_output_tokens,
            "audio": {"output": {"format": config.format, "voice": config.wire_voice}},
            "usage": used,
            "metadata": config.metadata,
        }
