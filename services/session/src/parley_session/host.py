"""The host of sessions: vets each attach, builds a conductor for it, keeps the beat of all links.

Law: a token id is accepted once per replica; a link that is silent for 1.5 s is lost, its session only after the grace.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from parley_common.business import Business
from parley_common.clock import Clock
from parley_common.contracts import audio_link
from parley_common.contracts.tool_calls import CallerContext
from parley_common.errors import Overloaded, ParleyError, PeerViolation
from parley_common.telemetry import Gauge, join_logs
from parley_session import rendered
from parley_session.caller_link import CallerLink, Socket
from parley_session.catalog import Catalog, CatalogTool
from parley_session.conductor import Conductor, Parts
from parley_session.core.events import LinkLost, OperatorEnded, ToolsSwitched
from parley_session.core.meter import known_cost_usd
from parley_session.core.step import agent_state
from parley_session.facts import FactWriter, Subject
from parley_session.profile import core_config, upstream_profile
from parley_session.realtime_link import Endpoint
from parley_session.settings import SessionSettings
from parley_session.spool import Spool
from parley_session.switches import Switches
from parley_session.tool_bridge import Requester, ToolBridge
from parley_session.usage import Spent, UsageBook

ATTACH_S = 5
TOKENS_SEEN_MAX = 100_000
CLOSE_REFUSED = 1013
CLOSE_VIOLATION = 1008

log = structlog.get_logger("session")
SESSIONS = Gauge("parley_sessions", "Sessions on this replica now")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions of a replica share."""

    settings: SessionSettings
    businesses: dict[str, Business]
    catalog: Catalog
    bridge: ToolBridge
    spool: Spool
    usage: UsageBook
    switches: Switches
    clock: Clock


class Host:
    """All sessions of this replica."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._sessions: dict[str, tuple[Conductor, CallerLink]] = {}
        self._opening = 0
        self._tokens_seen: OrderedDict[str, None] = OrderedDict()
        self._empty = asyncio.Event()
        self._empty.set()
        self.is_draining = False
        shared.switches.on_change = self._on_switch

    @property
    def sessions_count(self) -> int:
        return len(self._sessions) + self._opening

    @property
    def load(self) -> audio_link.Load:
        """Return how full this replica is."""
        return audio_link.Load(self.sessions_count, self._shared.settings.sessions_max, self.is_draining)

    async def serve(self, socket: Socket) -> None:
        """Run the session of one link, from its attach to its end."""
        link = CallerLink(socket)
        try:
            attach = await self._read_attach(socket)
            join_logs(session_id=attach.session_id, traceparent=attach.traceparent, business=attach.business)
            if attach.resume:
                await self._resume(attach, socket)
                return
            conductor = await self._open(attach, link)
        except ParleyError as wrong:
            log.warning("session.refused", code=wrong.stable_code)
            retry_after_s = getattr(wrong, "retry_after_s", None)
            error = audio_link.Error(wrong.stable_code, wrong.message, retry_after_s, fatal=True)
            socket.send(audio_link.encode(error))
            socket.close(
                CLOSE_VIOLATION if isinstance(wrong, PeerViolation) else CLOSE_REFUSED, wrong.stable_code
            )
            return
        await self._conduct(attach, conductor, link)

    async def _read_attach(self, socket: Socket) -> audio_link.Attach:
        try:
            async with asyncio.timeout(ATTACH_S):
                frame = await socket.receive()
        except TimeoutError as late:
            raise PeerViolation("no attach came", code="attach_timed_out") from late
        if not isinstance(frame, str):
            raise PeerViolation("the first frame of a link is an attach", code="attach_expected")
        message = audio_link.decode_up_link(frame)
        if not isinstance(message, audio_link.Attach):
            raise PeerViolation("the first message of a link is an attach", code="attach_expected")
        return message

    async def _resume(self, attach: audio_link.Attach, socket: Socket) -> None:
        """Serve another gateway's link of a session that runs here. Draining refuses only what is new."""
        found = self._sessions.get(attach.session_id)
        if found is None or found[0].business != attach.business:
            raise PeerViolation("this session is over; open a new one", code="resume_unknown")
        await found[0].resume(socket, attach.have or ())

    async def _open(self, attach: audio_link.Attach, link: CallerLink) -> Conductor:
        business = self._admit(attach)
        self._opening += 1
        try:
            shared = self._shared
            wait_ms = shared.settings.catalog_wait_ms
            tools = await shared.catalog.resolve(
                business.config.tools, wait_ms=wait_ms, business=business.name
            )
        finally:
            self._opening -= 1
        return self._conductor(attach, business, link, tools)

    def _admit(self, attach: audio_link.Attach) -> Business:
        """Return the business of an attach that may be served here; raises what is told to the gateway."""
        if self.is_draining:
            raise Overloaded("this replica is going away", retry_after_s=1, code="draining")
        if self.sessions_count >= self._shared.settings.sessions_max:
            raise Overloaded("this replica is full", retry_after_s=5, code="full")
        business = self._shared.businesses.get(attach.business)
        if business is None:
            raise PeerViolation(f"no business {attach.business[:64]!r}", code="unknown_business")
        self._check_budget(business)
        if attach.token_id in self._tokens_seen:
            raise PeerViolation("this token was used before", code="token_used")
        if attach.session_id in self._sessions:
            raise PeerViolation("this session is already here", code="session_exists")
        self._tokens_seen[attach.token_id] = None
        while len(self._tokens_seen) > TOKENS_SEEN_MAX:
            self._tokens_seen.popitem(last=False)
        return business

    def _check_budget(self, business: Business) -> None:
        """Refuse a session that the business may not have now, before upstream is dialled."""
        usage, limits = self._shared.usage, business.config.limits
        if self._shared.switches.is_off(business.name):
            raise Overloaded("this business is switched off for now", retry_after_s=300, code="switched_off")
        if limits.sessions_max is not None and usage.sessions(business.name) >= limits.sessions_max:
            raise Overloaded("this business is full", retry_after_s=15, code="business_full")
        if limits.usd_per_day is not None and usage.usd_today(business.name) >= limits.usd_per_day:
            raise Overloaded(
                "this business has spent its day's budget", retry_after_s=3_600, code="day_budget_spent"
            )

    def _conductor(
        self, attach: audio_link.Attach, business: Business, link: CallerLink, tools: tuple[CatalogTool, ...]
    ) -> Conductor:
        shared, caller = self._shared, attach.caller
        settings = shared.settings
        profile = upstream_profile(
            business,
            tools,
            default_model=settings.model,
            now=shared.clock.now(),
            dialect=settings.upstream_dialect,
        )
        local, local_pcm = rendered.load(business, settings.model, settings.rendered_folder)
        facts = FactWriter(
            Subject(
                attach.session_id,
                business.name,
                business.version,
                caller.channel,
                caller.page,
                settings.replica,
                business.config.facts.heard_text,
            ),
            shared.spool,
            shared.clock,
        )
        context = CallerContext(
            channel=caller.channel,
            mode=attach.mode,
            page=caller.page,
            locale=caller.locale,
            time_zone=caller.time_zone,
        )
        requester = Requester(attach.session_id, business.name, business.version, attach.fence, context)
        config = core_config(business, attach, tools, settings, local)
        parts = Parts(
            config,
            profile,
            link,
            shared.bridge,
            requester,
            facts,
            shared.clock,
            attach.traceparent,
            local_pcm,
        )
        endpoint = Endpoint(
            settings.upstream_url, settings.upstream_api_key.get_secret_value(), settings.upstream_auth
        )
        return Conductor(parts, endpoint)

    async def _conduct(self, attach: audio_link.Attach, conductor: Conductor, link: CallerLink) -> None:
        self._sessions[attach.session_id] = (conductor, link)
        self._empty.clear()
        SESSIONS.set(len(self._sessions))
        self._tell_switches(conductor, attach.business)
        try:
            await conductor.run()
        except* Exception as group:
            causes = [type(wrong).__name__ for wrong in group.exceptions]
            log.exception("session.crashed", causes=causes)
        finally:
            del self._sessions[attach.session_id]
            self._shared.usage.ended(attach.session_id, _spent(conductor))
            SESSIONS.set(len(self._sessions))
            if not self._sessions:
                self._empty.set()

    # -- operators ----------------------------------------------------------------------------------

    def running(self) -> Iterator[tuple[str, Spent]]:
        """Yield what each session has come to, by its id."""
        for session_id, (conductor, _) in self._sessions.items():
            yield session_id, _spent(conductor)

    def shown(self) -> list[dict[str, Any]]:
        """Return what an operator may see of each session."""
        now_ms = self._shared.clock.now_ms()
        return [
            _shown(session_id, conductor, now_ms) for session_id, (conductor, _) in self._sessions.items()
        ]

    def end(self, session_id: str) -> bool:
        """End a session for its operator; False when it is not here."""
        found = self._sessions.get(session_id)
        if found is not None:
            found[0].tell(OperatorEnded())
        return found is not None

    def _on_switch(self, business: str) -> None:
        for conductor, _ in list(self._sessions.values()):
            if conductor.business == business:
                self._tell_switches(conductor, business)

    def _tell_switches(self, conductor: Conductor, business: str) -> None:
        if self._shared.switches.is_off(business):
            conductor.tell(OperatorEnded())
            return
        off = self._shared.switches.tools_off(business)
        targets = conductor.state.config.tools
        names = tuple(t.model_name for t in targets if {t.tool, f"{t.service}.{t.tool}"} & off)
        if names != conductor.state.switched_off:
            conductor.tell(ToolsSwitched(names))

    async def beat(self, stop: asyncio.Event) -> None:
        """Every 500 ms: tell every gateway that we live and how full we are; give up links and upstreams that are silent."""
        while not stop.is_set():
            now_ms = self._shared.clock.now_ms()
            load = audio_link.encode(self.load)
            for conductor, link in list(self._sessions.values()):
                link.beat(load)
                conductor.check_upstream(now_ms)
                conductor.check_link(now_ms, self._shared.settings.resume_grace_s * 1000)
            await self._shared.clock.sleep_ms(audio_link.BEAT_EVERY_MS)

    async def drain(self, grace_s: float) -> None:
        """Take no more, end what is here: told as drained, within ``grace_s``."""
        self.is_draining = True
        for conductor, _ in list(self._sessions.values()):
            conductor.tell(LinkLost("drained"))
        try:
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        except TimeoutError:
            log.warning("session.drain_timed_out", sessions=len(self._sessions))


def _spent(conductor: Conductor) -> Spent:
    totals = conductor.state.totals
    return Spent(conductor.business, totals.usage.tokens, totals.cost_usd)


def _shown(session_id: str, conductor: Conductor, now_ms: int) -> dict[str, Any]:
    state = conductor.state
    return {
        "session_id": session_id,
        "business": conductor.business,
        "mode": state.mode,
        "state": agent_state(state),
        "upstream": type(state.upstream).__name__.lower(),
        "lasted_s": round((now_ms - state.started_ms) / 1000, 1),
        "turns": state.totals.turns,
        "barge_ins": state.totals.barge_ins,
        "tool_calls": state.totals.tool_calls,
        "tokens": state.totals.usage.tokens,
        "cost_usd": known_cost_usd(state, state.totals.cost_usd),
    }
