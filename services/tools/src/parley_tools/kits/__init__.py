"""The kits: sets of tools, each a module. A new kit is a new module here, named in KITS."""

from __future__ import annotations

from types import ModuleType

from parley_tools.kits import knowledge, leads, lending, market, scheduling

KITS: tuple[ModuleType, ...] = (knowledge, leads, lending, market, scheduling)
