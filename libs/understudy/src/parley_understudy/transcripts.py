"""What a script makes of single turns' transcripts: late, out of order, failed or missing.

It changes events only; the model behind the session has heard the turn all the same.

Law: a turn that no script is about passes untouched.
"""

from __future__ import annotations

from typing import Any

from parley_understudy.fault_plan import Transcript
from parley_understudy.stream import Stream
from parley_understudy.wire import Event, Out, Send

_PREFIX = "conversation.item.input_audio_transcription."


class Transcripts:
    """The turns of one session that a script is about."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._wanted: dict[str, Any] = {}
        self._kept: list[Out] = []

    def follow(self, item_id: str, wanted: Any) -> None:
        """Make this of a turn's transcript: the value of a ``transcript`` act."""
        self._wanted[item_id] = wanted

    def concerns(self, event: Event) -> bool:
        """Return whether an event is to be sent by :meth:`send`."""
        return event["type"].startswith(_PREFIX) and event["item_id"] in self._wanted

    def send(self, event: Event, frames: list[Out], now_ms: float) -> None:
        """Send a transcription event as its script wants it, or do not."""
        wanted = self._wanted[event["item_id"]]
        if wanted == "after_next":
            self._kept += frames
            return
        if _ends(event):
            del self._wanted[event["item_id"]]
        if isinstance(wanted, Transcript) and wanted.failed is None:
            for frame in frames:
                self._stream.leave_alone(frame, now_ms + (wanted.late_ms or 0))
        elif wanted != "missing" and _ends(event):
            self._stream.leave(_failed(event, getattr(wanted, "failed", None)), now_ms)

    def passed(self, event: Event, now_ms: float) -> None:
        """Take note of an event that has passed: after another turn's transcript comes what was kept for it."""
        if self._kept and event["type"].startswith(_PREFIX) and _ends(event):
            kept, self._kept = self._kept, []
            for frame in kept:
                self._stream.leave(frame, now_ms)


def _ends(event: Event) -> bool:
    return str(event["type"]).endswith((".completed", ".failed"))


def _failed(event: Event, code: str | None) -> Send:
    error = {
        "type": "server_error" if code else "transcription_error",
        "code": code or "audio_unintelligible",
        "message": "The audio could not be transcribed.",
        "param": None,
    }
    place = {"item_id": event["item_id"], "content_index": event["content_index"]}
    return Send({"type": f"{_PREFIX}failed", "event_id": event["event_id"], **place, "error": error})
