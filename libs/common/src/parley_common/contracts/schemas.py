"""JSON Schemas of everything that crosses a border: facts, tool calls, and the text messages of the audio protocol.

Made from the registry and the models; the words of a field are its docstring in the source. What a schema cannot
say (topic, key, partitions, type of the envelope) stands beside it under ``x-parley``.

Law: same models, same bytes: nothing here depends on time, place or order of import.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec

from parley_common.contracts import audio_link
from parley_common.contracts.facts import FACTS
from parley_common.contracts.record import CONTENT_TYPE, Contract
from parley_common.contracts.tool_calls import (
    ANNOUNCEMENT_TYPE,
    CALL_TYPE,
    REPLY_TO_HEADER,
    RESULT_TYPE,
    Announcement,
    ToolCall,
    ToolResult,
)
from parley_common.contracts.topics import (
    OWN_TOOL_SERVICE,
    TOOL_CATALOG,
    TOOL_RESULTS,
    Topic,
    tool_calls_topic,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DIRECTIONS = {
    "FromClient": audio_link.FromClient,
    "ToClient": audio_link.ToClient,
    "UpLink": audio_link.UpLink,
    "DownLink": audio_link.DownLink,
}
_REPLY_TO = {REPLY_TO_HEADER: "The id of the replica that asked; a result goes back to it."}


@dataclass(frozen=True, slots=True)
class MessageType:
    """One kind of record: its CloudEvents type, its value, where it travels and what orders it."""

    name: str
    model: type[Contract]
    topic: Topic
    key: str
    """The field, or in words, what the record's key is."""
    is_fact: bool = True
    more_headers: Mapping[str, str] = field(default_factory=dict)
    """Headers beside the CloudEvents attributes, with what they mean."""

    @property
    def summary(self) -> str:
        """Return the first sentence of the model's own words."""
        return inspect.cleandoc(self.model.__doc__ or "").splitlines()[0]


MESSAGES: tuple[MessageType, ...] = (
    *(MessageType(fact.fact_type, fact, fact.topic, fact.key_field) for fact in FACTS),
    MessageType(
        CALL_TYPE, ToolCall, tool_calls_topic(OWN_TOOL_SERVICE), "session_id", False, more_headers=_REPLY_TO
    ),
    MessageType(RESULT_TYPE, ToolResult, TOOL_RESULTS, "session_id", False, more_headers=_REPLY_TO),
    MessageType(ANNOUNCEMENT_TYPE, Announcement, TOOL_CATALOG, "service/instance", False),
)


def message_schema(message: MessageType) -> dict[str, Any]:
    """Return the JSON Schema of a record's value, and under ``x-parley`` how the record travels."""
    place = {
        "type": message.name,
        "topic": message.topic.name,
        "key": message.key,
        "partitions": message.topic.partitions,
        "content_type": CONTENT_TYPE,
    }
    head = {"$schema": DIALECT, "$id": f"urn:{message.name.replace('.', ':')}", "x-parley": place}
    return head | model_schema(message.model)


def model_schema(model: type[Contract], ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
    """Return the schema of what a reader must expect: a field with a default may be missing."""
    schema = model.model_json_schema(mode="validation", ref_template=ref_template)
    models = {found.__name__: found for found in _subclasses(Contract)}
    for name, part in ((model.__name__, schema), *schema.get("$defs", {}).items()):
        if name in models:
            _describe(part, _words_of_model(models[name]))
    return schema


def client_protocol_schema() -> dict[str, Any]:
    """Return the schema of every JSON text on the client socket and on the link, by direction."""
    unions, components = msgspec.json.schema_components(DIRECTIONS.values(), ref_template="#/$defs/{name}")
    structs = {name: part for name, part in components.items() if name not in DIRECTIONS}
    for name, part in structs.items():
        _describe(part, _words(getattr(audio_link, name)))
    named = dict(zip(DIRECTIONS, unions, strict=True))
    return {
        "$schema": DIALECT,
        "$id": "urn:parley:client-protocol:v1",
        "title": "Parley audio protocol, JSON texts",
        "description": "FromClient and ToClient travel on the client socket, UpLink and DownLink on the link.",
        "x-parley": {
            "subprotocol": audio_link.SUBPROTOCOL,
            "link_subprotocol": audio_link.LINK_SUBPROTOCOL,
            "sample_rate_hz": audio_link.SAMPLE_RATE_HZ,
            "uplink_header_bytes": audio_link.UPLINK_HEADER_BYTES,
            "downlink_header_bytes": audio_link.DOWNLINK_HEADER_BYTES,
            "frame_max_bytes": audio_link.FRAME_MAX_BYTES,
        },
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in DIRECTIONS],
        "$defs": named | dict(sorted(structs.items())),
    }


def as_text(document: Mapping[str, Any]) -> str:
    """Return a document as it is committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _describe(schema: dict[str, Any], words: Mapping[str, str]) -> None:
    """Give each property its docstring, and take away titles that only repeat the property's name."""
    for name, part in schema.get("properties", {}).items():
        part.pop("title", None)
        if name in words:
            part["description"] = words[name]


def _words_of_model(model: type[Contract]) -> dict[str, str]:
    aliases = {name: info.alias or name for name, info in model.model_fields.items()}
    return {aliases[name]: text for name, text in _words(model).items() if name in aliases}


@cache
def _words(cls: type) -> dict[str, str]:
    """Return the docstrings that stand under the fields of a class and of those it is made from."""
    found: dict[str, str] = {}
    for part in reversed(cls.__mro__):
        if part.__module__.startswith("parley_common."):
            found |= dict(_field_docstrings(part))
    return found


def _field_docstrings(cls: type) -> Iterator[tuple[str, str]]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for statement, following in pairwise(body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(inspect.cleandoc(text).split())


def _subclasses(cls: type[Contract]) -> Iterator[type[Contract]]:
    for found in cls.__subclasses__():
        yield found
        yield from _subclasses(found)
