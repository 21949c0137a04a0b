"""A typed function with a docstring becomes a tool; one that is misdeclared fails with its file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from parley_common.contracts.leads import LeadCaptured
from parley_common.errors import ConfigInvalid
from parley_tools.context import ToolContext
from parley_tools.files import DataFile
from parley_tools.registry import Output, Registry, Tool, tool
from parley_tools.schema import described
from unit.tools.world import CAP, business_with


class Size(BaseModel):
    """A nested model, to see that references are followed."""

    title: str
    width_cm: float = Field(gt=0)


@tool(
    cls="irreversible",
    deadline_ms=3_000,
    needs=("consent:contact",),
    emits=(LeadCaptured,),
    personal=("name",),
    filler="One moment.",
    version="2",
)
async def order_frame(
    ctx: ToolContext,
    name: Annotated[str, Field(description="Who it is for", min_length=1)],
    count: Annotated[int, Field(description="How many", ge=1, le=9)],
    sizes: Annotated[list[Size], Field(description="The sizes wanted")],
    wood: Annotated[Literal["oak", "ash"], Field(description="Kind of wood")] = "oak",
    zip_code: Annotated[str | None, Field(description="Where to", pattern=r"^\d{5}$")] = None,
    glass: Annotated[bool, Field(description="Whether with glass")] = False,
) -> Output:
    """Order picture frames
    for a caller.

    They are made to measure.

    Args:
        name: not for the model to read.
    """
    return {"say": f"{count} of {wood} for {name}, {zip_code}, {glass}, {len(sizes)}."}


def test_everything_that_is_announced_comes_from_the_declaration() -> None:
    spec = order_frame.spec
    assert spec.name == "order_frame"
    assert spec.description == "Order picture frames for a caller.\nThey are made to measure."
    assert (spec.tool_class, spec.deadline_ms, spec.version) == ("irreversible", 3_000, "2")
    assert (spec.needs, spec.personal, spec.filler) == (("consent:contact",), ("name",), "One moment.")
    assert spec.emits == ("parley.lead.captured.v1",)


def test_the_schema_is_closed_plain_and_says_what_is_required() -> None:
    schema = order_frame.spec.parameters
    jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(schema)
    assert "$ref" not in text
    assert "anyOf" not in text
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name", "count", "sizes"]
    assert schema["properties"]["wood"] == {
        "default": "oak",
        "description": "Kind of wood",
        "enum": ["oak", "ash"],
        "type": "string",
    }
    assert schema["properties"]["zip_code"] == {
        "description": "Where to",
        "pattern": r"^\d{5}$",
        "type": "string",
    }
    item = schema["properties"]["sizes"]["items"]
    assert item["properties"]["title"] == {"type": "string"}
    assert "title" not in {key for key in item if key != "properties"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "Ann", "count": 1, "sizes": []},
        {
            "name": "Ann",
            "count": 9,
            "sizes": [{"title": "a", "width_cm": 3}],
            "wood": "ash",
            "zip_code": "12345",
        },
        {"name": "", "count": 1, "sizes": []},
        {"name": "Ann", "count": 10, "sizes": []},
        {"name": "Ann", "count": 1, "sizes": [], "wood": "elm"},
        {"name": "Ann", "count": 1, "sizes": [], "zip_code": "1234"},
        {"name": "Ann", "count": 1, "sizes": [{"title": "a", "width_cm": 0}]},
        {"name": "Ann", "count": 1, "sizes": [], "colour": "red"},
        {"name": "Ann", "sizes": []},
    ],
)
def test_the_schema_and_the_arguments_model_agree(arguments: dict[str, Any]) -> None:
    by_schema = jsonschema.Draft202012Validator(order_frame.spec.parameters).is_valid(arguments)
    try:
        order_frame.arguments.model_validate(arguments)
    except ValueError:
        assert not by_schema
    else:
        assert by_schema


def without_docstring() -> None:
    @tool(cls="read")
    async def no_words(ctx: ToolContext) -> Output:
        return {"say": ""}


def with_sync_function() -> None:
    @tool(cls="read")  # type: ignore[arg-type]
    def at_once(ctx: ToolContext) -> Output:
        """Answer."""
        return {"say": ""}


def with_untyped_parameter() -> None:
    @tool(cls="read")
    async def untyped(ctx: ToolContext, what) -> Output:  # type: ignore[no-untyped-def]
        """Answer."""
        return {"say": str(what)}


def with_undescribed_parameter() -> None:
    @tool(cls="read")
    async def undescribed(ctx: ToolContext, what: str) -> Output:
        """Answer."""
        return {"say": what}


def with_unknown_class() -> None:
    @tool(cls="sometimes")  # type: ignore[arg-type]
    async def unclear(ctx: ToolContext) -> Output:
        """Answer."""
        return {"say": ""}


def with_foreign_personal() -> None:
    @tool(cls="read", personal=("email",))
    async def stranger(ctx: ToolContext) -> Output:
        """Answer."""
        return {"say": ""}


def without_context() -> None:
    @tool(cls="read")
    async def alone(what: Annotated[str, Field(description="What")]) -> Output:
        """Answer."""
        return {"say": what}


def with_open_arguments() -> None:
    @tool(cls="read")
    async def open_ended(ctx: ToolContext, **more: Annotated[str, Field(description="What")]) -> Output:
        """Answer."""
        return {"say": str(more)}


def with_unspeakable_type() -> None:
    @tool(cls="read")
    async def unspeakable(
        ctx: ToolContext, what: Annotated[Callable[[], None], Field(description="What")]
    ) -> Output:
        """Answer."""
        return {"say": str(what)}


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (without_docstring, "no docstring"),
        (with_sync_function, "async function"),
        (with_untyped_parameter, "'what' has no type"),
        (with_undescribed_parameter, r"'what' has no Field\(description"),
        (with_unknown_class, "'read', 'reversible' or 'irreversible'"),
        (with_foreign_personal, "no parameter of it: email"),
        (without_context, "ctx: ToolContext"),
        (with_open_arguments, r"\*\*kwargs"),
        (with_unspeakable_type, "no JSON Schema"),
    ],
)
def test_a_misdeclared_tool_fails_with_its_file_and_line(declare: Callable[[], None], says: str) -> None:
    with pytest.raises(ConfigInvalid, match=says) as failure:
        declare()
    file, line, _ = str(failure.value).split(":", 2)
    assert file == __file__
    assert int(line) > declare.__code__.co_firstlineno


def test_two_tools_of_one_name_are_refused_with_both_places() -> None:
    first, second = ModuleType("first"), ModuleType("second")
    first.order_frame = second.order_frame = order_frame  # type: ignore[attr-defined]
    with pytest.raises(
        ConfigInvalid, match=r"test_registry.py:\d+: .* also declared at .*test_registry.py:\d+"
    ):
        Registry.of_kits([first, second])


def test_a_data_file_that_does_not_hold_to_its_model_is_named_at_the_start(tmp_path: Path) -> None:
    file = DataFile("sizes.yaml", Size)

    @tool(cls="read", data=(file,))
    async def frame_sizes(ctx: ToolContext) -> Output:
        """Tell the sizes."""
        return {"say": ctx.data(file).title}

    business = business_with(tmp_path, "frame_sizes")
    with pytest.raises(ConfigInvalid, match=r"sizes\.yaml"):
        Registry([frame_sizes]).check_data([business], "tools")
    (business.folder / "data" / "sizes.yaml").write_text("title: a\nwidth_cm: -1\n")
    with pytest.raises(
        ConfigInvalid, match=r"sizes\.yaml:2: error: width_cm: Input should be greater than 0"
    ):
        Registry([frame_sizes]).check_data([business], "tools")
    (business.folder / "data" / "sizes.yaml").write_text("title: a\nwidth_cm: 1\n")
    Registry([frame_sizes]).check_data([business], "tools")
    assert CAP.exists()


def test_only_external_effects_without_a_key_may_not_be_run_again() -> None:
    def made(**options: Any) -> Tool:
        @tool(**options)
        async def any_tool(ctx: ToolContext) -> Output:
            """Do it."""
            return {"say": ""}

        return any_tool

    assert made(cls="read", effects="external").may_rerun
    assert made(cls="irreversible").may_rerun
    assert made(cls="irreversible", effects="external_keyed").may_rerun
    assert not made(cls="irreversible", effects="external").may_rerun
    assert not made(cls="reversible", effects="external").may_rerun


@pytest.mark.parametrize(
    ("description", "phrase"),
    [
        (
            "Monthly rent the property brings in, in dollars",
            "the monthly rent the property brings in, in dollars",
        ),
        ("The caller's full name", "the caller's full name"),
        ("Whether the caller agrees; true only after a yes", "whether the caller agrees"),
        ("DSCR of the deal. A ratio.", "the DSCR of the deal"),
    ],
)
def test_a_description_reads_as_part_of_a_sentence(description: str, phrase: str) -> None:
    assert described(description) == phrase


def test_what_establishes_a_need_is_the_tool_that_does_nothing_else(tmp_path: Path) -> None:
    @tool(cls="reversible", grants=("verified:frame",), emits=(LeadCaptured,))
    async def order_another(ctx: ToolContext) -> Output:
        """Order another frame."""
        return {"say": "Ordered."}

    @tool(cls="read", grants=("verified:frame",))
    async def find_frame(ctx: ToolContext) -> Output:
        """Find a frame."""
        return {"say": "Found."}

    business = business_with(tmp_path, "order_another", "find_frame")
    assert Registry((order_another, find_frame)).granting("verified:frame", business, "tools") == "find_frame"
    assert Registry((order_another,)).granting("verified:frame", business, "tools") == "order_another"
    assert Registry((find_frame,)).granting("verified:door", business, "tools") is None
