"""Slack-compatible webhooks: what is posted, that nobody is mentioned by a caller's words, and what answers mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fakes.slack import FakeSlack
from harness.http_server import Reply, Reset
from parley_common.clock import ManualClock
from parley_common.contracts.people import Person
from parley_notify.channels.guarded_http import WebhookRules
from parley_notify.channels.outcome import Delivered, Outcome, Refused, TryAgain
from parley_notify.channels.slack import SECTIONS_MAX, SlackChannel
from parley_notify.delivery import Delivery, host_of
from parley_notify.letters import Letters
from unit.notify.samples import business, captured, delivery, full_facts, opened, route

OPEN = WebhookRules(https_only=False, allow_private=True)


def told(fact: Any = None, to: str = "sales", **changes: Any) -> Delivery:
    return delivery(fact, channel="slack", destination=to, **changes)


async def send(slack: FakeSlack, what: Delivery, tmp_path: Path, rules: WebhookRules = OPEN) -> Outcome:
    letters = Letters({"harbor": business(tmp_path / "b", route())})
    hooks = {"sales": SecretStr(slack.url)}
    channel = SlackChannel(letters, hooks, rules, clock=ManualClock(), deadline_s=5)
    try:
        return await channel.send(what)
    finally:
        await channel.aclose()


async def test_a_letter_becomes_a_header_and_its_text(tmp_path: Path) -> None:
    with FakeSlack() as slack:
        assert await send(slack, told(captured()), tmp_path) == Delivered()
    (body,) = slack.taken
    assert body["text"] == "New lead: Dana Reyes - Harbor Lending"
    assert body["blocks"][0]["text"]["text"] == "New lead: Dana Reyes - Harbor Lending"
    section = body["blocks"][1]["text"]["text"]
    assert section.startswith("Harbor Lending (fictional)")
    assert "Phone: +13125550142" in section


async def test_every_fact_is_something_that_slack_takes(tmp_path: Path) -> None:
    facts = full_facts()
    with FakeSlack() as slack:
        for number, fact in enumerate(facts):
            assert await send(slack, told(fact), tmp_path / str(number)) == Delivered()
    assert len(slack.taken) == len(facts)


async def test_what_a_caller_says_mentions_nobody_and_links_nowhere(tmp_path: Path) -> None:
    hostile = Person(name="<!channel> & <https://x.example.com|click>")
    with FakeSlack() as slack:
        await send(slack, told(captured(person=hostile)), tmp_path)
    (body,) = slack.taken
    assert "&lt;!channel&gt; &amp; &lt;https" in body["blocks"][1]["text"]["text"]
    assert "<" not in body["text"]


async def test_a_long_story_is_cut_between_signs_and_still_taken(tmp_path: Path) -> None:
    story = captured(interest={"note": "a&" * 4_000} | {f"field_{n}": "x" * 400 for n in range(60)})
    with FakeSlack() as slack:
        assert await send(slack, told(story), tmp_path) == Delivered()
    sections = [block["text"]["text"] for block in slack.taken[0]["blocks"][1:]]
    assert len(sections) == SECTIONS_MAX
    assert not [text for text in sections if text.replace("&amp;", "").replace("&lt;", "").count("&")]


async def test_a_hook_that_settings_do_not_hold_is_waited_for(tmp_path: Path) -> None:
    with FakeSlack() as slack:
        assert await send(slack, told(to="desk"), tmp_path) == TryAgain("slack_hook_not_set")
    assert slack.taken == []


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Reply(400, b"invalid_payload"), Refused("http_400")),
        (Reply(404, b"no_service"), Refused("http_404")),
        (Reply(410, b"channel_is_archived"), Refused("http_410")),
        (Reply(500, b"rollup_error"), TryAgain("http_500")),
    ],
)
async def test_each_answer_has_one_meaning(answer: Reply, outcome: Outcome, tmp_path: Path) -> None:
    with FakeSlack() as slack:
        slack.then(answer)
        assert await send(slack, told(opened()), tmp_path) == outcome


async def test_a_limit_is_waited_out_as_long_as_slack_asks(tmp_path: Path) -> None:
    with FakeSlack() as slack:
        slack.limit_next(30)
        assert await send(slack, told(), tmp_path) == TryAgain("http_429", 30.0)


async def test_a_lost_answer_is_tried_again(tmp_path: Path) -> None:
    with FakeSlack() as slack:
        slack.then(Reset())
        assert isinstance(await send(slack, told(), tmp_path), TryAgain)


async def test_an_address_in_a_route_is_judged_like_any_webhook(tmp_path: Path) -> None:
    strict = WebhookRules(https_only=False, allow_private=False)
    with FakeSlack() as slack:
        assert await send(slack, told(to=slack.url), tmp_path, strict) == Refused("private_address")


async def test_nothing_is_told_of_an_erased_subject(tmp_path: Path) -> None:
    with FakeSlack() as slack:
        assert await send(slack, told(payload=None), tmp_path) == Refused("payload_erased")


def test_a_hooks_name_is_what_logs_show_and_never_its_address() -> None:
    assert host_of("slack", "sales") == "slack:sales"
    assert host_of("slack", "https://hooks.slack.com/services/T/B/secret") == "hooks.slack.com"
