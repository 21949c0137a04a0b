"""What the gateway reads of each business: its title, its limits, the sites that may open sessions with it.

Law: the mappings stay the same objects, so that a business that changes in development is seen by whoever holds one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from parley_common.business import Business
from parley_gateway.admission import BusinessLimits


@dataclass(frozen=True, slots=True)
class Listing:
    """All businesses of this gateway, by name."""

    titles: dict[str, str] = field(default_factory=dict)
    limits: dict[str, BusinessLimits] = field(default_factory=dict)
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    callbacks: set[str] = field(default_factory=set)
    """The businesses that call back whom they had no room for."""

    def fill(self, businesses: Mapping[str, Business]) -> None:
        """Be as ``businesses`` are; running sessions keep what they began with."""
        for gone in self.titles.keys() - businesses.keys():
            del self.titles[gone], self.limits[gone], self.origins[gone]
        for name, business in businesses.items():
            config = business.config
            self.titles[name] = config.title
            self.limits[name] = BusinessLimits(config.limits.sessions_max, config.limits.opens_per_minute)
            self.origins[name] = config.origins
        self.callbacks.clear()
        self.callbacks.update(name for name, business in businesses.items() if business.config.busy.callback)
