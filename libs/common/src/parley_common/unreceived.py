"""What one client may not have received, and what it last said of its playout: all that a resumed socket is sent.

A socket delivers in order, so a report of audio, or an answer to a flush, proves that everything sent before it
arrived too. Messages are kept newest per subject and may be sent twice; audio is cut to the sample.

Pure: no socket, no clock. Law: what is kept is bounded, in bytes of audio and in messages; the oldest goes first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from parley_common.contracts.audio_link import (
    BYTES_PER_SAMPLE,
    DOWNLINK_HEADER_BYTES,
    DownLink,
    Flush,
    Flushed,
    Have,
    Item,
    Notice,
    Pause,
    Playout,
    Resume,
    State,
    Tool,
    Transcript,
    downlink_epoch,
    pack_downlink,
)

MESSAGES_MAX = 200
_HOLD, _STATE, _FLUSH = ("hold",), ("state",), ("flush",)
_STANDING = frozenset({_HOLD, _STATE})
"""Kept though they were received: they cost nothing and a client may have forgotten them."""

Subject = tuple[object, ...]


class Unreceived:
    """Kept for one session, over all the sockets that its client, or its gateway, has in turn."""

    def __init__(self, bytes_max: int) -> None:
        self.epoch = 0
        self.dropped_count = 0
        """Frames that nobody can be sent again, because too many waited."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._order = 0
        self._audio: deque[tuple[int, bytes]] = deque()
        self._messages: OrderedDict[Subject, tuple[int, str]] = OrderedDict()
        self._playout: Playout | None = None
        self._answered_epoch = -1

    # -- what is sent -------------------------------------------------------------------------------

    def audio(self, frame: bytes) -> None:
        """Keep a frame, unless its epoch is over."""
        if downlink_epoch(frame) < self.epoch:
            return
        self._order += 1
        self._audio.append((self._order, frame))
        self._bytes += len(frame)
        while self._bytes > self._bytes_max:
            self._forget_first()
            self.dropped_count += 1

    def message(self, message: DownLink, text: str) -> None:
        """Keep a message when a client that missed it could not go on without; ``text`` is how it is sent."""
        subject = _subject(message)
        if subject is None:
            return
        if isinstance(message, Flush):
            self._begin_epoch(message.epoch)
        self._order += 1
        self._messages[subject] = (self._order, text)
        self._messages.move_to_end(subject)
        if len(self._messages) > MESSAGES_MAX:
            self._messages.popitem(last=False)

    def _begin_epoch(self, epoch: int) -> None:
        self.epoch = max(self.epoch, epoch)
        self._messages.pop(_HOLD, None)
        kept = deque(entry for entry in self._audio if downlink_epoch(entry[1]) >= self.epoch)
        self._audio, self._bytes = kept, sum(len(frame) for _, frame in kept)

    # -- what the client says -----------------------------------------------------------------------

    def reported(self, report: Playout) -> None:
        """The client says what it received and played of an item."""
        self._playout = report
        self.received(report.item, report.received)

    def received(self, item: int, samples: int) -> None:
        """So much of an item arrived, and with it everything that was sent before."""
        last = 0
        for order, frame in self._audio:
            of_item, first, count = _place(frame)
            if of_item == item:
                if first + count > samples:
                    break
                last = order
        self._arrived(last)

    def flush_answered(self, answer: Flushed) -> bool:
        """The client answered a flush. False: it was answered in its place, and nobody may hear of this one."""
        if answer.epoch == self.epoch and _FLUSH in self._messages and not answer.in_place:
            self._arrived(self._messages[_FLUSH][0])
        return answer.epoch > self._answered_epoch

    def answer_flush(self, epoch: int) -> Flushed:
        """Return the answer to a flush in place of a client that is away: its last report."""
        self._answered_epoch = max(self._answered_epoch, epoch)
        last = self._playout
        if last is None or last.epoch >= epoch:
            return Flushed(epoch, 0, 0, in_place=True)
        return Flushed(epoch, last.item, last.played, in_place=True)

    def _arrived(self, last: int) -> None:
        while self._audio and self._audio[0][0] <= last:
            self._forget_first()
        for subject, (order, _) in list(self._messages.items()):
            if order <= last and subject not in _STANDING:
                del self._messages[subject]

    def _forget_first(self) -> None:
        _, frame = self._audio.popleft()
        self._bytes -= len(frame)

    # -- what is sent again -------------------------------------------------------------------------

    def missed(self, have: Iterable[Have]) -> list[bytes | str]:
        """Return what a client that says it has this must be sent, in order; frames only from where it has none."""
        has = {each.item: each.received for each in have}
        for item, samples in has.items():
            self.received(item, samples)
        if self._playout is not None:
            has.setdefault(self._playout.item, self._playout.received)
        entries: list[tuple[int, bytes | str]] = [*self._messages.values()]
        for order, frame in self._audio:
            rest = _from(frame, has)
            if rest is not None:
                entries.append((order, rest))
        return [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]


def _place(frame: bytes) -> tuple[int, int, int]:
    """Return (item number, first sample, samples) of a downlink frame that a session service made."""
    item, first = int.from_bytes(frame[4:8], "little"), int.from_bytes(frame[8:12], "little")
    return item, first, (len(frame) - DOWNLINK_HEADER_BYTES) // BYTES_PER_SAMPLE


def _from(frame: bytes, has: dict[int, int]) -> bytes | None:
    """Return the frame without the samples that the client has; null when nothing is left."""
    item, first, count = _place(frame)
    known = has.get(item, 0) - first
    if known <= 0:
        return frame
    if known >= count:
        return None
    rest = memoryview(frame)[DOWNLINK_HEADER_BYTES + known * BYTES_PER_SAMPLE :]
    return pack_downlink(downlink_epoch(frame), item, first + known, rest)


def _subject(message: DownLink) -> Subject | None:
    """Return what a message is about: a newer one of the same subject replaces it. Null: it need not be kept."""
    match message:
        case Item(number=number, phase=phase):
            return "item", number, phase
        case Transcript(item=item):
            return "transcript", item
        case State():
            return _STATE
        case Flush():
            return _FLUSH
        case Pause() | Resume():
            return _HOLD
        case Tool(name=name, phase=phase, call=call):
            return "tool", call or name, phase
        case Notice(code=code):
            return "notice", "upstream" if code in {"reconnecting", "reconnected"} else code
    return None
