"""A whole talk against a small gateway: turns, barge-in, what was heard, timings, and every way to fail."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from fakes.gateway import FIRST_EPOCH, FakeGateway, pattern
from harness.ports import free_port
from harness.waiting import until
from parley_common import audio
from parley_common.clock import ScaledClock
from parley_common.contracts import audio_link as wire
from parley_common.errors import ConfigInvalid
from parley_launcher.talk.client import ClientOptions, TalkClient
from parley_launcher.talk.report import Happening, TalkReport
from parley_launcher.talk.run import TalkOptions, run_talk
from parley_launcher.talk.turns import CallerTurn, Patience, spoken, typed

RATE = 5
PATIENCE = Patience(quiet_ms=200, greeting_ms=400, answer_ms=3_000, ready_ms=2_000)


def tone(duration_ms: int) -> bytes:
    at = np.arange(audio.ms_to_samples(duration_ms))
    return (np.sin(at / 20) * 8_000).astype("<i2").tobytes()


ASK = spoken("ask.wav", tone(300))


@asynccontextmanager
async def gateway(**changes: object) -> AsyncIterator[tuple[FakeGateway, ScaledClock]]:
    clock = ScaledClock(RATE)
    async with FakeGateway.running(clock=clock, **changes) as running:
        yield running, clock


async def talk(
    running: FakeGateway,
    clock: ScaledClock,
    *turns: CallerTurn,
    told: list[Happening] | None = None,
    **more: object,
) -> TalkReport:
    options = TalkOptions("cap", turns, running.url, patience=PATIENCE, **{"max_s": 60.0, **more})  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        return await run_talk(options, clock=clock, observer=(told if told is not None else []).append)


def agent_samples(path: Path) -> np.ndarray:
    return np.frombuffer(audio.read_wav(path), "<i2")


async def test_a_spoken_turn_is_heard_answered_and_written_as_it_was_played(tmp_path: Path) -> None:
    async with gateway(tool="look_up") as (running, clock):
        report = await talk(running, clock, ASK, out=tmp_path / "agent.wav")

    assert report.ok, report.failure
    assert [item.role for item in report.items] == ["assistant", "user", "assistant"]
    assert (report.tools[0].name, report.tools[0].outcome) == ("look_up", "ok")
    assert report.ended == "caller"
    assert report.oddities == {}
    samples = agent_samples(tmp_path / "agent.wav")
    whole = audio.ms_to_samples(600)
    expected = np.frombuffer(pattern(1, 0, whole) + pattern(3, 0, whole), "<i2")
    assert np.array_equal(samples[samples != 0], expected)
    (turn,) = report.turns
    assert turn.voice_to_voice_ms is not None
    assert turn.voice_to_voice_ms > 0


async def test_the_microphone_streams_without_a_gap_from_sample_0() -> None:
    async with gateway() as (running, clock):
        await talk(running, clock, ASK)

    firsts = [first for first, _ in running.session.uplink]
    assert firsts == list(range(0, len(firsts) * audio.FRAME_SAMPLES, audio.FRAME_SAMPLES))
    said = b"".join(pcm for _, pcm in running.session.uplink)
    assert ASK.pcm is not None
    assert ASK.pcm in said


async def test_barging_in_cuts_what_is_heard_where_it_was_flushed(tmp_path: Path) -> None:
    stop = spoken("stop.wav", tone(200), barge_in_ms=250)
    async with gateway(item_ms=2_000, greeting=None) as (running, clock):
        report = await talk(running, clock, ASK, stop, out=tmp_path / "agent.wav")

    assert report.ok, report.failure
    (flush,) = report.flushes
    cut = next(item for item in report.items if item.flushed)
    assert cut.number == flush.item
    assert audio.ms_to_samples(250) <= cut.played == flush.played < cut.samples
    assert cut.heard is not None
    assert cut.text.startswith(cut.heard)
    assert cut.heard != cut.text
    samples = agent_samples(tmp_path / "agent.wav")
    last = report.items[-1]
    expected = pattern(cut.number, 0, cut.played) + pattern(last.number, 0, last.played)
    assert np.array_equal(samples[samples != 0], np.frombuffer(expected, "<i2"))
    assert running.session.sent(wire.Flushed) == [wire.Flushed(FIRST_EPOCH + 1, cut.number, cut.played)]
    assert report.turns[1].barge_in_to_flush_ms is not None


async def test_several_turns_are_said_in_order_each_after_the_answer_before() -> None:
    told: list[Happening] = []
    async with gateway(greeting=None) as (running, clock):
        report = await talk(running, clock, typed("one"), typed("two"), told=told)

    assert report.ok, report.failure
    assert [message.text for message in running.session.sent(wire.Text)] == ["one", "two"]
    order = [
        h.kind for h in told if h.kind == "types" or (h.kind == "item" and h.data["role"] == "assistant")
    ]
    assert order == ["types", "item", "item", "types", "item", "item"]


async def test_only_typing_opens_a_text_session_and_sends_no_audio() -> None:
    async with gateway() as (running, clock):
        report = await talk(running, clock, typed("hello"))

    assert running.session.opened is not None
    assert running.session.opened.mode == "text"
    assert running.session.uplink == []
    assert (
        report.agent_text == "Hello, this is the greeting. one two three four five six seven eight nine ten"
    )


async def test_typing_with_a_file_to_write_is_a_voice_session(tmp_path: Path) -> None:
    async with gateway(greeting=None) as (running, clock):
        report = await talk(running, clock, typed("hello"), out=tmp_path / "agent.wav")

    assert running.session.opened is not None
    assert running.session.opened.mode == "voice"
    assert report.items[-1].played == audio.ms_to_samples(600)


async def test_both_sides_are_mixed_onto_one_time_line(tmp_path: Path) -> None:
    async with gateway(greeting=None) as (running, clock):
        report = await talk(running, clock, ASK, mix=tmp_path / "both.wav")

    with wave.open(str(tmp_path / "both.wav")) as file:
        assert file.getnchannels() == 2
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    speech_starts_ms = int(np.flatnonzero(both[:, 0])[0]) // 24
    answer_starts_ms = int(np.flatnonzero(both[:, 1])[0]) // 24
    (turn,) = report.turns
    assert abs(speech_starts_ms - turn.started_at_ms) <= 60 * RATE
    assert turn.voice_to_voice_ms is not None
    assert answer_starts_ms == turn.speech_ended_at_ms + turn.voice_to_voice_ms


async def test_playout_is_reported_about_every_100_ms_and_when_an_item_is_over() -> None:
    async with gateway(item_ms=1_000, greeting=None) as (running, clock):
        await talk(running, clock, ASK)

    played = [report.played for report in running.session.sent(wire.Playout)]
    assert played == sorted(played)
    assert played[-1] == audio.ms_to_samples(1_000)
    assert len(played) >= 3


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ({"never_answers": True}, "no_answer"),
        ({"breaks_after_open": 1011}, "internal_error"),
        ({"hangs_up_after": 1}, "ended_early"),
        ({"refuse_open": wire.Error("token_used", "seen before", fatal=True)}, "token_used"),
        ({"token_status": 429, "token_body": {"error": {"code": "too_many", "message": "slow"}}}, "too_many"),
        ({"business": "another"}, "unknown_business"),
    ],
)
async def test_a_session_that_fails_is_reported_with_its_code(script: dict[str, object], code: str) -> None:
    async with gateway(greeting=None, **script) as (running, clock):
        report = await talk(running, clock, typed("hello"), typed("more"))

    assert report.failure is not None
    assert (report.failure.code, report.ok) == (code, False)


async def test_an_agent_that_hangs_up_after_the_last_turn_is_fine() -> None:
    async with gateway(greeting=None, hangs_up_after=1) as (running, clock):
        report = await talk(running, clock, typed("bye"))

    assert (report.failure, report.ended) == (None, "agent")


async def test_a_session_that_never_gets_ready_is_given_up() -> None:
    async with gateway(never_ready=True) as (running, clock):
        report = await talk(running, clock, typed("hello"))

    assert report.failure is not None
    assert report.failure.code == "not_ready"


async def test_a_talk_ends_after_its_longest_time_whatever_the_agent_does() -> None:
    async with gateway(item_ms=60_000, greeting=None) as (running, clock):
        report = await talk(running, clock, ASK, max_s=3.0)

    assert report.failure is not None
    assert report.failure.code == "too_long"


async def test_a_gateway_that_is_not_there_is_reported_with_how_to_start_it() -> None:
    report = await run_talk(TalkOptions("cap", (typed("hello"),), f"http://127.0.0.1:{free_port()}"))

    assert report.failure is not None
    assert report.failure.remedy is not None
    assert report.session_id is None
    assert "parley up" in report.failure.remedy


async def test_a_file_that_cannot_be_written_is_said_before_anything_is_dialled(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with gateway() as (running, clock):
        with pytest.raises(ConfigInvalid, match="cannot be written"):
            await talk(running, clock, ASK, out=tmp_path / "file" / "agent.wav")

    assert running.tokens_asked == []


async def test_breaches_of_the_protocol_are_counted_and_survived() -> None:
    stray = wire.pack_downlink(FIRST_EPOCH - 1, 9, 0, pattern(9, 0, 480))
    async with gateway(greeting=None, extra_on_ready=("nonsense", stray)) as (running, clock):
        report = await talk(running, clock, typed("hello"))

    assert report.ok
    assert report.oddities == {"invalid_json": 1, "stale_epoch": 1}


async def test_the_report_is_json_with_everything_in_it() -> None:
    async with gateway(greeting=None) as (running, clock):
        report = await talk(running, clock, typed("hello"))

    summary = report.as_json()
    assert (summary["type"], summary["ok"]) == ("summary", True)
    assert summary["items"][-1]["text"].startswith("one two")


async def test_a_client_can_be_driven_by_hand() -> None:
    async with gateway(greeting=None) as (running, clock):
        options = ClientOptions(running.url, "cap", keep_audio=False)
        async with TalkClient.open(options, clock=clock) as client:
            client.say(tone(200))
            await until(lambda: client.view.playout.played_samples, why="the answer to be played")
            await client.mute(True)
            await until(lambda: running.session.sent(wire.Mute), why="the mute to arrive")
            sent_frames = len(running.session.uplink)
            await client.send(wire.Feedback(5))
            await until(lambda: running.session.sent(wire.Feedback), why="the feedback to arrive")

    assert len(running.session.uplink) == sent_frames
    assert running.session.sent(wire.Hangup) == [wire.Hangup()]


async def test_an_error_of_the_driver_comes_out_as_it_is() -> None:
    async with gateway(greeting=None) as (running, clock):
        with pytest.raises(LookupError, match="mine"):
            async with TalkClient.open(ClientOptions(running.url, "cap"), clock=clock):
                raise LookupError("mine")
