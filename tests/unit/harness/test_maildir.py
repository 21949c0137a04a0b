"""Mails are read back as a mail program would show them."""

from __future__ import annotations

import mailbox
from email.message import EmailMessage
from pathlib import Path

from harness.maildir import mails


def put(folder: Path, subject: str) -> None:
    mail = EmailMessage()
    mail["To"] = "Zoë Example <zoe@example.com>"
    mail["From"] = "cap@example.com"
    mail["Subject"] = subject
    mail["X-Lead"] = "lead-1"
    mail.set_content("Grüße in plain text\n")
    mail.add_alternative("<p>Grüße</p>\n", subtype="html")
    mailbox.Maildir(folder, create=True).add(mail)


def test_a_folder_that_is_not_there_yet_holds_no_mail(tmp_path: Path) -> None:
    assert mails(tmp_path / "mail") == []


def test_headers_and_both_bodies_are_decoded(tmp_path: Path) -> None:
    put(tmp_path / "mail", "Größe")
    (mail,) = mails(tmp_path / "mail")
    assert (mail.to, mail.sender, mail.subject) == (
        "Zoë Example <zoe@example.com>",
        "cap@example.com",
        "Größe",
    )
    assert (mail.text.strip(), mail.html.strip()) == ("Grüße in plain text", "<p>Grüße</p>")
    assert mail.headers["x-lead"] == "lead-1"


def test_a_half_written_mail_is_not_one(tmp_path: Path) -> None:
    put(tmp_path / "mail", "whole")
    (tmp_path / "mail" / "tmp" / "1.half").write_bytes(b"To: zoe@exam")
    assert [mail.subject for mail in mails(tmp_path / "mail")] == ["whole"]


def test_a_mail_that_was_read_already_still_counts(tmp_path: Path) -> None:
    put(tmp_path / "mail", "seen")
    (path,) = (tmp_path / "mail" / "new").iterdir()
    path.rename(tmp_path / "mail" / "cur" / f"{path.name}:2,S")
    assert [mail.subject for mail in mails(tmp_path / "mail")] == ["seen"]
