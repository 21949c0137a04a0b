"""SMTP against a real server: TLS, AUTH, refusals for now and for ever, silence, disconnects."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from fakes.smtp import Behaviour, FakeSmtp, HangUp, Say, Stage, StaySilent, Wait
from parley_notify.channels.email import Posting
from parley_notify.channels.outcome import Delivered, Outcome, Refused, TryAgain
from parley_notify.channels.smtp import SmtpOffice, SmtpServer
from unit.notify.samples import AT

POSTING = Posting(
    "d-1", AT, 1, "cap@example.com", "sales@example.com", b"Subject: hello\r\n\r\n.a line with a dot\r\n"
)
LOGIN = ("cap", "correct horse")


async def post(
    server: FakeSmtp, *, trusted: bool = True, password: str = LOGIN[1], deadline_s: float = 5
) -> Outcome:
    office = SmtpOffice(
        SmtpServer(
            "127.0.0.1",
            server.port,
            server.tls,
            username=LOGIN[0] if server.login else None,
            password=SecretStr(password) if server.login else None,
            deadline_s=deadline_s,
        ),
        tls_context=server.client_context if trusted else None,
    )
    return await office.post(POSTING)


@pytest.mark.parametrize("tls", ["none", "starttls", "tls"])
async def test_a_message_arrives_whole_with_and_without_tls(tls: str) -> None:
    async with FakeSmtp(tls=tls) as server:
        assert await post(server) == Delivered()
    (taken,) = server.taken
    assert taken.content == POSTING.content
    assert (taken.sender, taken.recipients) == ("cap@example.com", ("sales@example.com",))
    assert taken.over_tls is (tls != "none")


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_password_is_shown_to_a_server_that_asks(tls: str) -> None:
    async with FakeSmtp(tls=tls, login=LOGIN) as server:
        assert await post(server) == Delivered()
    assert [taken.username for taken in server.taken] == ["cap"]


async def test_a_wrong_password_is_our_trouble_and_loses_no_message() -> None:
    async with FakeSmtp(tls="starttls", login=LOGIN) as server:
        assert await post(server, password="wrong") == TryAgain("smtp_auth_535")
    assert server.taken == []


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_server_whose_certificate_nobody_vouches_for_gets_nothing(tls: str) -> None:
    async with FakeSmtp(tls=tls) as server:
        outcome = await post(server, trusted=False)
    assert isinstance(outcome, TryAgain)
    assert server.taken == []


async def test_a_server_without_starttls_gets_nothing_when_it_is_demanded() -> None:
    async with FakeSmtp() as server:
        office = SmtpOffice(SmtpServer("127.0.0.1", server.port, "starttls", deadline_s=5))
        assert isinstance(await office.post(POSTING), TryAgain)
    assert server.taken == []


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (Say("451 try later"), TryAgain("smtp_451")),
        (Say("421 shutting down"), TryAgain("smtp_421")),
        (Say("550 no such mailbox"), Refused("smtp_550")),
        (Say("554 rejected"), Refused("smtp_554")),
    ],
)
async def test_4xx_is_tried_again_and_5xx_is_final(
    stage: Stage, behaviour: Behaviour, outcome: Outcome
) -> None:
    async with FakeSmtp(behaviour={stage: behaviour}) as server:
        assert await post(server) == outcome
    assert server.taken == []


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
async def test_a_server_that_hangs_up_is_tried_again(stage: Stage) -> None:
    async with FakeSmtp(behaviour={stage: HangUp()}) as server:
        assert isinstance(await post(server), TryAgain)


@pytest.mark.parametrize("stage", ["MAIL", "DATA"])
async def test_a_silent_server_is_given_up_at_the_deadline(stage: Stage) -> None:
    async with FakeSmtp(behaviour={stage: StaySilent()}) as server:
        assert await post(server, deadline_s=0.1) == TryAgain("timed_out")


async def test_a_slow_server_is_waited_for() -> None:
    async with FakeSmtp(behaviour={stage: Wait(0.2) for stage in ("MAIL", "RCPT", "DATA")}) as server:
        assert await post(server) == Delivered()
    assert len(server.taken) == 1


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    async with FakeSmtp() as server:
        pass
    outcome = await post(server)
    assert isinstance(outcome, TryAgain)
    assert "127.0.0.1" not in outcome.cause
