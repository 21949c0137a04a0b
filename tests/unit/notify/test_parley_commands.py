"""`parley preview`, `parley deliveries` and `parley dead-letters`: what they ask, print, and say when it cannot be."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.http_server import Answer, HttpServer, Reply, Request
from harness.ports import free_port
from parley_launcher.cli import main
from unit.notify.samples import business, route

Parley = Callable[..., tuple[int, str, str]]
LETTER = {
    "topic": "parley.lead.events.dead",
    "partition": 1,
    "offset": 42,
    "key": "lead-1",
    "fact_id": "f-1",
    "fact_type": "parley.lead.captured.v1",
    "cause": "RuntimeError",
    "detail": None,
    "group": "notify",
    "source_topic": "parley.lead.events",
    "source_partition": 3,
    "source_offset": 7,
    "died_at": "2026-03-02T15:06:30+00:00",
    "value_bytes": 120,
    "left_out": None,
    "traceparent": None,
    "replayed_at": None,
}


class Notify:
    """A notify service's door that answers as told and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Reply] = {}
        self.requests: list[Request] = []
        self.http = HttpServer(self._answer)

    def _answer(self, request: Request) -> Answer:
        self.requests.append(request)
        path = request.path.partition("?")[0]
        return self.answers.get(f"{request.method} {path}", Reply(404, b'{"detail": "no such delivery"}'))

    def says(self, call: str, body: Any, status: int = 200) -> None:
        self.answers[call] = Reply(status, json.dumps(body).encode())


@pytest.fixture
def notify() -> Iterator[Notify]:
    door = Notify()
    yield door
    door.http.close()


@pytest.fixture
def parley(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], notify: Notify) -> Parley:
    """Run the command in this process; notify is where the fixture's door is."""

    def run(*args: str, **env: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["parley", *args])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        for name, value in {"COLUMNS": "250", "NOTIFY_PORT": str(notify.http.port), **env}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_a_preview_prints_the_letter_and_writes_its_html(parley: Parley, tmp_path: Path) -> None:
    business(tmp_path / "businesses", route())
    env = {"PARLEY_BUSINESSES_DIR": str(tmp_path / "businesses"), "PARLEY_STATE_DIR": str(tmp_path / "state")}
    code, out, err = parley("preview", "lead.captured", "--business", "harbor", **env)
    page = tmp_path / "state" / "preview" / "harbor.lead.captured.html"
    assert code == 0
    assert out.startswith("Subject: New lead: Ada Example - Harbor Lending")
    assert str(page) in err
    assert "Ada Example" in page.read_text()
    code, _, err = parley("preview", "lead.praised", "--business", "harbor", **env)
    assert (code, "there is no letter lead.praised" in err) == (78, True)
    code, _, err = parley("preview", "lead.captured", "--business", "nobody", **env)
    assert (code, "there is no business 'nobody'" in err) == (78, True)


def test_the_list_asks_with_the_token_and_for_what_was_named(parley: Parley, notify: Notify) -> None:
    notify.says("GET /v1/deliveries", [])
    code, out, _ = parley(
        "deliveries", "list", "--state", "failed", "--subject", "lead-1", PARLEY_INTERNAL_TOKEN="t-1"
    )
    assert (code, out.strip()) == (0, "no such deliveries")
    (request,) = notify.requests
    assert request.headers["authorization"] == "Bearer t-1"
    assert request.path == "/v1/deliveries?state=failed&subject=lead-1&limit=100"


def test_what_notify_refuses_is_one_line_and_no_traceback(parley: Parley, notify: Notify) -> None:
    code, _, err = parley("deliveries", "cancel", "d-1")
    assert (code, "no such delivery" in err, "Traceback" in err) == (1, True, False)
    notify.says("POST /v1/deliveries/d-1/retry", {"detail": "it was delivered"}, 409)
    assert "it was delivered" in parley("deliveries", "retry", "d-1")[2]
    notify.says("GET /v1/dead-letters", {"detail": "the internal token is needed"}, 401)
    assert "PARLEY_INTERNAL_TOKEN" in parley("dead-letters", "list")[2]
    notify.says("GET /v1/dead-letters", {"detail": "the service is still starting"}, 503)
    assert "still starting" in parley("dead-letters", "list")[2]


def test_a_notify_that_is_not_there_is_said_with_a_remedy(parley: Parley) -> None:
    code, _, err = parley("deliveries", "list", "--url", f"http://127.0.0.1:{free_port()}")
    assert (code, "notify does not answer" in err, "parley up" in err) == (1, True, True)


def test_a_replay_by_cause_names_only_what_was_not_replayed_yet(parley: Parley, notify: Notify) -> None:
    replayed = LETTER | {"offset": 43, "replayed_at": "2026-03-03T00:00:00Z"}
    notify.says("GET /v1/dead-letters", [LETTER, replayed, LETTER | {"offset": 44, "cause": "invalid_value"}])
    place = {"topic": LETTER["topic"], "partition": 1, "offset": 42}
    notify.says("POST /v1/dead-letters/replay", [place | {"outcome": "erased_subject"}])
    code, out, _ = parley("dead-letters", "replay", "--cause", "RuntimeError")
    assert (code, out.strip()) == (0, "parley.lead.events.dead/1/42: erased subject")
    assert json.loads(notify.requests[-1].body) == {"letters": [place], "again": False}


@pytest.mark.parametrize("args", [(), ("--all", "x/1/2"), ("nonsense",), ("topic/1/x",)])
def test_a_replay_of_nothing_or_nonsense_is_refused(
    parley: Parley, notify: Notify, args: tuple[str, ...]
) -> None:
    code, _, err = parley("dead-letters", "replay", *args)
    assert code == 78
    assert "error:" in err
    assert notify.requests == []


def test_a_replay_that_could_not_be_is_a_failure(parley: Parley, notify: Notify) -> None:
    place = {"topic": "parley.lead.events.dead", "partition": 0, "offset": 9}
    notify.says("POST /v1/dead-letters/replay", [place | {"outcome": "source_gone"}])
    code, out, _ = parley("dead-letters", "replay", "parley.lead.events.dead/0/9")
    assert (code, out.strip()) == (1, "parley.lead.events.dead/0/9: source gone")
