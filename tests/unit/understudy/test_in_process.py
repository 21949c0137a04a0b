"""The understudy under a clock that a test moves: sessions without sockets, in an instant, the same every time."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pybase64
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from contract.ga_types import faults as type_faults
from fakes.brain import decide
from parley_common.audio import silence
from parley_common.clock import ManualClock
from parley_understudy.fault_plan import FaultsInvalid, plan_of
from parley_understudy.in_process import Frame, Latency, Rehearsal, Stand, StandSocket, Troupe
from parley_understudy.light_voice import speech_like
from parley_understudy.settings import Settings
from parley_understudy.wire import Close, FallSilent, Raw, Send, Vanish
from unit.understudy.test_fault_plan import EXAMPLES

URL = "ws://understudy/v1/realtime?model=gpt-realtime-2.1"
TARGET = "/v1/realtime?model=gpt-realtime-2.1"
KEY = {"Authorization": "Bearer any"}
CREATE = {"type": "response.create"}
UPDATE = {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}}
HOUR_MS = 3_600_000


def settled(**changes: Any) -> Settings:
    return Settings(light=True, **changes)


def written(text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": content},
    }


def appended(pcm: bytes) -> dict[str, Any]:
    return {"type": "input_audio_buffer.append", "audio": pybase64.b64encode(pcm).decode()}


def events(frames: list[Frame]) -> list[dict[str, Any]]:
    return [frame.event for frame in frames if isinstance(frame, Send)]


def of(frames: list[Frame], kind: str) -> list[dict[str, Any]]:
    return [event for event in events(frames) if event["type"] == kind]


class Played:
    """A rehearsal on a millisecond count of its own."""

    def __init__(self, target: str = TARGET, *, faults: Any = None, **options: Any) -> None:
        query = f"&faults={quote(json.dumps(faults))}" if faults is not None else ""
        troupe = options.pop("troupe", None) or Troupe(brain=decide)
        self.now_ms = 0
        self.rehearsal = Rehearsal(target + query, troupe=troupe, settings=settled(), **options)
        self.frames = self.rehearsal.open(0)

    def send(self, event: Any) -> list[Frame]:
        sent = self.rehearsal.send(event, self.now_ms)
        self.frames += sent
        return sent

    def wait(self, by_ms: int) -> list[Frame]:
        self.now_ms += by_ms
        sent = self.rehearsal.advance(self.now_ms)
        self.frames += sent
        return sent

    def speak(self, pcm: bytes, chunk_ms: int = 100) -> list[Frame]:
        before = len(self.frames)
        for at in range(0, len(pcm), 48 * chunk_ms):
            self.wait(chunk_ms)
            self.send(appended(pcm[at : at + 48 * chunk_ms]))
        return self.frames[before:]


# -- a rehearsal -----------------------------------------------------------------------------------


def test_a_spoken_turn_is_heard_and_answered_aloud() -> None:
    played = Played()
    heard = played.speak(silence(600) + speech_like("Is it for sale?", "x", 1.0) + silence(1_000))
    assert of(heard, "response.done")[0]["response"]["output"][0]["content"][0]["transcript"] == (
        "You said: Is it for sale?"
    )
    assert of(heard, "response.output_audio.delta")
    assert type_faults(events(played.frames)) == []


def test_an_hour_of_microphone_passes_in_seconds_and_ends_as_the_api_ends_it() -> None:
    played = Played()
    quiet = appended(silence(100))
    while played.now_ms < HOUR_MS:
        played.wait(100)
        played.send(quiet)
    assert events(played.frames)[-1]["error"] == {
        "type": "invalid_request_error",
        "code": "session_expired",
        "message": "Your session hit the maximum duration of 60 minutes.",
        "param": None,
        "event_id": None,
    }
    assert played.frames[-1] == Close(1001, "Your session hit the maximum duration of 60 minutes.")
    assert played.rehearsal.due_ms() is None
    assert played.send(CREATE) == []


@pytest.mark.parametrize(
    ("query", "ends_ms", "minutes"),
    [
        ("", HOUR_MS, 60),
        ("&time_scale=60", 60_000, 60),
        ("&host=azure", HOUR_MS // 2, 30),
        ("&expiry_s=5", 5_000, 60),
    ],
)
def test_a_session_lasts_as_long_as_its_host_scale_and_wish_say(
    query: str, ends_ms: int, minutes: int
) -> None:
    played = Played(TARGET + query)
    assert played.rehearsal.due_ms() == ends_ms
    assert played.wait(ends_ms - 1) == []
    ended = played.wait(1)
    assert ended[-1] == Close(1001, f"Your session hit the maximum duration of {minutes} minutes.")


def test_faster_time_makes_audio_come_faster_too() -> None:
    def lasted(query: str) -> int:
        played = Played(TARGET + query)
        played.send(written("tell me a story"))
        played.send(CREATE)
        while not of(played.frames, "response.done"):
            played.wait(1)
        return played.now_ms

    assert lasted("") > 800
    assert lasted("&time_scale=20") < lasted("") / 10


@pytest.mark.parametrize("scale", [0.3, 0.5, 7, 33.3])
def test_any_scale_comes_to_its_end(scale: float) -> None:
    played = Played(f"{TARGET}&time_scale={scale}&expiry_s=30&pace=3")
    played.send(written("tell me a story"))
    played.send(CREATE)
    played.wait(int(30_000 / scale) + 1)
    assert of(played.frames, "response.done")
    assert isinstance(played.frames[-1], Close)


def test_ears_brain_and_voice_take_the_time_they_are_given() -> None:
    troupe = Troupe(brain=decide, latency=Latency(think_ms=300, speak_ms=150))
    played = Played(troupe=troupe)
    assert [e["type"] for e in events(played.send(CREATE))] == ["response.created"]
    assert played.wait(299) == []
    assert of(played.wait(1), "response.output_audio_transcript.delta")
    assert of(played.wait(140), "response.output_audio.delta") == []
    assert of(played.wait(10), "response.output_audio.delta")


def test_a_recognition_that_is_overtaken_by_more_speech_is_dropped() -> None:
    troupe = Troupe(brain=decide, latency=Latency(hear_ms=100))
    played = Played(troupe=troupe)
    update = {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}
    played.send({"type": "session.update", "session": {"type": "realtime", **update}})
    said = speech_like("My number is", "x", 1.0) + silence(1_000) + speech_like("five", "x", 1.0)
    played.speak(silence(500) + said + silence(1_500))
    (done,) = of(played.frames, "response.done")
    assert done["response"]["output"][0]["content"][0]["transcript"] == "You said: My number is five"


def test_turns_can_be_scripted_whatever_the_audio_is() -> None:
    troupe = Troupe(brain=decide)
    troupe.lines.extend(["First.", "Second."])
    played = Played(troupe=troupe)
    said = silence(500) + speech_like("x", "x", 1.0) + silence(900)
    for _ in range(2):
        played.speak(said)
    texts = [
        done["response"]["output"][0]["content"][0]["transcript"]
        for done in of(played.frames, "response.done")
    ]
    assert texts == ["You said: First.", "You said: Second."]


def test_the_same_calls_at_the_same_times_give_the_same_frames() -> None:
    def run() -> list[Frame]:
        rules = [{"when": {"server": "*"}, "do": "duplicate", "times": "always", "p": 0.1}]
        played = Played(faults=rules)
        played.speak(silence(500) + speech_like("Hello there", "x", 1.0) + silence(900))
        played.wait(5_000)
        return played.frames

    assert run() == run()


@pytest.mark.parametrize(
    ("target", "headers", "code", "close"),
    [
        (TARGET, {}, None, Close(3000, "invalid_request_error")),
        ("/v1/realtime?model=nope", KEY, "invalid_model", Close(4000, "invalid_request_error.invalid_model")),
        (
            f"{TARGET}&time_scale=fast",
            KEY,
            "invalid_query",
            Close(4000, "invalid_request_error.invalid_query"),
        ),
        (f"{TARGET}&faults=[", KEY, "invalid_faults", Close(4000, "invalid_request_error.invalid_faults")),
        (f"{TARGET}&host=moon", KEY, "invalid_query", Close(4000, "invalid_request_error.invalid_query")),
        (f"{TARGET}&seed=x", KEY, "invalid_query", Close(4000, "invalid_request_error.invalid_query")),
    ],
)
def test_a_handshake_is_judged_as_on_the_socket(
    target: str, headers: dict[str, str], code: str | None, close: Close
) -> None:
    rehearsal = Rehearsal(target, headers=headers, settings=settled())
    error, ending = rehearsal.open(0)
    assert isinstance(error, Send)
    assert error.event["error"]["code"] == code
    assert ending == close
    assert rehearsal.due_ms() is None
    assert rehearsal.id == ""


def test_text_that_is_no_json_and_binary_frames_are_refused() -> None:
    played = Played()
    (not_json,) = events(played.send("{"))
    assert not_json["error"]["code"] == "invalid_json"
    (binary,) = events(played.rehearsal.send_binary(0))
    assert binary["error"]["code"] == "invalid_event"


WHENS = st.sampled_from(
    [
        "open",
        {"server": "*"},
        {"server": "response.*", "nth": 3},
        {"client": "response.create"},
        {"response": 1},
        {"response": 1, "server": "response.output_audio.delta", "nth": 2},
        {"at_ms": 900},
        {"server": "input_audio_buffer.committed"},
    ]
)
RULES = st.builds(
    lambda when, do, times, p: {"when": when, "do": do, "times": times, "p": p},
    WHENS,
    st.sampled_from([do for _, do in EXAMPLES.values()]),
    st.sampled_from([1, 3, "always"]),
    st.sampled_from([0.2, 1.0]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(rules=st.lists(RULES, max_size=5), seed=st.integers(0, 9), beta=st.booleans())
def test_whatever_a_script_does_a_session_ends_or_goes_on_and_never_gets_stuck(
    rules: list[dict[str, Any]], seed: int, beta: bool
) -> None:
    sound = [rule for rule in rules if is_sound(rule)]
    played = Played(TARGET + ("&dialect=beta" if beta else ""), faults={"rules": sound, "seed": seed})
    played.send(written("tell me a story"))
    played.send(CREATE)
    played.wait(200)
    played.speak(speech_like("Stop it", "x", 1.0) + silence(900))
    played.send(CREATE)
    played.wait(HOUR_MS)

    ends = [at for at, frame in enumerate(played.frames) if isinstance(frame, Close | Vanish)]
    assert ends == [len(played.frames) - 1], "it ended, by expiry at the latest, and nothing came after"
    silent = [at for at, frame in enumerate(played.frames) if isinstance(frame, FallSilent)]
    assert all(at == len(played.frames) - 2 for at in silent), "silence lasts until the session is dropped"
    assert played.rehearsal.due_ms() is None
    assert all(json.loads(json.dumps(event))["type"] for event in events(played.frames))


@pytest.mark.parametrize("do", [{"delay_ms": 20}, "silence"])
def test_a_session_whose_last_words_a_script_holds_back_ends_all_the_same(do: Any) -> None:
    played = Played(faults={"rules": [{"when": {"server": "error"}, "do": do}]})
    played.wait(HOUR_MS + 1_000)
    assert isinstance(played.frames[-1], Vanish if do == "silence" else Close)
    assert played.rehearsal.due_ms() is None


def is_sound(rule: dict[str, Any]) -> bool:
    try:
        plan_of([rule])
    except FaultsInvalid:
        return False
    return True


# -- a stand ---------------------------------------------------------------------------------------


async def opened(stand: Stand, url: str = URL) -> StandSocket:
    socket = await stand.connect(url, additional_headers=KEY, compression=None, max_size=None)
    assert json.loads(await socket.recv())["type"] == "session.created"
    return socket


def stand(clock: ManualClock, **options: Any) -> Stand:
    return Stand(clock, settings=settled(), troupe=Troupe(brain=decide), **options)


async def received(socket: StandSocket, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            event: dict[str, Any] = json.loads(await socket.recv())
            if event["type"] == kind:
                return event


async def closed(socket: StandSocket) -> ConnectionClosed:
    async with asyncio.timeout(10):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as ended:
            return ended


async def test_a_client_converses_as_over_a_socket_while_the_test_moves_the_clock() -> None:
    clock = ManualClock()
    socket = await opened(stand(clock))
    await socket.send(json.dumps(written("tell me a story")))
    await socket.send(json.dumps(CREATE).encode(), text=True)
    await clock.advance(200)
    assert await received(socket, "response.output_audio.delta")
    await clock.advance(20_000)
    done = await received(socket, "response.done")
    assert done["response"]["status"] == "completed"
    assert isinstance(await socket.recv(decode=False), bytes)


async def test_an_hour_ends_with_1001_when_the_test_says_so() -> None:
    clock = ManualClock()
    socket = await opened(stand(clock))
    await clock.advance(HOUR_MS - 1)
    assert socket.close_code is None
    await clock.advance(1)
    assert (await received(socket, "error"))["error"]["code"] == "session_expired"
    ended = await closed(socket)
    assert isinstance(ended, ConnectionClosedOK)
    assert socket.close_code == 1001
    with pytest.raises(ConnectionClosedOK):
        await socket.send("{}")


async def test_a_script_for_the_next_connection_is_for_that_one_only() -> None:
    clock = ManualClock()
    stage = stand(clock)
    stage.disturbances.add(plan_of([{"when": {"client": "response.create"}, "do": "drop"}]), 1)
    first, second = await opened(stage), await opened(stage)
    for socket in (first, second):
        await socket.send(json.dumps(CREATE))
    ended = await closed(first)
    assert isinstance(ended, ConnectionClosedError)
    assert (ended.rcvd, first.close_code) == (None, 1006)
    assert await received(second, "response.created")
    assert second.close_code is None


async def test_a_silent_server_is_given_up_after_two_pings_went_unanswered() -> None:
    clock = ManualClock()
    stage = stand(clock)
    stage.disturbances.add(plan_of([{"when": {"at_ms": 1_000}, "do": "silence"}]), 1)
    socket = await opened(stage)
    await clock.advance(40_999)
    await socket.send(json.dumps(CREATE))
    assert socket.close_code is None
    await clock.advance(1)
    assert (await closed(socket)).sent is not None
    assert socket.close_code == 1011


async def test_a_close_of_the_clients_is_its_own_and_a_refusal_the_servers() -> None:
    clock = ManualClock()
    stage = stand(clock)
    socket = await opened(stage)
    await socket.close()
    assert isinstance(await closed(socket), ConnectionClosedOK)
    await socket.close(4000, "again")
    assert socket.close_code == 1000
    refused = await stage.connect("ws://understudy/v1/realtime?model=gpt-realtime")
    assert json.loads(await refused.recv())["error"]["message"].startswith("Missing bearer")
    assert (await closed(refused)).rcvd == (await closed(refused)).sent
    assert refused.close_code == 3000


async def test_a_stand_that_is_down_refuses_to_be_dialled() -> None:
    stage = stand(ManualClock())
    stage.down = True
    with pytest.raises(ConnectionRefusedError):
        await stage.connect(URL, additional_headers=KEY)
    stage.down = False
    assert await opened(stage)


async def test_a_thousand_sessions_run_side_by_side_in_one_process() -> None:
    clock = ManualClock()
    stage = stand(clock)
    sockets = [await opened(stage) for _ in range(1_000)]
    for socket in sockets:
        await socket.send(json.dumps(UPDATE))
        await socket.send(json.dumps(written("hello")))
        await socket.send(json.dumps(CREATE))
    await clock.advance(5_000)
    for socket in sockets:
        assert (await received(socket, "response.done"))["response"]["status"] == "completed"
    assert len({socket.session_id for socket in sockets}) == 1_000


def test_a_malformed_frame_is_what_the_client_reads() -> None:
    played = Played(faults=[{"when": {"server": "response.created"}, "do": "malformed"}])
    played.send(CREATE)
    assert len([frame for frame in played.frames if isinstance(frame, Raw)]) == 1
