"""The AsyncAPI 3.0 document of every topic: what CRM teams read, in any language.

One channel per topic, each with the types that travel on it; an operation for each role that writes or reads it.
Built straight from the registry and topics.py: FastStream's generator makes one channel per type, in an order
that changes from run to run, and knows no key, no ce_* header, no example and no role.

Source: AsyncAPI 3.0.0 specification; Kafka bindings 0.5.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from parley_common.contracts.record import CONTENT_TYPE
from parley_common.contracts.schemas import MESSAGES, MessageType, model_schema
from parley_common.contracts.topics import DEAD_SUFFIX, TOPICS, Topic

Document = dict[str, Any]
Samples = Mapping[str, Mapping[str, Any]]
BINDING = "0.5.0"
DEAD_LETTER = "dead_letter"
_ENVELOPE = {
    "ce_specversion": "CloudEvents version.",
    "ce_id": "One by fact: a second record with the same id is the same fact, to be ignored.",
    "ce_type": "What happened, and the version of its shape.",
    "ce_source": "The service that says so.",
    "ce_time": "When it was said, UTC.",
    "ce_subject": "What it is about: the record's key.",
    "content-type": "Of the value.",
    "traceparent": "W3C trace context of the session it came from.",
    "tracestate": "W3C trace context, vendors' part.",
}
_OPTIONAL = {"traceparent", "tracestate"}
_DEAD = {
    "parley_dead_cause": "A stable code.",
    "parley_dead_detail": "The fields at fault, never their contents.",
    "parley_dead_group": "The consumer group that gave up.",
    "parley_dead_topic": "Where the record lies.",
    "parley_dead_partition": "Where the record lies.",
    "parley_dead_offset": "Where the record lies.",
    "parley_dead_at": "When it was parked, UTC.",
}


def asyncapi_document(samples: Samples) -> Document:
    """Return the document. ``samples`` are the committed records, by type: ``complete`` and ``minimal``."""
    messages: Document = {m.name: _message(m, samples.get(m.name, {})) for m in MESSAGES}
    messages[DEAD_LETTER] = _dead_letter()
    schemas: Document = {}
    for message in MESSAGES:
        schema = model_schema(message.model, ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[message.model.__name__] = schema
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Parley",
            "version": "1.0.0",
            "description": (
                "Facts and tool calls of Parley: CloudEvents 1.0 in Kafka's binary content mode, JSON values. "
                "Delivery is at least once and in order per key: ignore a ce_id that you have seen. Ignore "
                "fields, types and words of an enum that you do not know; a null field may be left out."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "development": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "What `make run` starts; in production whatever KAFKA_BOOTSTRAP_SERVERS names.",
            }
        },
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {name: part for topic in TOPICS for name, part in _operations(topic)},
        "components": {"messages": messages, "schemas": dict(sorted(schemas.items()))},
    }


def as_yaml(document: Document) -> str:
    """Return the document as it is committed."""
    text: str = yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    return "# Generated from the contracts by `make contracts`; do not edit.\n" + text


class _Plain(yaml.SafeDumper):
    """YAML without anchors: the same value twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class's signature
        return True


def _types_on(topic: Topic) -> list[str]:
    if topic.name.endswith(DEAD_SUFFIX):
        return [DEAD_LETTER]
    return [message.name for message in MESSAGES if message.topic == topic]


def _channel(topic: Topic) -> Document:
    config: Document = {name: int(value) for name, value in topic.config.items() if name.endswith(".ms")}
    config["cleanup.policy"] = [topic.cleanup]
    channel: Document = {
        "address": topic.name,
        "description": (
            f"Key: {topic.key}. Written by {topic.written_by}, read by {topic.read_by}. "
            f"Partitions: {topic.partitions}. Cleanup: {topic.cleanup}."
        ),
        "servers": [{"$ref": "#/servers/development"}],
    }
    types = _types_on(topic)
    if types:
        channel["messages"] = {name: {"$ref": f"#/components/messages/{name}"} for name in types}
    kafka = {"topic": topic.name, "partitions": topic.partitions, "topicConfiguration": config}
    return channel | {"bindings": {"kafka": kafka | {"bindingVersion": BINDING}}}


def _operations(topic: Topic) -> list[tuple[str, Document]]:
    """Return an operation for each role that the table of topics names as a writer or reader."""
    found = []
    for action, verb, roles in (("send", "writes", topic.written_by), ("receive", "reads", topic.read_by)):
        for role in re.sub(r" \([^)]*\)", "", roles).split(", "):
            operation: Document = {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "title": f"{role}: {action} {topic.name}",
                "summary": f"{role[0].upper()}{role[1:]} {verb} this topic.",
                "tags": [{"name": role}],
            }
            refs = [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in _types_on(topic)]
            name = re.sub(r"[^a-zA-Z0-9.]+", "_", f"{role}.{action}.{topic.name}")
            found.append((name, operation | ({"messages": refs} if refs else {})))
    return found


def _message(message: MessageType, sample: Mapping[str, Any]) -> Document:
    examples = [
        {"name": name, "headers": record["headers"], "payload": record["value"]}
        for name, record in sample.items()
    ]
    described: Document = {
        "name": message.name,
        "title": message.model.__name__,
        "summary": message.summary,
        "contentType": CONTENT_TYPE,
        "headers": _headers(message),
        "payload": {"$ref": f"#/components/schemas/{message.model.__name__}"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": message.key},
                "bindingVersion": BINDING,
            }
        },
    }
    return described | ({"examples": examples} if examples else {})


def _headers(message: MessageType) -> Document:
    properties: Document = {
        name: {"type": "string", "description": words}
        for name, words in {**_ENVELOPE, **message.more_headers}.items()
    }
    properties["ce_specversion"]["const"] = "1.0"
    properties["ce_type"]["const"] = message.name
    properties["ce_time"]["format"] = "date-time"
    properties["content-type"]["const"] = CONTENT_TYPE
    return {
        "type": "object",
        "required": [name for name in properties if name not in _OPTIONAL],
        "properties": properties,
    }


def _dead_letter() -> Document:
    properties: Document = {name: {"type": "string", "description": words} for name, words in _DEAD.items()}
    properties["parley_dead_left_out"] = {
        "type": "string",
        "description": "What was too large to be parked too; absent when nothing was.",
    }
    return {
        "name": DEAD_LETTER,
        "title": "DeadLetter",
        "summary": "A record that a consumer could not process: as it was, with more headers that say why.",
        "headers": {"type": "object", "required": list(_DEAD), "properties": properties},
        "payload": {"description": "The record's value as it was, readable or not."},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "As it was; empty when there was none."},
                "bindingVersion": BINDING,
            }
        },
    }
