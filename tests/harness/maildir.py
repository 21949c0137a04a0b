"""Reads what was delivered into a Maildir, as a mail program would show it.

It reads only ``new`` and ``cur``: a half-written file in ``tmp`` is not a mail.
"""

from __future__ import annotations

import email
import email.policy
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path


@dataclass(frozen=True)
class Mail:
    """One mail: decoded headers and bodies."""

    to: str
    sender: str
    subject: str
    text: str
    html: str
    headers: dict[str, str]
    """Every header by lower-case name; of a repeated one, the last."""


def mails(folder: Path) -> list[Mail]:
    """Return the mails of ``folder``, oldest file name first; none when the folder is not there yet."""
    files = [path for name in ("new", "cur") for path in (folder / name).glob("*") if path.is_file()]
    return [_read(path) for path in sorted(files, key=lambda path: path.name)]


def _read(path: Path) -> Mail:
    parsed = email.message_from_bytes(path.read_bytes(), _class=EmailMessage, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return Mail(
        to=str(parsed["to"] or ""),
        sender=str(parsed["from"] or ""),
        subject=str(parsed["subject"] or ""),
        text=_body(parsed, "plain"),
        html=_body(parsed, "html"),
        headers={name.lower(): str(value) for name, value in parsed.items()},
    )


def _body(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    return str(part.get_content()) if part is not None else ""
