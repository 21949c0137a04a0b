"""Which products fit what a caller is looking for, best first, and why each is where it is.

What words mean ("rain" asks for waterproof) and what a match is worth are the business's data. It knows no stock
and no cart.

Law: the same products, rules and wish give the same order; no product is named that costs more than was said; every
point a product got has its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pydantic import Field

from parley_tools.files import DataPart

_WORD = re.compile(r"[a-z]+")


class Product(DataPart):
    """One product of the catalogue."""

    id: str
    name: str
    also: tuple[str, ...] = ()
    """Other names callers have for it."""
    category: str
    price_usd: Decimal = Field(gt=0)
    color: str
    uses: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    """Empty: one size."""
    rating: Decimal = Field(ge=0, le=5)
    is_final_sale: bool = False
    summary: str


class Weights(DataPart):
    """What a match is worth."""

    category: int
    use: int
    trait: int
    color: int
    rating: int
    """For a full five stars, less below it."""


class RankingRules(DataPart):
    """data/ranking.yaml."""

    weights: Weights
    words: Mapping[str, tuple[str, ...]]
    """Of each category, use and trait: the words by which callers ask for it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is looked for. Null: it does not matter."""

    text: str
    kind: str | None = None
    """A category that is meant whatever the text says."""
    max_price: Decimal | None = None
    color: str | None = None
    size: str | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A product, its points, and what they are for."""

    product: Product
    points: int
    reasons: tuple[str, ...]


def rank(products: Sequence[Product], rules: RankingRules, wish: Wish) -> list[Ranked]:
    """Return the products that fit ``wish``, best first; of equals the better rated, then the cheaper, then by id.

    A category that the caller names is meant: nothing of another one is returned. Without any match by category, use
    or trait nothing fits.
    """
    meant = meanings(rules, wish.text)
    kinds = {wish.kind} if wish.kind else {product.category for product in products} & meant
    meant |= kinds
    found = []
    for product in products:
        if kinds and product.category not in kinds:
            continue
        if wish.max_price is not None and product.price_usd > wish.max_price:
            continue
        if wish.size is not None and product.sizes and wish.size not in product.sizes:
            continue
        if ranked := _judge(product, rules.weights, meant, wish):
            found.append(ranked)
    return sorted(found, key=lambda r: (-r.points, -r.product.rating, r.product.price_usd, r.product.id))


def meanings(rules: RankingRules, text: str) -> set[str]:
    """Return the categories, uses and traits that ``text`` asks for."""
    said = f" {' '.join(_WORD.findall(text.lower()))} "
    return {
        meaning
        for meaning, words in rules.words.items()
        if any(_is_said(said, word) for word in (meaning, *words))
    }


def named(products: Iterable[Product], said: str) -> list[Product]:
    """Return the products that a caller may mean by ``said``: those that share most of the words of a name.

    One whole name in it is that product alone.
    """
    words = _plain(said)
    scored = []
    for product in products:
        names = [_plain(name) for name in (product.name, *product.also)]
        if any(name <= words for name in names):
            scored.append((100 + max(len(name) for name in names if name <= words), product))
        else:
            scored.append((max(len(name & words) for name in names), product))
    best = max((score for score, _ in scored), default=0)
    return [product for score, product in scored if score == best] if best else []


def _is_said(said: str, word: str) -> bool:
    return f" {word} " in said or f" {word}s " in said


def _plain(text: str) -> frozenset[str]:
    return frozenset(word.removesuffix("s") for word in _WORD.findall(text.lower())) - {"the", "a", "of"}


def _judge(product: Product, weights: Weights, meant: set[str], wish: Wish) -> Ranked | None:
    points, reasons = 0, []
    if product.category in meant:
        points += weights.category
    for use in product.uses:
        if use in meant:
            points += weights.use
            reasons.append(f"made for {use}")
    for trait in product.traits:
        if trait in meant:
            points += weights.trait
            reasons.append(trait)
    if points == 0:
        return None
    if wish.color and wish.color.lower() in product.color.lower():
        points += weights.color
        reasons.append(product.color)
    points += int(weights.rating * product.rating / 5)
    reasons.append(f"rated {product.rating} of 5")
    if wish.max_price is not None:
        reasons.append("within your budget")
    return Ranked(product, points, tuple(reasons))
