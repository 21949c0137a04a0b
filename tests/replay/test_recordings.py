"""Recorded sessions: nothing in them is unknown to the codec or lost, and the core asks for what was reviewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from parley_session.core import events as ev
from replay.replaying import golden_of, lines, received, recordings, replay

MEANINGFUL = {
    "session.created": ev.UpstreamOpened,
    "session.updated": ev.UpstreamConfigured,
    "response.created": ev.ResponseStarted,
    "response.done": ev.ResponseEnded,
    "response.output_audio.delta": ev.AudioArrived,
    "response.audio.delta": ev.AudioArrived,
    "response.output_item.done": ev.OutputItemDone,
    "response.output_audio_transcript.delta": ev.AgentWordsArrived,
    "response.output_text.delta": ev.AgentWordsArrived,
    "input_audio_buffer.speech_started": ev.CallerSpeechStarted,
    "input_audio_buffer.committed": ev.CallerAudioCommitted,
    "conversation.item.added": ev.ItemAdded,
    "conversation.item.created": ev.ItemAdded,
    "conversation.item.truncated": ev.ItemTruncated,
    "conversation.item.input_audio_transcription.completed": ev.CallerTranscriptEnded,
    "error": ev.UpstreamRefused,
}


def test_there_are_recordings() -> None:
    assert len(recordings()) >= 14


@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.stem)
def test_no_recorded_event_is_unknown_or_lost(path: Path) -> None:
    for _, direction, event in lines(path):
        if direction != "recv":
            continue
        told = received(event)
        assert not isinstance(told, ev.UpstreamUnknown), event["type"]
        expected = MEANINGFUL.get(event["type"])
        assert expected is None or isinstance(told, expected)


@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.stem)
def test_the_core_asks_for_what_was_reviewed(path: Path) -> None:
    assert list(replay(path)) == golden_of(path).read_text(encoding="utf-8").splitlines()
