"""``replace`` for the core's values: does what ``dataclasses.replace`` does, without running ``__init__``.

A session is one frozen value of forty fields, copied several times for each event; by ``__init__`` that was half of
what the session service did. The copier of a class is written once, field by field.

Law: only frozen dataclasses with slots and without ``__post_init__``; for them the two cannot be told apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["replace"]

if TYPE_CHECKING:
    from dataclasses import replace
else:
    from collections.abc import Callable
    from dataclasses import fields

    _COPIERS: dict[type, tuple[Callable[[Any], Any], dict[str, Callable[[Any, Any], None]]]] = {}

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy of ``value`` with some fields changed. Raises TypeError for a field that it has not."""
        cls = value.__class__
        try:
            copy, setters = _COPIERS[cls]
        except KeyError:
            copy, setters = _COPIERS[cls] = _copier(cls)
        made = copy(value)
        try:
            for name, changed in changes.items():
                setters[name](made, changed)
        except KeyError as unknown:
            raise TypeError(f"{cls.__name__} has no field {unknown}") from None
        return made

    def _copier(cls: type) -> tuple[Callable[[Any], Any], dict[str, Callable[[Any, Any], None]]]:
        if "__slots__" not in cls.__dict__ or hasattr(cls, "__post_init__"):
            raise TypeError(f"{cls.__name__} is no plain dataclass with slots")
        setters = {field.name: getattr(cls, field.name).__set__ for field in fields(cls)}
        lines = [f"  set_{name}(made, value.{name})" for name in setters]
        source = "\n".join(["def copy(value):", "  made = new(cls)", *lines, "  return made"])
        scope = {"new": object.__new__, "cls": cls, **{f"set_{name}": put for name, put in setters.items()}}
        exec(source, scope)  # noqa: S102 - the names are those of our own fields
        return scope["copy"], setters
