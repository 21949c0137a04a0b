"""Rules for the paper, as pure functions from a page's text, and what the code knows, to what is wrong with it.

Which pages are read, and what the code knows, is decided by tests/test_docs.py. A page is Markdown: fenced blocks, blocks
indented by four, `spans`, tables and headings are all that is looked at.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

from harness.house import Finding

_FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*(\w*)")
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_VARIABLE = re.compile(
    r"\b(?:GATEWAY|SESSION|TOOLS|NOTIFY|UNDERSTUDY|PARLEY|KAFKA|OTEL|OPENAI|DATABASE)_[A-Z0-9_]*[A-Z0-9]\b"
)
_PORT = re.compile(r"(?:(?:127\.0\.0\.1|localhost|0\.0\.0\.0):|--port[ =]|_PORT=)(\d{2,5})\b")
_PORT_ROW = re.compile(r"^\|\s*(\d{2,5})\s*\|\s*`([A-Z_]+_PORT)`", re.MULTILINE)
_NAME = re.compile(r"(?<![\w./@-])parley\.[a-z_]\w*(?:\.(?:[a-z_]\w*|\*|<\w+>))*")
_FILE = re.compile(r"^[\w.<>*-]+\.(?:py|md|ya?ml|toml|lock|sh|j2|css|js|html|ini)$")
_PATH = re.compile(r"^\.?[\w<>*-][\w.<>*-]*(?:/[\w.<>*-]*)+$")
_METHOD = re.compile(r"^([A-Z]\w+)\.(\w+)(?:\(\))?$")
_FUNCTION = re.compile(r"^(\w+)\.(\w+)\(\)$")
_SHELLS = frozenset({"", "sh", "bash", "shell", "console"})
_ASSIGNMENT = re.compile(r"^[A-Z_][A-Z0-9_]*=")


@dataclass(frozen=True)
class Page:
    """One Markdown file; ``name`` is its path from the root of the repository."""

    name: str
    text: str

    @cached_property
    def _lines(self) -> list[tuple[str, str | None]]:
        """Each line with the language of the block it is in; null outside of blocks."""
        found: list[tuple[str, str | None]] = []
        language: str | None = None
        closing, before_blank, indented = "", True, False
        for line in self.text.splitlines():
            fence = _FENCE.match(line)
            if language is None and fence:
                closing, language = fence[1], fence[2].lower()
            elif language is not None and fence and fence[1].startswith(closing):
                language = None
            elif language is not None:
                found.append((line, language))
            else:
                indented = line.startswith("    ") and (before_blank or indented)
                found.append((line, "" if indented else None))
            before_blank = not line.strip()
        return found

    @property
    def outside(self) -> str:
        """The text without its blocks."""
        return "\n".join(line for line, language in self._lines if language is None)

    @property
    def spans(self) -> list[str]:
        """What stands between backticks, on one line each."""
        return [" ".join(span.split()) for span in _SPAN.findall(self.outside)]

    @property
    def shell_lines(self) -> list[str]:
        """The lines of blocks that a reader could type."""
        return [line.strip() for line, language in self._lines if language in _SHELLS]

    @property
    def blocks(self) -> str:
        """The text of all its blocks."""
        return "\n".join(line for line, language in self._lines if language is not None)

    @property
    def prose(self) -> str:
        """The words of the page: no blocks, spans, addresses of links, or web addresses."""
        text = _SPAN.sub(" ", self.outside)
        text = re.sub(r"\]\([^)]*\)", "]", text)
        return re.sub(r"https?://\S+|<!--.*?-->", " ", text, flags=re.DOTALL)

    @property
    def links(self) -> list[str]:
        return _LINK.findall(_SPAN.sub("span", self.outside))

    @property
    def anchors(self) -> set[str]:
        """What GitHub makes of its headings."""
        heads = (_HEADING.match(line) for line in self.outside.splitlines())
        return {_slug(head[1]) for head in heads if head}

    def section(self, heading: str) -> str:
        """Return the text under a heading up to the next one of any level; empty when there is none."""
        lines = iter(self.text.splitlines())
        for line in lines:
            head = _HEADING.match(line)
            if head and head[1] == heading:
                return "\n".join(takewhile(lambda each: not _HEADING.match(each), lines))
        return ""

    def tables(self, heading: str) -> list[Table]:
        """Return the tables under a heading, up to the next heading."""
        return list(_tables(self.section(heading).splitlines()))


@dataclass(frozen=True)
class Table:
    """A table of a page; cells as they are written."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def firsts(self) -> list[str]:
        """Return the first span of each row's first cell, or the cell where it has none."""
        return [span[1] if (span := _SPAN.search(row[0])) else row[0] for row in self.rows]


@dataclass(frozen=True)
class Commands:
    """What can be typed: `parley` with its subcommands and options, make's targets, modules, installed programs."""

    parley: Mapping[tuple[str, ...], AbstractSet[str]]
    """Options by path of subcommands; the empty path is `parley` itself."""
    targets: AbstractSet[str]
    scripts: AbstractSet[str]
    has_module: Callable[[str], bool]


# -- rules ----------------------------------------------------------------------------------------


def wrong_commands(page: Page, commands: Commands) -> list[Finding]:
    """Find commands, options, targets and modules that are not there."""
    typed = [*page.shell_lines, *page.spans]
    return [
        Finding(page.name, f"{line}: {fault}") for line in typed for fault in _command_faults(line, commands)
    ]


def wrong_links(
    page: Page, exists: Callable[[str], bool], anchors: Mapping[str, AbstractSet[str]]
) -> list[Finding]:
    """Find relative links to files, folders and headings that are not there. ``anchors`` are those of each page."""
    found = []
    folder = page.name.rpartition("/")[0]
    for link in page.links:
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = _joined(folder, path) if path else page.name
        if not exists(target):
            found.append(Finding(page.name, f"link to {link}: no such file"))
        elif anchor and target in anchors and anchor not in anchors[target]:
            found.append(Finding(page.name, f"link to {link}: no such heading"))
    return found


def wrong_paths(page: Page, paths: AbstractSet[str]) -> list[Finding]:
    """Find spans that name files and folders which are not there, and are not made by the page's own blocks.

    ``paths`` are all of the repository's.
    """
    tops = {path.split("/")[0] for path in paths}
    found = []
    for span in page.spans:
        if _PATH.match(span) and span.split("/")[0] in tops:
            known = any(map(_pattern(span.rstrip("/")).fullmatch, paths))
        elif _FILE.match(span):
            known = any(_pattern(span).fullmatch(path.rpartition("/")[2]) for path in paths)
        else:
            continue
        if not known and span.rstrip("/").rpartition("/")[2] not in page.blocks:
            found.append(Finding(page.name, f"{span}: no such file"))
    return found


def wrong_functions(
    page: Page, functions: Mapping[str, AbstractSet[str]], methods: Mapping[str, AbstractSet[str]]
) -> list[Finding]:
    """Find `module.function()` and `Class.method` that are not in the code."""
    everywhere = {name for names in (*functions.values(), *methods.values()) for name in names}
    found = []
    for span in page.spans:
        if method := _METHOD.match(span):
            known = method[1] not in methods or method[2] in methods[method[1]]
        elif function := _FUNCTION.match(span):
            known = function[2] in functions.get(function[1], everywhere)
        else:
            continue
        if not known:
            found.append(Finding(page.name, f"{span}: not in the code"))
    return found


def wrong_variables(page: Page, known: AbstractSet[str]) -> list[Finding]:
    """Find environment variables that nothing reads."""
    named = set(_VARIABLE.findall(page.text))
    return [Finding(page.name, f"{name} is no setting") for name in sorted(named - known)]


def wrong_ports(page: Page, defaults: Mapping[str, int], others: AbstractSet[int]) -> list[Finding]:
    """Find ports that are no setting's default, and rows that give a setting another default."""
    known = set(defaults.values()) | others
    found = [
        Finding(page.name, f"port {port} is no default")
        for port in sorted(set(map(int, _PORT.findall(page.text))) - known)
    ]
    for port, setting in _PORT_ROW.findall(page.text):
        if defaults.get(setting) != int(port):
            found.append(Finding(page.name, f"{setting} is {defaults.get(setting)} by default, not {port}"))
    return found


def wrong_names(page: Page, known: AbstractSet[str]) -> list[Finding]:
    """Find topics, fact types and other `parley.` names that are not in the code. ``*`` and ``<x>`` stand for one part."""
    found = []
    for name in sorted(set(_NAME.findall(page.text))):
        pattern = re.compile(re.sub(r"\\\*|<\w+>", r"\\w+", re.escape(name).replace(r"\<", "<")))
        if not any(map(pattern.fullmatch, known)):
            found.append(Finding(page.name, f"{name}: no such topic, type or name"))
    return found


def forbidden_words(page: Page, words: AbstractSet[str]) -> list[Finding]:
    """Find words in prose that the glossary forbids, their plurals too."""
    return [
        Finding(page.name, f"the glossary has another word for {word!r}")
        for word in sorted(words)
        if re.search(rf"\b{re.escape(word)}s?\b", page.prose, re.IGNORECASE)
    ]


def never_say(glossary: Page) -> set[str]:
    """Return the words of every column that is headed ``never``."""
    words: set[str] = set()
    for table in _tables(glossary.text.splitlines()):
        if "never" in table.head:
            column = table.head.index("never")
            words |= {word.strip() for row in table.rows for word in row[column].split(",")}
    return words - {""}


def differences(
    page: Page, what: str, documented: AbstractSet[Any], in_code: AbstractSet[Any]
) -> list[Finding]:
    """Say what the page has and the code has not, and the other way round."""
    return [
        *(Finding(page.name, f"{what} {each} is not in the code") for each in sorted(documented - in_code)),
        *(Finding(page.name, f"{what} {each} is not on the page") for each in sorted(in_code - documented)),
    ]


def wrong_messages(page: Page, messages: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Compare the sections named for a message, with their tables headed ``field``, with the messages and their fields."""
    headed = {
        span[1]
        for line in page.outside.splitlines()
        if (head := _HEADING.match(line)) and (span := re.fullmatch(r"`(\w+)`", head[1]))
    }
    found = differences(page, "message", headed, set(messages))
    for tag in sorted(headed & set(messages)):
        named = {
            name for table in page.tables(f"`{tag}`") if table.head[0] == "field" for name in table.firsts()
        }
        found += differences(page, f"{tag}:", named, set(messages[tag]))
    return found


# -- reading --------------------------------------------------------------------------------------


def _tables(lines: Sequence[str]) -> Iterator[Table]:
    rows: list[tuple[str, ...]] = []
    for line in [*lines, ""]:
        if line.lstrip().startswith("|"):
            rows.append(tuple(cell.strip() for cell in line.strip().strip("|").split("|")))
        elif rows:
            yield Table(rows[0], tuple(rows[2:]))
            rows = []


def _slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _joined(folder: str, path: str) -> str:
    parts = folder.split("/") if folder else []
    for part in path.rstrip("/").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\*|<[^>]*>", "[^/]*", re.escape(path)))


def _command_faults(line: str, commands: Commands) -> list[str]:
    if not re.match(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:parley\b|python\b|make\b)|printf", line):
        return []
    try:
        words = shlex.split(line, comments=True)
    except ValueError as wrong:
        return [f"cannot be typed: {wrong}"]
    faults = []
    for part in _parts(words):
        faults += _faults_of(part, commands)
    return faults


def _parts(words: Sequence[str]) -> Iterator[list[str]]:
    """Split at pipes and the like; drop assignments in front."""
    part: list[str] = []
    for word in [*words, ";"]:
        if word in {"|", "&&", "||", ";", "&"}:
            yield part
            part = []
        elif part or not _ASSIGNMENT.match(word):
            part.append(word)


def _faults_of(part: Sequence[str], commands: Commands) -> list[str]:
    if not part:
        return []
    program, rest = part[0].removeprefix(".venv/bin/"), list(part[1:])
    if program == "parley":
        return _parley_faults(rest, commands.parley)
    if program == "make":
        wanted = [word for word in rest if not word.startswith("-") and "=" not in word]
        return [f"make has no target {word}" for word in wanted if word not in commands.targets]
    if program == "python" and rest[:1] == ["-m"]:
        return [] if commands.has_module(rest[1]) else [f"no module {rest[1]}"]
    if program.startswith("parley-") and program not in commands.scripts:
        return [f"no program {program}"]
    return []


def _parley_faults(words: list[str], parley: Mapping[tuple[str, ...], AbstractSet[str]]) -> list[str]:
    path: tuple[str, ...] = ()
    while words and (*path, words[0]) in parley:
        path = (*path, words.pop(0))
    is_group = any(len(other) > len(path) and other[: len(path)] == path for other in parley)
    if is_group and words and not words[0].startswith(("-", "<")):
        return [f"`parley{''.join(f' {part}' for part in path)}` has no command {words[0]}"]
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [f"`parley {' '.join(path)}` has no option {each}" for each in options if each not in parley[path]]
