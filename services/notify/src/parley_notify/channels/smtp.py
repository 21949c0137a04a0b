"""An SMTP server as post office: one session per message, TLS and AUTH as set.

Law: 4xx, silence and trouble of our own (a password, a certificate) are tried again; only the server's 5xx about
this message is final.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import aiosmtplib
from pydantic import SecretStr

from parley_notify.channels.email import Posting
from parley_notify.channels.outcome import Delivered, Outcome, Refused, TryAgain

GOODBYE_S = 1.0


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where and how to hand in messages. ``username`` null: without AUTH."""

    host: str
    port: int
    tls: Literal["starttls", "tls", "none"]
    username: str | None = None
    password: SecretStr | None = None
    deadline_s: float = 20.0
    """For each step of the dialogue; the attempt as a whole has its own."""


class SmtpOffice:
    """Hands messages to one SMTP server."""

    def __init__(self, server: SmtpServer, *, tls_context: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._tls_context = tls_context

    async def post(self, posting: Posting) -> Outcome:
        """Hand in one message."""
        client = self._client()
        try:
            try:
                await client.connect()
            except aiosmtplib.SMTPAuthenticationError as wrong:
                return TryAgain(f"smtp_auth_{wrong.code}")
            await client.sendmail(posting.sender, [posting.recipient], posting.content)
        except (aiosmtplib.SMTPException, OSError, ValueError) as wrong:
            return _outcome(wrong)
        else:
            # It was taken; what the goodbye says changes nothing.
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=GOODBYE_S)
            return Delivered()
        finally:
            client.close()

    def _client(self) -> aiosmtplib.SMTP:
        server = self._server
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password.get_secret_value() if server.password else None,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            tls_context=self._tls_context,
            timeout=server.deadline_s,
        )


def _outcome(wrong: Exception) -> Outcome:
    match wrong:
        case aiosmtplib.SMTPRecipientsRefused() if wrong.recipients:
            return _outcome(wrong.recipients[0])
        case aiosmtplib.SMTPConnectResponseError() | aiosmtplib.SMTPHeloError():
            return TryAgain(f"smtp_{wrong.code}")  # refused before it saw the message: about us, not about it
        case aiosmtplib.SMTPResponseException() if wrong.code >= 500:
            return Refused(f"smtp_{wrong.code}")
        case aiosmtplib.SMTPResponseException():
            return TryAgain(f"smtp_{wrong.code}")
        case ssl.SSLError():
            return TryAgain("smtp_tls")
        case TimeoutError():
            return TryAgain("timed_out")
        case ValueError():
            return Refused("invalid_address")
        case _:
            return TryAgain(f"smtp:{type(wrong).__name__}")
