"""The server: opens the port, admits clients, gives each a session, and ends everything together.

Light mode is chosen here: when asked for, or when the models cannot be had.

Law: nothing outlives :func:`serve`: no session, no worker, no file that was half written.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import structlog
from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as open_port
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from parley_common.clock import Clock, SystemClock
from parley_common.errors import ConfigInvalid, DependencyUnavailable
from parley_understudy.admission import Admitted, Knock, Refusal, admit, is_session_path
from parley_understudy.control import Condition, Control
from parley_understudy.disturbances import Disturbances
from parley_understudy.door import Door, door
from parley_understudy.faculties import CallerScript, Faculties, FullFaculties, LightFaculties
from parley_understudy.opening import opening
from parley_understudy.phrases import Phrases
from parley_understudy.pool import Pool, PoolSize
from parley_understudy.session_socket import Brain, SessionSocket, Surroundings
from parley_understudy.settings import Settings
from parley_understudy.vad import Detector, EarshotDetector, EnergyDetector, earshot_is_here
from parley_understudy.wire import Ids, Outgoing, Send

_LARGEST_MESSAGE_BYTES = 21 * 1024 * 1024
"""An append of 15 MiB is 20 MiB of base64, and some JSON."""
_WRITE_LIMIT_BYTES = 1024 * 1024
_CLOSE_DEADLINE_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Running:
    """A server that is ready. ``light_because`` is null in full mode."""

    host: str
    port: int
    mode: str
    light_because: str | None

    @property
    def url(self) -> str:
        """Return where clients connect, without the model."""
        return f"ws://{self.host}:{self.port}/v1/realtime"


@dataclass(frozen=True)
class _Means:
    """What full or light mode works with."""

    faculties: Faculties
    make_detector: Callable[[], Detector]
    pool: Pool | None
    light_because: str | None


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event,
    brain: Brain | None = None,
    clock: Clock | None = None,
    started: Callable[[Running], None] = lambda _: None,
) -> None:
    """Serve until ``stop`` is set.

    Args:
        settings: Port 0 takes a free port; ``started`` is told which.
        stop: Ends the server; open sessions are closed with 1001.
        brain: Decides what is said and called; the understudy's own when None.
        clock: Paces audio and ends sessions; the machine's when None.
        started: Called once, when clients may come.

    Raises:
        ConfigInvalid: The port cannot be opened.
    """
    async with _means(settings) as means:
        server = _Server(settings, means, brain or _own_brain(), clock or SystemClock())
        try:
            listening = await _opened(server, settings)
        except OSError as taken:
            raise ConfigInvalid(
                f"UNDERSTUDY_PORT: {settings.host}:{settings.port} cannot be opened: {taken.strerror or taken}",
                remedy="choose another port, or stop what uses it",
            ) from taken
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            mode = "light" if means.light_because else "full"
            started(Running(settings.host, port, mode, means.light_because))
            await stop.wait()


class _Server:
    def __init__(self, settings: Settings, means: _Means, brain: Brain, clock: Clock) -> None:
        self._settings = settings
        self._means = means
        self._clock = clock
        self._random = random.Random(settings.seed)  # noqa: S311 - ids, not secrets
        self._sessions_count = 0
        self.script = CallerScript()
        self.disturbances = Disturbances()
        self._around = Surroundings(brain, clock, means.faculties, self.script, settings.ping_interval_s)

    def condition(self) -> Condition:
        """Return how the server is, for the control endpoints."""
        pool = self._means.pool
        return Condition(
            mode="light" if self._means.light_because else "full",
            light_because=self._means.light_because,
            sessions_count=self._sessions_count,
            jobs_waiting_count=pool.waiting_count if pool else 0,
            worker_restarts_count=pool.restarts_count if pool else 0,
            ready=True,
        )

    async def handle(self, socket: ServerConnection) -> None:
        """Serve one accepted socket."""
        assert isinstance(socket, Door)  # noqa: S101 - the port makes nothing else
        request = socket.request
        assert request is not None  # noqa: S101 - the handshake is over
        offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
        knock = Knock(
            request.path,
            {name.lower(): value for name, value in request.headers.raw_items()},
            [name.strip() for name in offered.split(",") if name.strip()],
        )
        if not is_session_path(request.path):
            await socket.close(1008, "sessions open at /v1/realtime")
            return
        admitted = admit(knock)
        if isinstance(admitted, Refusal):
            await self._turn_away(socket, admitted)
        elif self._sessions_count >= self._settings.sessions_max:
            await socket.close(1013, "too many sessions")
        else:
            await self._converse(socket, admitted)

    async def _turn_away(self, socket: ServerConnection, refusal: Refusal) -> None:
        """Say what is wrong and close, as the API does: after the handshake, with a code of its own."""
        outgoing = Outgoing(Ids(self._random))
        outgoing.error(refusal.error)
        with contextlib.suppress(ConnectionClosed):
            for out in outgoing.take():
                if isinstance(out, Send):
                    await socket.send(msgspec.json.encode(out.event), text=True)
        await socket.close(refusal.close_code, refusal.reason)

    async def _converse(self, socket: Door, admitted: Admitted) -> None:
        made = opening(
            admitted,
            self._settings,
            self._clock,
            make_detector=self._means.make_detector,
            seed=self._random.random(),
            plan=self.disturbances.next_plan(),
        )
        line = made.line
        self._sessions_count += 1
        log.debug("session.opened", session=line.id, model=admitted.flavour.model)
        session = SessionSocket(socket, line, replace(self._around, clock=made.clock))
        try:
            with self.disturbances.reach(line.id, session.disturb):
                await session.run(made.lasts_s)
        except Exception:
            log.exception("session.broke", session=line.id)
            await socket.close(1011, "server_error")
        finally:
            self._sessions_count -= 1
            log.debug("session.closed", session=line.id)


@contextlib.asynccontextmanager
async def _means(settings: Settings) -> AsyncIterator[_Means]:
    """Yield ears and voice: with models if they are wanted and can be had."""
    if settings.light:
        yield _light("light mode was asked for")
        return
    size = PoolSize(settings.worker_count(), settings.queue_limit, settings.job_deadline_s)
    pool = Pool(size)
    async with asyncio.TaskGroup() as workers:
        try:
            tenders = await pool.start(workers)
        except DependencyUnavailable as missing:
            log.warning("understudy.light_mode", because=missing.message)
            yield _light(missing.message)
            return
        phrases = await asyncio.to_thread(Phrases, settings.cache_dir)
        detector: Callable[[], Detector] = EarshotDetector if earshot_is_here() else EnergyDetector
        try:
            yield _Means(FullFaculties(pool, phrases), detector, pool, None)
        finally:
            for tender in tenders:
                tender.cancel()


def _light(because: str) -> _Means:
    return _Means(LightFaculties(), EnergyDetector, None, because)


async def _opened(server: _Server, settings: Settings) -> Server:
    def choose(_socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return Subprotocol("realtime") if "realtime" in offered else None

    return await open_port(
        server.handle,
        settings.host,
        settings.port,
        create_connection=door(Control(server.script, server.disturbances, server.condition).answer),
        select_subprotocol=choose,
        compression=None,
        ping_interval=None,
        close_timeout=_CLOSE_DEADLINE_S,
        max_size=_LARGEST_MESSAGE_BYTES,
        write_limit=_WRITE_LIMIT_BYTES,
    )


def _own_brain() -> Brain:
    from parley_understudy.brain import decide

    return decide
