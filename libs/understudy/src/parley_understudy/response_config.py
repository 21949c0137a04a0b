"""What one response is to be: the session's configuration with the overrides of a ``response.create``.

Law: an override is checked like the session's own field; an unknown one refuses the response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parley_understudy import checks as c
from parley_understudy import session_config as s
from parley_understudy.conversation import Conversation
from parley_understudy.flavours import Flavour
from parley_understudy.items import Item, read_item
from parley_understudy.wire import Ids, Refused


def _metadata(value: Any, path: str) -> None:
    c.mapping(value, path)
    if len(value) > 16:
        raise Refused(
            f"Invalid '{path}': too many properties. Expected an object with at most 16 properties.",
            "object_above_max_properties",
            path,
        )
    for key, text in value.items():
        c.text(64)(key, path)
        c.text(512)(text, f"{path}.{key[:64]}")


_PARAMS = c.fields(
    {
        "conversation": c.one_of("auto", "none"),
        "input": c.nullable(c.items(c.mapping)),
        "instructions": c.nullable(c.text()),
        "output_modalities": s.MODALITIES,
        "audio": s.RESPONSE_OUTPUT,
        "max_output_tokens": s.MAX_OUTPUT_TOKENS,
        "metadata": c.nullable(_metadata),
        "tools": s.TOOLS,
        "tool_choice": s.TOOL_CHOICE,
        "prompt": c.nullable(c.mapping),
        "reasoning": s.REASONING,
        "parallel_tool_calls": c.boolean,
    }
)


@dataclass(frozen=True)
class ResponseConfig:
    """One response's terms. ``outside`` ones run beside the default conversation and leave no items in it."""

    instructions: str
    spoken: bool
    voice: str
    wire_voice: Any
    format: dict[str, Any]
    speed: float
    tools: tuple[dict[str, Any], ...]
    tool_choice: Any
    max_output_tokens: Any
    metadata: dict[str, str] | None
    outside: bool
    parallel: bool
    effort: str
    context: tuple[Item, ...]

    @property
    def format_kind(self) -> str:
        """Return ``audio/pcm``, ``audio/pcmu`` or ``audio/pcma``."""
        return str(self.format["type"])


def read(
    params: Any, config: s.Config, conversation: Conversation, flavour: Flavour, ids: Ids
) -> ResponseConfig:
    """Return the terms of a response, or raise ``Refused``."""
    params = {} if params is None else params
    _PARAMS(params, "response")
    if "output_modalities" in params:
        s.check_modalities(params["output_modalities"], "response.output_modalities")
    _refuse_what_the_model_lacks(params, flavour)
    output = {**config["audio"]["output"], **((params.get("audio") or {}).get("output") or {})}
    voice = output["voice"]
    reasoning = params.get("reasoning") or config.get("reasoning") or {}
    return ResponseConfig(
        instructions=params.get("instructions") or config["instructions"],
        spoken=params.get("output_modalities", config["output_modalities"]) == ["audio"],
        voice=voice if isinstance(voice, str) else voice["id"],
        wire_voice=voice,
        format=output["format"],
        speed=float(output["speed"]),
        tools=tuple(params.get("tools", config["tools"])),
        tool_choice=params.get("tool_choice", config["tool_choice"]),
        max_output_tokens=params.get("max_output_tokens", config["max_output_tokens"]),
        metadata=params.get("metadata") or None,
        outside=params.get("conversation") == "none",
        parallel=params.get("parallel_tool_calls", config.get("parallel_tool_calls", True)),
        effort=reasoning.get("effort", "low"),
        context=_context(params.get("input"), config, conversation, ids),
    )


def _refuse_what_the_model_lacks(params: dict[str, Any], flavour: Flavour) -> None:
    for field in ("reasoning", "parallel_tool_calls"):
        if field in params and not flavour.reasons:
            raise Refused(
                f"Unsupported parameter: '{field}' is not supported with this model.",
                "unsupported_parameter",
                f"response.{field}",
            )


def _context(given: Any, config: s.Config, conversation: Conversation, ids: Ids) -> tuple[Item, ...]:
    """Return the items to answer: those given (an empty list is an empty context), else the conversation."""
    if given is None:
        return tuple(conversation)
    kind = config["audio"]["input"]["format"]["type"]
    items = []
    for at, value in enumerate(given):
        path = f"response.input[{at}]"
        if value.get("type") == "item_reference":
            c.fields({"type": c.anything, "id": c.text(512)}, ["id"])(value, path)
            item = conversation.find(value["id"])
            if item is None:
                raise Refused(f"Item with item_id not found: {value['id']}", "invalid_value", f"{path}.id")
            items.append(item)
        else:
            items.append(read_item(value, ids, kind, path))
    return tuple(items)
