"""The caller's side of a session: audio in, turns, recognition, transcription events, and silence that lasts too long.

It asks for responses through the functions it is given; what a response is, it does not know.

Law: every committed turn becomes one item of the conversation, in the order in which the turns ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parley_common.audio import bytes_to_ms, samples_to_ms
from parley_understudy import usage
from parley_understudy.conversation import Conversation
from parley_understudy.hearing import Hearing
from parley_understudy.items import Item, Part
from parley_understudy.listener import Listener
from parley_understudy.responses import Responses
from parley_understudy.sentences import trails_off, words
from parley_understudy.turns import Paused, Resumed, Started, Stopped, TurnEvent, rules_of
from parley_understudy.vad import Detector
from parley_understudy.wire import Outgoing

IDLE_INSTRUCTION = (
    "No user speech was detected for a while. Please review the recorded audio: If the user was speaking, "
    "respond naturally. If not, follow up on their last message to keep the conversation going or ask if "
    "they're still there."
)
"""The text of the system item that the API writes itself (recorded)."""
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass(frozen=True)
class Around:
    """What the caller's side works with: the conversation, its responses, and how to ask for one."""

    conversation: Conversation
    responses: Responses
    outgoing: Outgoing
    answer: Callable[[], None]


class Caller:
    """Caller audio of one session. ``speculates``: recognition may begin before a turn ends.

    Semantic turn detection needs it to begin, whether it saves time or not; ``scripted`` turns are not listened to.
    """

    def __init__(
        self, around: Around, make_detector: Callable[[], Detector], listening: dict[str, Any]
    ) -> None:
        self._around = around
        self._out = around.outgoing
        self._listener = Listener(make_detector)
        self._hearing = Hearing(around.outgoing)
        self.speculates = True
        self.scripted = False
        self._transcription = listening["transcription"]
        self._rules = rules_of(listening["turn_detection"])
        self._turn_item = ""
        self._turn_start = 0
        self._idle_from: int | None = None

    def configure(self, listening: dict[str, Any]) -> None:
        """Take the session's new ``audio.input``; changed turn detection starts afresh."""
        self._transcription = listening["transcription"]
        rules = rules_of(listening["turn_detection"])
        if rules != self._rules:
            self._rules = rules
            self._hearing.drop(self._turn_item)
            self._turn_item = ""
            self._listener.restart_detection()

    def append(self, pcm: bytes, now_ms: float) -> None:
        """Take audio (PCM16 24 kHz) and act on the turns in it."""
        begin = self._listener.grid_position
        for event in self._listener.feed(pcm[: len(pcm) // 2 * 2], self._rules):
            self._turned(event, now_ms)
        self._watch_silence(begin, now_ms)

    def commit(self) -> None:
        """Make an item of all that is in the buffer, as the client asks. No response is created."""
        pcm = self._listener.commit_all()
        item_id, self._turn_item = self._turn_item, ""
        self._hearing.drop(item_id)
        self.listen(self._committed(item_id or self._out.ids.new("item_"), pcm))

    def clear(self) -> None:
        """Drop what is in the buffer."""
        self._hearing.drop(self._turn_item)
        self._turn_item = ""
        self._listener.clear()
        self._out.send("input_audio_buffer.cleared")

    def listen(self, item: Item) -> None:
        """Have the audio of an item recognised that the client wrote."""
        if item.awaits_ears() and self._hearing.listen(item):
            self._transcribed(item)

    def forget(self, item: Item) -> None:
        """Let go of a deleted item: nothing may wait for it any more."""
        self._hearing.drop(item.id)
        for part in item.content:
            part.deaf = part.heard is None

    def heard(self, item_id: str, attempt: int, text: str | None) -> None:
        """Take a recognition; None when it failed."""
        if text is not None and item_id == self._turn_item and self._hearing.awaits(item_id, attempt):
            self._listener.turns.unfinished = trails_off(text)
        item = self._hearing.heard(item_id, attempt, text)
        if item is not None:
            self._transcribed(item)

    def _turned(self, event: TurnEvent, now_ms: float) -> None:
        if isinstance(event, Started):
            self._started(event, now_ms)
        elif isinstance(event, Resumed):
            self._hearing.drop(self._turn_item)
        elif isinstance(event, Paused):
            by_words = self._rules is not None and self._rules.patience_ms is not None
            if not self.scripted and (self.speculates or by_words):
                said = self._listener.slice(self._turn_start, event.sample)
                self._hearing.speculate(self._turn_item, said)
        else:
            self._stopped(event)

    def _started(self, event: Started, now_ms: float) -> None:
        self._turn_item = self._out.ids.new("item_")
        self._turn_start = event.sample
        self._forget_silence()
        self._out.send(
            "input_audio_buffer.speech_started",
            audio_start_ms=samples_to_ms(event.sample),
            item_id=self._turn_item,
        )
        if self._rules is not None and self._rules.interrupts:
            self._around.responses.interrupt(now_ms)
            self._around.responses.settle(now_ms)

    def _stopped(self, event: Stopped) -> None:
        item_id, self._turn_item = self._turn_item, ""
        self._out.send(
            "input_audio_buffer.speech_stopped", audio_end_ms=samples_to_ms(event.sample), item_id=item_id
        )
        item = self._committed(item_id, self._listener.commit(self._turn_start, event.sample))
        if self._rules is not None and self._rules.creates:
            self._around.answer()
        self.listen(item)

    def _committed(self, item_id: str, pcm: bytes, *, silent: bool = False) -> Item:
        part = Part("input_audio", audio=pcm, audio_ms=bytes_to_ms(len(pcm)))
        item = Item(item_id, "message", "user", content=[part], silent=silent)
        self._forget_silence()
        conversation = self._around.conversation
        self._out.send(
            "input_audio_buffer.committed", previous_item_id=conversation.last_id(), item_id=item_id
        )
        conversation.add(item)
        conversation.done(item)
        return item

    def _watch_silence(self, begin: int, now_ms: float) -> None:
        """Ask after the caller when nothing was said for ``idle_timeout_ms`` after the agent's audio was played."""
        since_ms = self._around.responses.spoken_until_ms
        timeout_ms = self._rules.idle_timeout_ms if self._rules is not None else None
        if timeout_ms is None or since_ms is None or now_ms < since_ms or self._listener.turns.speaking:
            return
        if self._idle_from is None:
            self._idle_from = begin
        end = self._listener.grid_position
        if now_ms >= since_ms + timeout_ms and end > self._idle_from:
            self._ask_after_caller(self._idle_from, end)

    def _ask_after_caller(self, start: int, end: int) -> None:
        item_id = self._out.ids.new("item_")
        self._out.send(
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=samples_to_ms(start),
            audio_end_ms=samples_to_ms(end),
            item_id=item_id,
        )
        note = Item(self._out.ids.new("item_"), "message", "system")
        note.content.append(Part("input_text", text=IDLE_INSTRUCTION))
        self._around.conversation.add(note)
        self._around.conversation.done(note)
        item = self._committed(item_id, self._listener.commit(start, end), silent=True)
        if self._rules is not None and self._rules.creates:
            self._around.answer()
        self.listen(item)

    def _forget_silence(self) -> None:
        self._idle_from = None
        self._around.responses.spoken_until_ms = None

    def _transcribed(self, item: Item) -> None:
        """Send the transcription events of an item, if the session asked for them."""
        if self._transcription is None or self._around.conversation.find(item.id) is not item:
            return
        place = {"item_id": item.id, "content_index": 0}
        part = item.content[0]
        if part.heard is None:
            error = {
                "type": "transcription_error",
                "code": "audio_unintelligible",
                "message": "The audio could not be transcribed.",
                "param": None,
            }
            self._out.send(f"{_TRANSCRIPTION}.failed", **place, error=error)
            return
        part.transcript = part.heard
        for word in words(part.heard):
            self._out.delta(f"{_TRANSCRIPTION}.delta", word, **place)
        used = usage.transcription(str(self._transcription["model"]), part.audio_ms, part.heard)
        self._out.send(f"{_TRANSCRIPTION}.completed", **place, transcript=part.heard, usage=used)
