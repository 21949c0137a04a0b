"""A leaner upstream than the understudy: as much of the Realtime protocol as the bench needs, at the price of a relay.

The understudy hears, thinks and counts tokens, which takes several times what a gateway takes; on the generator's core it
would itself be the limit. This one knows speech by one sample, answers with tones, and calls one tool. It serves all
systems alike. It cannot: transcribe, think, refuse, price, or find anyone's mistakes in the protocol.

    python -m load.bench.lean_upstream --port 9000 --log <folder> [--burst]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from load.bench import stamps, turns
from load.bench.hearing import Ear
from load.bench.logs import Log
from load.bench.pacing import FRAME_US, SLOTS_MAX, Pacer, share_of
from load.bench.stamps import now_us

APPEND = b'{"type":"input_audio_buffer.append","audio":"'
_HEAD_CHARS = stamps.HEAD_BYTES // 3 * 4
_TEXT = WSMsgType.TEXT
_ZERO = b"\0\0"
_TAIL = b2a_base64(bytes(stamps.FRAME_BYTES - stamps.HEAD_BYTES), newline=False).decode()
WRITE_EVERY_S = 0.5
BURST_EVERY_FRAMES = 13
"""With ``--burst`` audio comes in deltas of 260 ms, thirteen times as fast as it is played."""

_decode = msgspec.json.decode


class Session(WSListener):
    """One upstream session."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._socket: WSTransport
        self._ear = Ear(stand.log, self._begin_turn, self._end_turn)
        self._turns = self._items = self._sent = 0
        self._response = 0
        """Number of the response that is being sent; 0 for none."""
        self._last_response = 0
        self._audible_until_us = 0
        """When a caller who plays without a gap will have heard all that was sent."""
        self._frames = self._spoken = 0
        """Deltas of the response that is being sent; of the last one."""
        self._asked_us = 0
        self._last_item = "null"
        self._delta = ""
        self._metadata: Any = None
        self.slot = 0

    # -- the socket ---------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._socket = transport
        self._stand.add(self)
        self._say("session.created", session={"id": f"sess_{id(self)}", "type": "realtime", "model": "lean"})

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._end_response("gone")
        self._stand.remove(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            raw = frame.get_payload_as_bytes()
            if raw.startswith(APPEND):
                self._hear(raw)
            else:
                self._obey(_decode(raw))
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _say(self, kind: str, **fields: Any) -> None:
        self._socket.send(_TEXT, msgspec.json.encode({"type": kind, "event_id": "event_lean", **fields}))

    # -- hearing ------------------------------------------------------------------------------------

    def _hear(self, raw: bytes) -> None:
        at = len(APPEND)
        self._ear.hear(a2b_base64(raw[at : at + _HEAD_CHARS]))

    def _begin_turn(self, now: int) -> None:
        over = self._last_response if now < self._audible_until_us else 0
        self._items += 1
        self._last_item = f"item_u{self._items}"
        self._say("input_audio_buffer.speech_started", audio_start_ms=0, item_id=self._last_item)
        self._stand.log.note("speech", caller=self._ear.caller, t=now, over=over, frames=self._spoken)
        self._end_response("cancelled")

    def _end_turn(self) -> None:
        item = self._last_item
        self._turns += 1
        self._say("input_audio_buffer.speech_stopped", audio_end_ms=0, item_id=item)
        self._say("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        content = [{"type": "input_audio", "transcript": None}]
        user = {"id": item, "type": "message", "role": "user", "status": "completed", "content": content}
        self._say("conversation.item.added", item=user, previous_item_id=None)
        self._say("conversation.item.done", item=user, previous_item_id=None)
        self._say(
            "conversation.item.input_audio_transcription.completed",
            item_id=item,
            content_index=0,
            transcript="Tell me a story.",
            usage={"type": "duration", "seconds": 1},
        )
        every = self._stand.tool_every
        # Not everybody's turn at once.
        self._answer(with_tool=every > 0 and (self._turns + (self._ear.caller or 0)) % every == 0)

    # -- answering ----------------------------------------------------------------------------------

    def _answer(self, *, with_tool: bool, metadata: Any = None) -> None:
        self._stand.responses += 1
        number = self._response = self._stand.responses
        self._frames = self._spoken = 0
        self._metadata = metadata
        response = {"id": f"resp_{number}", "status": "in_progress", "output": [], "metadata": metadata}
        self._say("response.created", response=response)
        if with_tool:
            self._call()
            return
        item = {"id": f"item_a{number}", "type": "message", "role": "assistant", "content": []}
        item["status"] = "in_progress"
        self._say("response.output_item.added", response_id=f"resp_{number}", output_index=0, item=item)
        self._say("conversation.item.added", item=item, previous_item_id=None)
        part = {"type": "output_audio", "transcript": ""}
        where = {"response_id": f"resp_{number}", "item_id": f"item_a{number}", "output_index": 0}
        self._say("response.content_part.added", **where, content_index=0, part=part)
        self._delta = (
            '{"type":"response.output_audio.delta","event_id":"event_lean",'
            f'"response_id":"resp_{number}","item_id":"item_a{number}","output_index":0,"content_index":0,"delta":"'
        )
        self._stand.log.note("response", caller=self._ear.caller, number=number, first=self._sent, t=now_us())
        self._last_response, self._audible_until_us = number, now_us()
        self._stand.speaking.add(self)
        for _ in range(1 if self._stand.is_burst else turns.LEAD_FRAMES):
            self.speak()

    def speak(self) -> None:
        """Send the next delta of the answer."""
        if not self._response or self._ear.caller is None:
            return
        if self._frames % turns.WORDS_EVERY_FRAMES == 0:
            self._say(
                "response.output_audio_transcript.delta",
                response_id=f"resp_{self._response}",
                item_id=f"item_a{self._response}",
                output_index=0,
                content_index=0,
                delta=f"word{self._frames} ",
            )
        seq = stamps.seq_of(self._ear.caller, self._sent)
        head = b2a_base64(stamps.write(seq, now_us()) + _ZERO, newline=False).decode()
        self._socket.send(_TEXT, f'{self._delta}{head}{self._stand.tail}"}}'.encode())
        self._sent += 1
        self._frames += 1
        self._spoken += 1
        self._audible_until_us += self._stand.delta_us
        if self._frames >= self._stand.answer_frames:
            self._end_response("completed")

    def _end_response(self, status: str) -> None:
        number, self._response = self._response, 0
        if not number:
            return
        frames, self._frames = self._frames, 0
        self._stand.speaking.discard(self)
        self._stand.log.note(
            "response_over", caller=self._ear.caller, number=number, frames=frames, status=status, t=now_us()
        )
        if status == "gone":
            return
        where = {"response_id": f"resp_{number}", "output_index": 0}
        ids = {**where, "item_id": f"item_a{number}", "content_index": 0}
        part = {"type": "output_audio", "transcript": "words"}
        item = {"id": f"item_a{number}", "type": "message", "role": "assistant", "content": [part]}
        item["status"] = "completed" if status == "completed" else "incomplete"
        self._say("response.output_audio.done", **ids)
        self._say("response.output_audio_transcript.done", **ids, transcript="words")
        self._say("response.content_part.done", **ids, part=part)
        self._say("response.output_item.done", **where, item=item)
        self._say("conversation.item.done", item=item, previous_item_id=None)
        reason = {"type": status, "reason": "turn_detected"} if status == "cancelled" else None
        self._done(number, status, reason, [item])

    def _done(self, number: int, status: str, reason: Any, output: list[Any]) -> None:
        response = {
            "id": f"resp_{number}",
            "status": status,
            "status_details": reason,
            "output": output,
            "metadata": self._metadata,
            "usage": {
                "input_token_details": {"audio_tokens": 10},
                "output_token_details": {"audio_tokens": 50},
            },
        }
        self._say("response.done", response=response)

    def _call(self) -> None:
        number, self._response = self._response, 0
        call = {
            "id": f"item_f{number}",
            "type": "function_call",
            "status": "completed",
            "name": turns.TOOL,
            "call_id": f"call_{number}",
            "arguments": turns.TOOL_ARGUMENTS,
        }
        where = {"response_id": f"resp_{number}", "output_index": 0}
        begun = {**call, "status": "in_progress", "arguments": ""}
        self._say("response.output_item.added", **where, item=begun)
        self._say("conversation.item.added", item=begun, previous_item_id=None)
        self._say("response.output_item.done", **where, item=call)
        self._say("conversation.item.done", item=call, previous_item_id=None)
        self._done(number, "completed", None, [call])
        self._asked_us = now_us()

    # -- what it is told ----------------------------------------------------------------------------

    def _obey(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "session.update":
            self._say("session.updated", session=event["session"])
        elif kind == "conversation.item.create":
            self._created(event["item"])
        elif kind == "conversation.item.truncate":
            item_id, end_ms = event["item_id"], event["audio_end_ms"]
            number = int(item_id.removeprefix("item_a"))
            self._stand.log.note("truncate", caller=self._ear.caller, number=number, ms=end_ms, t=now_us())
            self._say("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=end_ms)
        elif kind == "conversation.item.delete":
            self._say("conversation.item.deleted", item_id=event["item_id"])
        elif kind == "response.create":
            if not self._ear.is_heard and not self._response:
                self._answer(with_tool=False, metadata=(event.get("response") or {}).get("metadata"))
        elif kind == "response.cancel":
            self._end_response("cancelled")

    def _created(self, item: dict[str, Any]) -> None:
        if item["type"] == "function_call_output":
            took_us = now_us() - self._asked_us
            ok = '"error"' not in item["output"]
            self._stand.log.note("tool", caller=self._ear.caller, took_us=took_us, ok=ok, t=now_us())
        done = {"status": "completed", **item}
        self._say("conversation.item.added", item=done, previous_item_id=None)
        self._say("conversation.item.done", item=done, previous_item_id=None)


class Speaker(Protocol):
    """A session, as the clock knows it."""

    slot: int

    def speak(self) -> None:
        """Send the next frame of the answer."""
        ...


class Stand:
    """All sessions of the process, and their clock."""

    def __init__(self, log: Log, *, is_burst: bool, tool_every: int, answer_s: float) -> None:
        self.log = log
        self.is_burst = is_burst
        self.tool_every = tool_every
        self.speaking: set[Speaker] = set()
        self.responses = 0
        frames = BURST_EVERY_FRAMES if is_burst else 1
        self.tail = b2a_base64(bytes(stamps.FRAME_BYTES * frames - stamps.HEAD_BYTES), newline=False).decode()
        self.delta_us = frames * FRAME_US
        self.answer_frames = int(answer_s * turns.FRAMES_PER_S / frames)
        self._slots: list[list[Speaker]] = [[] for _ in range(SLOTS_MAX)]
        self._count = 0
        self.pacer = Pacer(self._slot)

    def add(self, session: Speaker) -> None:
        """Give a session its place in time, far from its neighbours'."""
        session.slot = self._count * 33 % SLOTS_MAX
        self._count += 1
        self._slots[session.slot].append(session)

    def remove(self, session: Speaker) -> None:
        self.speaking.discard(session)
        self._slots[session.slot].remove(session)

    def _slot(self, slot: int) -> None:
        for session in self._slots[slot]:
            if session in self.speaking:
                session.speak()

    def write(self) -> None:
        note_lateness(self.log, self.pacer)
        self.log.write()


def note_lateness(log: Log, pacer: Pacer) -> None:
    """Write down how late this program itself was since it was last asked."""
    late = pacer.take_late_us()
    p50_us, p99_us = share_of(late, 0.5), share_of(late, 0.99)
    log.note("late", t=now_us(), p50_us=p50_us, p99_us=p99_us, worst_us=share_of(late, 1.0))


async def serve(
    make: Callable[[], WSListener],
    port: int,
    write: Callable[[], None] = lambda: None,
    *,
    subprotocol: str | None = None,
) -> None:
    """Serve WebSockets with ``make`` until told to stop; ``write`` is called now and then."""

    def listener(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        chosen = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else {}
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(chosen), make())

    server = await ws_create_server(listener, "127.0.0.1", port, backlog=512, enable_auto_pong=False)
    await until_stopped(write)
    server.close()


async def until_stopped(write: Callable[[], None]) -> None:
    """Say that all is ready, and wait for the signal to stop; ``write`` is called now and then."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("ready", flush=True)
    while not stop.is_set():
        try:
            async with asyncio.timeout(WRITE_EVERY_S):
                await stop.wait()
        except TimeoutError:
            write()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument(
        "--burst", action="store_true", help="audio as the real thing sends it: fast, in 260 ms"
    )
    parser.add_argument("--tool-every", type=int, default=turns.TOOL_EVERY_TURNS, help="turns; 0: never")
    parser.add_argument("--answer-s", type=float, default=30.0)
    args = parser.parse_args()

    async def run() -> None:
        log = Log(args.log, "upstream")
        stand = Stand(log, is_burst=args.burst, tool_every=args.tool_every, answer_s=args.answer_s)
        await serve(lambda: Session(stand), args.port, stand.write)
        log.close()

    gc.disable()
    uvloop.run(run())


if __name__ == "__main__":
    main()
