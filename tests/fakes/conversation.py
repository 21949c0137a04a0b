"""A whole session in one process and in no time: the real conductor, the understudy, a client that plays by the clock.

Only the sockets, Kafka and the clock are fakes. The client is the reference playout buffer of `parley talk`; the
caller says tagged audio when it is their turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from websockets.exceptions import ConnectionClosed

from fakes.brain import decide
from parley_common.audio import ms_to_bytes
from parley_common.clock import Clock, ManualClock
from parley_common.contracts import audio_link as wire
from parley_common.contracts.record import Fact
from parley_common.contracts.sessions import SessionEnded, TurnCompleted
from parley_common.contracts.tool_calls import CallerContext
from parley_launcher.talk.playout import PlayoutBuffer
from parley_session.caller_link import CallerLink
from parley_session.conductor import Conductor, Parts
from parley_session.core.config import Limits, SessionConfig, ToolTarget, TurnTaking
from parley_session.core.effects import EndSession, RequestTool
from parley_session.core.events import ToolAnswered
from parley_session.facts import FactWriter, Subject
from parley_session.realtime_codec import UpstreamProfile
from parley_session.realtime_link import Endpoint, UpstreamSocket
from parley_session.tool_bridge import Requester
from parley_understudy.fault_plan import plan_of
from parley_understudy.in_process import Latency, Stand, StandSocket, Troupe
from parley_understudy.light_voice import speech_like
from parley_understudy.settings import Settings

TICK_MS = 100
QUIET_TICK_MS = 500
PATIENCE_MS = 60_000
"""How long a caller waits for an answer."""
LOOKUP = ToolTarget("look_up", "tools", "look_up", "read", 2_000)
TOOL = {
    "type": "function",
    "name": "look_up",
    "description": "Look something up.",
    "parameters": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
}
PROFILE = UpstreamProfile(
    model="gpt-realtime-2.1",
    instructions="You are Cap.",
    turn_detection={
        "type": "server_vad",
        "silence_duration_ms": 500,
        "create_response": True,
        "interrupt_response": True,
    },
    transcription={"model": "gpt-transcribe"},
    tools=(TOOL,),
)


@dataclass(frozen=True)
class Line:
    """One thing the caller does: says or types ``text``.

    When the agent has been quiet for ``after_ms``, or ``into_ms`` of its audio were heard.
    """

    text: str
    typed: bool = False
    into_ms: int | None = None
    after_ms: int = 1_000


@dataclass
class Shown:
    """What the client was told."""

    transcripts: dict[int, wire.Transcript] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    tools: list[tuple[str, str | None]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    state: str = ""

    def said(self, role: str) -> list[str]:
        """Return the words of one side, in order, as far as they were heard."""
        items = [t for _, t in sorted(self.transcripts.items()) if t.role == role]
        return [t.text if t.heard is None else t.heard for t in items if t.text]


class Client:
    """The far end of the link: a loudspeaker that plays by the clock, a caller who follows a script."""

    def __init__(
        self, clock: Clock, lines: Sequence[Line], *, network_ms: Callable[[], int] = lambda: 0
    ) -> None:
        self.clock = clock
        self.shown = Shown()
        self.lines = deque(lines)
        self.said: list[str] = []
        self.playout: PlayoutBuffer | None = None
        self.flushed: list[tuple[int, int, int]] = []
        """Epoch, item and samples of each answered flush."""
        self.link = GatewayLink(self)
        """The gateway at which it is now."""
        self.resumed_at: wire.Ready | None = None
        """How another gateway welcomed it."""
        self.quiet_since_ms = 0
        self._network_ms = network_ms
        self._arrives_ms = {"up": 0, "down": 0}
        self._mic = bytearray()
        self._sample = 0
        self._heard_before = 0
        self._awaits_after: int | None = None
        """The newest item when the caller last said something; null once an answer to it has begun."""

    # -- its gateways --------------------------------------------------------------------------------

    def gateway_closes(self, code: int) -> None:
        """The gateway is gone, with this close code: what is sent to the client is lost, it plays on what it has."""
        self.link.is_cut_off = True
        self.link.is_closed_with(code)

    def dial_again(self) -> GatewayLink:
        """Return the link of another gateway to this client; its first frame must be the session's ``ready``."""
        self.link.is_cut_off, self.link = True, GatewayLink(self)
        return self.link

    def _later(self, way: str, do: Callable[[], None]) -> None:
        """Let something arrive after the network's delay, never before what was sent earlier."""
        now_ms = self.clock.now_ms()
        at_ms = self._arrives_ms[way] = max(self._arrives_ms[way], now_ms + self._network_ms())
        if at_ms > now_ms:
            self.clock.call_later_ms(at_ms - now_ms, do)
        else:
            do()

    def send(self, message: Any) -> None:
        text = wire.encode(message)
        self._later("up", lambda: self.link.arrive(text))

    def hang_up(self) -> None:
        self.send(wire.Hangup())

    # -- what arrives ------------------------------------------------------------------------------

    def _frame(self, frame: bytes) -> None:
        assert self.playout is not None
        epoch, item, first, pcm = wire.unpack_downlink(frame)
        self.playout.frame(epoch, item, first, pcm, self.clock.now_ms())

    def _text(self, text: str) -> None:
        message, now_ms = wire.decode_down_link(text), self.clock.now_ms()
        match message:
            case wire.Ready() if self.playout is not None:
                self.resumed_at = message
            case wire.Ready():
                self.playout = PlayoutBuffer(origin_ms=now_ms, epoch=message.epoch, keep_audio=False)
                self.quiet_since_ms = now_ms
            case wire.Item(phase="begins") if self.playout:
                self.playout.begins(message.number, message.epoch, now_ms)
            case wire.Item() if self.playout:
                self.playout.ends(message.number, message.samples, now_ms)
            case wire.Flush() if self.playout:
                for answer in self.playout.flush(message.epoch, now_ms):
                    if isinstance(answer, wire.Flushed):
                        self.flushed.append((answer.epoch, answer.item, answer.played))
                    self.send(answer)
            case wire.Pause() if self.playout:
                self.playout.pause(now_ms)
            case wire.Resume() if self.playout:
                self.playout.resume(now_ms)
            case wire.Transcript():
                self.shown.transcripts[message.item] = message
                if message.role == "assistant" and message.item > (self._awaits_after or 0):
                    self._awaits_after = None
            case wire.State():
                self.shown.state = message.state
            case wire.Tool():
                self.shown.tools.append((message.phase, message.outcome))
            case wire.Notice():
                self.shown.notices.append(message.code)
            case wire.Error():
                self.shown.errors.append(message.code)
                self._awaits_after = None
            case wire.Ended():
                self.shown.ended.append(message.reason)
            case _:
                return

    # -- the caller ----------------------------------------------------------------------------------

    def tick(self) -> int:
        """Play, report, speak or be silent, begin the next line when it is time; return how long until the next."""
        if self.playout is None or self.shown.ended:
            return TICK_MS
        now_ms = self.clock.now_ms()
        for report in self.playout.tick(now_ms):
            self.send(report)
        busy = not self.playout.is_drained or self.shown.state != "listening" or bool(self._mic)
        if busy:
            self.quiet_since_ms = now_ms
        if self.lines and not self._mic and self._is_time(now_ms):
            self._begin(self.lines.popleft())
        # Long silence is sent in larger frames, for the sake of the test's own time.
        lasts_ms = TICK_MS if busy or self._mic or now_ms - self.quiet_since_ms < 2_000 else QUIET_TICK_MS
        self._speak(ms_to_bytes(lasts_ms))
        return lasts_ms

    def _is_time(self, now_ms: int) -> bool:
        assert self.playout is not None
        into_ms = self.lines[0].into_ms
        if into_ms is not None:
            heard_ms = (self.playout.played_samples - self._heard_before) // wire.SAMPLES_PER_MS
            if heard_ms >= into_ms and not self.playout.is_drained:
                return True
        return self._is_answered(now_ms) and now_ms - self.quiet_since_ms >= self.lines[0].after_ms

    def _is_answered(self, now_ms: int) -> bool:
        return self._awaits_after is None or now_ms - self.quiet_since_ms >= PATIENCE_MS

    def _begin(self, line: Line) -> None:
        assert self.playout is not None
        self.said.append(line.text)
        self._heard_before = self.playout.played_samples
        self._awaits_after = max(self.shown.transcripts, default=0)
        self.quiet_since_ms = self.clock.now_ms()
        if line.typed:
            self.send(wire.Text(line.text))
        else:
            self._mic += speech_like(line.text, "caller", 1.0)

    def _speak(self, size_bytes: int) -> None:
        pcm = bytes(self._mic[:size_bytes]).ljust(size_bytes, b"\0")
        del self._mic[:size_bytes]
        frame = wire.pack_uplink(self._sample, pcm)
        self._sample += size_bytes // 2
        self._later("up", lambda: self.link.arrive(frame))

    @property
    def is_done(self) -> bool:
        """Everything is said, and it has been quiet for three seconds; or the session is over."""
        if self.shown.ended:
            return True
        quiet = self.clock.now_ms() - self.quiet_since_ms >= 3_000
        said_all = self.playout is not None and not self.lines and not self._mic
        return said_all and quiet and self._is_answered(self.clock.now_ms())


class GatewayLink:
    """The link of one gateway to a client, as the session service holds it."""

    is_choked = False

    def __init__(self, client: Client) -> None:
        self.on_writable: Callable[[], None] | None = None
        self.close_code = 1000
        self.is_cut_off = False
        """What is sent here is lost."""
        self._client = client
        self._waiting: deque[bytes | str] = deque()
        self._on_message: Callable[[bytes | str], None] = self._waiting.append
        self._on_closed: Callable[[], None] = lambda: None

    def arrive(self, data: bytes | str) -> None:
        self._on_message(data)

    def is_closed_with(self, code: int) -> None:
        self.close_code = code
        asyncio.get_running_loop().call_soon(self._tell_closed)

    def _tell_closed(self) -> None:
        self._on_closed()

    async def receive(self) -> bytes | str:
        raise AssertionError("the attach is not played here")

    def listen(self, on_message: Callable[[bytes | str], None], on_closed: Callable[[], None]) -> None:
        self._on_message, self._on_closed = on_message, on_closed
        while self._waiting:
            on_message(self._waiting.popleft())

    def ignore(self) -> None:
        self.listen(lambda _: None, lambda: None)

    def send(self, data: bytes | str) -> bool:
        if not self.is_cut_off:
            take = self._client._text if isinstance(data, str) else self._client._frame
            self._client._later("down", lambda: take(data))  # type: ignore[arg-type]
        return True

    def close(self, code: int, reason: str) -> None:
        self.is_closed_with(code)


class DialledStand:
    """A connection to the stand, shaped like a WebSocket of ours."""

    is_choked = False
    is_clean = True

    def __init__(self, socket: StandSocket) -> None:
        self.on_writable: Callable[[], None] | None = None
        self.close_code, self.close_reason = 1006, ""
        self._socket = socket
        self._sends: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    def listen(self, on_message: Callable[[bytes | str], None], on_closed: Callable[[], None]) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = [asyncio.create_task(self._read(on_message, on_closed))]
        self._tasks.append(asyncio.create_task(self._write()))

    def ping(self, on_pong: Callable[[], None]) -> None:
        raise AssertionError("nothing beats here")

    def abort(self) -> None:
        self.close(1006, "")

    def send_as_text(self, data: bytes) -> bool:
        self._sends.put_nowait(data)
        return True

    def close(self, code: int, reason: str) -> None:
        self._sends.put_nowait(None)

    async def _read(self, on_message: Callable[[bytes | str], None], on_closed: Callable[[], None]) -> None:
        try:
            while True:
                on_message(await self._socket.recv(decode=False))
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                self.close_code, self.close_reason = closed.rcvd.code, closed.rcvd.reason
            on_closed()

    async def _write(self) -> None:
        with suppress(ConnectionClosed):
            while (data := await self._sends.get()) is not None:
                await self._socket.send(data, text=True)
            await self._socket.close()


class Facts:
    """Where the spool would be."""

    def __init__(self) -> None:
        self.told: list[tuple[Fact, str | None]] = []

    def record(
        self, fact: Fact, *, at: datetime, fact_id: str | None = None, traceparent: str | None = None
    ) -> None:
        self.told.append((fact, fact_id))

    @property
    def turns(self) -> list[TurnCompleted]:
        return [fact for fact, _ in self.told if isinstance(fact, TurnCompleted)]

    @property
    def ends(self) -> list[tuple[SessionEnded, str | None]]:
        return [(fact, fact_id) for fact, fact_id in self.told if isinstance(fact, SessionEnded)]


class Tools:
    """Where Kafka and the tools would be: each call is answered after ``takes_ms``."""

    def __init__(self, clock: Clock, takes_ms: int = 300) -> None:
        self.asked: list[RequestTool] = []
        self._clock = clock
        self._takes_ms = takes_ms

    def request(self, requester: Requester, effect: RequestTool, traceparent: str | None) -> bool:
        self.asked.append(effect)
        answer = ToolAnswered(effect.call_id, "ok", '{"say": "It is blue."}')
        self._clock.call_later_ms(self._takes_ms, lambda: requester.on_answer(answer))
        return True

    def forget(self, session_id: str) -> None:
        return


@dataclass
class Conversation:
    """A session with its client, upstream, tools and facts."""

    clock: ManualClock
    client: Client
    stand: Stand
    facts: Facts
    tools: Tools
    conductor: Conductor
    dials: list[str]
    """Every address that was dialled."""
    end: EndSession | None = None

    async def run(self, max_ms: int) -> EndSession:
        """Live until the caller has said everything and hung up, or ``max_ms`` are over. Returns how it ended."""
        task = asyncio.get_running_loop().create_task(self.conductor.run())
        hung_up = False
        while not task.done() and self.clock.now_ms() < max_ms:
            lasts_ms = self.client.tick()
            if self.client.is_done and not hung_up:
                hung_up = True
                self.client.hang_up()
            await self.clock.advance(lasts_ms)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise AssertionError(f"the session was stuck at {self.clock.now_ms()} ms: {self.conductor.state}")
        self.end = task.result()
        return self.end


def conversation(
    lines: Sequence[Line],
    *,
    session_id: str = "01890000-0000-7000-8000-000000000001",
    limits: Limits | None = None,
    turn_taking: TurnTaking | None = None,
    expiry_s: float | None = None,
    latency: Latency | None = None,
    network_ms: Callable[[], int] = lambda: 0,
    seed: int = 1,
    faults: Sequence[Any] = (),
) -> Conversation:
    """Return a session that is ready to run. ``faults`` are the scripts of its first connections, in turn."""
    clock = ManualClock()
    stand = Stand(
        clock,
        settings=Settings(light=True, expiry_s=expiry_s),
        troupe=Troupe(brain=decide, latency=latency or Latency(80, 60, 40)),
        seed=seed,
    )
    for script in faults:
        stand.disturbances.add(plan_of(script), 1)
    client = Client(clock, lines, network_ms=network_ms)
    facts, tools = Facts(), Tools(clock)
    turns = turn_taking or TurnTaking()
    config = SessionConfig(
        session_id=session_id,
        greet_first=False,
        limits=limits or Limits(session_max_ms=10**9, idle_hangup_ms=None),
        turn_taking=turns,
        tools=(LOOKUP,),
    )
    instant = turns.barge_in == "instant"
    detection = {**(PROFILE.turn_detection or {}), "create_response": instant, "interrupt_response": instant}
    profile = replace(PROFILE, turn_detection=None if turns.push_to_talk else detection)
    subject = Subject(session_id, "cap", "1", "cli", None, "session-0", keep_text=True)
    requester = Requester(session_id, "cap", "1", 1, CallerContext())
    dials: list[str] = []

    async def dial(address: str, headers: Mapping[str, str]) -> UpstreamSocket:
        dials.append(address)
        return DialledStand(await stand.connect(address, additional_headers=headers))

    parts = Parts(
        config,
        profile,
        CallerLink(client.link),
        tools,  # type: ignore[arg-type]
        requester,
        FactWriter(subject, facts, clock),  # type: ignore[arg-type]
        clock,
        None,
        {},
        dial,
    )
    endpoint = Endpoint("ws://understudy/v1/realtime", "any")
    return Conversation(clock, client, stand, facts, tools, Conductor(parts, endpoint), dials)
