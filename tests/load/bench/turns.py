"""What a caller does, and what an upstream answers, by the frame: the one schedule of all systems.

A caller speaks for ``SPEECH_FRAMES`` at the begin of each of its turns, whatever it hears: the loop is open. Upstream
takes ``SILENCE_FRAMES`` of silence for the end of a turn and answers until it is spoken over, so that every turn but the
first is a barge-in.
"""

from __future__ import annotations

from dataclasses import dataclass

FRAMES_PER_S = 50
SPEECH_FRAMES = 10
SILENCE_FRAMES = 5
TURN_S = 5.0
LEAD_FRAMES = 5
"""Sent at once when an answer begins: what a client's playout buffer then holds."""
WORDS_EVERY_FRAMES = 16
"""A word of the transcript for each 320 ms of audio, as in recordings of the real thing."""
TOOL_EVERY_TURNS = 4
"""One turn in so many calls a tool before it is answered."""
TOOL = "analyze_deal"
TOOL_ARGUMENTS = '{"price_usd": 300000, "down_payment_pct": 25, "monthly_rent_usd": 2400}'
REPORT_EVERY_FRAMES = 5
PING_EVERY_FRAMES = 250


@dataclass(frozen=True)
class Caller:
    """When one caller speaks: by its number alone, so that callers are spread evenly and runs are alike."""

    number: int
    turn_frames: int = round(TURN_S * FRAMES_PER_S)

    def speech_frame(self, frame: int) -> int | None:
        """Return which frame of speech its ``frame``-th frame is; null for silence."""
        into = (frame - 25 - self.number * 37) % self.turn_frames
        return into if frame >= 25 and into < SPEECH_FRAMES else None
