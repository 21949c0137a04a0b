"""What a tool is given: the business, the caller, one unit of work, the time, and ways to emit and to grant.

The unit of work opens with the first statement and commits after the tool returned, together with its stored
result. So a tool does what is slow (HTTP) before its first statement: on SQLite a transaction is the whole
database's, and one slow tool would delay the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import httpx
import yaml
from pydantic import BaseModel, JsonValue, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from parley_common.business import Business
from parley_common.contracts.record import Fact
from parley_common.contracts.tool_calls import CallerContext
from parley_common.errors import ConfigInvalid, LocalViolation
from parley_common.ids import derived_id
from parley_common.outbox import Outbox
from parley_tools.providers import WebSearch

M = TypeVar("M", bound=BaseModel)
Earlier = Callable[[AsyncSession, str, str], Awaitable[dict[str, JsonValue] | None]]


@dataclass(frozen=True, slots=True)
class DataFile(Generic[M]):
    """A file of a business's data/ folder and the model it must hold to."""

    name: str
    model: type[M]

    def read(self, business: Business) -> M:
        """Return the file's contents, read once per version. Raises ConfigInvalid that names the file."""
        return cast("M", _read(business.folder / "data" / self.name, self.model, business.version))


@lru_cache(maxsize=256)
def _read(path: Path, model: type[BaseModel], _version: str) -> BaseModel:
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as wrong:
        fault = wrong.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ConfigInvalid(f"{path}: {where}: {fault['msg']}") from wrong
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as wrong:
        raise ConfigInvalid(f"{path}: {wrong}") from wrong


@dataclass(frozen=True, slots=True)
class Resources:
    """What tools of one process share."""

    outbox: Outbox
    http: httpx.AsyncClient
    earlier: Earlier
    web_search: WebSearch | None = None
    """Null: no web-search API is configured."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One call, as its tool sees it."""

    business: Business
    session_id: str
    call_id: str
    caller: CallerContext
    db: AsyncSession
    """The unit of work: never commit it, never keep it."""
    now: datetime
    """One time for the whole call, UTC."""
    resources: Resources
    emits: tuple[type[Fact], ...] = ()
    granted: list[str] = field(default_factory=list)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this call: what to hand to a target that takes such keys."""
        return derived_id(self.session_id, self.call_id)

    @property
    def http(self) -> httpx.AsyncClient:
        return self.resources.http

    def data(self, file: DataFile[M]) -> M:
        """Return one of the business's data files."""
        return file.read(self.business)

    def setting(self, name: str, default: Any) -> Any:
        """Return a value of ``settings`` in business.yaml."""
        return self.business.config.settings.get(name, default)

    async def next_seq(self, aggregate_id: str) -> int:
        """Take the next seq of a lead or case; its lock is held until the unit of work ends."""
        return await self.resources.outbox.next_seq(self.db, aggregate_id)

    async def emit(self, fact: Fact) -> None:
        """Write a fact into the unit of work; it goes out after the commit.

        Ordering: ``next_seq`` first, for the fact carries its seq.

        Raises:
            LocalViolation: the tool did not declare that it emits this type.
        """
        if type(fact) not in self.emits:
            raise LocalViolation(f"{fact.fact_type} is not among the facts this tool declares in emits=")
        seq: int = getattr(fact, "seq", 0)
        await self.resources.outbox.add(self.db, fact, seq=seq, now=self.now)

    def grant(self, name: str) -> None:
        """Record what this call established, such as ``consent:contact``; later calls carry it."""
        if name not in self.granted:
            self.granted.append(name)

    async def earlier(self, tool: str) -> dict[str, JsonValue] | None:
        """Return the newest output of ``tool`` in this session; null when it has not succeeded yet."""
        return await self.resources.earlier(self.db, self.session_id, tool)
