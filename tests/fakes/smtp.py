"""An SMTP server that keeps what it takes and answers as the test tells it to: aiosmtpd, with TLS and AUTH.

It speaks the real protocol over real sockets in the test's own loop. It cannot imitate greylisting, size limits
or a server that takes a message and loses it.
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from fakes.tls import tls_contexts

Stage = Literal["MAIL", "RCPT", "DATA"]


@dataclass(frozen=True)
class Say:
    """Answer this instead of taking it, such as ``550 no such mailbox``."""

    reply: str


@dataclass(frozen=True)
class HangUp:
    """Close the socket instead of answering."""


@dataclass(frozen=True)
class StaySilent:
    """Answer nothing while the server lives."""


@dataclass(frozen=True)
class Wait:
    """Take it, but only after so long."""

    delay_s: float


Behaviour = Say | HangUp | StaySilent | Wait


@dataclass(frozen=True)
class Taken:
    """A message that the server answered 250 to."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    over_tls: bool
    username: str | None


@dataclass
class FakeSmtp:
    """``async with FakeSmtp() as server``; listens on 127.0.0.1:``port``."""

    tls: Literal["none", "starttls", "tls"] = "none"
    login: tuple[str, str] | None = None
    """User and password that are required; null: anyone may send."""
    behaviour: dict[Stage, Behaviour] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> Self:
        self._closing = asyncio.Event()
        self._sockets: set[Any] = set()
        context, self.client_context = tls_contexts() if self.tls != "none" else (None, None)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._session(context), "127.0.0.1", 0, ssl=context if self.tls == "tls" else None
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.close()
        for session in self._sockets:
            if session.transport is not None:
                session.transport.abort()
        await self._server.wait_closed()

    def _session(self, context: ssl.SSLContext | None) -> SMTP:
        with warnings.catch_warnings():
            # Its warning about AUTH without STARTTLS does not know of TLS from the first byte.
            warnings.simplefilter("ignore", UserWarning)
            session = SMTP(
                self,
                hostname="fake.example.com",
                tls_context=context if self.tls == "starttls" else None,
                require_starttls=self.tls == "starttls",
                authenticator=self._authenticate if self.login else None,
                auth_required=self.login is not None,
                auth_require_tls=False,
                loop=asyncio.get_running_loop(),
            )
        self._sockets.add(session)
        return session

    def _authenticate(
        self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = (data.login.decode(), data.password.decode())
        # handled: whether the refusal was already written.
        return AuthResult(success=given == self.login, handled=False, auth_data=given[0])

    # aiosmtpd finds its handlers by these names.
    async def handle_MAIL(  # noqa: N802
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refusal = await self._misbehave("MAIL", server)
        if refusal is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return refusal or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refusal = await self._misbehave("RCPT", server)
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        refusal = await self._misbehave("DATA", server)
        if refusal is None:
            content = envelope.content
            assert isinstance(content, bytes)
            over_tls = session.ssl is not None or self.tls == "tls"
            recipients = tuple(envelope.rcpt_tos)
            self.taken.append(
                Taken(str(envelope.mail_from), recipients, content, over_tls, session.auth_data)
            )
        return refusal or "250 taken"

    async def _misbehave(self, stage: Stage, server: Any) -> str | None:
        match self.behaviour.get(stage):
            case Say(reply):
                return reply
            case HangUp():
                server.transport.abort()
                return "421 gone"
            case StaySilent():
                await self._closing.wait()
                return "421 gone"
            case Wait(delay_s):
                await asyncio.sleep(delay_s)
                return None
            case None:
                return None
