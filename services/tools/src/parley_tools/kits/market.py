"""The market kit: figures and reports about an area, from a web search when there is one, else from a sample.

Law: the answer always says where it is from, and that the sample is a sample.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from parley_tools.context import ToolContext
from parley_tools.files import DataFile
from parley_tools.providers import Hit, WebSearch
from parley_tools.registry import Output, tool

HITS_MAX = 3
SAID_CHARS_MAX = 220

PropertyType = Literal["single_family", "multifamily", "condo", "short_term_rental"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Area(_Part):
    """Figures of one area in the sample."""

    name: str
    also: tuple[str, ...] = ()
    median_price_usd: int = Field(gt=0)
    median_rent_usd: int = Field(gt=0)
    vacancy_pct: float = Field(ge=0, le=100)
    price_change_pct: float
    """Over a year."""
    outlook: str

    @property
    def gross_yield_pct(self) -> float:
        return round(self.median_rent_usd * 12 * 100 / self.median_price_usd, 1)


class Market(_Part):
    """data/market.yaml."""

    note: str
    """Says that it is a sample."""
    as_of: str
    property_factors: dict[PropertyType, float] = {}
    """Price of a type relative to the median."""
    areas: tuple[Area, ...]


MARKET = DataFile("market.yaml", Market)


@tool(cls="read", deadline_ms=8_000, data=(MARKET,), filler="Let me look at that market for you.")
async def research_market(
    ctx: ToolContext,
    area: Annotated[
        str,
        Field(description="City or area to research, such as Austin, Texas", min_length=2, max_length=120),
    ],
    property_type: Annotated[PropertyType | None, Field(description="Kind of property")] = None,
) -> Output:
    """Research the real estate market of a city or area: prices, rents, vacancy and trend. Says where the figures
    come from.
    """
    if ctx.resources.web_search is not None:
        return await _from_web(ctx.resources.web_search, area, property_type)
    return _from_sample(ctx.data(MARKET), area, property_type)


async def _from_web(search: WebSearch, area: str, property_type: PropertyType | None) -> Output:
    kind = (property_type or "rental property").replace("_", " ")
    hits = await search.find(f"{area} {kind} market prices rents vacancy trend", HITS_MAX)
    if not hits:
        return {"found": False, "area": area, "say": f"The search found nothing on the market in {area}."}
    sources: list[JsonValue] = [{"title": h.title, "url": h.url, "snippet": h.snippet} for h in hits]
    return {"found": True, "area": area, "source": "web search", "sources": sources, "say": _say_hit(hits[0])}


def _say_hit(hit: Hit) -> str:
    snippet = " ".join(re.sub(r"<[^>]+>", " ", hit.snippet).split())
    cut = snippet if len(snippet) <= SAID_CHARS_MAX else snippet[:SAID_CHARS_MAX].rsplit(" ", 1)[0] + " …"
    return f"According to {hit.title}: {cut}" if cut else f"I found an article called {hit.title}."


def _from_sample(market: Market, wanted: str, property_type: PropertyType | None) -> Output:
    found = next((each for each in market.areas if _is_named(each, wanted)), None)
    known = [each.name for each in market.areas]
    if found is None:
        listed: list[JsonValue] = list(known)
        return {
            "found": False,
            "area": wanted,
            "known_areas": listed,
            "source": market.note,
            "say": f"My sample data doesn't cover {wanted}. It has {', '.join(known[:3])} and a few others.",
        }
    factor = market.property_factors.get(property_type, 1.0) if property_type else 1.0
    price = round(found.median_price_usd * factor / 1000) * 1000
    return {
        "found": True,
        "area": found.name,
        "property_type": property_type,
        "median_price_usd": price,
        "median_rent_usd": found.median_rent_usd,
        "vacancy_pct": found.vacancy_pct,
        "price_change_pct": found.price_change_pct,
        "gross_yield_pct": found.gross_yield_pct,
        "outlook": found.outlook,
        "as_of": market.as_of,
        "source": market.note,
        "say": _say_area(found, price, property_type),
    }


def _is_named(area: Area, wanted: str) -> bool:
    said = f" {' '.join(re.findall(r'[a-z]+', wanted.lower()))} "
    names = (area.name.split(",")[0], *area.also)
    return any(f" {' '.join(re.findall(r'[a-z]+', name.lower()))} " in said for name in names)


def _say_area(area: Area, price: int, property_type: PropertyType | None) -> str:
    kind = f"{property_type.replace('_', ' ')} " if property_type else ""
    trend = "up" if area.price_change_pct > 0 else "down"
    return (
        f"This is sample data, not live figures. In {area.name} the median {kind}price is about ${price:,} "
        f"and rent about ${area.median_rent_usd:,} a month, with prices {trend} "
        f"{abs(area.price_change_pct):g}% over the year. {area.outlook}"
    )
