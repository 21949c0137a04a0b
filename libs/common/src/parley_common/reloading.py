"""Reloading businesses while a service runs, in development: whoever begins after a change sees it.

Does not touch what runs: a session keeps the version it began with. Law: a business that is wrong now stays as it
was, and is said to be wrong once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from pathlib import Path

import structlog

from parley_common.business import Business, load_changed

EVERY_S = 2.0

log = structlog.get_logger("reloading")


async def keep_reloaded(
    root: Path,
    businesses: MutableMapping[str, Business],
    stop: asyncio.Event,
    *,
    every_s: float = EVERY_S,
    on_change: Callable[[], None] = lambda: None,
) -> None:
    """Keep ``businesses`` as the folders under ``root`` are, until ``stop``."""
    said: set[str] = set()
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), every_s)
        except TimeoutError:
            said = await _reload(root, businesses, said, on_change)


async def _reload(
    root: Path, businesses: MutableMapping[str, Business], said: set[str], on_change: Callable[[], None]
) -> set[str]:
    known = dict(businesses)
    found, mistakes = await asyncio.to_thread(load_changed, root, known)
    for mistake in set(mistakes) - said:
        log.warning("business.not_reloaded", mistake=mistake)
    changed = [name for name, business in found.items() if known.get(name) is not business]
    removed = known.keys() - found.keys()
    for name in changed:
        businesses[name] = found[name]
        log.info("business.reloaded", business=name, version=found[name].version)
    for name in removed:
        del businesses[name]
        log.info("business.removed", business=name)
    if changed or removed:
        on_change()
    return set(mistakes)
