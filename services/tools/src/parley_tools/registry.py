"""Makes tools of typed functions: name, description, JSON Schema, class, deadline, needs, facts, data files.

A kit is a module with ``@tool`` functions; the registry holds the tools of the kits it was given. It runs
nothing: executor.py does.

Law: a misdeclared tool fails as its module is imported, with file and line; no half-declared tool exists.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypedDict, Unpack

from pydantic import JsonValue

from parley_common.business import Business, Finding
from parley_common.business_config import CALLBACK_TOOL
from parley_common.contracts.record import Fact
from parley_common.contracts.tool_calls import ToolClass, ToolSpec
from parley_common.errors import ConfigInvalid
from parley_tools.context import GRANT, ToolContext
from parley_tools.files import DataFile, RecordKind
from parley_tools.schema import (
    Arguments,
    DeclaredArguments,
    Misdeclared,
    arguments_model,
    parameters_schema,
    read_arguments,
)

Output = dict[str, JsonValue]
Effects = Literal["sql", "external", "external_keyed"]
"""sql: all effects are in the unit of work. external: elsewhere. external_keyed: elsewhere, and the target
takes an idempotency key, so that asking it twice is one effect."""
RUN_DEADLINES = 2
"""A run may take this many of its deadlines: the second one serves the requester's next attempt."""
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")
_SECTIONS = re.compile(r"^(Args|Returns|Raises|Ordering|Source|Note):", re.MULTILINE)


class ToolOptions(TypedDict, total=False):
    """What a tool may declare beyond its class and deadline."""

    needs: tuple[str, ...]
    """What must be established first: ``consent:<what>``, ``verified:<whom>``. The executor refuses without it."""
    grants: tuple[str, ...]
    """What the tool may establish, for others that need it."""
    emits: tuple[type[Fact], ...]
    personal: tuple[str, ...]
    filler: str | None
    data: tuple[DataFile[Any], ...]
    records: tuple[RecordKind[Any], ...]
    effects: Effects
    concurrency: int | None
    version: str


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: what is announced, what checks its arguments, what runs."""

    spec: ToolSpec
    arguments: type[Arguments] | DeclaredArguments
    run: Callable[..., Awaitable[Output]]
    emits: tuple[type[Fact], ...]
    data: tuple[DataFile[Any], ...]
    effects: Effects
    concurrency: int | None
    place: str
    """File and line, for messages."""
    grants: tuple[str, ...] = ()
    records: tuple[RecordKind[Any], ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name

    def read(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call, checked. Raises Unfit."""
        if isinstance(self.arguments, DeclaredArguments):
            return self.arguments.read(raw)
        return read_arguments(self.arguments, raw)

    @property
    def run_max_s(self) -> float:
        return RUN_DEADLINES * self.spec.deadline_ms / 1000

    @property
    def is_read(self) -> bool:
        """Tell whether it has no effect at all: it may run any number of times, and what it writes is taken back."""
        return self.spec.tool_class == "read"

    @property
    def may_rerun(self) -> bool:
        """Tell whether a run whose worker died may simply be done again."""
        return self.is_read or self.effects != "external"


def tool(
    *, cls: ToolClass, deadline_ms: int = 5_000, **options: Unpack[ToolOptions]
) -> Callable[[Callable[..., Awaitable[Output]]], Tool]:
    """Make a tool of an async function whose first parameter is the ToolContext.

    The docstring up to a section such as ``Args:`` is the description that a model reads; each further
    parameter is ``Annotated[type, Field(description=...)]``.

    Raises:
        ConfigInvalid: it is misdeclared; the message begins with file and line.
    """

    def made(function: Callable[..., Awaitable[Output]]) -> Tool:
        code = inspect.unwrap(function).__code__
        place = f"{code.co_filename}:{code.co_firstlineno}"
        try:
            return _tool(function, place, cls, deadline_ms, options)
        except (Misdeclared, ValueError) as wrong:
            raise ConfigInvalid(f"{place}: tool {function.__name__!r}: {wrong}") from wrong

    return made


def _tool(
    function: Callable[..., Awaitable[Output]],
    place: str,
    cls: ToolClass,
    deadline_ms: int,
    options: ToolOptions,
) -> Tool:
    _check_function(function)
    model = arguments_model(function)
    personal = options.get("personal", ())
    if strangers := set(personal) - set(model.model_fields):
        raise Misdeclared(f"personal names no parameter of it: {', '.join(sorted(strangers))}")
    emits = options.get("emits", ())
    for name in (*options.get("needs", ()), *options.get("grants", ())):
        if not GRANT.match(name):
            raise Misdeclared(f"{name!r} is no consent:<what> or verified:<whom>")
    spec = ToolSpec.model_validate(
        {
            "name": function.__name__,
            "description": _description(function),
            "parameters": parameters_schema(model),
            "class": cls,
            "deadline_ms": deadline_ms,
            "needs": options.get("needs", ()),
            "personal": personal,
            "emits": tuple(fact.fact_type for fact in emits),
            "filler": options.get("filler"),
            "version": options.get("version", "1"),
        }
    )
    return Tool(
        spec=spec,
        arguments=model,
        run=function,
        emits=emits,
        data=options.get("data", ()),
        effects=options.get("effects", "sql"),
        concurrency=options.get("concurrency"),
        place=place,
        grants=options.get("grants", ()),
        records=options.get("records", ()),
    )


def _check_function(function: Callable[..., Awaitable[Output]]) -> None:
    if not _NAME.match(function.__name__):
        raise Misdeclared("its name must be lower case words joined by _")
    if not inspect.iscoroutinefunction(function):
        raise Misdeclared("it must be an async function")
    first = next(iter(inspect.signature(function).parameters), None)
    if first is None or typing.get_type_hints(function).get(first) is not ToolContext:
        raise Misdeclared("its first parameter must be ctx: ToolContext")


def _description(function: Callable[..., Any]) -> str:
    text = _SECTIONS.split(inspect.getdoc(function) or "")[0]
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    description = "\n".join(paragraph for paragraph in paragraphs if paragraph)
    if not description:
        raise Misdeclared("it has no docstring, which is what a model would read")
    return description


class Registry(Mapping[str, Tool]):
    """The tools of a service, by name."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for each in tools:
            if other := self._tools.get(each.name):
                raise ConfigInvalid(f"{each.place}: tool {each.name!r} is also declared at {other.place}")
            self._tools[each.name] = each

    @classmethod
    def of_kits(cls, kits: Iterable[ModuleType]) -> Registry:
        """Return the tools declared in ``kits``."""
        return cls(each for kit in kits for each in vars(kit).values() if isinstance(each, Tool))

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return what is announced, by name."""
        return tuple(self._tools[name].spec for name in sorted(self._tools))

    def offered(self, business: Business, service: str) -> list[Tool]:
        """Return the tools that a business names."""
        return [each for each in self._tools.values() if offers(business, service, each.name)]

    def record_kinds(self, business: Business, service: str) -> list[RecordKind[Any]]:
        """Return the kinds of records that a business's tools keep."""
        kinds = (kind for each in self.offered(business, service) for kind in each.records)
        return list(dict.fromkeys(kinds))

    def findings(self, business: Business, service: str) -> list[Finding]:
        """Return what is wrong between a business and its tools: their data files, and needs that nothing grants."""
        tools = self.offered(business, service)
        files = dict.fromkeys(file for each in tools for file in each.data)
        found = [finding for file in files for finding in file.findings(business)]
        kinds = self.record_kinds(business, service)
        found += [finding for kind in kinds for finding in kind.findings(business)]
        granted = {grant for each in tools for grant in each.grants}
        for each in tools:
            for need in set(each.spec.needs) - granted:
                message = f"tools: {each.name} needs {need!r}, which no tool named here grants"
                found.append(Finding("error", business.folder / "business.yaml", 0, message))
        return found

    def granting(self, need: str, business: Business, service: str) -> str | None:
        """Return the business's tool that establishes ``need``; null when none does.

        One that does nothing else goes first: who wants to cancel a visit is to find it, not to book another.
        """
        granting = [tool for tool in self.offered(business, service) if need in tool.grants]
        return min(granting, key=lambda tool: len(tool.emits) > 0).name if granting else None

    def check_data(self, businesses: Iterable[Business], service: str) -> None:
        """Check every business against its tools. Raises ConfigInvalid with the first mistake's file and line."""
        for business in businesses:
            for finding in self.findings(business, service):
                raise ConfigInvalid(str(finding))


def offers(business: Business, service: str, name: str) -> bool:
    """Tell whether ``business`` names this tool, with or without this service in front, or needs it when it is busy."""
    if name == CALLBACK_TOOL and business.config.busy.callback:
        return True
    return name in business.config.tools or f"{service}.{name}" in business.config.tools
