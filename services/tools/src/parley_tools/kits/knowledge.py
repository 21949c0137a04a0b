"""The knowledge kit: answers from the business's own articles, with their source."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue

from parley_tools.context import ToolContext
from parley_tools.registry import Output, tool
from parley_tools.rules.passages import Index, answer, passages_of

PASSAGES_MAX = 3
PASSAGE_CHARS_MAX = 1_500
SAY_NOTHING = "I don't have anything on that. I can have someone get back to you about it, if you like."


@tool(cls="read", deadline_ms=4_000)
async def search_knowledge_base(
    ctx: ToolContext,
    query: Annotated[
        str, Field(description="The caller's question, in their own words", min_length=2, max_length=500)
    ],
) -> Output:
    """Search our articles to answer a general question: what something is, how it works, what is required, how long
    it takes, whether it is possible. Answer only from what it returns.
    """
    index = await asyncio.to_thread(_index, ctx.business.folder / "knowledge", ctx.business.version)
    found = index.find(query, PASSAGES_MAX)
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


@lru_cache(maxsize=64)
def _index(folder: Path, _version: str) -> Index:
    """Index a folder once per version of its business."""
    files = sorted(folder.glob("*.md"))
    return Index([part for file in files for part in passages_of(file.name, file.read_text("utf-8"))])
