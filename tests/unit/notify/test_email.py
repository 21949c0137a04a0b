"""E-mail as MIME and as files: what every message carries, and one file per delivery."""

from __future__ import annotations

import email
import email.policy
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
from jinja2 import TemplateError

from harness.maildir import mails
from parley_common.clock import ManualClock
from parley_notify.channels.email import EmailChannel, compose
from parley_notify.channels.maildir import MaildirOffice
from parley_notify.channels.outcome import Delivered, Refused, TryAgain
from parley_notify.delivery import Delivery
from parley_notify.letters import Letter, Letters
from parley_notify.settings import parse_sender
from unit.notify.samples import AT, business, captured, delivery, route

SENDER = parse_sender("Harbor Lending <cap@harbor.example.com>")
LETTER = Letter("New lead: Zoë", "text ü\n", "<p>html ü</p>\n")


def parsed(told: Delivery, letter: Letter = LETTER) -> EmailMessage:
    content = compose(letter, told, SENDER, AT).as_bytes(policy=email.policy.SMTP)
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    assert content.isascii()
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def office(folder: Path, tmp_path: Path) -> EmailChannel:
    letters = Letters({"harbor": business(tmp_path / "businesses", route())})
    return EmailChannel(letters, MaildirOffice(folder), sender=SENDER, clock=ManualClock())


def test_a_message_is_the_same_letter_as_text_and_as_html() -> None:
    message = parsed(delivery())
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert [part.get_content() for part in message.iter_parts()] == ["text ü\r\n", "<p>html ü</p>\r\n"]


def test_a_message_says_who_it_is_from_and_that_a_machine_wrote_it() -> None:
    message = parsed(delivery())
    assert message["From"] == "Harbor Lending <cap@harbor.example.com>"
    assert message["To"] == "sales@example.com"
    assert message["Subject"] == "New lead: Zoë"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == AT
    assert not [name for name in message.keys() if name.lower().startswith("list-")]  # noqa: SIM118


def test_the_message_id_is_the_deliverys_own_at_every_attempt() -> None:
    first, second = delivery(fact_id="f-1"), delivery(fact_id="f-1", attempts=2)
    assert parsed(first)["Message-ID"] == parsed(second)["Message-ID"]
    assert parsed(first)["Message-ID"] != parsed(delivery(fact_id="f-2"))["Message-ID"]
    assert parsed(first)["Message-ID"].endswith("@harbor.example.com>")


def test_letters_about_one_lead_share_a_thread() -> None:
    assert parsed(delivery(fact_id="f-1"))["References"] == parsed(delivery(fact_id="f-2"))["References"]


async def test_a_maildir_gets_one_whole_file(tmp_path: Path) -> None:
    channel = office(tmp_path / "state" / "mail", tmp_path)
    assert await channel.send(delivery()) == Delivered()
    (mail,) = mails(tmp_path / "state" / "mail")
    assert mail.subject == "New lead: Dana Reyes - Harbor Lending"
    assert mail.to == "sales@example.com"
    assert "Dana Reyes" in mail.text
    assert "Dana Reyes" in mail.html
    assert not list((tmp_path / "state" / "mail" / "tmp").iterdir())


async def test_a_repeat_after_a_crash_adds_no_second_file(tmp_path: Path) -> None:
    channel = office(tmp_path / "mail", tmp_path)
    told = delivery()
    await channel.send(told)
    await channel.send(delivery(fact_id=told.fact_id, attempts=2))
    assert len(mails(tmp_path / "mail")) == 1


async def test_a_repeat_is_known_even_after_a_mail_program_took_the_first(tmp_path: Path) -> None:
    channel = office(tmp_path / "mail", tmp_path)
    told = delivery()
    await channel.send(told)
    (file,) = (tmp_path / "mail" / "new").iterdir()
    file.rename(tmp_path / "mail" / "cur" / f"{file.name}:2,S")
    await channel.send(delivery(fact_id=told.fact_id, attempts=2))
    assert len(mails(tmp_path / "mail")) == 1


async def test_a_half_written_file_of_a_killed_worker_is_no_mail_and_no_hindrance(tmp_path: Path) -> None:
    channel = office(tmp_path / "mail", tmp_path)
    told = delivery()
    await channel.send(told)
    (file,) = (tmp_path / "mail" / "new").iterdir()
    file.rename(tmp_path / "mail" / "tmp" / f"{file.name}.1")
    assert mails(tmp_path / "mail") == []
    assert await channel.send(delivery(fact_id=told.fact_id, attempts=2)) == Delivered()
    assert len(mails(tmp_path / "mail")) == 1


async def test_deliveries_of_one_fact_on_two_routes_are_two_files(tmp_path: Path) -> None:
    channel = office(tmp_path / "mail", tmp_path)
    await channel.send(delivery(fact_id="f-1", route="sales"))
    await channel.send(delivery(fact_id="f-1", route="boss"))
    assert len(mails(tmp_path / "mail")) == 2


async def test_file_names_sort_by_when_deliveries_were_planned(tmp_path: Path) -> None:
    channel = office(tmp_path / "mail", tmp_path)
    for minute in (2, 0, 1):
        fact = captured(interest={"minute": minute})
        await channel.send(delivery(fact, created_at=AT + timedelta(minutes=minute)))
    texts = [mail.text for mail in mails(tmp_path / "mail")]
    assert [f"Minute: {n}" in text for n, text in enumerate(texts)] == [True, True, True]


async def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("a file where the folder should be")
    assert await office(tmp_path / "mail", tmp_path).send(delivery()) == TryAgain(
        "maildir:NotADirectoryError"
    )


async def test_a_delivery_whose_data_was_erased_is_not_sent(tmp_path: Path) -> None:
    assert await office(tmp_path / "mail", tmp_path).send(delivery(payload=None)) == Refused("payload_erased")


@pytest.mark.parametrize(
    "to", ["nobody", "a@b@c", "a b@example.com", "a@example.com\r\nBcc: b@example.com", ""]
)
async def test_an_address_that_is_none_is_refused(tmp_path: Path, to: str) -> None:
    assert await office(tmp_path / "mail", tmp_path).send(delivery(destination=to)) == Refused(
        "invalid_address"
    )


async def test_a_broken_template_is_tried_again_because_a_release_can_mend_it(tmp_path: Path) -> None:
    class Broken(Letters):
        def write(self, delivery: Delivery, payload: str) -> Letter:
            raise TemplateError("broken")

    channel = EmailChannel(Broken({}), MaildirOffice(tmp_path / "mail"), sender=SENDER, clock=ManualClock())
    assert await channel.send(delivery()) == TryAgain("template:TemplateError")
