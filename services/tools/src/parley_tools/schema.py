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

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]
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


class Unfit(Exception):
    """Arguments that do not hold to the schema; carries what is wrong with them."""

    def __init__(self, found: tuple[Fault, ...]) -> None:
        super().__init__(f"{len(found)} faults")
        self.faults = found


class DeclaredArguments:
    """Checks arguments by a JSON Schema that somebody else wrote."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises ValueError when it is no JSON Schema."""
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as wrong:
            raise ValueError(f"no JSON Schema: {wrong.message}") from wrong
        self._validator = Draft202012Validator(schema)
        properties = schema.get("properties", {})
        self._descriptions = {name: str(each.get("description") or name) for name, each in properties.items()}
        self._required = frozenset(schema.get("required", ()))

    def read(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments, nulls for optional ones left out. Raises Unfit."""
        said = {name: value for name, value in raw.items() if value is not None or name in self._required}
        found: dict[str, Fault] = {}
        for error in self._validator.iter_errors(said):
            for name, problem in self._named(error, said):
                found.setdefault(name, _fault(self._descriptions, name, *problem))
        if found:
            raise Unfit(tuple(found.values())[:FIELDS_NAMED_MAX])
        return said

    def _named(self, error: Any, said: Mapping[str, Any]) -> list[tuple[str, tuple[str, str]]]:
        """Return field, kind and problem of one error, without the value that is wrong."""
        if error.validator == "required" and not error.path:
            return [(name, ("missing", "")) for name in error.validator_value if name not in said]
        if error.validator == "additionalProperties" and not error.path:
            return [(name, ("extra", "")) for name in said if name not in self._descriptions]
        rule = f"should hold to {error.validator} {error.validator_value}"[:200]
        return [(str(error.path[0]) if error.path else "arguments", (str(error.validator), rule))]


def read_arguments(model: type[Arguments], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as ``model`` makes them. Raises Unfit."""
    try:
        read = model.model_validate(given(raw, model))
    except ValidationError as wrong:
        raise Unfit(faults(model, wrong)) from wrong
    return {name: getattr(read, name) for name in type(read).model_fields}


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
    descriptions = {name: field.description or name for name, field in model.model_fields.items()}
    found: dict[str, Fault] = {}
    for error in wrong.errors(include_url=False, include_input=False, include_context=False):
        name = str(error["loc"][0]) if error["loc"] else "arguments"
        found.setdefault(name, _fault(descriptions, name, error["type"], error["msg"]))
    return tuple(found.values())[:FIELDS_NAMED_MAX]


def _fault(descriptions: Mapping[str, str], name: str, kind: str, message: str) -> Fault:
    description = descriptions.get(name)
    if description is None:
        return Fault(name, "there is no such parameter", "")
    what = described(description)
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
