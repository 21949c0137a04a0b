"""A worker process: stateless ears and voice, one job at a time, over its standard input and output.

A frame is a four-byte little-endian length and a msgpack value. First goes out ``[True, ""]`` or ``[False, reason]``:
whether the models could be had. Then each ``["hear", pcm]`` or ``["speak", text, speaker, speed]`` that comes in is
answered by ``[True, result]`` or ``[False, reason]``.

Law: it ends when its input ends, so that no worker outlives its server.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import Any, BinaryIO

import msgspec

from parley_understudy import ears, voice

LENGTH = struct.Struct("<I")


def main() -> None:
    """Serve jobs until standard input ends."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to the whole group; the server ends its workers
    jobs = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land between frames
    _answer(answers, _ready())
    while (job := _next(jobs)) is not None:
        _answer(answers, _done(job))


def _ready() -> list[Any]:
    try:
        ears.warm_up()
        voice.warm_up()
    except Exception as missing:  # noqa: BLE001 - whatever it is, the server goes on without models and says why
        return [False, str(missing)]
    return [True, ""]


def _done(job: list[Any]) -> list[Any]:
    try:
        if job[0] == "hear":
            return [True, ears.transcribe(job[1])]
        return [True, voice.render(job[1], speaker=job[2], speed=job[3])]
    except Exception as wrong:  # noqa: BLE001 - one bad job must not cost the worker; the server is told
        return [False, f"{type(wrong).__name__}: {wrong}"]


def _next(jobs: BinaryIO) -> list[Any] | None:
    head = jobs.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    body = jobs.read(LENGTH.unpack(head)[0])
    job: list[Any] = msgspec.msgpack.decode(body)
    return job


def _answer(answers: BinaryIO, answer: list[Any]) -> None:
    body = msgspec.msgpack.encode(answer)
    answers.write(LENGTH.pack(len(body)) + body)
    answers.flush()


if __name__ == "__main__":
    main()
