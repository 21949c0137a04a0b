"""Call-backs through the tools: asked again until answered, answered once, refused where nobody calls back."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from parley_session import callbacks as module
from parley_session.callbacks import Callbacks, add_callbacks
from parley_session.core.effects import RequestTool
from parley_session.core.events import ToolAnswered
from parley_session.tool_bridge import Requester

WANTED = {"request_id": "0123456789", "business": "cap", "name": "Ann Reed", "phone": "312 555 0143"}
TAKEN = {"say": "Somebody will call you.", "reference": "K7"}


class Bridge:
    """Answers the ``answers_at``-th attempt; 0: none."""

    def __init__(
        self, answer: dict[str, Any], *, status: Any = "ok", code: str | None = None, at: int = 1
    ) -> None:
        self.asked: list[RequestTool] = []
        self.forgotten: list[str] = []
        self._answer = (status, json.dumps(answer), code)
        self._at = at

    def request(self, requester: Requester, effect: RequestTool, traceparent: str | None) -> bool:
        self.asked.append(effect)
        if len(self.asked) == self._at:
            status, output, code = self._answer
            requester.on_answer(ToolAnswered(effect.call_id, status, output, code))
        return True

    def forget(self, session_id: str) -> None:
        self.forgotten.append(session_id)


def asked(bridge: Bridge, *, callback: bool = True, token: str = "inner", **fields: str) -> Any:
    busy = SimpleNamespace(callback=callback)
    cap = SimpleNamespace(name="cap", version="1", config=SimpleNamespace(busy=busy))
    app = FastAPI()
    add_callbacks(app, Callbacks(bridge, {"cap": cap}), "inner")  # type: ignore[arg-type, dict-item]
    with TestClient(app) as http:
        return http.post(
            "/v1/callbacks", json={**WANTED, **fields}, headers={"Authorization": f"Bearer {token}"}
        )


def test_the_tool_s_answer_is_the_answer() -> None:
    bridge = Bridge(TAKEN)
    answer = asked(bridge, about="a duplex")
    assert answer.json() == {**TAKEN, "code": None}
    (call,) = bridge.asked
    assert json.loads(call.arguments) == {"name": "Ann Reed", "phone": "312 555 0143", "about": "a duplex"}
    assert bridge.forgotten == ["0123456789"]


def test_a_tool_that_is_slow_is_asked_again_with_the_same_call_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE_MS", 20)
    bridge = Bridge(TAKEN, at=3)
    assert asked(bridge).json()["reference"] == "K7"
    assert {call.call_id for call in bridge.asked} == {"callback-0123456789"}
    assert [call.attempt for call in bridge.asked] == [1, 2, 3]


def test_without_an_answer_nothing_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE_MS", 20)
    bridge = Bridge(TAKEN, at=0)
    answer = asked(bridge).json()
    assert (answer["code"], answer["reference"]) == ("callback_not_taken", None)
    assert len(bridge.asked) == 3


def test_a_refusal_keeps_its_code_and_words() -> None:
    answer = asked(Bridge({"say": "Which number?"}, status="refused", code="invalid_phone")).json()
    assert (answer["code"], answer["say"]) == ("invalid_phone", "Which number?")


def test_a_business_that_calls_nobody_back_is_not_asked() -> None:
    bridge = Bridge(TAKEN)
    assert asked(bridge, callback=False).json()["code"] == "callback_not_offered"
    assert asked(bridge, business="elm").json()["code"] == "callback_not_offered"
    assert bridge.asked == []


def test_only_a_gateway_may_ask() -> None:
    assert asked(Bridge(TAKEN), token="another").status_code == 401
