"""A whole `parley talk`: say each turn in time, until all is answered; then report, and write what was heard.

When to speak is decided by turns.py; this file does it, measures, and turns every ending into a report.

Law: it returns within ``max_s``, whatever the service does.
"""

from __future__ import annotations

import wave
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from parley_common import audio
from parley_common.clock import Clock, SystemClock
from parley_common.contracts import audio_link as wire
from parley_common.errors import ConfigInvalid, ParleyError
from parley_launcher.talk import turns
from parley_launcher.talk.client import ClientOptions, TalkClient
from parley_launcher.talk.playout import ItemPlayed
from parley_launcher.talk.report import Failure, Happening, TalkReport, TurnReport
from parley_launcher.talk.turns import CallerTurn, Patience

DEFAULT_URL = "http://127.0.0.1:8080"
Observer = Callable[[Happening], None]


@dataclass(frozen=True, slots=True)
class TalkOptions:
    """One talk. ``turns`` are said in order; ``mode`` null: text when nothing is to be spoken or written."""

    business: str
    turns: tuple[CallerTurn, ...] = ()
    url: str = DEFAULT_URL
    mode: wire.Mode | None = None
    out: Path | None = None
    """A WAV of what the caller would have heard."""
    mix: Path | None = None
    """A stereo WAV: caller left, agent right."""
    max_s: float = 600.0
    patience: Patience = field(default_factory=Patience)

    @property
    def effective_mode(self) -> wire.Mode:
        """Voice when anything is spoken, barged in upon, or to be written; else text."""
        if self.mode:
            return self.mode
        is_voice = any(turn.pcm is not None or turn.barge_in_ms is not None for turn in self.turns)
        return "voice" if is_voice or self.out or self.mix else "text"


class Caller(Protocol):
    """Where turns come from when they are not known before: a person at a prompt."""

    async def next_turn(self, client: TalkClient) -> CallerTurn | None:
        """Return what to say next, null when the caller is done or the session is over."""
        ...


async def run_talk(
    options: TalkOptions,
    *,
    clock: Clock | None = None,
    observer: Observer = lambda _: None,
    caller: Caller | None = None,
) -> TalkReport:
    """Hold one session and return what came of it; failures of the session are in the report.

    Raises ConfigInvalid for an address or a file that cannot be used.
    """
    for path in (options.out, options.mix):
        if path:
            _check_writable(path)
    clock = clock or SystemClock()
    talk = _Talk(options, clock, observer, caller)
    report = await talk.run()
    talk.write_audio()
    return report


class _Talk:
    def __init__(self, options: TalkOptions, clock: Clock, observer: Observer, caller: Caller | None) -> None:
        self._options = options
        self._clock = clock
        self._observer = observer
        self._caller = caller
        self._client: TalkClient | None = None
        self._said: list[tuple[CallerTurn, int]] = []
        self._failure: Failure | None = None
        self._began_ms = clock.now_ms()

    async def run(self) -> TalkReport:
        options = self._options
        link = ClientOptions(
            options.url,
            options.business,
            options.effective_mode,
            ready_deadline_ms=options.patience.ready_ms,
        )
        try:
            async with TalkClient.open(link, clock=self._clock, observer=self._observer) as client:
                self._client = client
                await self._converse(client)
        except ConfigInvalid:
            raise
        except ParleyError as wrong:
            self._fail(wrong.stable_code, wrong.message, wrong.remedy)
        return self._report()

    # -- the conversation -------------------------------------------------------------------------

    async def _converse(self, client: TalkClient) -> None:
        phase: turns.Phase = turns.Greeting(client.view.origin_ms)
        script = list(self._options.turns)
        while not client.closed.is_set():
            now_ms = self._clock.now_ms()
            if now_ms - self._began_ms > self._options.max_s * 1000:
                self._fail("too_long", f"not over after {self._options.max_s:g} s", "raise --max-s")
                return
            upcoming = script[0] if script else None
            phase, action = turns.decide(phase, client.observed(), upcoming, self._options.patience)
            match action:
                case turns.Say(turn):
                    script.pop(0)
                    await self._say(client, turn)
                case turns.NoAnswer(waited_ms):
                    said = f"the agent did not answer within {waited_ms / 1000:.0f} s"
                    self._fail("no_answer", said, "is there speech in the file? see .parley/logs/session.log")
                    return
                case turns.Finished():
                    if not self._caller or not (asked := await self._caller.next_turn(client)):
                        return
                    script.append(asked)
                case turns.Wait():
                    await client.changed()
        self._note_unsaid(script)

    async def _say(self, client: TalkClient, turn: CallerTurn) -> None:
        at_ms = client.view.since_ready(self._clock.now_ms())
        self._said.append((turn, at_ms))
        kind = "says" if turn.pcm is not None else "types"
        data = {"turn": len(self._said), "name": turn.name, "barges_in": turn.barge_in_ms is not None}
        self._observer(Happening(kind, at_ms, data))
        if turn.pcm is not None:
            client.say(turn.pcm)
        else:
            await client.type(turn.text or "")

    def _note_unsaid(self, script: Sequence[CallerTurn]) -> None:
        if script and self._client and self._client.view.failure is None:
            said = f"the session ended before {len(script)} of the turns could be said"
            self._fail("ended_early", said, "the agent hung up: give fewer turns, or see the transcript")

    def _fail(self, code: str, message: str, remedy: str | None) -> None:
        failure = Failure(code, message, remedy)
        if self._client is not None:
            self._client.view.fail(failure, self._clock.now_ms())
        elif self._failure is None:
            self._failure = failure
            data = {"code": code, "message": message, "remedy": remedy}
            self._observer(Happening("failed", 0, data))

    # -- what came of it --------------------------------------------------------------------------

    def _report(self) -> TalkReport:
        client = self._client
        if client is None or client.view.ready is None:
            return TalkReport(
                self._options.business, None, (), (), (), (), (), None, self._failure, 0, 0, None, {}
            )
        view = client.view
        now_ms = self._clock.now_ms()
        return TalkReport(
            business=self._options.business,
            session_id=view.ready.session if view.ready else None,
            items=view.item_reports(),
            tools=view.tools,
            notices=tuple(view.notices),
            turns=self._turn_reports(client),
            flushes=tuple(view.flushes),
            ended=view.ended,
            failure=view.failure,
            connect_ms=view.origin_ms - self._began_ms,
            duration_ms=view.since_ready(now_ms),
            round_trip_ms=view.round_trip_ms,
            oddities=view.oddities,
        )

    def _turn_reports(self, client: TalkClient) -> tuple[TurnReport, ...]:
        view = client.view
        played = view.playout.items
        words_ms = [view.since_ready(at_ms) for at_ms in view.words_at_ms]
        ends = [at_ms for _, at_ms in self._said[1:]] + [view.since_ready(self._clock.now_ms()) + 1]
        reports = []
        for (turn, at_ms), until_ms in zip(self._said, ends, strict=False):
            report = turn_report(turn, at_ms, played, words_ms)
            loud_ms = at_ms + turn.speech_starts_ms
            flushed_ms = next((f.at_ms for f in view.flushes if loud_ms <= f.at_ms < until_ms), None)
            to_flush_ms = None if flushed_ms is None else flushed_ms - loud_ms
            reports.append(replace(report, barge_in_to_flush_ms=to_flush_ms))
        return tuple(reports)

    def write_audio(self) -> None:
        """Write the WAVs that were asked for; whatever was heard until a failure is in them."""
        client = self._client
        if client is None or client.view.ready is None:
            return
        until_ms = client.view.origin_ms + client.view.since_ready(self._clock.now_ms())
        agent = client.view.playout.heard_pcm()
        if self._options.out:
            audio.write_wav(self._options.out, agent)
        if self._options.mix:
            caller = client.microphone.heard_pcm()
            whole = client.view.playout.heard_pcm(until_ms)
            write_stereo(self._options.mix, caller, whole)


def turn_report(
    turn: CallerTurn, at_ms: int, played: Sequence[ItemPlayed], words_ms: Sequence[int]
) -> TurnReport:
    """Return the timings of a turn that began ``at_ms``: its answer is what began after its speech ended."""
    spoken = turn.pcm is not None
    speech_ended_ms = at_ms + (turn.speech_ends_ms if spoken else 0)
    starts = [item.started_at_sample for item in played if item.started_at_sample is not None]
    first_sample = min((s for s in starts if s >= audio.ms_to_samples(speech_ended_ms)), default=None)
    first_words_ms = min((ms for ms in words_ms if ms >= speech_ended_ms), default=None)
    voice_ms = None
    if spoken and first_sample is not None:
        voice_ms = audio.samples_to_ms(first_sample) - speech_ended_ms
    words_after_ms = None if first_words_ms is None else first_words_ms - speech_ended_ms
    return TurnReport(turn.name, spoken, at_ms, speech_ended_ms, voice_ms, words_after_ms)


def write_stereo(path: Path, left: bytes, right: bytes) -> None:
    """Write two sides of one time line as a stereo WAV; the shorter one is filled up with silence."""
    length = max(len(left), len(right))
    both = array("h", bytes(2 * length))
    for side, pcm in enumerate((left, right)):
        both[side::2] = array("h", pcm.ljust(length, b"\0"))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(audio.SAMPLE_BYTES)
        file.setframerate(audio.SAMPLE_RATE_HZ)
        file.writeframes(both.tobytes())


def _check_writable(path: Path) -> None:
    """Find out before the talk, not after it. Raises ConfigInvalid."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as wrong:
        raise ConfigInvalid(
            f"{path} cannot be written: {wrong.strerror}", remedy="choose another path"
        ) from wrong
