"""Judges what a client sends: whether an audio frame is whole and continuous, whether a message makes sense.

Pure: it neither forwards nor closes anything. Law: gaps and repeats in sample numbers are counted and
forwarded as they are; only what cannot be audio, or no version of the protocol allows, is refused.
"""

from __future__ import annotations

from parley_common.contracts.audio_link import (
    BYTES_PER_SAMPLE,
    FRAME_MAX_BYTES,
    TEXT_MAX_CHARS,
    UPLINK_HEADER_BYTES,
    AudioFormat,
    Feedback,
    Flushed,
    FromClient,
    Open,
    Playout,
    Stats,
    Text,
    decode_from_client,
)
from parley_common.errors import PeerViolation

VIOLATIONS_MAX = 20
PAGE_MAX_CHARS = 2_000
NAME_MAX_CHARS = 100
HAVE_MAX = 100
U32_MAX = 0xFFFFFFFF
HALF_U32 = 1 << 31


class UplinkMeter:
    """Checks the frames of one caller, in the order in which they come."""

    def __init__(self) -> None:
        self.gaps_count = 0
        self.repeats_count = 0
        self._expected: int | None = None

    @property
    def expected(self) -> int:
        """Return the number that the next sample should have; 0 before the first."""
        return self._expected or 0

    def begin(self, sample: int) -> None:
        """Go on from where another gateway's meter was; 0 for a session that begins."""
        self._expected = sample or None

    def accept(self, frame: bytes) -> None:
        """Count a frame. Raises PeerViolation: frame_too_large (close 1009) or odd_frame."""
        size = len(frame)
        if size > FRAME_MAX_BYTES:
            raise _too_large("an audio frame", size)
        if size <= UPLINK_HEADER_BYTES or size % BYTES_PER_SAMPLE:
            raise PeerViolation(f"an audio frame of {size} bytes has no whole samples", code="odd_frame")
        first = int.from_bytes(frame[:UPLINK_HEADER_BYTES], "little")
        if first != self._expected:
            self._count_jump(first)
        self._expected = (first + (size - UPLINK_HEADER_BYTES) // BYTES_PER_SAMPLE) & U32_MAX

    def _count_jump(self, first: int) -> None:
        if self._expected is None:
            return
        # Sample numbers wrap after 49 hours: half the circle ahead is a gap, the other half a repeat.
        if (first - self._expected) & U32_MAX < HALF_U32:
            self.gaps_count += 1
        else:
            self.repeats_count += 1


def read_message(text: str) -> FromClient:
    """Return a client's message. Raises PeerViolation with a stable code; only size closes (1009)."""
    if len(text) > FRAME_MAX_BYTES:
        raise _too_large("a message", len(text))
    message = _decode(text)
    if isinstance(message, Text) and len(message.text) > TEXT_MAX_CHARS:
        raise PeerViolation(f"a text of more than {TEXT_MAX_CHARS} characters", code="text_too_long")
    if isinstance(message, Feedback):
        _check_feedback(message)
    if isinstance(message, Playout) and not _are_counts(
        message.epoch, message.item, message.received, message.played
    ):
        raise PeerViolation("playout speaks of samples that cannot be", code="invalid_message")
    if isinstance(message, Flushed) and not _are_counts(message.epoch, message.item, message.played):
        raise PeerViolation("flushed speaks of samples that cannot be", code="invalid_message")
    if isinstance(message, Stats) and not _are_counts(message.underruns, message.late_frames):
        raise PeerViolation("stats speaks of counts that cannot be", code="invalid_message")
    return message


def check_open(message: Open) -> None:
    """Check the first message. Raises PeerViolation: open_invalid or unsupported_audio."""
    if (message.token is None) == (message.resume is None):
        raise PeerViolation("open takes exactly one of token and resume", code="open_invalid")
    if message.audio != AudioFormat():
        raise PeerViolation("the audio is pcm16, 24000 Hz, one channel", code="unsupported_audio")
    names = (message.locale, message.time_zone, message.client)
    have = message.have or ()
    if len(have) > HAVE_MAX or not all(_are_counts(each.item, each.received) for each in have):
        raise PeerViolation(f"have names at most {HAVE_MAX} items, and counts", code="open_invalid")
    if len(message.page or "") > PAGE_MAX_CHARS or any(len(name or "") > NAME_MAX_CHARS for name in names):
        raise PeerViolation("page, locale, time_zone or client is too long", code="open_invalid")


def page_of(message: Open) -> str | None:
    """Return the client's page without query and fragment, where sites keep personal data; null for none."""
    return message.page.partition("#")[0].partition("?")[0] if message.page else None


def _decode(text: str) -> FromClient:
    try:
        return decode_from_client(text)
    except RecursionError as too_deep:
        # msgspec skips what an unknown field holds by recursion, however deep a client nests it.
        raise PeerViolation("a message nested too deep", code="invalid_json") from too_deep


def _check_feedback(message: Feedback) -> None:
    if not 1 <= message.rating <= 5:
        raise PeerViolation("a rating is 1 to 5", code="invalid_message")
    if len(message.comment or "") > TEXT_MAX_CHARS:
        raise PeerViolation(f"a comment of more than {TEXT_MAX_CHARS} characters", code="text_too_long")


def _are_counts(*numbers: int) -> bool:
    return all(0 <= number <= U32_MAX for number in numbers)


def _too_large(what: str, size: int) -> PeerViolation:
    return PeerViolation(
        f"{what} of {size} bytes; at most {FRAME_MAX_BYTES}", code="frame_too_large", close_code=1009
    )
