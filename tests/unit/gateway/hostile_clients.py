"""Clients that send anything at all, drawn by hypothesis, and what the gateway may answer them: documented codes only.

The short form is tests/integration/test_gateway_hostile.py, the long one tests/load/gateway_fuzz.py.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from harness.docs import Page
from harness.waiting import until
from parley_common.contracts.audio_link import (
    Error,
    Feedback,
    Flushed,
    FromClient,
    Hangup,
    Have,
    Mute,
    Open,
    Ping,
    Playout,
    Ready,
    SetMode,
    Stats,
    Talk,
    Text,
    encode,
    pack_uplink,
)
from unit.gateway.world import Caller, World

ROOT = Path(__file__).resolve().parents[3]
OF_THE_LIBRARY = frozenset({1007})
"""A text frame that is not UTF-8 never reaches us."""
Sequence = tuple[str, list[str | bytes], bool]

numbers = st.integers(-(2**40), 2**40) | st.integers(0, 3)
messages: st.SearchStrategy[FromClient] = st.one_of(
    st.builds(Text, st.text(max_size=50) | st.just("x" * 4_001)),
    st.builds(SetMode, st.sampled_from(["voice", "text"])),
    st.builds(Talk, st.sampled_from(["start", "stop"])),
    st.builds(Mute, st.booleans()),
    st.builds(Playout, numbers, numbers, numbers, numbers),
    st.builds(Flushed, numbers, numbers, numbers),
    st.builds(Stats, numbers, numbers),
    st.builds(Feedback, st.integers(-1, 7), st.none() | st.text(max_size=20)),
    st.builds(Ping, st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(
        Open,
        st.none() | st.text(max_size=20),
        st.none() | st.text(max_size=20),
        have=st.none() | st.lists(st.builds(Have, numbers, numbers), max_size=3).map(tuple),
    ),
    st.just(Hangup()),
)
payloads = st.one_of(
    messages.map(encode),
    st.builds(pack_uplink, st.integers(0, 2**33), st.binary(max_size=2_000)),
    st.binary(max_size=200),
    st.text(max_size=100),
    st.sampled_from(["open", "attach", "beat", "ready", "flush", "", "\u0000"]).map(
        lambda kind: f'{{"type":"{kind}"}}'
    ),
    st.just("[" * 2_000),
    st.just('{"type":"ping","x":' + "[" * 20_000 + "]" * 20_000 + "}"),
    st.just(bytes(65_538)),
)
opens = st.sampled_from(["valid", "valid", "valid", "text", "used", "resume", "resume", "none"])
sequences = st.tuples(opens, st.lists(payloads, max_size=30), st.booleans())


@cache
def documented() -> tuple[frozenset[str], frozenset[int]]:
    """Return the error codes and the close codes of docs/client-protocol.md."""
    page = Page("client-protocol", (ROOT / "docs" / "client-protocol.md").read_text("utf-8"))
    (errors,), (closes,) = page.tables("Error codes"), page.tables("Close codes")
    return frozenset(errors.firsts()), frozenset(map(int, closes.firsts()))


def draw(count: int, number: int = 0) -> list[Sequence]:
    """Return ``count`` sequences; the same number draws the same ones."""
    drawn: list[Sequence] = []

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(sequences)
    def keep(sequence: Sequence) -> None:
        drawn.append(sequence)

    keep()
    return drawn


class Tokens:
    """What hostile clients open with: each resume is of the last session that ran."""

    def __init__(self, world: World, used: str) -> None:
        self.world = world
        self.used = used
        self.resume = "forged"

    def opening(self, kind: str) -> Open | None:
        """Return the first message; null when the client sends none."""
        match kind:
            case "valid":
                return Open(token=self.world.token())
            case "text":
                return Open(token=self.world.token(mode="text"))
            case "used":
                return Open(token=self.used)
            case "resume":
                return Open(resume=self.resume, have=(Have(1, 480),))
        return None


async def play(world: World, tokens: Tokens, sequence: Sequence) -> set[str]:
    """Send one sequence, read all that comes back until somebody closes, and return the codes of its errors."""
    kind, sent, is_abrupt = sequence
    codes: set[str] = set()
    with suppress(ConnectionClosed):
        async with world.caller() as caller:
            try:
                opening = tokens.opening(kind)
                if opening is not None:
                    await caller.say(opening)
                for data in sent:
                    await caller.send(data)
                if is_abrupt:
                    caller.socket.transport.abort()
                else:
                    await _leave(caller)
            finally:
                tokens.resume = next(
                    (each.resume for each in caller.messages if isinstance(each, Ready)), tokens.resume
                )
                codes |= {each.code for each in caller.messages if isinstance(each, Error)}
    return codes


async def _leave(caller: Caller) -> None:
    with suppress(ConnectionClosed):
        await caller.say(Hangup())
    code = await caller.closed()
    _, closes = documented()
    assert code in closes | OF_THE_LIBRARY, code


async def nothing_left(world: World) -> None:
    """Wait until no socket and no session is left."""
    await until(lambda: not world.gateway.admission.sockets_count, 20, "every socket to be forgotten")
    assert not world.gateway.sessions
    assert not world.gateway.admission.sessions_count
