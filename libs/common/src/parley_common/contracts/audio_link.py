"""The audio protocol ``parley.v1``: what the client socket and the link carry.

Audio travels as binary frames, everything else as JSON text: a union tagged on ``type``, decoded by msgspec.
The client socket and the link (gateway to session service) share one vocabulary; the link adds a few types.
Unknown fields are ignored, so that optional fields can be added; a new type needs a new client.

Law: PCM16 little-endian mono 24 kHz; positions are sample counts, never bytes or milliseconds.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import msgspec

from parley_common.errors import PeerViolation

SUBPROTOCOL = "parley.v1"
LINK_SUBPROTOCOL = "parley.link.v1"
SAMPLE_RATE_HZ = 24_000
BYTES_PER_SAMPLE = 2
SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000
UPLINK_HEADER_BYTES = 4
DOWNLINK_HEADER_BYTES = 12
FRAME_MAX_BYTES = 64 * 1024
"""One second of audio is 48,000 bytes; a client sends 20-40 ms at a time, the service at most a second."""
TEXT_MAX_CHARS = 4_000
PING_EVERY_MS = 5_000
CLIENT_LOST_AFTER_MS = 15_000
RESUME_GRACE_S = 30
"""So long a session waits for a client that lost its socket, and for a gateway that lost its link."""
BEAT_EVERY_MS = 500
LINK_LOST_AFTER_MS = 1_500

LINK_CALLER_HUNG_UP = 4000
LINK_CLIENT_LOST = 4001
LINK_GATEWAY_DRAINING = 4002
LINK_REPLACED = 4003
"""How a link is closed on purpose; by the session service only when another gateway took its session over."""

_UP = struct.Struct("<I")
_DOWN = struct.Struct("<III")

Mode = Literal["voice", "text"]
Role = Literal["user", "assistant"]
AgentState = Literal["listening", "thinking", "speaking", "using_tool"]


class AudioFormat(msgspec.Struct, frozen=True):
    """The one format this version speaks; named so that a later one can be told apart."""

    encoding: Literal["pcm16"] = "pcm16"
    rate_hz: int = SAMPLE_RATE_HZ
    channels: int = 1


class Caller(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of the far end when it opens: never a name, never an address."""

    channel: str = "browser"
    """browser, cli, phone, realtime."""
    page: str | None = None
    """The page the widget stands on; null when there is none."""
    locale: str | None = None
    time_zone: str | None = None


class Limits(msgspec.Struct, frozen=True):
    """What the service holds this client to."""

    frame_max_bytes: int = FRAME_MAX_BYTES
    text_max_chars: int = TEXT_MAX_CHARS
    session_max_s: int = 1_800
    ping_every_ms: int = PING_EVERY_MS
    lost_after_ms: int = CLIENT_LOST_AFTER_MS
    flush_answer_ms: int = 300
    resume_grace_ms: int = RESUME_GRACE_S * 1000
    """A client that lost its socket has this long to come back."""


# -- client to service ----------------------------------------------------------------------------


class Have(msgspec.Struct, frozen=True):
    """So many samples of an item's audio arrived."""

    item: int
    received: int


class Open(msgspec.Struct, frozen=True, tag="open", omit_defaults=True):
    """The first text of a client: who it is and what it wants. Exactly one of ``token`` and ``resume``."""

    token: str | None = None
    resume: str | None = None
    audio: AudioFormat = AudioFormat()
    mode: Mode = "voice"
    page: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    client: str = ""
    """Name and version of the client program, for support."""
    traceparent: str | None = None
    """W3C trace context of the client; null when it has none."""
    have: tuple[Have, ...] | None = None
    """With ``resume``: the items whose audio arrived, in part or whole; null: as the last reports said."""


class Text(msgspec.Struct, frozen=True, tag="text"):
    """The caller typed something. While the agent speaks this is a barge-in too."""

    text: str


class SetMode(msgspec.Struct, frozen=True, tag="mode"):
    """Answer in this mode from now on."""

    mode: Mode


class Talk(msgspec.Struct, frozen=True, tag="talk"):
    """Push-to-talk: the key went down or up."""

    phase: Literal["start", "stop"]


class Mute(msgspec.Struct, frozen=True, tag="mute"):
    """The caller muted or unmuted; while muted the client sends no audio."""

    muted: bool


class Playout(msgspec.Struct, frozen=True, tag="playout"):
    """How much of one item arrived and was played, in samples of that item. About every 100 ms while playing.

    ``played`` is what was rendered less output latency. Items announced earlier in the same epoch are over.
    """

    epoch: int
    item: int
    received: int
    played: int


class Flushed(msgspec.Struct, frozen=True, tag="flushed", omit_defaults=True):
    """The answer to a flush: the old epoch is silent; ``item`` was playing and ``played`` of it was rendered.

    ``item`` 0: nothing was playing.
    """

    epoch: int
    item: int
    played: int
    in_place: bool = False
    """On a link: a gateway answered in place of a client that is away, and has not received the flush."""


class Stats(msgspec.Struct, frozen=True, tag="stats", omit_defaults=True):
    """What the client measured of itself; for dashboards, decides nothing."""

    underruns: int = 0
    late_frames: int = 0
    round_trip_ms: float | None = None
    output_latency_ms: float | None = None


class Feedback(msgspec.Struct, frozen=True, tag="feedback", omit_defaults=True):
    """The caller's rating of the session, 1 to 5."""

    rating: int
    comment: str | None = None


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Are you there? Browsers cannot send WebSocket pings. ``t_ms`` comes back in the pong."""

    t_ms: float = 0.0


class Hangup(msgspec.Struct, frozen=True, tag="hangup"):
    """The caller is done."""


# -- service to client ----------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The session runs. ``resume`` is what to open with after a lost socket; it is replaced by later ones."""

    session: str
    resume: str
    audio: AudioFormat = AudioFormat()
    limits: Limits = Limits()
    epoch: int = 0
    uplink_sample: int = 0
    """The next uplink sample the service expects: 0 for a new session."""


class State(msgspec.Struct, frozen=True, tag="state"):
    """What the agent is doing."""

    state: AgentState


class Item(msgspec.Struct, frozen=True, tag="item", omit_defaults=True):
    """An item begins or ends. ``begins`` comes before its first frame; ``ends`` tells its samples."""

    number: int
    role: Role
    phase: Literal["begins", "ends"]
    epoch: int = 0
    samples: int | None = None
    """Samples of the whole item; null while it begins, and for items without audio."""


class Flush(msgspec.Struct, frozen=True, tag="flush"):
    """Stop playing at once and drop all audio of older epochs; answer with ``flushed``."""

    epoch: int


class Pause(msgspec.Struct, frozen=True, tag="pause"):
    """Hold playout where it is; nothing is dropped."""


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """Go on playing after a pause."""


class Transcript(msgspec.Struct, frozen=True, tag="transcript", omit_defaults=True):
    """The words of an item so far. Each replaces the one before it for the same item."""

    item: int
    role: Role
    text: str
    final: bool = False
    heard: str | None = None
    """After a barge-in: the part of ``text`` that was heard; null when all of it stands."""


class Tool(msgspec.Struct, frozen=True, tag="tool", omit_defaults=True):
    """A tool begins or ends; for people to see, so no arguments and no result."""

    name: str
    phase: Literal["begins", "ends"]
    call: str = ""
    outcome: str | None = None


class Notice(msgspec.Struct, frozen=True, tag="notice", omit_defaults=True):
    """Something the client may show: reconnecting, reconnected, wrap_up, move, rate_limited, replaced."""

    code: str
    message: str = ""
    resume: str | None = None
    """With ``move``: the token to open elsewhere with."""


class Error(msgspec.Struct, frozen=True, tag="error", omit_defaults=True):
    """Something the client did, or asked for, could not be done; ``fatal`` ones are followed by a close."""

    code: str
    message: str
    retry_after_s: float | None = None
    fatal: bool = False


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    t_ms: float = 0.0


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The session is over; the socket closes next."""

    reason: str


# -- link only ------------------------------------------------------------------------------------


class Attach(msgspec.Struct, frozen=True, tag="attach", omit_defaults=True):
    """The gateway gives a session to this replica: new, or with the checkpoint of an earlier owner.

    With ``resume`` the session is here already, and this gateway takes it over from another: newest wins.
    """

    session_id: str
    business: str
    fence: int
    token_id: str
    """The id of the caller's token; a replica refuses one it has seen, so a replay succeeds at most once."""
    caller: Caller = Caller()
    mode: Mode = "voice"
    checkpoint: str | None = None
    uplink_sample: int = 0
    """First sample of the caller audio that follows."""
    traceparent: str | None = None
    resume: bool = False
    have: tuple[Have, ...] | None = None
    """With ``resume``: what its client says it received, as in ``open``."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """This side is going away: checkpoint now, move elsewhere at a quiet moment."""


class Checkpoint(msgspec.Struct, frozen=True, tag="checkpoint"):
    """The sealed state of the session (base64); opaque to the gateway, which keeps the newest."""

    data: str


class Safe(msgspec.Struct, frozen=True, tag="safe"):
    """Caller audio before this uplink sample need not be kept."""

    sample: int


class Load(msgspec.Struct, frozen=True, tag="load"):
    """How full this replica is."""

    sessions: int
    capacity: int
    draining: bool = False


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """I am here; both sides, every 500 ms, lost at 1.5 s."""


FromClient = Open | Text | SetMode | Talk | Mute | Playout | Flushed | Stats | Feedback | Ping | Hangup
ToClient = Ready | State | Item | Flush | Pause | Resume | Transcript | Tool | Notice | Error | Pong | Ended
UpLink = Attach | Drain | Beat | Text | SetMode | Talk | Mute | Playout | Flushed | Stats | Feedback | Hangup
DownLink = Checkpoint | Safe | Load | Beat | Drain | ToClient

_encoder = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {
    union: msgspec.json.Decoder(union) for union in (FromClient, ToClient, UpLink, DownLink)
}


def encode(message: FromClient | ToClient | UpLink | DownLink) -> str:
    """Return the JSON text of a protocol message."""
    return _encoder.encode(message).decode()


def decode_from_client(text: str | bytes) -> FromClient:
    """Read a text frame of a client. Raises PeerViolation with a stable code."""
    return _decode(text, FromClient)  # type: ignore[no-any-return]


def decode_to_client(text: str | bytes) -> ToClient:
    """Read a text frame as a client does. Raises PeerViolation."""
    return _decode(text, ToClient)  # type: ignore[no-any-return]


def decode_up_link(text: str | bytes) -> UpLink:
    """Read a text frame of a gateway. Raises PeerViolation."""
    return _decode(text, UpLink)  # type: ignore[no-any-return]


def decode_down_link(text: str | bytes) -> DownLink:
    """Read a text frame of a session service. Raises PeerViolation."""
    return _decode(text, DownLink)  # type: ignore[no-any-return]


def _decode(text: str | bytes, union: Any) -> Any:
    try:
        return _decoders[union].decode(text)
    except msgspec.ValidationError as wrong:
        code = (
            "unknown_type" if "Invalid value" in str(wrong) and "$.type" in str(wrong) else "invalid_message"
        )
        raise PeerViolation(str(wrong), code=code) from wrong
    except msgspec.DecodeError as wrong:
        raise PeerViolation(str(wrong), code="invalid_json") from wrong


# -- audio frames ---------------------------------------------------------------------------------


def pack_uplink(first_sample: int, pcm: bytes | memoryview) -> bytes:
    """Return an uplink frame: u32 first sample since the session began, then PCM."""
    return _UP.pack(first_sample & 0xFFFFFFFF) + pcm


def unpack_uplink(frame: bytes) -> tuple[int, memoryview]:
    """Return (first sample, PCM). Raises PeerViolation for a frame that is odd, empty or too large."""
    _check_frame(frame, UPLINK_HEADER_BYTES)
    return _UP.unpack_from(frame)[0], memoryview(frame)[UPLINK_HEADER_BYTES:]


def pack_downlink(epoch: int, item: int, first_sample: int, pcm: bytes | memoryview) -> bytes:
    """Return a downlink frame: u32 epoch, u32 item number, u32 first sample of that item, then PCM."""
    return _DOWN.pack(epoch, item, first_sample) + pcm


def unpack_downlink(frame: bytes) -> tuple[int, int, int, memoryview]:
    """Return (epoch, item number, first sample, PCM). Raises PeerViolation."""
    _check_frame(frame, DOWNLINK_HEADER_BYTES)
    epoch, item, first_sample = _DOWN.unpack_from(frame)
    return epoch, item, first_sample, memoryview(frame)[DOWNLINK_HEADER_BYTES:]


def downlink_epoch(frame: bytes) -> int:
    """Return the epoch of a downlink frame that a session service made."""
    return int.from_bytes(frame[:4], "little")


def _check_frame(frame: bytes, header_bytes: int) -> None:
    if len(frame) > FRAME_MAX_BYTES:
        raise PeerViolation(
            f"an audio frame of {len(frame)} bytes; at most {FRAME_MAX_BYTES}",
            close_code=1009,
            code="frame_too_large",
        )
    if len(frame) <= header_bytes or (len(frame) - header_bytes) % BYTES_PER_SAMPLE:
        raise PeerViolation(f"an audio frame of {len(frame)} bytes has no whole samples", code="odd_frame")
