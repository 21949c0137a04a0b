"""Prices: read once from prices.yaml, which names its version, date and source.

Law: a model that the table does not name has no price, and nothing is guessed in its place.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from importlib import resources

import structlog
import yaml
from pydantic import BaseModel, ConfigDict

from parley_session.core.config import Prices

OLD_AFTER_DAYS = 90

log = structlog.get_logger("prices")


class TokenPrices(BaseModel):
    """USD per million tokens of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_text: float
    cached_text: float
    output_text: float
    input_audio: float
    cached_audio: float
    output_audio: float
    input_image: float
    cached_image: float


class PriceTable(BaseModel):
    """prices.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    as_of: date
    source: str
    models: dict[str, TokenPrices]
    transcription_per_minute: dict[str, float]

    def of(self, model: str, transcription: str | None) -> Prices | None:
        """Return what a session with these models is charged; null when the model has no known price."""
        tokens = self.models.get(model)
        if tokens is None:
            return None
        minute_usd = self.transcription_per_minute.get(transcription or "", 0.0)
        return replace(Prices(**tokens.model_dump()), transcription_minute=minute_usd)

    def is_old(self, today: date) -> bool:
        """Tell whether the table should be looked at again."""
        return (today - self.as_of).days > OLD_AFTER_DAYS


@cache
def price_table() -> PriceTable:
    """Return the table that this release carries."""
    text = (resources.files("parley_session") / "prices.yaml").read_text(encoding="utf-8")
    return PriceTable.model_validate(yaml.safe_load(text))


def warn_when_old(today: date) -> None:
    """Say so at start when prices were last read long ago."""
    table = price_table()
    if table.is_old(today):
        log.warning("prices.old", version=table.version, as_of=str(table.as_of), days_max=OLD_AFTER_DAYS)
