"""Finds passages by meaning, where an embeddings API is configured, and joins them with those found by words.

A business's passages are embedded once per version. The two orders are joined by reciprocal rank, so that neither
needs the other's scale. Without the API, or while it is away, words alone decide.

Law: an API that is away costs an answer nothing but its help.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from parley_common.business import Business
from parley_common.errors import DependencyUnavailable
from parley_common.telemetry import Counter
from parley_tools.providers import Embeddings
from parley_tools.rules.passages import Found, Index

NEAR_MIN = 0.35
"""Cosine below which texts are about different things; embedding models put unrelated English at 0.1 to 0.3."""
RANK_OFFSET = 60
"""Of reciprocal rank fusion: how little the first place is worth more than the next."""
VERSIONS_KEPT = 16

Vectors = NDArray[np.float32]
log = structlog.get_logger("meaning")
MISSED = Counter("parley_knowledge_embeddings_missed", "Searches answered by words alone: the API was away")


class Meaning:
    """The embedded passages of businesses, by version."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._vectors: OrderedDict[tuple[str, str], Vectors] = OrderedDict()
        self._making = asyncio.Lock()

    async def find(self, business: Business, index: Index, question: str, count: int) -> list[Found]:
        """Return up to ``count`` passages by words and by meaning, best first."""
        by_words = index.find(question, count)
        if not index.passages:
            return by_words
        try:
            vectors = await self._of(business, index)
            (asked,) = await self._embed([question])
        except DependencyUnavailable as away:
            MISSED.inc()
            log.warning("knowledge.embeddings_missed", code=away.stable_code)
            return by_words
        return joined(by_words, _nearest(index, vectors @ asked, count), count)

    async def _of(self, business: Business, index: Index) -> Vectors:
        key = (business.name, business.version)
        async with self._making:
            if key not in self._vectors:
                texts = [f"{p.title}. {p.heading}. {p.text}" for p in index.passages]
                self._vectors[key] = await self._embed(texts)
                while len(self._vectors) > VERSIONS_KEPT:
                    self._vectors.popitem(last=False)
            self._vectors.move_to_end(key)
            return self._vectors[key]

    async def _embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.asarray(await self._embeddings.of(texts), dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)


def _nearest(index: Index, cosines: Vectors, count: int) -> list[Found]:
    order = sorted(range(len(cosines)), key=lambda place: (-float(cosines[place]), place))[:count]
    return [
        Found(index.passages[place], float(cosines[place])) for place in order if cosines[place] >= NEAR_MIN
    ]


def joined(by_words: Sequence[Found], by_meaning: Sequence[Found], count: int) -> list[Found]:
    """Return the best of two orders: what stands high in both comes first."""
    scores: dict[int, float] = {}
    found: dict[int, Found] = {}
    for order in (by_words, by_meaning):
        for rank, each in enumerate(order, 1):
            key = id(each.passage)
            scores[key] = scores.get(key, 0.0) + 1 / (RANK_OFFSET + rank)
            known = found.get(key)
            found[key] = each if known is None or each.coverage > known.coverage else known
    return [found[key] for key in sorted(scores, key=lambda key: -scores[key])][:count]
