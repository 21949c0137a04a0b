"""What a tool is given: the business, the caller, one unit of work, the time, and ways to emit and to grant.

The unit of work opens with the first statement and commits after the tool returned, together with its stored
result. So a tool does what is slow (HTTP) before its first statement: on SQLite a transaction is the whole
database's, and one slow tool would delay the others.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, JsonValue
from sqlalchemy.ext.asyncio import AsyncSession

from parley_common.business import Business
from parley_common.contracts.record import Fact
from parley_common.contracts.tool_calls import CallerContext
from parley_common.errors import LocalViolation
from parley_common.ids import derived_id
from parley_common.outbox import Outbox
from parley_tools.bookings import Bookings
from parley_tools.cases import Cases
from parley_tools.files import DataFile, RecordKind
from parley_tools.leads import Where
from parley_tools.meaning import Meaning
from parley_tools.providers import WebSearch
from parley_tools.records import Records

M = TypeVar("M", bound=BaseModel)
Earlier = Callable[[AsyncSession, str, str], Awaitable[dict[str, JsonValue] | None]]
GRANT = re.compile(r"^(consent|verified):[a-z][a-z_]{0,31}$")
"""A need, and the kind of a grant: ``consent:contact``, ``verified:account``. A grant may name whom it is about after
a dash: ``verified:account-7``."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What tools of one process share."""

    outbox: Outbox
    http: httpx.AsyncClient
    earlier: Earlier
    web_search: WebSearch | None = None
    """Null: no web-search API is configured."""
    meaning: Meaning | None = None
    """Null: no embeddings API is configured, and articles are found by words alone."""


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
    grants: tuple[str, ...] = ()
    """What the tool declares that it may establish."""
    records_declared: tuple[RecordKind[Any], ...] = ()
    granted: list[str] = field(default_factory=list)

    @property
    def where(self) -> Where:
        """Which business, session and call this is, and when: what leads.py writes down."""
        return Where(self.business.name, self.session_id, self.call_id, self.now)

    @property
    def cases(self) -> Cases:
        """The business's cases."""
        return Cases(self)

    @property
    def records(self) -> Records:
        """The business's records, of the kinds this tool declares."""
        return Records(self)

    @property
    def bookings(self) -> Bookings:
        """The business's bookings."""
        return Bookings(self)

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
        """Record what this call established, such as ``consent:contact`` or ``verified:account-7``; later calls carry it.

        Raises:
            LocalViolation: the tool did not declare it in grants=.
        """
        is_kind = name.startswith(("consent:", "verified:"))
        if is_kind and not any(is_granted(kind, (name,)) for kind in self.grants):
            raise LocalViolation("a consent or identity is not among what this tool declares in grants=")
        if name not in self.granted:
            self.granted.append(name)

    def verified(self, kind: str) -> str:
        """Return whom this session has verified as a ``kind`` ("7" of ``verified:account-7``), the newest.

        For a tool that declares ``needs=("verified:<kind>",)``: then there is one. Empty when the grant names nobody.
        """
        subjects = [
            grant.partition("-")[2]
            for grant in self.caller.grants
            if is_granted(f"verified:{kind}", (grant,))
        ]
        return subjects[-1] if subjects else ""

    async def earlier(self, tool: str) -> dict[str, JsonValue] | None:
        """Return the newest output of ``tool`` in this session; null when it has not succeeded yet."""
        return await self.resources.earlier(self.db, self.session_id, tool)


def is_granted(need: str, grants: Iterable[str]) -> bool:
    """Tell whether ``grants`` hold what a tool needs: the need itself, or the need about someone."""
    return any(grant == need or grant.startswith(f"{need}-") for grant in grants)
