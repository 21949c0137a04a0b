"""The committed contracts: up to date, readable for ever, and impossible to break without a test saying so."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from parley_common.contracts import audio_link, export
from parley_common.contracts.compatibility import breaking_changes, breaking_protocol_changes
from parley_common.contracts.facts import BY_TYPE, FACTS, read_fact
from parley_common.contracts.record import Envelope, to_json
from parley_common.contracts.schemas import MESSAGES, client_protocol_schema, message_schema
from parley_common.contracts.topics import TOPICS

DOCS = Path(__file__).parents[2] / "docs"
SAMPLES = export.read_samples(DOCS)
RECORDS = [(name, kind) for name, sample in SAMPLES.items() for kind in sample]
CAPTURED = "parley.lead.captured.v1"
PROTOCOL = client_protocol_schema()


def committed(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DOCS / name).read_text())
    return document


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DOCS / export.ASYNCAPI).read_text())
    return document


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A copy of what is committed, to spoil."""
    shutil.copytree(DOCS / "contracts", tmp_path / "contracts")
    shutil.copy(DOCS / export.ASYNCAPI, tmp_path)
    return tmp_path


# -- up to date -----------------------------------------------------------------------------------


def test_what_is_committed_is_what_today_s_contracts_make() -> None:
    made = export.documents(DOCS)
    stale = [
        name
        for name, text in made.items()
        if not (DOCS / name).is_file() or (DOCS / name).read_text() != text
    ]
    assert not stale, f"run `make contracts` and commit: {', '.join(stale)}"
    there = {f"{export.SCHEMAS}/{path.name}" for path in (DOCS / export.SCHEMAS).iterdir()}
    assert there <= made.keys(), "a schema of a type that is no more"


def test_today_s_models_keep_every_promise_that_is_committed() -> None:
    assert export.broken_promises(DOCS) == []


def test_an_export_that_changes_nothing_says_so(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(docs)]) == 0
    assert "up to date" in capsys.readouterr().out


def test_an_export_writes_what_is_missing(docs: Path) -> None:
    (docs / export.PROTOCOL).unlink()
    (docs / export.SCHEMAS / f"{CAPTURED}.json").unlink()
    assert export.main([str(docs)]) == 0
    assert export.documents(docs) == {name: (docs / name).read_text() for name in export.documents(docs)}


def test_an_export_refuses_to_overwrite_a_promise_that_it_would_break(
    docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = docs / export.SCHEMAS / f"{CAPTURED}.json"
    schema = json.loads(path.read_text())
    schema["properties"]["nickname"] = {"type": "string"}  # promised once, and no longer in the model
    path.write_text(json.dumps(schema))
    assert export.main([str(docs)]) == 1
    assert f"{CAPTURED}: value.nickname: removed" in capsys.readouterr().err
    assert json.loads(path.read_text()) == schema


def test_an_export_names_a_fact_without_a_sample_and_never_writes_one(
    docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = docs / export.SAMPLES / f"{CAPTURED}.json"
    sample.unlink()
    assert export.main([str(docs)]) == 1
    assert CAPTURED in capsys.readouterr().err
    assert not sample.exists()


def test_an_export_leaves_the_samples_alone(docs: Path) -> None:
    (docs / export.ASYNCAPI).unlink()
    before = {path: path.read_bytes() for path in (docs / export.SAMPLES).iterdir()}
    export.main([str(docs)])
    assert {path: path.read_bytes() for path in (docs / export.SAMPLES).iterdir()} == before


# -- samples --------------------------------------------------------------------------------------


def test_every_fact_has_a_complete_and_a_minimal_sample() -> None:
    assert {name: set(sample) for name, sample in SAMPLES.items()} == {
        fact.fact_type: {"complete", "minimal"} for fact in FACTS
    }


def holds(whole: Any, part: Any) -> bool:
    """Say whether ``whole`` has everything that ``part`` has, at any depth."""
    if isinstance(part, dict):
        return all(name in whole and holds(whole[name], value) for name, value in part.items())
    return bool(whole == part)


@pytest.mark.parametrize(("name", "kind"), RECORDS)
def test_a_record_of_version_1_is_read_and_written_back_to_an_equal_value(name: str, kind: str) -> None:
    sample = SAMPLES[name][kind]
    envelope = Envelope.of_headers(sample["headers"])
    fact = read_fact(envelope, json.dumps(sample["value"]).encode())
    written = json.loads(to_json(fact))
    assert holds(written, sample["value"]), "what was left out, or came later, has its default"
    assert (envelope.type, fact.topic.name, fact.key) == (name, sample["topic"], sample["key"])
    written_headers = {header: value.decode() for header, value in envelope.headers()}
    assert written_headers == sample["headers"]
    assert read_fact(envelope, to_json(fact)) == fact


@pytest.mark.parametrize(("name", "kind"), RECORDS)
def test_a_record_of_version_1_satisfies_the_committed_schema(name: str, kind: str) -> None:
    schema = committed(f"{export.SCHEMAS}/{name}.json")
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
        SAMPLES[name][kind]["value"]
    )
    place = schema["x-parley"]
    assert (place["topic"], place["type"]) == (SAMPLES[name][kind]["topic"], name)
    assert SAMPLES[name][kind]["key"] == SAMPLES[name][kind]["value"][place["key"]]


def test_no_minimal_sample_holds_a_field_that_its_schema_does_not_require() -> None:
    for name, sample in SAMPLES.items():
        required = committed(f"{export.SCHEMAS}/{name}.json")["required"]
        assert sorted(sample["minimal"]["value"]) == sorted(required), name


def test_samples_name_nobody_who_exists() -> None:
    text = json.dumps(SAMPLES)
    assert "@example.com" in text
    assert text.count("@") == text.count("@example.com")
    assert "555" in text


# -- breaking changes -----------------------------------------------------------------------------

Plant = Callable[[dict[str, Any]], object]


def test_a_new_optional_field_is_no_breaking_change() -> None:
    before, after = message_schema_of(CAPTURED), message_schema_of(CAPTURED)
    after["properties"]["nickname"] = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    after["$defs"]["Person"]["properties"]["nickname"] = {"type": "string", "default": ""}
    assert breaking_changes(before, after) == []


def test_a_further_word_in_a_list_of_words_and_other_prose_are_no_breaking_changes() -> None:
    before, after = message_schema_of(CAPTURED), message_schema_of(CAPTURED)
    after["$defs"]["Consent"]["properties"]["channels"]["items"]["enum"].append("post")
    after["description"] = "Other words."
    after["properties"]["lead_id"] |= {"description": "More words.", "title": "Lead"}
    assert breaking_changes(before, after) == []


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda s: s["properties"].pop("page"), "value.page: removed"),
        (lambda s: s["$defs"]["Person"]["properties"].pop("email"), "value.person.email: removed"),
        (lambda s: s["required"].append("page"), "value.page: is now required"),
        (lambda s: s["required"].remove("seq"), "value.seq: is no longer always there"),
        (lambda s: s["properties"].update(seq={"type": "string"}), "value.seq: can no longer be integer"),
        (lambda s: s["properties"].update(page={"type": "string"}), "value.page: can no longer be null"),
        (lambda s: s["properties"].update(seq={"type": ["integer", "null"]}), "value.seq: may now be null"),
        (lambda s: s["properties"]["seq"].update(minimum=2), "value.seq: minimum is now 2"),
        (lambda s: s["properties"]["seq"].update(maximum=9), "value.seq: maximum is now 9"),
        (lambda s: s["properties"]["channel"].update(maxLength=8), "value.channel: maxLength is now 8"),
        (lambda s: s["properties"]["channel"].update(pattern="^b"), "value.channel: pattern is now '^b'"),
        (lambda s: s["properties"]["lead_id"].update(format="uuid"), "value.lead_id: format is now 'uuid'"),
        (
            lambda s: s["properties"]["channel"].update(enum=["browser"]),
            "value.channel: can no longer be 'anything'",
        ),
        (
            lambda s: s["$defs"]["Consent"]["properties"]["channels"]["items"]["enum"].remove("sms"),
            "value.consent.channels[]: can no longer be 'sms'",
        ),
        (
            lambda s: s["properties"]["interest"].update(additionalProperties={"type": "string"}),
            "value.interest.*: can no longer be anything",
        ),
        (lambda s: s["x-parley"].update(key="session_id"), "key: was 'lead_id', is 'session_id'"),
        (
            lambda s: s["x-parley"].update(topic="parley.leads"),
            "topic: was 'parley.lead.events', is 'parley.leads'",
        ),
        (lambda s: s["x-parley"].update(partitions=48), "partitions: was 24, is 48"),
    ],
)
def test_a_planted_breaking_change_is_found_and_its_field_is_named(plant: Plant, said: str) -> None:
    before, after = message_schema_of(CAPTURED), message_schema_of(CAPTURED)
    plant(after)
    assert said in breaking_changes(before, after)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda s: s["$defs"]["Playout"]["properties"].pop("played"), "Playout.played: removed"),
        (lambda s: s["$defs"]["Text"]["required"].append("lang"), "Text.lang: is now required"),
        (lambda s: s["$defs"].pop("Talk"), "Talk: no longer exists"),
        (lambda s: s["$defs"]["FromClient"]["anyOf"].pop(), "FromClient: no longer carries Hangup"),
        (
            lambda s: s["$defs"]["SetMode"]["properties"]["mode"]["enum"].remove("text"),
            "can no longer be 'text'",
        ),
        (lambda s: s["x-parley"].update(downlink_header_bytes=16), "downlink_header_bytes: was 12, is 16"),
    ],
)
def test_a_planted_change_of_the_client_protocol_is_found(plant: Plant, said: str) -> None:
    after = copy.deepcopy(PROTOCOL)
    plant(after)
    assert any(said in change for change in breaking_protocol_changes(PROTOCOL, after))


def test_a_type_that_is_no_more_is_a_broken_promise(docs: Path) -> None:
    shutil.copy(
        docs / export.SCHEMAS / f"{CAPTURED}.json", docs / export.SCHEMAS / "parley.lead.adored.v1.json"
    )
    assert "parley.lead.adored.v1: no longer exists" in export.broken_promises(docs)


def message_schema_of(name: str) -> dict[str, Any]:
    (message,) = [message for message in MESSAGES if message.name == name]
    return copy.deepcopy(message_schema(message))


# -- the client protocol --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        ("FromClient", audio_link.Playout(epoch=65_536, item=3, received=9_600, played=4_800)),
        ("FromClient", audio_link.Open(token="t", locale="en")),
        ("ToClient", audio_link.Ready(session="s", resume="r")),
        ("ToClient", audio_link.Transcript(item=1, role="user", text="hello")),
        ("UpLink", audio_link.Attach(session_id="s", business="cap", fence=1, token_id="t")),
        ("DownLink", audio_link.Safe(sample=480)),
    ],
)
def test_what_we_encode_satisfies_the_committed_protocol_of_its_direction(
    direction: str, message: msgspec.Struct
) -> None:
    schema = committed(export.PROTOCOL)
    Draft202012Validator.check_schema(schema)
    one_way = {"$ref": f"#/$defs/{direction}", "$defs": schema["$defs"]}
    Draft202012Validator(one_way).validate(json.loads(msgspec.json.encode(message)))
    assert not Draft202012Validator(one_way).is_valid({"type": "never_heard_of"})


def test_every_message_of_the_client_protocol_says_what_it_is_for() -> None:
    structs = [part for part in committed(export.PROTOCOL)["$defs"].values() if part.get("type") == "object"]
    assert len(structs) > 25
    # Pong answers Ping, and its name says all there is to say.
    assert [part["title"] for part in structs if not part.get("description")] == ["Pong"]


# -- AsyncAPI -------------------------------------------------------------------------------------


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for part in node.values():
            yield from references(part)
    elif isinstance(node, list):
        for part in node:
            yield from references(part)


def resolve(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/"), reference
    node: Any = document
    for part in reference[2:].split("/"):
        node = node[part]
    return node


def test_every_reference_in_the_document_leads_somewhere(asyncapi: dict[str, Any]) -> None:
    found = list(references(asyncapi))
    assert len(found) > 100
    for reference in found:
        assert resolve(asyncapi, reference) is not None


def test_the_channels_are_exactly_the_topics_as_they_are_applied(asyncapi: dict[str, Any]) -> None:
    assert list(asyncapi["channels"]) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        channel = asyncapi["channels"][topic.name]
        kafka = channel["bindings"]["kafka"]
        assert (channel["address"], kafka["topic"], kafka["partitions"]) == (
            topic.name,
            topic.name,
            topic.partitions,
        )
        config = {
            name: ",".join(v) if isinstance(v, list) else str(v)
            for name, v in kafka["topicConfiguration"].items()
        }
        assert config == topic.config
        assert topic.key in channel["description"]


def test_every_fact_is_in_exactly_one_channel_the_one_of_its_topic(asyncapi: dict[str, Any]) -> None:
    for name, fact in BY_TYPE.items():
        places = [
            place for place, channel in asyncapi["channels"].items() if name in channel.get("messages", {})
        ]
        assert places == [fact.topic.name], name


def test_every_message_names_its_headers_key_and_content_type_and_its_examples_satisfy_them(
    asyncapi: dict[str, Any],
) -> None:
    messages = asyncapi["components"]["messages"]
    assert messages.keys() == {message.name for message in MESSAGES} | {"dead_letter"}
    for message in MESSAGES:
        described = messages[message.name]
        headers = described["headers"]
        assert (
            described["contentType"] == headers["properties"]["content-type"]["const"] == "application/json"
        )
        assert headers["properties"]["ce_type"]["const"] == message.name
        assert {"ce_id", "ce_source", "ce_time", "ce_subject", "ce_specversion"} <= set(headers["required"])
        assert described["bindings"]["kafka"]["key"]["description"] == message.key
        examples = described.get("examples", [])
        assert len(examples) == (2 if message.is_fact else 0)
        payload = described["payload"] | {"components": asyncapi["components"]}
        for example in examples:
            Draft202012Validator(headers).validate(example["headers"])
            Draft202012Validator(payload).validate(example["payload"])


def test_operations_say_for_each_role_what_it_sends_and_receives(asyncapi: dict[str, Any]) -> None:
    def topics_of(role: str, action: str) -> set[str]:
        return {
            operation["channel"]["$ref"].rpartition("/")[2]
            for operation in asyncapi["operations"].values()
            if operation["action"] == action and {"name": role} in operation["tags"]
        }

    assert topics_of("CRM", "receive") == {
        "parley.session.events",
        "parley.lead.events",
        "parley.case.events",
    }
    assert topics_of("notify", "send") == {"parley.delivery.events"}
    assert topics_of("session", "send") >= {
        "parley.tool.calls.tools",
        "parley.session.events",
        "parley.usage",
    }
    for name, operation in asyncapi["operations"].items():
        channel = resolve(asyncapi, operation["channel"]["$ref"])
        named = {ref["$ref"].rpartition("/")[2] for ref in operation.get("messages", [])}
        assert named == set(channel.get("messages", {})), name
