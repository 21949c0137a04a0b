"""What any gateway must do for a client of parley.v1, as checks over real sockets: docs/client-protocol.md in short.

Each check opens sessions of its own and stands alone. What the agent says is not judged, nor how fast. Law: every wait
has a deadline, and a check that saw nothing to judge says so instead of passing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from parley_common import audio
from parley_common.contracts import audio_link as wire
from parley_common.errors import DependencyUnavailable, ParleyError, PeerViolation
from parley_launcher.talk.door import door_of

ANSWER_WITHIN_S = 15.0
"""A session opens within 10 s, and a socket on which nothing is opened is closed after 5 s."""
LISTEN_S = 4.0
BAD_FRAMES: tuple[tuple[str | bytes, str], ...] = (
    ("{", "invalid_json"),
    ('{"type":"shout"}', "unknown_type"),
    ('{"type":"attach"}', "unknown_type"),
    ('{"type":"text"}', "invalid_message"),
    ('{"type":"feedback","rating":9}', "invalid_message"),
    (wire.encode(wire.Text("x" * (wire.TEXT_MAX_CHARS + 1))), "text_too_long"),
    (bytes(wire.UPLINK_HEADER_BYTES), "odd_frame"),
    (bytes(wire.UPLINK_HEADER_BYTES + 3), "odd_frame"),
    (wire.encode(wire.Open()), "already_open"),
)
VIOLATIONS_MAX = 20

M = TypeVar("M")


class NotConforming(Exception):
    """A gateway did something else than the protocol says."""


class NothingToSee(Exception):
    """The check could not judge: what it is about did not happen."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one check ended. ``is_good`` null: there was nothing to judge."""

    name: str
    is_good: bool | None
    detail: str = ""


class Client:
    """One socket in a check's hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, message: wire.FromClient) -> None:
        await self.socket.send(wire.encode(message))

    async def send(self, data: str | bytes) -> None:
        await self.socket.send(data)

    async def next(self) -> wire.ToClient | bytes:
        """Return the next thing that arrives. Raises ConnectionClosed."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            data = await self.socket.recv()
        return data if isinstance(data, bytes) else wire.decode_to_client(data)

    async def expect(self, kind: type[M]) -> M:
        """Read on until a message of ``kind`` comes."""
        try:
            while True:
                message = await self.next()
                if isinstance(message, kind):
                    return message
                if isinstance(message, wire.Error) and message.fatal:
                    raise NotConforming(f"{message.code} came where {kind.__name__.lower()} was due")
        except ConnectionClosed as gone:
            raise NotConforming(f"closed ({gone}) where {kind.__name__.lower()} was due") from gone

    async def closed(self) -> int:
        """Read on until the gateway closes; return its code, 1006 when it only vanished."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as gone:
            return gone.rcvd.code if gone.rcvd else 1006

    async def refused(self, code: str, close: int) -> None:
        """Expect a fatal error with this code, and this close after it."""
        error = await self.expect_error()
        _same("error code", error.code, code)
        _same("fatal", error.fatal, True)
        _same("close code", await self.closed(), close)

    async def expect_error(self) -> wire.Error:
        """Read on until an error comes, fatal or not."""
        try:
            while True:
                message = await self.next()
                if isinstance(message, wire.Error):
                    return message
        except ConnectionClosed as gone:
            raise NotConforming(f"closed ({gone}) without an error that says why") from gone

    async def answers(self) -> None:
        """Expect a pong: the session goes on."""
        await self.say(wire.Ping(12.5))
        _same("t_ms", (await self.expect(wire.Pong)).t_ms, 12.5)


class Visit:
    """A gateway under test."""

    def __init__(self, url: str, business: str, api_key: str | None = None) -> None:
        self._door = door_of(url)
        self._business = business
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    @property
    def business(self) -> str:
        return self._business

    async def ask(self, business: str) -> httpx.Response:
        """Ask for a token. Raises DependencyUnavailable."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_WITHIN_S) as http:
                body = {"business": business, "channel": "cli"}
                return await http.post(self._door.tokens_url, json=body, headers=self._headers)
        except (httpx.TransportError, httpx.InvalidURL) as wrong:
            raise DependencyUnavailable(
                f"cannot reach the gateway at {self._door.tokens_url}: {wrong}",
                code="gateway_unreachable",
            ) from wrong

    async def ticket(self) -> dict[str, Any]:
        """Return the answer to a request for a token. Raises NotConforming."""
        answer = await self.ask(self._business)
        _same("status of POST /v1/tokens", answer.status_code, 200)
        body: dict[str, Any] = answer.json()
        missing = {"token", "expires_in_s", "url", "session_id"} - set(body)
        if missing:
            raise NotConforming(f"the token's answer lacks {', '.join(sorted(missing))}")
        return body

    @asynccontextmanager
    async def socket(self, subprotocol: str | None = wire.SUBPROTOCOL) -> AsyncIterator[Client]:
        """A socket on which nothing was opened yet. It offers compression, which a gateway must not take."""
        url = self._door.audio_url or (await self.ticket())["url"]
        async with connect(
            url,
            subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
            max_size=2 * wire.FRAME_MAX_BYTES,
            close_timeout=2,
            ping_interval=None,
            proxy=None,
        ) as socket:
            yield Client(socket)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[tuple[Client, wire.Ready]]:
        """A running session in text mode, hung up at the end."""
        ticket = await self.ticket()
        async with self.socket() as client:
            await client.say(wire.Open(token=ticket["token"], mode="text", client="parley-conform"))
            ready = await client.expect(wire.Ready)
            _same("session", ready.session, ticket["session_id"])
            yield client, ready
            if client.socket.close_code is None:
                await client.say(wire.Hangup())
                await client.closed()


Check = Callable[[Visit], Awaitable[None]]


def _same(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise NotConforming(f"{what} is {seen!r}, not {wanted!r}")


# -- getting in -----------------------------------------------------------------------------------


async def an_unknown_business_is_a_404_with_the_body_of_errors(visit: Visit) -> None:
    answer = await visit.ask("there-is-no-such-business")
    if answer.status_code in {401, 403}:
        raise NothingToSee("this deployment tells strangers nothing of its businesses")
    _same("status", answer.status_code, 404)
    _same("code", answer.json()["error"]["code"], "unknown_business")


async def a_token_opens_a_session_that_says_its_format_and_limits(visit: Visit) -> None:
    async with visit.session() as (_, ready):
        _same("audio", ready.audio, wire.AudioFormat())
        _same("uplink_sample", ready.uplink_sample, 0)
        _same("frame_max_bytes", ready.limits.frame_max_bytes, wire.FRAME_MAX_BYTES)
        if not ready.resume:
            raise NotConforming("ready carries no resume token")


async def nothing_is_compressed(visit: Visit) -> None:
    async with visit.session() as (client, _):
        _same("extensions", list(client.socket.protocol.extensions), [])


async def without_the_subprotocol_the_socket_is_closed(visit: Visit) -> None:
    async with visit.socket(None) as client:
        await client.refused("unsupported_protocol", 1002)


async def the_first_message_is_open(visit: Visit) -> None:
    for first in (wire.encode(wire.Text("hello")), wire.pack_uplink(0, bytes(960))):
        async with visit.socket() as client:
            await client.send(first)
            await client.refused("open_expected", 1008)


async def nothing_opened_is_closed_in_time(visit: Visit) -> None:
    async with visit.socket() as client:
        await client.refused("open_timeout", 4408)


async def an_open_takes_one_token_and_one_format(visit: Visit) -> None:
    forged = "forged"
    wrong = {
        "open_invalid": wire.Open(),
        "unsupported_audio": wire.Open(forged, audio=wire.AudioFormat(rate_hz=16_000)),
        "token_invalid": wire.Open(forged),
    }
    for code, opening in wrong.items():
        async with visit.socket() as client:
            await client.say(opening)
            await client.refused(code, 1008)


async def a_token_opens_at_most_two_sessions_and_is_used_then(visit: Visit) -> None:
    token, opened = (await visit.ticket())["token"], 0
    for _ in range(4):
        async with visit.socket() as client:
            await client.say(wire.Open(token=token, mode="text"))
            try:
                await client.expect(wire.Ready)
            except NotConforming as refused:
                if "token_used" not in str(refused):
                    raise
                return
            opened += 1
            await client.say(wire.Hangup())
            await client.closed()
    raise NotConforming(f"one token opened {opened} sessions")


# -- a session ------------------------------------------------------------------------------------


async def a_ping_is_answered(visit: Visit) -> None:
    async with visit.session() as (client, _):
        await client.answers()


async def a_bad_frame_is_an_error_with_its_code_and_the_session_goes_on(visit: Visit) -> None:
    async with visit.session() as (client, _):
        for data, code in BAD_FRAMES:
            await client.send(data)
            error = await client.expect_error()
            _same("error code", error.code, code)
            _same("fatal", error.fatal, False)
        await client.answers()


async def too_many_bad_frames_end_it(visit: Visit) -> None:
    async with visit.session() as (client, _):
        for _ in range(VIOLATIONS_MAX):
            await client.send("{")
            _same("error code", (await client.expect_error()).code, "invalid_json")
        await client.send("{")
        await client.refused("too_many_violations", 1008)


async def an_oversize_frame_ends_it(visit: Visit) -> None:
    async with visit.session() as (client, _):
        await client.send(bytes(wire.FRAME_MAX_BYTES + 2))
        await client.refused("frame_too_large", 1009)


async def gaps_and_repeats_of_caller_audio_are_taken(visit: Visit) -> None:
    async with visit.session() as (client, _):
        for first in (0, 480, 4_800, 480, 5_280):
            await client.send(wire.pack_uplink(first, bytes(960)))
        await client.answers()


async def unknown_fields_are_ignored(visit: Visit) -> None:
    async with visit.session() as (client, _):
        await client.send('{"type":"ping","t_ms":3,"from_the_future":{"a":[1]}}')
        _same("t_ms", (await client.expect(wire.Pong)).t_ms, 3.0)


async def a_hang_up_is_answered_with_ended_and_1000(visit: Visit) -> None:
    async with visit.session() as (client, _):
        await client.say(wire.Hangup())
        await client.expect(wire.Ended)
        _same("close code", await client.closed(), 1000)


async def every_frame_is_of_an_announced_item_and_follows_the_one_before(visit: Visit) -> None:
    ticket = await visit.ticket()
    async with visit.socket() as client:
        await client.say(wire.Open(token=ticket["token"]))
        await client.expect(wire.Ready)
        await client.say(wire.Text("Hello."))
        samples = await _listen(client)
        await client.say(wire.Hangup())
        await client.closed()
    if not samples:
        raise NothingToSee(f"the agent said nothing within {LISTEN_S:g} s")


async def _listen(client: Client) -> int:
    """Read for a while, or to the end of an item that was heard; return how many samples came."""
    announced: dict[int, int] = {}
    epoch = 0
    try:
        async with asyncio.timeout(LISTEN_S):
            while True:
                message = await client.next()
                if isinstance(message, bytes):
                    of, item, first, pcm = wire.unpack_downlink(message)
                    if of < epoch:
                        raise NotConforming(f"audio of epoch {of} came after the flush to {epoch}")
                    if item not in announced:
                        raise NotConforming(f"audio of item {item} came before it was announced")
                    _same(f"first sample of a frame of item {item}", first, announced[item])
                    announced[item] += len(pcm) // wire.BYTES_PER_SAMPLE
                elif isinstance(message, wire.Flush):
                    epoch = message.epoch
                elif isinstance(message, wire.Item) and message.phase == "begins":
                    announced[message.number] = 0
                elif isinstance(message, wire.Item) and message.samples is not None:
                    _same(f"samples of item {message.number}", announced.get(message.number), message.samples)
                    return sum(announced.values())
    except TimeoutError:
        return sum(announced.values())


# -- resuming -------------------------------------------------------------------------------------


async def a_lost_socket_is_resumed_where_it_was(visit: Visit) -> None:
    async with visit.session() as (client, ready):
        count = audio.FRAME_SAMPLES
        for number in range(5):
            await client.send(wire.pack_uplink(number * count, bytes(2 * count)))
        await client.answers()
        client.socket.transport.abort()
        async with visit.socket() as again:
            await again.say(wire.Open(resume=ready.resume, have=()))
            back = await again.expect(wire.Ready)
            _same("session", back.session, ready.session)
            _same("uplink_sample", back.uplink_sample, 5 * count)
            await again.answers()
            await again.say(wire.Hangup())
            await again.expect(wire.Ended)
            await again.closed()


async def of_two_sockets_the_newest_has_the_session(visit: Visit) -> None:
    async with visit.session() as (client, ready), visit.socket() as second:
        await second.say(wire.Open(resume=ready.resume))
        await second.expect(wire.Ready)
        while (await client.expect(wire.Notice)).code != "replaced":
            pass
        _same("close code", await client.closed(), 4409)
        await second.answers()
        await second.say(wire.Hangup())
        await second.closed()


async def what_is_over_is_not_resumed(visit: Visit) -> None:
    async with visit.session() as (client, ready):
        await client.say(wire.Hangup())
        await client.closed()
    async with visit.socket() as again:
        await again.say(wire.Open(resume=ready.resume))
        await again.refused("resume_unknown", 1008)


CHECKS: tuple[Check, ...] = (
    an_unknown_business_is_a_404_with_the_body_of_errors,
    a_token_opens_a_session_that_says_its_format_and_limits,
    nothing_is_compressed,
    without_the_subprotocol_the_socket_is_closed,
    the_first_message_is_open,
    nothing_opened_is_closed_in_time,
    an_open_takes_one_token_and_one_format,
    a_token_opens_at_most_two_sessions_and_is_used_then,
    a_ping_is_answered,
    a_bad_frame_is_an_error_with_its_code_and_the_session_goes_on,
    too_many_bad_frames_end_it,
    an_oversize_frame_ends_it,
    gaps_and_repeats_of_caller_audio_are_taken,
    unknown_fields_are_ignored,
    a_hang_up_is_answered_with_ended_and_1000,
    every_frame_is_of_an_announced_item_and_follows_the_one_before,
    a_lost_socket_is_resumed_where_it_was,
    of_two_sockets_the_newest_has_the_session,
    what_is_over_is_not_resumed,
)


async def judge(visit: Visit, on_verdict: Callable[[Verdict], None]) -> None:
    """Make every check in turn and tell each verdict. Raises DependencyUnavailable when nobody answers at all."""
    await visit.ask(visit.business)
    for check in CHECKS:
        on_verdict(await _verdict(visit, check))


async def _verdict(visit: Visit, check: Check) -> Verdict:
    name = getattr(check, "__name__", "check").replace("_", " ")
    try:
        await check(visit)
    except NothingToSee as nothing:
        return Verdict(name, None, str(nothing))
    except NotConforming as wrong:
        return Verdict(name, False, str(wrong))
    except TimeoutError:
        return Verdict(name, False, f"no answer within {ANSWER_WITHIN_S:g} s")
    except PeerViolation as wrong:
        return Verdict(name, False, f"what came is no message of {wire.SUBPROTOCOL}: {wrong.message}")
    except (OSError, InvalidHandshake, ConnectionClosed, ParleyError, ValueError, KeyError) as wrong:
        return Verdict(name, False, f"{type(wrong).__name__}: {wrong}")
    return Verdict(name, True)
