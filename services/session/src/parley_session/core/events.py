"""Everything that can happen to a session, in the past tense. The closed union ``Event`` is at the end.

Ids of responses and items are upstream's own. ``number`` is our item number on the audio protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from parley_session.core.state import ResponseUsage

ItemKind = Literal["message", "function_call", "function_call_output", "other"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["completed", "cancelled", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class UpstreamItem:
    """An item as upstream shows it; parts that do not apply to its kind are empty."""

    id: str
    kind: ItemKind
    role: str = ""
    status: ItemStatus = "completed"
    text: str = ""
    """Text or transcript of its content, as far as it is known."""
    has_audio: bool = False
    name: str = ""
    call_id: str = ""
    arguments: str = ""


# -- upstream: the session ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpstreamOpened:
    """Upstream accepted the socket and told its session."""

    upstream_session_id: str
    model: str


@dataclass(frozen=True, slots=True)
class UpstreamConfigured:
    """Upstream applied our configuration."""


@dataclass(frozen=True, slots=True)
class UpstreamLost:
    """The upstream socket closed, could not be opened, or went silent."""

    close_code: int
    reason: str


@dataclass(frozen=True, slots=True)
class UpstreamRefused:
    """Upstream refused something we sent; ``event_id`` is ours, null when it did not say."""

    kind: str
    code: str
    message: str
    event_id: str | None = None
    param: str | None = None
    retry_after_ms: int | None = None
    """When upstream's sentence says to try again; null when it does not."""


@dataclass(frozen=True, slots=True)
class UpstreamNoted:
    """Upstream told something that decides nothing here."""

    type: str


@dataclass(frozen=True, slots=True)
class UpstreamUnknown:
    """Upstream sent a type or a frame that the codec does not know; counted, never fatal."""

    type: str


# -- upstream: the caller's side ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallerSpeechStarted:
    item_id: str
    audio_start_ms: int


@dataclass(frozen=True, slots=True)
class CallerSpeechStopped:
    item_id: str
    audio_end_ms: int


@dataclass(frozen=True, slots=True)
class CallerAudioCommitted:
    item_id: str
    previous_item_id: str | None


@dataclass(frozen=True, slots=True)
class CallerSilenceTimedOut:
    """Upstream's own idle timer ran out and it speaks up by itself."""

    item_id: str


@dataclass(frozen=True, slots=True)
class CallerTranscriptArrived:
    """More of the words of a caller item."""

    item_id: str
    delta: str


@dataclass(frozen=True, slots=True)
class CallerTranscriptEnded:
    """``billed_ms`` is the audio that the transcription model charges for."""

    item_id: str
    text: str
    billed_ms: int = 0


@dataclass(frozen=True, slots=True)
class CallerTranscriptFailed:
    item_id: str
    code: str


# -- upstream: items and responses ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ItemAdded:
    item: UpstreamItem
    previous_item_id: str | None


@dataclass(frozen=True, slots=True)
class ItemDone:
    item: UpstreamItem


@dataclass(frozen=True, slots=True)
class ItemDeleted:
    item_id: str


@dataclass(frozen=True, slots=True)
class ItemTruncated:
    item_id: str
    audio_end_ms: int


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """``create_id`` is what our own create carried in its metadata; null for one that upstream's VAD made."""

    response_id: str
    create_id: str | None


@dataclass(frozen=True, slots=True)
class ResponseEnded:
    response_id: str
    status: ResponseStatus
    reason: str = ""
    """turn_detected, client_cancelled, max_output_tokens, content_filter, or an error's code."""
    message: str = ""
    usage: ResponseUsage | None = None
    create_id: str | None = None
    retry_after_ms: int | None = None
    """When upstream's sentence says to try again; null when it does not."""


@dataclass(frozen=True, slots=True)
class OutputItemAdded:
    response_id: str
    item: UpstreamItem


@dataclass(frozen=True, slots=True)
class OutputItemDone:
    response_id: str
    item: UpstreamItem


@dataclass(frozen=True, slots=True)
class AudioArrived:
    """Audio of an agent item: PCM16 mono 24 kHz, whole samples."""

    response_id: str
    item_id: str
    content_index: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class AudioEnded:
    response_id: str
    item_id: str
    content_index: int


@dataclass(frozen=True, slots=True)
class AgentWordsArrived:
    """More of the words of an agent item: its transcript, or its text when there is no audio."""

    response_id: str
    item_id: str
    content_index: int
    delta: str


@dataclass(frozen=True, slots=True)
class AgentWordsEnded:
    response_id: str
    item_id: str
    content_index: int
    text: str


# -- the link -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallerTyped:
    text: str


@dataclass(frozen=True, slots=True)
class CallerModeChosen:
    mode: Literal["voice", "text"]


@dataclass(frozen=True, slots=True)
class CallerTalked:
    """The push-to-talk key went down or up; ``audio_ms`` is where the connection's caller audio stands."""

    phase: Literal["start", "stop"]
    audio_ms: int = 0


@dataclass(frozen=True, slots=True)
class CallerLevelChanged:
    """The caller's sound began or ended, as the shell measures it; only where barge-in is confirmed."""

    is_loud: bool


@dataclass(frozen=True, slots=True)
class CallerMuted:
    muted: bool


@dataclass(frozen=True, slots=True)
class CallerRated:
    rating: int
    comment: str | None


@dataclass(frozen=True, slots=True)
class CallerHungUp:
    pass


@dataclass(frozen=True, slots=True)
class PlayoutReported:
    """The client received and played this much of an item, in samples."""

    epoch: int
    number: int
    received: int
    played: int


@dataclass(frozen=True, slots=True)
class FlushAnswered:
    """The client is silent; ``number`` was playing (0: nothing) and ``played`` samples of it were heard."""

    epoch: int
    number: int
    played: int


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The gateway's socket is gone: with the client's own word when it had one."""

    reason: Literal["caller", "lost", "drained"]


# -- tools, time, the shell -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """``output`` is JSON text for the model."""

    call_id: str
    status: Literal["ok", "refused", "failed", "unknown_outcome"]
    output: str
    code: str | None = None
    grants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolsSwitched:
    """An operator switched tools off or on: ``off`` are all that are off now, as the model names them."""

    off: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OperatorEnded:
    """An operator ended this session, or all of its business."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time that ``next_deadline_ms`` named has come."""


@dataclass(frozen=True, slots=True)
class ShellFailed:
    """The shell could not perform an effect or keep up; the session cannot go on."""

    code: str
    message: str


Event = (
    UpstreamOpened
    | UpstreamConfigured
    | UpstreamLost
    | UpstreamRefused
    | UpstreamNoted
    | UpstreamUnknown
    | CallerSpeechStarted
    | CallerSpeechStopped
    | CallerAudioCommitted
    | CallerSilenceTimedOut
    | CallerTranscriptArrived
    | CallerTranscriptEnded
    | CallerTranscriptFailed
    | ItemAdded
    | ItemDone
    | ItemDeleted
    | ItemTruncated
    | ResponseStarted
    | ResponseEnded
    | OutputItemAdded
    | OutputItemDone
    | AudioArrived
    | AudioEnded
    | AgentWordsArrived
    | AgentWordsEnded
    | CallerTyped
    | CallerModeChosen
    | CallerTalked
    | CallerLevelChanged
    | CallerMuted
    | CallerRated
    | CallerHungUp
    | PlayoutReported
    | FlushAnswered
    | LinkLost
    | ToolAnswered
    | ToolsSwitched
    | OperatorEnded
    | DeadlinePassed
    | ShellFailed
)
