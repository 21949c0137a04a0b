"""Where answers from outside come from: a web-search API and an embeddings API behind small interfaces.

The operator names the APIs, so their addresses are trusted; a caller only chooses the words searched for.

Law: a provider that is away, slow or talks nonsense is DependencyUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx
from pydantic import BaseModel, Field, TypeAdapter

from parley_common.errors import DependencyUnavailable

SNIPPET_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing a search found."""

    title: str
    url: str
    snippet: str


class WebSearch(Protocol):
    """Finds pages for a query."""

    async def find(self, query: str, count: int) -> tuple[Hit, ...]:
        """Return up to ``count`` hits, best first. Raises DependencyUnavailable."""
        ...


class HttpWebSearch:
    """A JSON API: ``GET url?q=…&count=…`` answering ``results`` (or ``web.results``), each with title and url."""

    def __init__(
        self, http: httpx.AsyncClient, url: str, *, headers: dict[str, str], deadline_ms: int
    ) -> None:
        self._http = http
        self._url = url
        self._headers = headers
        self._deadline_s = deadline_ms / 1000

    async def find(self, query: str, count: int) -> tuple[Hit, ...]:
        try:
            response = await self._http.get(
                self._url,
                params={"q": query, "count": str(count)},
                headers={"accept": "application/json", **self._headers},
                timeout=self._deadline_s,
            )
            response.raise_for_status()
            return _hits(response.content)[:count]
        except (httpx.HTTPError, ValueError) as wrong:
            raise DependencyUnavailable(
                f"the web-search API: {type(wrong).__name__}", code="provider_unavailable"
            ) from wrong


class Embeddings(Protocol):
    """Turns texts into vectors whose angle says how near their meanings are."""

    async def of(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector for each text, in order. Raises DependencyUnavailable."""
        ...


class HttpEmbeddings:
    """An API like OpenAI's: ``POST url {"model", "input": [...]}`` answering ``data``, each with index and embedding."""

    BATCH = 64

    def __init__(
        self, http: httpx.AsyncClient, url: str, *, model: str, headers: dict[str, str], deadline_ms: int
    ) -> None:
        self._http = http
        self._url = url
        self._model = model
        self._headers = headers
        self._deadline_s = deadline_ms / 1000

    async def of(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for at in range(0, len(texts), self.BATCH):
            vectors += await self._batch(texts[at : at + self.BATCH])
        return vectors

    async def _batch(self, texts: Sequence[str]) -> list[list[float]]:
        try:
            response = await self._http.post(
                self._url,
                json={"model": self._model, "input": list(texts)},
                headers=self._headers,
                timeout=self._deadline_s,
            )
            response.raise_for_status()
            rows = sorted(_Embedded.model_validate_json(response.content).data, key=lambda row: row.index)
        except (httpx.HTTPError, ValueError) as wrong:
            raise DependencyUnavailable(
                f"the embeddings API: {type(wrong).__name__}", code="provider_unavailable"
            ) from wrong
        if [row.index for row in rows] != list(range(len(texts))):
            raise DependencyUnavailable(
                "the embeddings API answered for other texts than it was given", code="provider_unavailable"
            )
        return [row.embedding for row in rows]


class _Vector(BaseModel):
    index: int
    embedding: list[float] = Field(min_length=1)


class _Embedded(BaseModel):
    data: list[_Vector]


class _Row(BaseModel):
    title: str = ""
    url: str = ""
    snippet: str | None = None
    description: str | None = None
    content: str | None = None


class _Rows(BaseModel):
    results: list[_Row]


class _Wrapped(BaseModel):
    web: _Rows


_ANSWER: TypeAdapter[_Rows | _Wrapped] = TypeAdapter(_Rows | _Wrapped)


def _hits(body: bytes) -> tuple[Hit, ...]:
    """Read an answer. Raises ValueError (pydantic's) for anything else than the shapes that APIs use."""
    answer = _ANSWER.validate_json(body)
    rows = answer.results if isinstance(answer, _Rows) else answer.web.results
    return tuple(_hit(row) for row in rows if row.title)


def _hit(row: _Row) -> Hit:
    snippet = row.snippet or row.description or row.content or ""
    return Hit(row.title[:200], row.url[:500], snippet[:SNIPPET_CHARS_MAX])
