"""A Maildir as post office: what development uses instead of SMTP.

Law: one file per delivery. Its name comes from the delivery, so a repeat after a crash finds it and adds none.
"""

from __future__ import annotations

import asyncio
import mailbox
import os
from pathlib import Path

from parley_notify.channels.email import Posting
from parley_notify.channels.outcome import Delivered, Outcome, TryAgain


class MaildirOffice:
    """Delivers into the Maildir ``folder``, which is made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def post(self, posting: Posting) -> Outcome:
        """Write one message; it appears whole or not at all."""
        try:
            await asyncio.to_thread(self._write, posting)
        except OSError as wrong:
            return TryAgain(f"maildir:{type(wrong).__name__}")
        return Delivered()

    def _write(self, posting: Posting) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        mailbox.Maildir(self._folder, create=True).close()
        name = f"{int(posting.created_at.timestamp())}.{posting.delivery_id}.parley"
        if self._has(name):
            return
        draft = self._folder / "tmp" / f"{name}.{posting.attempts}"
        with draft.open("wb") as file:
            file.write(posting.content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._folder / "new" / name)
        _sync(self._folder / "new")

    def _has(self, name: str) -> bool:
        """Look in ``cur`` too: a mail program moves what was read there, with flags behind its name."""
        return (self._folder / "new" / name).exists() or any((self._folder / "cur").glob(f"{name}*"))


def _sync(folder: Path) -> None:
    """Make a rename outlast a power cut: the delivery is marked as delivered right after."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
