"""The official client holds conversations with a running understudy; every event is of its GA type."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from contract.understudy_running import Talk, talk, understudy
from fakes.brain import LONG_ANSWER
from parley_common.audio import bytes_to_ms, read_text_tags, read_wav, silence
from parley_understudy.light_voice import speech_like

TRANSCRIBED = {"input": {"transcription": {"model": "gpt-realtime-whisper"}}}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Look up the weather for a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALLER = Path(__file__).parent / "audio" / "caller_08_short_yes.wav"


def said(text: str) -> bytes:
    return silence(600) + speech_like(text, "caller", 1.0) + silence(900)


async def write(conversation: Talk, text: str) -> None:
    item: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await conversation.connection.conversation.item.create(item=item)


def spoken(done: dict[str, Any]) -> str:
    return str(done["response"]["output"][0]["content"][0]["transcript"])


async def test_a_voice_turn_is_heard_and_answered_aloud_in_light_mode() -> None:
    async with understudy() as running, talk(running, audio=TRANSCRIBED) as conversation:
        await conversation.microphone(said("Is the house still for sale?"), speed=20)
        done = await conversation.until("response.done")

    assert spoken(done) == "You said: Is the house still for sale?"
    assert read_text_tags(conversation.audio()) == ["You said: Is the house still for sale?"]
    heard = conversation.of("conversation.item.input_audio_transcription.completed")
    assert [event["transcript"] for event in heard] == ["Is the house still for sale?"]


@pytest.mark.voice
async def test_a_voice_turn_is_heard_and_answered_aloud_with_the_models() -> None:
    async with understudy(light=False, workers=1) as running:
        assert running.mode == "full", running.light_because
        async with talk(running, audio=TRANSCRIBED) as conversation:
            await conversation.microphone(silence(300) + read_wav(CALLER) + silence(1200), speed=4)
            done = await conversation.until("response.done")

    assert spoken(done) == "You said: Yes, that's correct."
    assert bytes_to_ms(len(conversation.audio())) > 1000


async def test_a_text_turn_is_answered_in_text() -> None:
    async with understudy() as running, talk(running, output_modalities=["text"]) as conversation:
        await write(conversation, "Hello there.")
        await conversation.connection.response.create()
        done = await conversation.until("rate_limits.updated")

    done = conversation.of("response.done")[0]
    assert done["response"]["output"][0]["content"] == [
        {"type": "output_text", "text": "You said: Hello there."}
    ]
    assert "".join(event["delta"] for event in conversation.of("response.output_text.delta")) == (
        "You said: Hello there."
    )


async def test_a_tool_round_calls_waits_and_speaks_the_result() -> None:
    async with understudy() as running, talk(running, tools=[WEATHER]) as conversation:
        await write(conversation, "Please get weather of London")
        await conversation.connection.response.create()
        call = await conversation.until("response.function_call_arguments.done")
        await conversation.until("response.done")
        output: Any = {
            "type": "function_call_output",
            "call_id": call["call_id"],
            "output": "Foggy, 12 degrees.",
        }
        await conversation.connection.conversation.item.create(item=output)
        await conversation.connection.response.create()
        done = await conversation.until("response.done")

    assert call["name"] == "get_weather"
    assert spoken(done) == "The answer is: Foggy, 12 degrees."


async def test_a_barged_in_turn_is_cut_truncated_and_forgotten() -> None:
    async with (
        understudy(pace=10) as running,
        talk(running, audio=TRANSCRIBED) as conversation,
        asyncio.TaskGroup() as group,
    ):
        await write(conversation, "Tell me a story.")
        await conversation.connection.response.create()
        first = await conversation.until("response.output_audio.delta")
        group.create_task(conversation.microphone(said("How many items are there?"), speed=20))
        cut = await conversation.until("response.done")
        await conversation.connection.conversation.item.truncate(
            item_id=first["item_id"], content_index=0, audio_end_ms=200
        )
        await conversation.until("conversation.item.truncated")
        done = await conversation.until("response.done")

    assert cut["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert cut["response"]["output"][0]["status"] == "incomplete"
    assert len(spoken(cut)) < len(LONG_ANSWER)
    assert spoken(done) == "You see 2 items: Tell me a story. / How many items are there?"


async def test_a_response_is_cancelled_by_the_client() -> None:
    async with understudy(pace=10) as running, talk(running) as conversation:
        await write(conversation, "Tell me a story.")
        await conversation.connection.response.create()
        await conversation.until("response.output_audio.delta")
        await conversation.connection.response.cancel()
        done = await conversation.until("response.done")

    assert done["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}


async def test_audio_comes_at_least_ten_times_faster_than_real_time_in_deltas_of_a_quarter_second() -> None:
    loop = asyncio.get_running_loop()
    async with understudy() as running, talk(running) as conversation:
        await write(conversation, "Tell me a story.")
        await conversation.connection.response.create()
        await conversation.until("response.output_audio.delta")
        began_s = loop.time()
        await conversation.until("response.done")
        took_ms = (loop.time() - began_s) * 1000

    audio_ms = bytes_to_ms(len(conversation.audio()))
    assert audio_ms > 10_000
    assert audio_ms / took_ms > 8, "13 times real time, less what a busy machine costs"
    sizes = {len(event["delta"]) for event in conversation.of("response.output_audio.delta")}
    assert max(sizes) == 250 * 48 * 4 // 3


async def test_audio_in_g711_goes_both_ways() -> None:
    formats = {
        "input": {"format": {"type": "audio/pcmu"}, "turn_detection": None},
        "output": {"format": {"type": "audio/pcma"}},
    }
    async with understudy() as running, talk(running, audio=formats) as conversation:
        await conversation.connection.input_audio_buffer.append(audio="fn5+" * 400)
        await conversation.connection.input_audio_buffer.commit()
        await conversation.connection.response.create()
        done = await conversation.until("response.done")

    assert spoken(done) == "You said: (unintelligible)", "a text tag does not survive mu-law"
    tokens = done["response"]["usage"]["output_token_details"]["audio_tokens"]
    assert abs(len(conversation.audio()) // 8 // 50 - tokens) <= 1
