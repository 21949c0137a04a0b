"""HTTP endpoints of a business as tools: what is sent, what an answer means, what fails, and where none may go."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from harness.http_server import Answer, HttpServer, Reply, Request, Reset, Silence
from parley_common.business import Business, load
from parley_common.contracts.tool_calls import CallerContext, ToolResult
from parley_common.errors import ConfigInvalid
from parley_tools.guarded_http import AddressGuard, guarded_client, is_public
from parley_tools.http_tools import at, filled_json, filled_url, http_tools
from parley_tools.offer import Offer
from parley_tools.own_tools import Outside, take_in
from parley_tools.refusals import Refused
from parley_tools.registry import Registry
from unit.tools.world import World, business_with, world

ZONE: dict[str, Any] = {
    "name": "check_flood_zone",
    "description": "Tell which flood zone a property lies in, from its area and address.",
    "class": "read",
    "url": "URL/zones/{area}",
    "query": {"at": "{address}", "detail": "{detail}"},
    "parameters": {
        "type": "object",
        "properties": {
            "area": {"type": "string", "description": "The area of the property", "maxLength": 40},
            "address": {"type": "string", "description": "The address of the property", "maxLength": 80},
            "detail": {"type": "string", "description": "How much to tell", "enum": ["short", "long"]},
        },
        "required": ["area", "address"],
    },
    "headers": {"Authorization": "Bearer ${FLOOD_KEY}"},
    "answer": {"zone": "/result/0/zone"},
    "say": "That address is in flood zone {zone}.",
    "refusals": {404: "I don't know that address."},
    "deadline_ms": 400,
    "personal": ["address"],
}
ORDER: dict[str, Any] = {
    "name": "order_survey",
    "description": "Order a survey of a property; it cannot be taken back once ordered.",
    "class": "irreversible",
    "method": "POST",
    "url": "URL/surveys",
    "parameters": {
        "type": "object",
        "properties": {
            "address": {"type": "string", "description": "The address of the property", "maxLength": 80},
            "rooms": {"type": "integer", "description": "How many rooms it has", "minimum": 1, "maximum": 50},
        },
        "required": ["address"],
    },
    "say": "The survey is ordered.",
    "deadline_ms": 400,
}
SAID = {"area": "north side", "address": "5 Main & Elm?"}
SECRETS = {"FLOOD_KEY": SecretStr("hush")}


def with_tools(folder: Path, *tools: dict[str, Any], url: str = "https://api.example.com") -> Business:
    """Cap, naming one kit's tool and bringing ``tools``."""
    business = business_with(folder, "analyze_deal")
    path = business.folder / "business.yaml"
    declared = json.loads(json.dumps(list(tools)).replace("URL", url))
    for each in declared:
        if "refusals" in each:
            each["refusals"] = {int(status): say for status, say in each["refusals"].items()}
    path.write_text(path.read_text() + "\n" + yaml.safe_dump({"http_tools": declared}))
    return load(business.folder)


class Place:
    """A world whose business brings HTTP tools."""

    def __init__(self, made: World, offer: Offer) -> None:
        self.world = made
        self.offer = offer
        self.count = 0

    async def ask(self, tool: str, arguments: dict[str, Any], **more: Any) -> ToolResult:
        self.count += 1
        worker = self.world.worker(offer=self.offer)
        return await self.world.ask(
            worker, tool, arguments, call_id=more.pop("call_id", f"call-{self.count}"), **more
        )


@asynccontextmanager
async def place(
    url: str, folder: Path, *tools: dict[str, Any], guard: AddressGuard, base: str
) -> AsyncIterator[Place]:
    business = with_tools(folder, *tools, url=base)
    async with world(url) as made, guarded_client(guard) as http:
        offer = Offer("tools", Registry.of_kits([]), {})
        take_in(offer, business, Outside(http, guard, SECRETS))
        yield Place(made, offer)


Ask = Callable[[Callable[[Request], Answer]], Any]


@pytest.fixture
def served(sqlite_url: str, tmp_path: Path) -> Ask:
    """``async with served(answer) as place``: the two tools against a server that answers so."""

    @asynccontextmanager
    async def opened(answer: Callable[[Request], Answer]) -> AsyncIterator[Place]:
        with HttpServer(answer) as server:
            guard = AddressGuard(allow_private=True)
            async with place(sqlite_url, tmp_path, ZONE, ORDER, guard=guard, base=server.url) as made:
                yield made

    return opened


async def test_what_the_caller_said_is_encoded_into_its_places_and_the_answer_is_mapped(served: Ask) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        return Reply(200, b'{"result": [{"zone": "AE"}], "other": 1}')

    async with served(answer) as here:
        result = await here.ask("check_flood_zone", {**SAID, "detail": None})
    assert result.output == {"zone": "AE", "say": "That address is in flood zone AE."}
    assert asked[0].path == "/zones/north%20side?at=5+Main+%26+Elm%3F"
    assert asked[0].headers["authorization"] == "Bearer hush"


async def test_arguments_not_used_elsewhere_are_the_body_of_a_post(served: Ask) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        return Reply(201)

    async with served(answer) as here:
        result = await here.ask("order_survey", {"address": "5 Elm", "rooms": 4})
    assert (result.status, result.output) == ("ok", {"say": "The survey is ordered."})
    assert json.loads(asked[0].body) == {"address": "5 Elm", "rooms": 4}


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (Reply(404), "refused", "http_404"),
        (Reply(422), "refused", "http_422"),
        (Reply(401), "failed", "provider_refused_us"),
        (Reply(429), "failed", "provider_busy"),
        (Reply(500, b'{"result": []}'), "failed", "provider_unavailable"),
        (Reply(200, b"<html>"), "failed", "provider_talks_nonsense"),
        (Reply(200, b'{"result": NaN}'), "failed", "provider_talks_nonsense"),
        (Reply(200, b"[" * 100_000), "failed", "provider_talks_nonsense"),
        (Reply(200, b'"' + b"x" * 300_000 + b'"'), "failed", "provider_unavailable"),
        (Reply(302, headers={"location": "http://127.0.0.1:1/"}), "failed", "provider_unavailable"),
        (Reset(), "failed", "provider_unavailable"),
        (Silence(), "failed", "tool_timed_out"),
    ],
)
async def test_whatever_a_server_does_is_an_answer_the_agent_can_speak(
    served: Ask, answer: Answer, status: str, code: str
) -> None:
    async with served(lambda request: answer) as here:
        result = await here.ask("check_flood_zone", SAID)
    assert (result.status, result.code) == (status, code)
    assert isinstance(result.output, dict)
    assert isinstance(result.output["say"], str)
    assert "hush" not in str(result)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Reply(500), "unknown_outcome"),
        (Reset(), "unknown_outcome"),
        (Silence(), "unknown_outcome"),
        (Reply(400), "refused"),
        (Reply(429), "failed"),
    ],
)
async def test_an_effect_that_may_have_happened_is_unknown_and_never_asked_for_again(
    served: Ask, answer: Answer, status: str
) -> None:
    asked: list[Request] = []

    def count(request: Request) -> Answer:
        asked.append(request)
        return answer

    async with served(count) as here:
        for _ in range(3):
            result = await here.ask("order_survey", {"address": "5 Elm"}, call_id="the-same")
    assert (result.status, len(asked)) == (status, 1)


async def test_a_server_that_is_not_there_did_nothing_and_may_be_asked_again(
    sqlite_url: str, tmp_path: Path, port: Callable[[], int]
) -> None:
    guard, base = AddressGuard(allow_private=True), f"http://127.0.0.1:{port()}"
    async with place(sqlite_url, tmp_path, ORDER, guard=guard, base=base) as here:
        result = await here.ask("order_survey", {"address": "5 Elm"})
    assert (result.status, result.code) == ("failed", "provider_unavailable")
    assert isinstance(result.output, dict)
    assert result.output["error"]["retryable"] is True  # type: ignore[index, call-overload]


async def test_a_target_that_takes_a_key_gets_one_of_the_session_and_the_call(
    sqlite_url: str, tmp_path: Path
) -> None:
    keys: list[str] = []

    def answer(request: Request) -> Answer:
        keys.append(request.headers["x-once"])
        return Reply(503) if len(keys) == 1 else Reply(200)

    keyed = {**ORDER, "idempotency_header": "X-Once"}
    with HttpServer(answer) as server:
        guard = AddressGuard(allow_private=True)
        async with place(sqlite_url, tmp_path, keyed, guard=guard, base=server.url) as here:
            first = await here.ask("order_survey", {"address": "5 Elm"}, call_id="a")
            again = await here.ask("order_survey", {"address": "5 Elm"}, call_id="a", session_id="session-2")
    assert (first.status, again.status) == ("failed", "ok")
    assert len(set(keys)) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"area": "north"}, "I still need the address of the property."),
        ({**SAID, "detail": "all"}, "how much to tell right"),
        ({**SAID, "area": 7}, "the area of the property right"),
        ({**SAID, "city": "x"}, "say it again"),
    ],
)
async def test_arguments_are_checked_by_the_declared_schema_and_asked_for(
    served: Ask, arguments: dict[str, Any], says: str
) -> None:
    async with served(lambda request: Reply(200, b"{}")) as here:
        result = await here.ask("check_flood_zone", arguments)
    assert (result.status, result.code) == ("refused", "invalid_arguments")
    assert isinstance(result.output, dict)
    assert says in str(result.output["say"])
    assert "all" not in str(result.output["error"]["fields"][0].get("value"))  # type: ignore[index, call-overload]


async def test_a_declared_need_is_enforced_as_any_tools(sqlite_url: str, tmp_path: Path) -> None:
    needing = {**ORDER, "needs": ["verified:owner"]}
    with HttpServer(lambda request: Reply(200)) as server:
        guard = AddressGuard(allow_private=True)
        async with place(sqlite_url, tmp_path, needing, guard=guard, base=server.url) as here:
            refused = await here.ask("order_survey", {"address": "5 Elm"})
            context = CallerContext(grants=("verified:owner-9",))
            done = await here.ask("order_survey", {"address": "5 Elm"}, context=context)
    assert (refused.code, done.status) == ("needs_verified:owner", "ok")


async def test_another_business_cannot_call_it(served: Ask, tmp_path: Path) -> None:
    async with served(lambda request: Reply(200, b"{}")) as here:
        here.offer.put(business_with(tmp_path / "other", "analyze_deal"))
        assert here.offer.tool(here.offer.businesses["cap"], "check_flood_zone") is None
        result = await here.ask("check_flood_zone", SAID)
    assert result.code == "unknown_tool"


# -- where no request may go ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("no address", False),
    ],
)
def test_only_addresses_of_the_open_internet_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["169.254.169.254"]])
async def test_a_name_with_any_special_address_is_not_asked(
    sqlite_url: str, tmp_path: Path, found: list[str]
) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        return Reply(200, b"{}")

    async def resolve(host: str, port: int) -> list[str]:
        return found

    with HttpServer(answer) as server:
        base = server.url.replace("127.0.0.1", "api.example.com")
        guard = AddressGuard(resolve=resolve)
        async with place(sqlite_url, tmp_path, ZONE, guard=guard, base=base) as here:
            result = await here.ask("check_flood_zone", SAID)
    assert (result.status, result.code, asked) == ("failed", "address_refused", [])


async def test_the_socket_goes_to_the_address_that_was_judged_whatever_the_name_means_a_moment_later(
    sqlite_url: str, tmp_path: Path
) -> None:
    asked: list[Request] = []
    resolved: list[str] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        return Reply(200, b"{}")

    async def resolve(host: str, port: int) -> list[str]:
        resolved.append(host)
        return ["127.0.0.1"]

    with HttpServer(answer) as server:
        base = server.url.replace("127.0.0.1", "rebinding.example.com")
        guard = AddressGuard(allow_private=True, resolve=resolve)
        async with place(sqlite_url, tmp_path, ZONE, guard=guard, base=base) as here:
            assert (await here.ask("check_flood_zone", SAID)).status == "ok"
    assert resolved == ["rebinding.example.com"]
    assert asked[0].headers["host"].startswith("rebinding.example.com:")


@pytest.mark.parametrize("how", [socket.gaierror("no"), []])
async def test_a_name_without_an_address_is_away(sqlite_url: str, tmp_path: Path, how: Any) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        if isinstance(how, OSError):
            raise how
        return []

    guard = AddressGuard(resolve=resolve)
    async with place(sqlite_url, tmp_path, ZONE, guard=guard, base="https://gone.example.com") as here:
        assert (await here.ask("check_flood_zone", SAID)).code == "provider_unavailable"


# -- what is filled in where ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("a/b", "/x/a%2Fb"),
        ("?q=1#f", "/x/%3Fq%3D1%23f"),
        ("@evil.example.com", "/x/%40evil.example.com"),
        ("..%2f", "/x/..%252f"),
    ],
)
def test_a_path_segment_stays_one_segment_of_the_same_host(said: str, path: str) -> None:
    url = filled_url("https://api.example.com/x/{id}", {"id": said})
    assert url == f"https://api.example.com{path}"


@pytest.mark.parametrize("said", [".", ".."])
def test_a_segment_that_means_another_place_is_refused(said: str) -> None:
    with pytest.raises(Refused):
        filled_url("https://api.example.com/x/{id}/y", {"id": said})


def test_a_body_keeps_types_and_leaves_out_what_nobody_said() -> None:
    template = {"n": "{rooms}", "text": "{rooms} rooms", "list": ["{a}"], "gone": "{missing}", "null": None}
    filled = filled_json(template, {"rooms": 4, "a": True})
    assert filled == {"n": 4, "text": "4 rooms", "list": [True], "null": None}


@pytest.mark.parametrize(
    ("pointer", "found"),
    [("", {"a/b": [{"c": 1}]}), ("/a~1b/0/c", 1), ("/a~1b/1", None), ("/x/y", None), ("/a~1b/c", None)],
)
def test_a_json_pointer_finds_what_is_there(pointer: str, found: object) -> None:
    assert at({"a/b": [{"c": 1}]}, pointer) == found


# -- what is said about a wrong declaration -------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "ftp://x.example.com"}, "http or https"),
        ({"url": "https://{area}.example.com/"}, "its host is fixed"),
        ({"url": "https://me:pw@x.example.com/"}, "a secret belongs into a header"),
        ({"url": "https://x.example.com/?k=${FLOOD_KEY}"}, "a secret belongs into a header"),
        ({"url": "https://x.example.com/{city}"}, "no parameter is called city"),
        ({"url": "https://x.example.com/{detail}"}, "must be required: detail"),
        ({"parameters": {"type": "array"}}, "type object"),
        ({"parameters": {"type": "object", "properties": {"area": {}}}}, "'area' has no description"),
        ({"headers": {"Host": "x"}}, "not a header that can be set"),
        ({"answer": {"zone": "result"}}, "no JSON pointer"),
        ({"say": "{nothing}"}, "say names nothing"),
        ({"personal": ["age"]}, "personal names no parameter"),
        ({"needs": ["admin"]}, "no consent:<what>"),
        ({"class": "maybe"}, "read"),
        ({"name": "analyze_deal"}, "two tools are called 'analyze_deal'"),
    ],
)
def test_a_wrong_declaration_is_named_with_file_and_line(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigInvalid, match=r"business\.yaml:\d+: error: ") as wrong:
        with_tools(tmp_path, {**ZONE, **changes})
    assert says in str(wrong.value)


def test_a_schema_that_is_none_and_a_secret_that_is_not_there_stop_the_start(tmp_path: Path) -> None:
    properties = {"area": {"type": "text", "description": "The area"}}
    odd = {
        **ZONE,
        "parameters": {"type": "object", "properties": properties, "required": ["area"]},
        "query": {},
        "personal": [],
    }
    with pytest.raises(ConfigInvalid, match="check_flood_zone: parameters: no JSON Schema"):
        http_tools(with_tools(tmp_path / "odd", odd), None, SECRETS)  # type: ignore[arg-type]
    with pytest.raises(ConfigInvalid, match="no secret FLOOD_KEY"):
        http_tools(with_tools(tmp_path / "bare", ZONE), None, {})  # type: ignore[arg-type]


def test_an_own_tool_with_the_name_of_a_kits_is_refused(tmp_path: Path) -> None:
    from parley_tools.kits import KITS

    business = with_tools(tmp_path, {**ZONE, "name": "save_lead"})
    with pytest.raises(ConfigInvalid, match="'save_lead' is also one of a kit"):
        Offer("tools", Registry.of_kits(KITS), {"cap": business})
