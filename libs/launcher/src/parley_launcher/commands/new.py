"""`parley new`: a business of one's own, made from one that works.

The copy is valid from the first moment: what names the old business is rewritten, everything else is there to be
edited. Law: nothing that exists is ever overwritten, and business.yaml is written last, so that services which look
for new folders see a whole one or none.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from parley_common.business import Business, check, load
from parley_common.errors import ConfigInvalid, Permanent
from parley_launcher.commands.check import errors_of, findings_of
from parley_launcher.console import stdout
from parley_launcher.settings import load_up_settings

CONFIG = "business.yaml"
FILE_BYTES_MAX = 5_000_000
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TITLE = re.compile(r"\w[\w &'.-]{0,59}")
_AGENT = re.compile(r"\w[\w'-]{0,31}")
_DOMAIN = re.compile(r"\b[a-z0-9-]+\.example\.com\b")


def new(
    name: Annotated[str, typer.Argument(help="The new folder's name: lower case, digits and -.")],
    like: Annotated[str, typer.Option(help="The business to begin from: a folder under businesses/.")],
    title: Annotated[
        str | None,
        typer.Option(help="What people read, such as 'Riverside Vets'; default: made of the name."),
    ] = None,
    agent: Annotated[str | None, typer.Option(help="The agent's name; default: that of the other.")] = None,
) -> None:
    """Make a business of your own from one that works.

    The new folder is whole and valid at once: name, title, e-mail addresses
    and, with --agent, the agent's name are rewritten; what it says, knows and
    may do is still the other's, and yours to edit. All of its data is
    fictional.

    \b
    Examples:
      parley new my-clinic --like clinic
      parley new bike-shop --like shop --title "Riverside Bikes" --agent Robin
    """
    root = load_up_settings().parley.businesses_dir
    _check_words(name, title, agent)
    if (root / name).exists():
        raise _taken(root / name)
    source = _source(root, like)
    made = make(
        source, root / name, title or name.replace("-", " ").title(), agent or source.config.agent.name
    )
    _tell_what_next(made, root / name)


def _check_words(name: str, title: str | None, agent: str | None) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigInvalid(
            f"{name!r} is no name for a business",
            remedy="lower case, digits and -, a letter first, at most 32: my-clinic",
        )
    if title is not None and not _TITLE.fullmatch(title):
        raise ConfigInvalid(
            f"--title {title!r} cannot be used",
            remedy="letters, digits, spaces and & ' . - only, at most 60",
        )
    if agent is not None and not _AGENT.fullmatch(agent):
        raise ConfigInvalid(f"--agent {agent!r} cannot be used", remedy="one word, such as Robin")


def _source(root: Path, like: str) -> Business:
    """Return the business to begin from. Raises ConfigInvalid when it is not there or has mistakes itself."""
    known = sorted(path.parent.name for path in root.glob(f"*/{CONFIG}"))
    if like not in known:
        near = get_close_matches(like, known, 1)
        guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
        raise ConfigInvalid(f"there is no business {like!r} under {root}", remedy=guess)
    if errors_of(check(root / like)):
        raise ConfigInvalid(
            f"{like} has mistakes itself, and a copy would have them too",
            remedy=f"parley check {root / like} names them",
        )
    return load(root / like)


@dataclass(frozen=True, slots=True)
class Renaming:
    """What names a business in its texts, and what is to name the new one."""

    name: str
    title: str
    agent: str
    old_title: str
    old_short: str | None
    """The first word of the title where that is a name, such as Willowbrook of Willowbrook Family Clinic."""
    old_agent: str

    def of_text(self, text: str) -> str:
        """Return a text of the old business as the new one's."""
        text = text.replace(self.old_title, self.title)
        if self.old_short:
            text = re.sub(rf"\b{re.escape(self.old_short)}\b", lambda _: self.title, text)
        if self.agent != self.old_agent:
            text = re.sub(rf"\b{re.escape(self.old_agent)}\b", lambda _: self.agent, text)
        return _DOMAIN.sub(f"{self.name}.example.com", text)

    def of_config(self, text: str) -> str:
        """Return business.yaml: its own name too, wherever its line stands."""
        return re.sub(r"(?m)^name:.*$", f"name: {self.name}", self.of_text(text), count=1)


def make(source: Business, folder: Path, title: str, agent: str) -> Business:
    """Write the new folder and return its business.

    Raises:
        ConfigInvalid: the folder exists or cannot be written.
        Permanent: it would not be valid; then nothing of it is left.
    """
    files = [
        path for path in sorted(source.folder.rglob("*")) if path.is_file() and not _is_hidden(path, source)
    ]
    renaming = _renaming(source, files, folder.name, title, agent)
    try:
        folder.mkdir(parents=True)
    except FileExistsError as taken:
        raise _taken(folder) from taken
    except OSError as wrong:
        raise ConfigInvalid(f"{folder} cannot be made: {wrong.strerror}") from wrong
    try:
        for path in sorted(files, key=lambda each: each == source.folder / CONFIG):
            _copy(path, folder / path.relative_to(source.folder), renaming)
        return _checked(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _checked(folder: Path) -> Business:
    """Return the new business. Raises Permanent when it is not valid, which its source's kit data can cause."""
    if wrong := errors_of(findings_of(folder)):
        raise Permanent(f"the new business would not be valid: {wrong[0]}")
    return load(folder)


def _taken(folder: Path) -> ConfigInvalid:
    return ConfigInvalid(
        f"{folder} exists already, and nothing is overwritten", remedy="choose another name, or remove it"
    )


def _is_hidden(path: Path, source: Business) -> bool:
    return any(part.startswith(".") for part in path.relative_to(source.folder).parts)


def _renaming(source: Business, files: list[Path], name: str, title: str, agent: str) -> Renaming:
    old = source.config
    texts = _DOMAIN.sub("", "\n".join(_text(path) or "" for path in files))
    first = old.title.split()[0]
    is_name = first[:1].isupper() and not re.search(rf"\b{re.escape(first.lower())}\b", texts)
    return Renaming(name, title, agent, old.title, first if is_name else None, old.agent.name)


def _text(path: Path) -> str | None:
    """Return a file's text; null for one that is none, such as a picture."""
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size <= FILE_BYTES_MAX else None
    except UnicodeDecodeError:
        return None


def _copy(path: Path, to: Path, renaming: Renaming) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    text = _text(path)
    if text is None:
        shutil.copyfile(path, to)
        return
    is_config = path.name == CONFIG and to.parent.name == renaming.name
    to.write_text(renaming.of_config(text) if is_config else renaming.of_text(text), encoding="utf-8")


def _tell_what_next(made: Business, folder: Path) -> None:
    articles = len(list((folder / "knowledge").glob("*.md")))
    data = ", ".join(sorted(path.name for path in (folder / "data").glob("*"))) or "none"
    stdout.print(Text(f"{folder} is made, and valid: {made.config.title}", "green"))
    stdout.print("\nEdit next:")
    for what, how in (
        (CONFIG, "the greeting, hours, time zone, tools, and in routes who is told of what"),
        ("prompt.md", "who the agent is, what it does with which tool, what it never does"),
        ("knowledge/", f"{articles} articles: what it may say when asked, one subject a file"),
        ("data/", f"what its tools work with: {data}; all of it invented"),
    ):
        stdout.print(Text(f"  {what:<14}", "bold") + Text(how))
    stdout.print("\nThen:")
    stdout.print(f"  parley check {folder}")
    stdout.print(f"  parley try {made.name}")
