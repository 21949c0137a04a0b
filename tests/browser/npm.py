"""Programs and libraries from npm, by the committed lock, installed into .cache at their first use."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "browser"
INSTALL_WITHIN_S = 120


@cache
def source(path: str) -> str:
    """Return a file of an installed package, such as ``axe-core/axe.min.js``. Raises AssertionError with npm's words."""
    return (modules() / path).read_text(encoding="utf-8")


@cache
def modules() -> Path:
    """Return the folder of the packages, installed by now. Raises AssertionError with npm's words."""
    kept = CACHE / "package-lock.json"
    locked = (HERE / "package-lock.json").read_bytes()
    if not kept.exists() or kept.read_bytes() != locked or not (CACHE / "node_modules").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / "package.json", CACHE / "package.json")
        npm = shutil.which("npm")
        assert npm, "no npm here: apt-get install npm"
        kept.write_bytes(locked)
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=CACHE,
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN_S,
            check=False,
        )
        if done.returncode:
            kept.unlink()
        assert done.returncode == 0, f"npm ci: {done.stderr}"
    return CACHE / "node_modules"
