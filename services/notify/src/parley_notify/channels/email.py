"""E-mail: a fact becomes a letter, the letter a MIME message, the message goes to a post office.

Which words it has is decided by letters.py and its templates; how it travels by smtp.py or maildir.py.

A letter about a booking carries a calendar invite (invitations.py), as mail programs expect it: as an alternative of
the text, which offers to accept it, and as a file.

What it promises: at least once. A repeat can happen only when a worker died between sending and marking; it
carries the same Message-ID. A Maildir recognises such a repeat and keeps one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Protocol

from jinja2 import TemplateError

from parley_common.clock import Clock
from parley_common.telemetry import current_traceparent
from parley_notify.channels.outcome import Outcome, Refused, TryAgain
from parley_notify.delivery import Delivery
from parley_notify.invitations import invite_of
from parley_notify.letters import Letter, Letters

_MAILBOX = re.compile(r"[^@\s<>\"(),:;\\]+@[^@\s<>\"(),:;\\]+")


@dataclass(frozen=True, slots=True)
class Posting:
    """A message ready to travel."""

    delivery_id: str
    created_at: datetime
    """When the delivery was planned: the same at every attempt."""
    attempts: int
    sender: str
    recipient: str
    content: bytes


class PostOffice(Protocol):
    """Where messages are handed in."""

    async def post(self, posting: Posting) -> Outcome:
        """Hand in one message."""
        ...


class EmailChannel:
    """Sends e-mail."""

    def __init__(self, letters: Letters, office: PostOffice, *, sender: Address, clock: Clock) -> None:
        self._letters = letters
        self._office = office
        self._sender = sender
        self._clock = clock

    async def send(self, delivery: Delivery) -> Outcome:
        """Make one attempt."""
        if delivery.payload is None:
            return Refused("payload_erased")
        if not _MAILBOX.fullmatch(delivery.destination):
            return Refused("invalid_address")
        try:
            letter = self._letters.write(delivery, delivery.payload)
        except TemplateError as wrong:  # a release with a better template may come while it is tried
            return TryAgain(f"template:{type(wrong).__name__}")
        message = compose(letter, delivery, self._sender, self._clock.now())
        if invite := invite_of(delivery, delivery.payload, letter, self._sender):
            attach(message, *invite)
        posting = Posting(
            delivery_id=delivery.delivery_id,
            created_at=delivery.created_at,
            attempts=delivery.attempts,
            sender=self._sender.addr_spec,
            recipient=delivery.destination,
            content=message.as_bytes(policy=SMTP),
        )
        return await self._office.post(posting)


def compose(letter: Letter, delivery: Delivery, sender: Address, now: datetime) -> EmailMessage:
    """Return the message: text and HTML of the same letter, with a Message-ID that is the delivery's own."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = delivery.destination
    message["Subject"] = letter.subject
    message["Date"] = now
    message["Message-ID"] = f"<{delivery.delivery_id}@{sender.domain}>"
    # A root that is never sent: mail programs then show all letters about one lead or case together.
    message["References"] = f"<{delivery.subject_id}.subject@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Parley-Delivery"] = delivery.delivery_id
    message["X-Parley-Fact"] = delivery.fact_type
    if traceparent := current_traceparent() or delivery.traceparent:
        message["X-Parley-Traceparent"] = traceparent
    message.set_content(letter.text, cte="quoted-printable")
    message.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    return message


def attach(message: EmailMessage, ics: bytes, method: str) -> None:
    """Add a calendar invite to a message. Source: RFC 6047, section 2.4 (the method names what is asked)."""
    text = ics.decode()
    message.add_alternative(text, subtype="calendar", cte="quoted-printable", params={"method": method})
    message.add_attachment(ics, maintype="application", subtype="ics", filename="invite.ics")
