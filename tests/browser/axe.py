"""Judges a page's accessibility with axe-core, installed from npm into .cache by the committed lock.

It reports serious and critical faults; lesser ones are opinions. Shadow roots are looked into.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

from browser.chromium import Tab

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "browser"
INSTALL_WITHIN_S = 120
RUN = """
axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations
  .filter(({ impact }) => ['serious', 'critical'].includes(impact))
  .map(({ id, impact, nodes }) => `${impact} ${id}: ` + nodes
    .map((n) => `${n.target.flat().join(' >> ')} ${n.failureSummary}`).join('; ')))
"""


@cache
def source() -> str:
    """Return axe-core's script, installed when it is not here as the lock says. Raises AssertionError with npm's words."""
    script = CACHE / "node_modules" / "axe-core" / "axe.min.js"
    locked = (HERE / "package-lock.json").read_bytes()
    kept = CACHE / "package-lock.json"
    if not script.exists() or not kept.exists() or kept.read_bytes() != locked:
        CACHE.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, CACHE / name)
        npm = shutil.which("npm")
        assert npm, "no npm here: apt-get install npm"
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=CACHE,
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, f"npm ci: {done.stderr}"
    return script.read_text(encoding="utf-8")


async def serious_faults(tab: Tab) -> list[str]:
    """Return what axe finds serious or critical on the page as it is now."""
    if not await tab.js("'axe' in window"):
        await tab.js(source() + "; true")
    found: list[str] = json.loads(await tab.js(f"{RUN}.then(JSON.stringify)".replace("\n.then", ".then")))
    return found
