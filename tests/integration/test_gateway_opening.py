"""Opening a session over real sockets: what the replica is told, and every way to be refused."""

from __future__ import annotations

import re

import pytest

from fakes.session_service import FakeSessionService
from harness.waiting import until
from parley_common.contracts.audio_link import (
    FRAME_MAX_BYTES,
    AudioFormat,
    Error,
    Open,
    Ready,
    Text,
    encode,
    pack_uplink,
)
from parley_common.contracts.audio_link import (
    Caller as FarEnd,
)
from parley_gateway.admission import AdmissionLimits, BusinessLimits
from parley_gateway.clients.relay import Relay
from parley_gateway.tokens import Tokens
from unit.gateway.world import KEY, Caller, World, running_gateway

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def refusal_of(world: World, opening: Open) -> tuple[str, int]:
    async with world.caller() as caller:
        await caller.say(opening)
        return await caller.refused()


async def test_the_replica_is_told_who_comes_and_the_client_that_its_session_runs() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        token, grant = world.gateway.tokens.issue("cap", world.gateway.clock.now(), channel="cli")
        page = "https://example.com/loans?name=Robin#form"
        await caller.say(
            Open(
                token=token,
                mode="text",
                page=page,
                locale="en-US",
                time_zone="America/Denver",
                traceparent=TRACEPARENT,
            )
        )
        ready = await caller.expect(Ready)
        attach = (await service.attached()).attach
        assert (attach.session_id, attach.token_id) == (grant.session_id, grant.token_id)
        assert (attach.business, attach.fence, attach.mode, attach.uplink_sample) == ("cap", 1, "text", 0)
        assert attach.caller == FarEnd("cli", "https://example.com/loans", "en-US", "America/Denver")
        assert attach.traceparent == TRACEPARENT
        assert ready.session == grant.session_id
        resume = world.gateway.tokens.verify_resume(ready.resume, world.gateway.clock.now())
        assert (resume.session_id, resume.replica, resume.fence) == (grant.session_id, service.url, 1)


@pytest.mark.parametrize(
    "nonsense", [None, "dana@example.com", f"{TRACEPARENT}-and-more", "00-" + "x" * 5_000]
)
async def test_a_context_that_is_none_is_not_passed_on_and_the_session_gets_its_own(
    nonsense: str | None,
) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        await caller.say(Open(token=world.token(), traceparent=nonsense))
        await caller.expect(Ready)
        own = (await service.attached()).attach.traceparent
        assert own is not None
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", own)


async def test_a_token_for_text_never_opens_a_voice_session() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        await caller.say(Open(token=world.token(mode="text"), mode="voice"))
        await caller.expect(Ready)
        assert (await service.attached()).attach.mode == "text"


async def test_what_the_caller_sends_before_ready_is_not_lost() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        await caller.say(Open(token=world.token()))
        frames = [pack_uplink(number * 480, bytes([number]) * 960) for number in range(5)]
        for frame in frames:
            await caller.send(frame)
        assert await (await service.attached()).received(5) == frames


async def test_an_expired_token_is_refused() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        stale, _ = Tokens((KEY,), ttl_s=-1).issue("cap", world.gateway.clock.now())
        assert await refusal_of(world, Open(token=stale)) == ("token_expired", 1008)
        assert service.attach_count == 0


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
async def test_a_token_that_is_none_is_refused(token: str) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        assert await refusal_of(world, Open(token=token)) == ("token_invalid", 1008)


async def test_a_token_of_another_deployment_is_refused() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        foreign = Tokens((type(KEY)(KEY.name, "the-secret-of-somebody-else-entirely"),), 60)
        token, _ = foreign.issue("cap", world.gateway.clock.now())
        assert await refusal_of(world, Open(token=token)) == ("token_invalid", 1008)


async def test_a_replayed_token_surfaces_as_token_used() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        token = world.token()
        await caller.say(Open(token=token))
        await caller.expect(Ready)
        assert await refusal_of(world, Open(token=token)) == ("token_used", 1008)


async def test_a_business_that_is_gone_is_unknown() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        assert await refusal_of(world, Open(token=world.token("elm"))) == ("unknown_business", 1008)


async def test_a_session_that_is_over_cannot_be_resumed_nor_can_anything_with_a_forged_token() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        async with world.session() as (caller, _):
            resume = caller.messages[0].resume  # type: ignore[union-attr]
        await until(lambda: not world.gateway.sessions, why="the session to end")
        assert await refusal_of(world, Open(resume=resume)) == ("resume_unknown", 1008)
        assert await refusal_of(world, Open(resume="forged")) == ("token_invalid", 1008)
        assert await refusal_of(world, Open(resume=world.token())) == ("token_invalid", 1008)


@pytest.mark.parametrize(
    ("first", "code", "close_code"),
    [
        (pack_uplink(0, bytes(960)), "open_expected", 1008),
        (encode(Text("hello")), "open_expected", 1008),
        ("{", "invalid_json", 1008),
        ('{"type":"attach"}', "unknown_type", 1008),
        (encode(Open()), "open_invalid", 1008),
        (encode(Open(token="t", resume="r")), "open_invalid", 1008),
        (encode(Open(token="t", audio=AudioFormat(rate_hz=16_000))), "unsupported_audio", 1008),
        ('{"type":"open","token":"t","audio":{"encoding":"opus"}}', "invalid_message", 1008),
        (encode(Open(token="t" * FRAME_MAX_BYTES)), "frame_too_large", 1009),
    ],
)
async def test_a_first_message_that_opens_nothing_is_answered_and_closed(
    first: str | bytes, code: str, close_code: int
) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        await caller.send(first)
        assert await caller.refused() == (code, close_code)


async def test_a_socket_on_which_nothing_is_opened_is_closed_in_time() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        assert await caller.refused() == ("open_timeout", 4408)


@pytest.mark.parametrize("subprotocol", [None, "parley.v0"])
async def test_a_client_of_no_known_version_is_told_which_one_to_offer(subprotocol: str | None) -> None:
    async with (
        FakeSessionService() as service,
        running_gateway(service) as world,
        world.caller(subprotocol=subprotocol) as caller,
    ):
        assert await caller.refused() == ("unsupported_protocol", 1002)


async def test_a_full_gateway_says_when_to_come_back_and_dials_nobody() -> None:
    limits = AdmissionLimits(sessions_max=1, address_opens_per_minute=0)
    async with (
        FakeSessionService() as service,
        running_gateway(service, limits=limits) as world,
        world.session(),
        world.caller() as second,
    ):
        await second.say(Open(token=world.token()))
        error = await second.expect(Error)
        assert (error.code, error.retry_after_s, await second.closed()) == ("full", 5.0, 1013)
        assert service.attach_count == 1


async def test_a_socket_that_opens_nothing_takes_no_session_s_place_and_is_forgotten() -> None:
    limits = AdmissionLimits(sessions_max=1, address_opens_per_minute=0)
    async with (
        FakeSessionService() as service,
        running_gateway(service, limits=limits) as world,
        world.caller() as idle,
        world.session(),
    ):
        assert await idle.refused() == ("open_timeout", 4408)
        await until(lambda: world.gateway.admission.sockets_count == 1, why="the socket to be forgotten")


async def test_a_business_that_is_full_is_refused_before_any_replica_is_dialled() -> None:
    full = {"cap": BusinessLimits(sessions_max=1)}
    async with (
        FakeSessionService() as service,
        running_gateway(service, business_limits=full) as world,
        world.session(),
        world.http() as http,
    ):
        assert await refusal_of(world, Open(token=world.token())) == ("business_full", 1013)
        answer = await http.post("/v1/tokens", json={"business": "cap"})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        assert answer.json()["error"]["code"] == "business_full"
        async with world.caller() as caller:
            await caller.say(Open(token=world.token("oak")))
            await caller.expect(Ready)
        assert service.attach_count == 2


async def test_what_replicas_tell_fills_a_business_too() -> None:
    limits = {"cap": BusinessLimits(sessions_max=3)}
    told = {"cap": 3}
    async with (
        FakeSessionService() as service,
        running_gateway(service, business_limits=limits, told=lambda name: told.get(name, 0)) as world,
    ):
        assert await refusal_of(world, Open(token=world.token())) == ("business_full", 1013)
        assert service.attach_count == 0
        told["cap"] = 2
        async with world.session():
            pass


async def test_an_address_with_too_many_sockets_is_refused() -> None:
    limits = AdmissionLimits(sessions_max=9, address_opens_per_minute=0, address_sockets_max=1)
    async with (
        FakeSessionService() as service,
        running_gateway(service, limits=limits) as world,
        world.session(),
        world.caller() as second,
    ):
        assert await second.refused() == ("too_many_sockets", 1013)


async def test_an_address_that_opens_too_often_is_refused_for_a_while() -> None:
    limits = AdmissionLimits(sessions_max=10, address_opens_per_minute=1)
    async with (
        FakeSessionService() as service,
        running_gateway(service, limits=limits) as world,
        world.session(),
        world.caller() as second,
    ):
        assert await second.refused() == ("too_many_opens", 1013)


async def test_a_draining_gateway_opens_nothing_more() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        world.gateway.admission.draining = True
        assert await refusal_of(world, Open(token=world.token())) == ("draining", 1013)


async def test_without_a_session_service_the_answer_is_service_unavailable() -> None:
    async with running_gateway(urls=["ws://127.0.0.1:1"]) as world, world.caller() as caller:
        await caller.say(Open(token=world.token()))
        error = await caller.expect(Error)
        assert (error.code, error.retry_after_s, error.fatal) == ("service_unavailable", 2.0, True)
        assert await caller.closed() == 1013


async def test_a_replica_that_does_not_know_our_internal_token_counts_as_none() -> None:
    async with FakeSessionService(internal_token="another") as service, running_gateway(service) as world:
        assert await refusal_of(world, Open(token=world.token())) == ("service_unavailable", 1013)


async def test_a_client_that_leaves_in_the_middle_of_opening_leaves_nothing_behind() -> None:
    async with FakeSessionService() as service, running_gateway(service) as world:
        service.is_mute = True
        async with world.caller() as caller:
            await caller.say(Open(token=world.token()))
            await service.attached()
        await until(lambda: not world.gateway.admission.sockets_count, why="the socket to be forgotten")
        assert not world.gateway.sessions


async def refused_by(service: FakeSessionService, caller: Caller, world: World, code: str) -> tuple[str, int]:
    service.refuses = Error(code, "no", fatal=True)
    await caller.say(Open(token=world.token()))
    return await caller.refused()


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("overloaded", ("full", 1013)),
        ("draining", ("full", 1013)),
        ("unknown_business", ("unknown_business", 1008)),
        ("attach_invalid", ("attach_invalid", 1008)),
    ],
)
async def test_what_the_only_replica_refuses_is_refused(code: str, seen: tuple[str, int]) -> None:
    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        assert await refused_by(service, caller, world, code) == seen


async def test_a_bug_of_ours_costs_one_session_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_down(*_: object) -> None:
        raise ZeroDivisionError

    async with FakeSessionService() as service, running_gateway(service) as world, world.caller() as caller:
        with monkeypatch.context() as patch:
            patch.setattr(Relay, "_read", break_down)
            await caller.say(Open(token=world.token()))
            await caller.expect(Ready)
            assert await caller.refused() == ("local_violation", 1011)
        assert await (await service.attached()).closed() == 1000
        async with world.session() as (_, link):
            assert link.close_code is None
