"""The knowledge kit: answers from the business's own articles, with their source."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, JsonValue

from parley_common.business import Business
from parley_tools.articles import articles_in
from parley_tools.context import ToolContext
from parley_tools.files import DataFile, DataPart
from parley_tools.registry import Output, tool
from parley_tools.rules.passages import Index, answer

PASSAGES_MAX = 3
PASSAGE_CHARS_MAX = 1_500
SAY_NOTHING = "I don't have anything on that. I can have someone get back to you about it, if you like."


class Words(DataPart):
    """data/words.yaml: words that callers of this business use for each other; the file may be missing."""

    groups: tuple[tuple[str, ...], ...]


WORDS = DataFile("words.yaml", Words, is_optional=True)


@tool(cls="read", deadline_ms=4_000, data=(WORDS,))
async def search_knowledge_base(
    ctx: ToolContext,
    query: Annotated[
        str, Field(description="The caller's question, in their own words", min_length=2, max_length=500)
    ],
) -> Output:
    """Search our articles to answer a general question: what something is, how it works, what is required, how long
    it takes, whether it is possible. Answer only from what it returns.
    """
    index = await asyncio.to_thread(index_of, ctx.business)
    meaning = ctx.resources.meaning
    if meaning is None:
        found = index.find(query, PASSAGES_MAX)
    else:
        found = await meaning.find(ctx.business, index, query, PASSAGES_MAX)
    if not found:
        return {"found": False, "passages": [], "say": SAY_NOTHING}
    passages: list[JsonValue] = [
        {
            "title": each.passage.title,
            "heading": each.passage.heading,
            "source": each.passage.source,
            "text": each.passage.text[:PASSAGE_CHARS_MAX],
            "relevance": round(each.coverage, 2),
        }
        for each in found
    ]
    return {"found": True, "passages": passages, "say": answer(query, found[0].passage)}


def index_of(business: Business) -> Index:
    """Return the index of a business's articles, made once per version."""
    return _index(business.folder, business.version)


@lru_cache(maxsize=64)
def _index(folder: Path, _version: str) -> Index:
    """Index a business's articles, with its own words for things where it has any."""
    path = folder / "data" / WORDS.name
    groups = Words.model_validate(yaml.safe_load(path.read_text("utf-8"))).groups if path.is_file() else ()
    return Index(articles_in(folder / "knowledge"), groups)
