"""Judges a page's accessibility with axe-core, installed from npm.

It reports serious and critical faults; lesser ones are opinions. Shadow roots are looked into.
"""

from __future__ import annotations

import json

from browser.chromium import Tab
from browser.npm import source

RUN = """
axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations
  .filter(({ impact }) => ['serious', 'critical'].includes(impact))
  .map(({ id, impact, nodes }) => `${impact} ${id}: ` + nodes
    .map((n) => `${n.target.flat().join(' >> ')} ${n.failureSummary}`).join('; ')))
"""


async def serious_faults(tab: Tab) -> list[str]:
    """Return what axe finds serious or critical on the page as it is now."""
    if not await tab.js("'axe' in window"):
        await tab.js(source("axe-core/axe.min.js") + "; true")
    found: list[str] = json.loads(await tab.js(f"{RUN}.then(JSON.stringify)".replace("\n.then", ".then")))
    return found
