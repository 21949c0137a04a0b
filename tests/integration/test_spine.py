"""The whole of Parley, run as a user runs it: what a caller says or types ends in facts, a row, a mail, a webhook."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import sqlite3
import wave
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from harness.kafka import kinds_to_try, start_broker
from harness.processes import Processes
from harness.running import RunningParley
from harness.waiting import until, until_blocking
from harness.webhook_receiver import WebhookReceiver
from parley_common.contracts.audio_link import SAMPLES_PER_MS
from parley_launcher.talk.report import TalkReport
from parley_launcher.talk.turns import CallerTurn, spoken, typed

pytestmark = [pytest.mark.kafka, pytest.mark.voice, pytest.mark.timeout(400)]

WEBHOOK_SECRET = "spine-test-secret"
DEAL = "Hi, I want to buy a rental property for three hundred thousand dollars with twenty five percent down."
RENT = "The property brings in about two thousand four hundred dollars a month in rent."


def words(name: str, email: str, phone: str) -> tuple[str, ...]:
    """What a caller says who has a deal analysed and then leaves name, e-mail, phone and consent."""
    return (
        DEAL,
        RENT,
        f"My name is {name}.",
        f"My email is {email}.",
        f"My phone number is {phone}.",
        "Yes, I agree.",
        "Yes, that's correct.",
    )


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


@pytest.fixture(scope="module")
def parley(tmp_path_factory: pytest.TempPathFactory, receiver: WebhookReceiver) -> Iterator[RunningParley]:
    folder = tmp_path_factory.mktemp("spine")
    broker, _ = start_broker(kinds_to_try())
    with Processes(folder) as processes:
        running = RunningParley(
            processes,
            folder / "state",
            broker,
            NOTIFY_WEBHOOK_URL=receiver.url,
            NOTIFY_WEBHOOK_KEYS=f"spine:{WEBHOOK_SECRET}",
        )
        yield running
        assert running.stop() in {0, 130}
        assert running.proc.survivors() == []
    broker.close()


def say(text: str, speaker: str = "heart", barge_in_ms: int | None = None) -> CallerTurn:
    """Speak ``text`` with the understudy's voice, as a caller's microphone would pick it up."""
    from parley_understudy import voice

    return spoken(text, voice.render(text, speaker=speaker), barge_in_ms)


async def the_lead_went_everywhere(
    parley: RunningParley, receiver: WebhookReceiver, report: TalkReport, name: str, email: str
) -> None:
    """One lead: two facts in order, one row, exactly one mail, exactly one signed webhook."""
    assert report.failure is None, report.failure
    assert report.oddities == {}
    assert [(tool.name, tool.outcome) for tool in report.tools] == [
        ("analyze_deal", "ok"),
        ("save_lead", "ok"),
        ("score_lead", "ok"),
    ]
    session = str(report.session_id)

    async def both_facts() -> bool:
        return len(await parley.facts("parley.lead.events", session_id=session)) == 2

    await until(both_facts, 20, "the lead's two facts")
    captured, qualified = await parley.facts("parley.lead.events", session_id=session)
    assert [captured.type, qualified.type] == ["parley.lead.captured.v1", "parley.lead.qualified.v1"]
    assert [captured.value["seq"], qualified.value["seq"]] == [1, 2]
    assert captured.key == qualified.key == captured.value["lead_id"]
    assert captured.value["person"]["name"] == name
    assert captured.value["person"]["email"] == email
    assert captured.value["consent"]["given"] is True
    rows = parley.rows("tools.db", "select count(*) from leads where lead_id = ?", captured.key)
    assert rows == [(1,)]

    def told() -> bool:
        mine = [m for m in parley.mails() if email in m.text]
        posts = [r for r in receiver.requests if captured.key in r.body.decode()]
        return len(mine) >= 1 and len(posts) >= 1

    await until(told, 20, "a mail and a webhook")
    await parley_is_quiet(parley, captured.key)
    assert len([m for m in parley.mails() if email in m.text]) == 1
    (post,) = [r for r in receiver.requests if captured.key in r.body.decode()]
    assert is_signed(post.headers["parley-signature"], post.body)
    assert qualified.id in post.body.decode()


async def parley_is_quiet(parley: RunningParley, lead_id: str) -> None:
    """Wait until notify has nothing left to do about a lead."""
    query = "select count(*) from deliveries where subject_id = ? and state = 'pending'"
    await until(lambda: parley.rows("notify.db", query, lead_id) == [(0,)], 20, "no pending delivery")


def is_signed(signature: str, body: bytes) -> bool:
    parts = dict(part.split("=", 1) for part in signature.split(","))
    expected = hmac.new(
        WEBHOOK_SECRET.encode(), parts["t"].encode() + b"." + body, hashlib.sha256
    ).hexdigest()
    return hmac.compare_digest(expected, parts["v1"]) and parts["k"] == "spine"


async def test_a_spoken_session_ends_in_facts_a_row_a_mail_and_a_signed_webhook(
    parley: RunningParley, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    script = [
        say(line)
        for line in words(
            "Daniel Cooper",
            "daniel dot cooper at example dot com",
            "four one five, five five five, zero one three two",
        )
    ]
    report = await parley.talk(*script, out=tmp_path / "agent.wav", max_s=240)
    await the_lead_went_everywhere(parley, receiver, report, "Daniel Cooper", "daniel.cooper@example.com")
    assert all(turn.voice_to_voice_ms is not None for turn in report.turns)
    assert loud_ms(tmp_path / "agent.wav") > 10_000
    calls = await parley.facts("parley.tool.calls.tools", session_id=str(report.session_id))
    assert [c.value["tool"] for c in calls] == ["analyze_deal", "save_lead", "score_lead"]
    ended = [
        f
        for f in await parley.facts("parley.session.events", session_id=str(report.session_id))
        if "ended" in f.type
    ]
    assert [(f.value["reason"], f.value["outcome"]) for f in ended] == [("caller", "lead")]


async def test_the_same_conversation_typed_gives_the_same_facts(
    parley: RunningParley, receiver: WebhookReceiver
) -> None:
    script = [typed(line) for line in words("Maria Alvarez", "maria.alvarez@example.com", "415-555-0177")]
    report = await parley.talk(*script)
    await the_lead_went_everywhere(parley, receiver, report, "Maria Alvarez", "maria.alvarez@example.com")


async def test_talking_over_the_agent_truncates_to_what_was_played_and_the_transcript_says_so(
    parley: RunningParley, tmp_path: Path
) -> None:
    out = tmp_path / "agent.wav"
    report = await parley.talk(
        say("What is the difference between a bridge loan and a rental loan?"),
        say("Is there a prepayment penalty on that?", barge_in_ms=2_000),
        out=out,
        max_s=120,
    )
    assert report.failure is None, report.failure
    assert report.oddities == {}
    (flush,) = report.flushes
    (cut,) = [item for item in report.items if item.flushed and item.number == flush.item]
    assert 0 < cut.played < cut.samples, "the agent was cut in the middle"
    assert cut.heard is not None
    assert cut.text.startswith(cut.heard)
    assert len(cut.heard) < len(cut.text)
    # The words credited as heard fit the audio that agent.wav holds of this item: proportionally, at a word's end.
    most = len(cut.text) * cut.played / cut.samples
    assert most - 25 <= len(cut.heard) <= most + 1
    # agent.wav holds what was played and nothing of what was cut: its sounding samples are the played ones.
    played = sum(item.played for item in report.items)
    sounding = np.count_nonzero(samples_of(out))
    assert 0.8 * played < sounding <= played
    turns = [
        f
        for f in await parley.facts("parley.session.events", session_id=str(report.session_id))
        if "turn" in f.type
    ]
    (barged,) = [f for f in turns if f.value["barged_in"]]
    assert abs(barged.value["heard_ms"] - cut.played // SAMPLES_PER_MS) <= 1
    assert barged.value["spoken_ms"] > barged.value["heard_ms"]


async def test_a_session_gets_its_answer_and_one_effect_when_the_tools_process_dies_between_them(
    parley: RunningParley,
) -> None:
    email = "priya.raman@example.com"
    details = words("Priya Raman", email, "415-555-0155")[2:]
    script = [typed(line) for line in ("Please save my details so that someone can contact me.", *details)]
    async with asyncio.TaskGroup() as group:
        with tools_cannot_write(parley):
            talk = group.create_task(parley.talk(*script))
            await until(lambda: held_count(parley) == 1, 40, "save_lead to be in the tools process's hands")
            parley.broker.freeze()  # an answer gets no further than the broker's socket: the session waits or asks again
        await until(lambda: lead_count(parley, email) == 1, 15, "the effect to be committed")
        parley.kill9("tools")
        parley.broker.thaw()
    report = talk.result()
    assert report.failure is None, report.failure
    assert [(tool.name, tool.outcome) for tool in report.tools] == [("save_lead", "ok"), ("score_lead", "ok")]
    assert lead_count(parley, email) == 1
    session = str(report.session_id)

    async def both_facts() -> bool:
        return len(await parley.facts("parley.lead.events", session_id=session)) >= 2

    await until(both_facts, 30, "the lead's facts")
    facts = await parley.facts("parley.lead.events", session_id=session)
    assert len({fact.id for fact in facts}) == 2, "one fact each, told again or not"


@contextmanager
def tools_cannot_write(parley: RunningParley) -> Iterator[None]:
    """Hold the write lock of the tools service's database."""
    with closing(sqlite3.connect(parley.state_dir / "tools.db", isolation_level=None)) as connection:
        connection.execute("begin immediate")
        try:
            yield
        finally:
            connection.execute("rollback")


def held_count(parley: RunningParley) -> int:
    text = httpx.get(f"http://127.0.0.1:{parley.ports['TOOLS_PORT']}/metrics").text
    found = re.search(r"^parley_tool_calls_in_flight_count ([\d.]+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def lead_count(parley: RunningParley, email: str) -> int:
    return int(parley.rows("tools.db", "select count(*) from leads where email = ?", email)[0][0])


def samples_of(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def loud_ms(path: Path) -> int:
    """Return how many milliseconds of ``path`` are louder than -45 dBFS, in 20 ms steps."""
    pcm = samples_of(path).astype(np.float64)
    frames = pcm[: len(pcm) // 480 * 480].reshape(-1, 480)
    return int((np.sqrt((frames**2).mean(axis=1)) > 32767 * 10 ** (-45 / 20)).sum()) * 20


def test_the_services_are_ready_and_the_page_tells_how_to_talk(parley: RunningParley) -> None:
    for name in ("GATEWAY_PORT", "SESSION_PORT", "TOOLS_PORT", "NOTIFY_PORT"):
        base = f"http://127.0.0.1:{parley.ports[name]}"
        until_blocking(lambda base=base: httpx.get(f"{base}/readyz").status_code == 200, 10, f"{name} ready")
        assert httpx.get(f"{base}/healthz").status_code == 200
        assert "parley_" in httpx.get(f"{base}/metrics").text
    assert "parley talk" in httpx.get(parley.url).text
