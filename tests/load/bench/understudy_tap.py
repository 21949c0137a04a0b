"""The understudy in light mode, with a tap on its sockets: the bench's stamps in, and out, and what else is judged.

Its turn detection takes 64 ms of speech and some silence, its answers come in 250 ms deltas thirteen times as fast as they
are played, and it costs several times what a gateway costs: few callers, then. A stamp in its audio takes the place of the
transcript's tag there.

    python -m load.bench.understudy_tap --port 9004 --log <folder>
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any

import pybase64
import uvloop

from load.bench import stamps, turns
from load.bench.lean_upstream import WRITE_EVERY_S
from load.bench.logs import Log
from load.bench.stamps import now_us
from parley_understudy import server
from parley_understudy.session_socket import SessionSocket, Step
from parley_understudy.settings import Settings
from parley_understudy.wire import Out, Send

_log: Log


class TappedSocket(SessionSocket):
    """A session of the understudy that writes down what passes."""

    _caller: int | None = None
    _sent = 0
    _number = 0
    _frames = 0
    _until_us = 0
    _numbers: dict[str, int]

    def _step_for(self, data: str | bytes) -> Step:
        if isinstance(data, str) and data.startswith('{"type":"input_audio_buffer.append"'):
            begin = data.index('"audio":"') + 9
            stamp = stamps.read(pybase64.b64decode(data[begin : begin + stamps.HEAD_BYTES // 3 * 4]))
            if stamp is not None:
                _log.frame.extend((stamp[1], stamp[0], max(0, now_us() - stamp[1])))
                self._caller = stamp[0] >> stamps.NUMBER_BITS
        elif '"conversation.item.truncate"' in str(data):
            self._truncated(data)
        return super()._step_for(data)

    def _truncated(self, data: str | bytes) -> None:
        event = server.msgspec.json.decode(data)
        number = self._numbers.get(event["item_id"], 0)
        _log.note("truncate", caller=self._caller, number=number, ms=event["audio_end_ms"], t=now_us())

    async def _do(self, out: Out) -> None:
        if isinstance(out, Send):
            kind = out.event["type"]
            if kind == "response.output_audio.delta" and self._caller is not None:
                out = Send(self._stamped(out.event))
            elif kind == "input_audio_buffer.speech_started":
                over = self._number if now_us() < self._until_us else 0
                _log.note("speech", caller=self._caller, t=now_us(), over=over, frames=turns.LEAD_FRAMES)
            elif kind == "response.done" and self._frames:
                status = out.event["response"]["status"]
                over = {"number": self._number, "frames": self._frames, "status": status}
                _log.note("response_over", caller=self._caller, **over, t=now_us())
                self._frames = 0
        await super()._do(out)

    def _stamped(self, event: dict[str, Any]) -> dict[str, Any]:
        assert self._caller is not None
        if not self._frames:
            self._numbers = getattr(self, "_numbers", {})
            TappedSocket._responses += 1
            self._number, self._until_us = TappedSocket._responses, now_us()
            first = self._sent
            _log.note("response", caller=self._caller, number=self._number, first=first, t=now_us())
        self._numbers[event["item_id"]] = self._number
        pcm = pybase64.b64decode(event["delta"])
        stamp = stamps.write(stamps.seq_of(self._caller, self._sent), now_us())
        whole = stamp + pcm[stamps.STAMP_BYTES :]
        self._sent += 1
        self._frames += 1
        self._until_us += len(whole) * 1000 // 48
        return {**event, "delta": pybase64.b64encode(whole).decode()}

    _responses = 0


async def run(port: int, log: Log) -> None:
    """Serve until told to stop."""
    server.SessionSocket = TappedSocket  # type: ignore[misc]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(_write_now_and_then(log))
        settings = Settings(port=port, light=True, log_level="error")
        await server.serve(settings, stop=stop, started=lambda _: print("ready", flush=True))
        writing.cancel()
    log.close()


async def _write_now_and_then(log: Log) -> None:
    while True:
        await asyncio.sleep(WRITE_EVERY_S)
        log.write()


def main() -> None:
    global _log  # noqa: PLW0603 - the tap stands between two classes that know nothing of it
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    args = parser.parse_args()
    _log = Log(args.log, "upstream")
    uvloop.run(run(args.port, _log))


if __name__ == "__main__":
    main()
