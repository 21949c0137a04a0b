"""The kits: sets of tools. Every module in this folder, and in folders of it, is found by being here.

A module whose name begins with ``_`` is no kit: that is where a kit keeps what its modules share.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType


def _found(package: str, path: list[str]) -> Iterator[ModuleType]:
    for each in sorted(pkgutil.iter_modules(path), key=lambda found: found.name):
        if each.name.startswith("_"):
            continue
        module = import_module(f"{package}.{each.name}")
        yield module
        if each.ispkg:
            yield from _found(module.__name__, list(module.__path__))


KITS: tuple[ModuleType, ...] = tuple(_found(__name__, list(__path__)))
