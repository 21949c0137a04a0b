"""Reads the articles of a business: Markdown, text, HTML and PDF, each cut into passages at its headings.

Parsers: Beautiful Soup on Python's own HTML parser (pure Python, forgiving of the HTML that people really have), pypdf
for the text of PDFs. A PDF has no headings that can be trusted, so it is cut by page. What a passage may be found by
is decided by rules/passages.py.

Law: the same files give the same passages, in the same order; a file that cannot be read is an error with its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from parley_common.errors import ConfigInvalid
from parley_tools.rules.passages import Passage, passages_of

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
NOT_TEXT = ("script", "style", "noscript", "template", "nav", "header", "footer", "form", "svg", "head")
ARTICLE_BYTES_MAX = 5_000_000


def articles_in(folder: Path) -> list[Passage]:
    """Return the passages of every article in a folder, by name. Raises ConfigInvalid for one that cannot be read."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in READERS)
    return [passage for path in files for passage in read_article(path, str(path.relative_to(folder)))]


def read_article(path: Path, source: str) -> list[Passage]:
    """Return the passages of one article. Raises ConfigInvalid."""
    if path.stat().st_size > ARTICLE_BYTES_MAX:
        raise ConfigInvalid(f"{path}: more than {ARTICLE_BYTES_MAX} bytes is no article")
    try:
        return READERS[path.suffix.lower()](path, source)
    except (OSError, ValueError, PyPdfError, RecursionError) as wrong:
        raise ConfigInvalid(f"{path}: cannot be read as an article: {type(wrong).__name__}") from wrong


def _markdown(path: Path, source: str) -> list[Passage]:
    return passages_of(source, path.read_text("utf-8"))


def _text(path: Path, source: str) -> list[Passage]:
    """Plain text: its first line is its title, and each paragraph a passage."""
    paragraphs = [
        " ".join(part.split()) for part in re.split(r"\n\s*\n", path.read_text("utf-8")) if part.strip()
    ]
    title = paragraphs[0] if paragraphs and len(paragraphs[0]) <= 120 else _named(source)
    rest = paragraphs[1:] if paragraphs and title == paragraphs[0] else paragraphs
    return [Passage(title, title, source, paragraph) for paragraph in rest or paragraphs]


def _html(path: Path, source: str) -> list[Passage]:
    """HTML: cut at its headings; scripts, styles, navigation and forms are no text."""
    soup = BeautifulSoup(path.read_bytes(), "html.parser")
    page_title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for tag in soup.find_all(NOT_TEXT):
        tag.decompose()
    first = soup.find(HEADINGS)
    title = (first.get_text(" ", strip=True) if first else "") or page_title or _named(source)
    passages, heading, words = [], title, list[str]()
    for each in soup.find_all(string=True):
        if type(each) is not NavigableString:  # comments and the doctype are kinds of it
            continue
        above = each.find_parent(HEADINGS)
        if above is None:
            words.extend(each.split())
            continue
        said = _heading(above)
        if said != heading:
            passages.append(Passage(title, heading, source, " ".join(words)))
            heading, words = said, []
    passages.append(Passage(title, heading, source, " ".join(words)))
    return [passage for passage in passages if passage.text]


def _heading(tag: Tag) -> str:
    return tag.get_text(" ", strip=True)


def _pdf(path: Path, source: str) -> list[Passage]:
    """PDF: one passage per page; its title is the document's own, else its first line."""
    reader = PdfReader(path)
    pages = [page.extract_text() for page in reader.pages]
    own = (reader.metadata.title if reader.metadata else None) or ""
    first_lines = [line.strip() for line in "\n".join(pages).splitlines() if line.strip()]
    title = own.strip() or (first_lines[0][:120] if first_lines else _named(source))
    return [
        Passage(
            title, title, f"{source}, page {number}" if len(pages) > 1 else source, " ".join(text.split())
        )
        for number, text in enumerate(pages, 1)
        if text.strip()
    ]


def _named(source: str) -> str:
    """A file's name as words."""
    return re.sub(r"[-_]+", " ", Path(source).stem).capitalize()


READERS: dict[str, Callable[[Path, str], list[Passage]]] = {
    ".md": _markdown,
    ".txt": _text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
