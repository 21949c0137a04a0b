"""Switches: what operators have switched off, a business or one of its tools, kept from a compacted topic.

Decides nothing about sessions: the host refuses and ends them, the core refuses tools.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from parley_common.contracts.operations import Switch
from parley_common.contracts.record import read_contract
from parley_common.errors import InvalidRecord
from parley_session.meters import INVALID_RECORDS

log = structlog.get_logger("switches")


class Switches:
    """Everything that is off now. ``on_change`` is told the business that a change is about."""

    def __init__(self) -> None:
        self._off: dict[str, Switch] = {}
        self.on_change: Callable[[str], None] = lambda _business: None

    def take(self, key: str, value: bytes | None) -> None:
        """Take in a record of parley.switches; a tombstone switches on again."""
        try:
            switch = None if value is None else read_contract(Switch, value)
        except InvalidRecord as wrong:
            INVALID_RECORDS.labels("switch").inc()
            log.warning("switches.invalid", code=wrong.stable_code)
            return
        if switch is None:
            self._off.pop(key, None)
        else:
            self._off[key] = switch
        log.info("switches.changed", key=key[:80], off=switch is not None)
        self.on_change(key.partition("/")[0])

    def is_off(self, business: str) -> bool:
        """Tell whether a whole business is switched off."""
        return business in self._off

    def tools_off(self, business: str) -> frozenset[str]:
        """Return the tools of a business that are switched off, as the business names them."""
        return frozenset(
            switch.tool for switch in self._off.values() if switch.business == business and switch.tool
        )
