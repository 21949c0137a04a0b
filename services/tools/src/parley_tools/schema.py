"""Turns a typed function into the model that checks its arguments and the JSON Schema a caller's model reads.

The schema is self-contained (no ``$ref``), untitled and closed; an optional parameter is simply not required.
Does not know what a tool is for, nor how calls arrive.

Law: what the schema allows, the arguments model accepts, and the other way round.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

FIELDS_NAMED_MAX = 5
FAULTS_SPOKEN_MAX = 2
QUESTIONS = ("whether ", "what ", "how ", "which ")


class Misdeclared(Exception):
    """A parameter cannot become part of a schema; the registry adds file and line."""


class Arguments(BaseModel):
    """The base of every arguments model: closed, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the arguments, in words; never with the value."""

    field: str
    problem: str
    say: str


def arguments_model(function: Callable[..., Any]) -> type[Arguments]:
    """Return the model of every parameter after the first (the context). Raises Misdeclared."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as wrong:
        raise Misdeclared(f"its type hints cannot be resolved: {wrong}") from wrong
    _, *parameters = inspect.signature(function).parameters.values()
    fields: dict[str, Any] = {p.name: _field(p, hints.get(p.name)) for p in parameters}
    try:
        model = create_model(f"{function.__name__}_arguments", __base__=Arguments, **fields)
        model.model_json_schema()
    except (PydanticUserError, TypeError, NameError) as wrong:
        raise Misdeclared(f"its parameters have no JSON Schema: {wrong}") from wrong
    return model


def _field(parameter: inspect.Parameter, hint: Any) -> tuple[Any, Any]:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        raise Misdeclared(f"parameter {parameter.name!r}: a schema cannot say *args or **kwargs")
    if hint is None:
        raise Misdeclared(f"parameter {parameter.name!r} has no type")
    notes = [note for note in getattr(hint, "__metadata__", ()) if isinstance(note, FieldInfo)]
    if not any(note.description for note in notes):
        raise Misdeclared(f"parameter {parameter.name!r} has no Field(description=...)")
    return hint, (... if parameter.default is inspect.Parameter.empty else parameter.default)


def parameters_schema(model: type[Arguments]) -> dict[str, Any]:
    """Return the JSON Schema object of ``model``."""
    raw = model.model_json_schema()
    definitions = raw.pop("$defs", {})
    properties = {name: _plain(schema, definitions) for name, schema in raw.get("properties", {}).items()}
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    required = raw.get("required", [])
    return schema | ({"required": required} if required else {})


def _plain(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a subschema with references followed, titles and null branches gone."""
    if isinstance(schema, list):
        return [_plain(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        return _plain({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, definitions)
    kept = {key: value for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    if kept.get("default", ...) is None:
        del kept["default"]
    branches = [part for part in kept.pop("anyOf", []) if part.get("type") != "null"]
    if len(branches) == 1:
        kept = {**_plain(branches[0], definitions), **kept}
    elif branches:
        kept["anyOf"] = branches
    return {key: _plain_part(key, value, definitions) for key, value in kept.items()}


def _plain_part(key: str, value: Any, definitions: Mapping[str, Any]) -> Any:
    if key == "properties":  # names of properties are data: one may be called title
        return {name: _plain(schema, definitions) for name, schema in value.items()}
    return _plain(value, definitions) if key in ("items", "anyOf", "prefixItems") else value


def given(arguments: Mapping[str, Any], model: type[Arguments]) -> dict[str, Any]:
    """Return ``arguments`` without nulls for optional parameters: models write null for "not said"."""
    optional = {name for name, field in model.model_fields.items() if not field.is_required()}
    return {name: value for name, value in arguments.items() if value is not None or name not in optional}


def faults(model: type[Arguments], wrong: ValidationError) -> tuple[Fault, ...]:
    """Return what is wrong, one per field, worded so that a model can ask again."""
    found: dict[str, Fault] = {}
    for error in wrong.errors(include_url=False, include_input=False, include_context=False):
        name = str(error["loc"][0]) if error["loc"] else "arguments"
        found.setdefault(name, _fault(model, name, error["type"], error["msg"]))
    return tuple(found.values())[:FIELDS_NAMED_MAX]


def _fault(model: type[Arguments], name: str, kind: str, message: str) -> Fault:
    field = model.model_fields.get(name)
    if field is None:
        return Fault(name, "there is no such parameter", "")
    what = described(field.description or name)
    if kind == "missing":
        need = "I still need to know" if what.startswith(QUESTIONS) else "I still need"
        return Fault(name, "is missing", f"{need} {what}.")
    problem = message.replace("Input should", "should", 1).replace("Value error, ", "", 1)
    return Fault(name, problem, f"I did not get {what} right; it {problem}." if "should" in problem else "")


def described(description: str) -> str:
    """Return a parameter's description as a noun phrase for the middle of a sentence."""
    phrase = re.split(r"; |\. ", description, maxsplit=1)[0].rstrip(".").strip()
    article = "" if phrase.lower().startswith(("the ", "a ", "an ", *QUESTIONS)) else "the "
    if phrase[:2].isupper():
        return article + phrase
    return article + phrase[:1].lower() + phrase[1:]


def spoken(found: tuple[Fault, ...]) -> str:
    """Return one or two sentences the agent may say about ``found``."""
    sentences = [fault.say for fault in found if fault.say][:FAULTS_SPOKEN_MAX]
    return " ".join(sentences) or "I did not get that right. Could you say it again?"
