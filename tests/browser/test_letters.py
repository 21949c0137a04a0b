"""E-mails as people see them: every letter at the width of a phone and of a desktop, full and bare, in Chromium.

Pictures go to .cache/screenshots/letters, for people to look at; nothing compares them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from browser.axe import serious_faults
from browser.chromium import Chromium
from browser.conftest import SCREENSHOTS
from parley_common.business import Business
from parley_notify.preview import FULL, preview, sample
from unit.notify.samples import business, route

WIDTHS = {"phone": 375, "desktop": 1_280}
TEXT_PX_MIN = 12
LONG = "antidisestablishmentarianism" * 8
TEXTS = """
[...document.querySelectorAll('.sheet *')].filter((e) => e.checkVisibility() && [...e.childNodes].some(
  (n) => n.nodeType === Node.TEXT_NODE && n.data.trim())).map((e) => parseFloat(getComputedStyle(e).fontSize))
"""


@pytest.fixture
def harbor(tmp_path: Path) -> Business:
    return business(tmp_path / "businesses", route())


async def look(
    browser: Chromium, html: str, name: str, width: str, folder: Path
) -> tuple[int, list[float], list[str], list[str]]:
    """Show a letter; return by how many pixels it is too wide, its sizes of text, its faults, and what it fetched."""
    page = folder / "letter.html"
    page.write_text(html, encoding="utf-8")
    async with browser.tab(page.as_uri(), width=WIDTHS[width], height=900) as tab:
        over_px = await tab.js("document.documentElement.scrollWidth - innerWidth")
        sizes_px = await tab.js(TEXTS)
        fetched = [told["request"]["url"] for told in tab.events["Network.requestWillBeSent"]]
        faults = await serious_faults(tab)
        await tab.screenshot(SCREENSHOTS / "letters" / f"{name}-{width}.png", full_page=True)
    return over_px, sizes_px, faults, [url for url in fetched if url != page.as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("bare", [False, True], ids=["full", "bare"])
@pytest.mark.parametrize("name", FULL)
async def test_every_letter_fits_is_legible_and_fetches_nothing(
    silent: Chromium, harbor: Business, tmp_path: Path, name: str, bare: bool, width: str
) -> None:
    letter = preview(sample(name, harbor.name, bare=bare), harbor)
    shown = f"{name}-bare" if bare else name
    over_px, sizes_px, faults, fetched = await look(silent, letter.html, shown, width, tmp_path)
    assert over_px <= 0
    assert sizes_px
    assert min(sizes_px) >= TEXT_PX_MIN
    assert faults == []
    assert fetched == []


@pytest.mark.parametrize("width", WIDTHS)
async def test_words_without_a_space_do_not_widen_a_letter(
    silent: Chromium, harbor: Business, tmp_path: Path, width: str
) -> None:
    fact = sample("case.opened", harbor.name).model_copy(
        update={"summary": LONG, "details": {"note": LONG, LONG: "value"}, "kind": LONG}
    )
    over_px, *_ = await look(silent, preview(fact, harbor).html, "case.opened-long", width, tmp_path)
    assert over_px <= 0
