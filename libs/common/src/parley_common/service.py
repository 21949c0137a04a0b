"""What every service process does alike: health, readiness, metrics, HTTP serving, signals, exit codes.

Does not know what the service does. Law: SIGTERM and Ctrl-C stop gracefully; a wrong setting exits with 78
and one line.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from parley_common.clock import SystemClock
from parley_common.errors import ConfigInvalid, ParleyError
from parley_common.settings import ServiceSettings
from parley_common.telemetry import configure_logs, configure_traces, shutdown_traces, watch_loop_lag

STOP_GRACE_S = 10
COLLECT_AFTER = (20_000, 20, 50)
"""New objects before a young collection, young before a middle, middle before a full one."""
NO_TELEMETRY_OF_ITS_OWN: Any = dict.fromkeys(
    ("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False
)
"""FastAPI's would be a span per probe and scrape, one as long as a session per socket, each a trace of its own, with
query strings (and so tokens) and the text of exceptions in them."""

log = structlog.get_logger("service")


class Readiness:
    """What a service still waits for. Ready when nothing is named."""

    def __init__(self, *waiting_for: str) -> None:
        self._waiting_for: dict[str, str] = dict.fromkeys(waiting_for, "starting")

    def set(self, name: str, ready: bool, why: str = "") -> None:
        """Say whether ``name`` (a dependency or a step of starting) is there."""
        if ready:
            self._waiting_for.pop(name, None)
        else:
            self._waiting_for[name] = why or "not ready"

    @property
    def waiting_for(self) -> dict[str, str]:
        return dict(self._waiting_for)

    @property
    def ready(self) -> bool:
        return not self._waiting_for


class _Metrics(Response):
    media_type = CONTENT_TYPE_LATEST


def http_app(
    service: str,
    readiness: Readiness,
    *,
    docs: bool = False,
    about: Callable[[], dict[str, Any]] = dict,
) -> FastAPI:
    """Return a FastAPI app with /healthz, /readyz and /metrics. ``about`` is what /readyz says besides."""
    app = FastAPI(
        title=f"parley {service}",
        docs_url="/docs" if docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if docs else None,
        telemetry=NO_TELEMETRY_OF_ITS_OWN,
    )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"service": service, "status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        waiting_for = readiness.waiting_for
        body = {"service": service, "ready": not waiting_for, "waiting_for": waiting_for, **about()}
        return JSONResponse(body, status_code=503 if waiting_for else 200)

    @app.get("/metrics", response_class=_Metrics)
    async def metrics() -> Response:
        return _Metrics(generate_latest())

    return app


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the process's stop event is the only one."""

    @staticmethod
    def _ignore(*_: Any) -> None: ...

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


async def serve_http(
    app: Any,
    host: str,
    port: int,
    stop: asyncio.Event,
    *,
    setting: str = "PORT",
    shared: bool = False,
    **options: Any,
) -> None:
    """Serve ``app`` until ``stop``. Raises ConfigInvalid naming ``setting`` when the port is taken.

    Args:
        shared: other processes of ours listen there too, and the kernel deals connections out among all.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=STOP_GRACE_S,
        server_header=False,
        **options,
    )
    server = _Server(config)
    sock = _bind(host, port, setting, shared=shared)
    async with asyncio.TaskGroup() as group:
        group.create_task(_stop_server(server, stop))
        await server.serve(sockets=[sock])
        stop.set()


def check_free(host: str, ports: Iterable[int], setting: str) -> None:
    """Raise ConfigInvalid naming ``setting`` when a port is taken, also by one who would share it."""
    for port in ports:
        _bind(host, port, setting).close()


def _bind(host: str, port: int, setting: str, *, shared: bool = False) -> socket.socket:
    """Bind here rather than in uvicorn, which would log the cause, leak the socket and exit."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as wrong:
        sock.close()
        if wrong.errno == errno.EADDRINUSE:
            raise ConfigInvalid(
                f"{setting}: port {port} on {host} is taken", remedy=f"set {setting} to a free port"
            ) from wrong
        raise ConfigInvalid(
            f"{setting}: cannot listen on {host}:{port}: {wrong.strerror or wrong}"
        ) from wrong
    return sock


async def _stop_server(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


def run_service(
    service: str, settings: ServiceSettings, instance: str, main: Callable[[asyncio.Event], Awaitable[None]]
) -> None:
    """Run ``main(stop)`` as this process's whole life, on uvloop where there is one, and exit."""
    configure_logs(settings.parley, service)
    configure_traces(settings.telemetry, service, instance)
    code = 0
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_until_stopped(main))
    except* ConfigInvalid as group:
        code = ConfigInvalid.exit_code
        print(f"{service}: {_first(group)}", file=sys.stderr)
    except* ParleyError as group:
        code = 1
        first = _first(group)
        log.error("service.stopped", code=getattr(first, "stable_code", ""), cause=str(first))
    except* KeyboardInterrupt:
        code = 130
    finally:
        shutdown_traces()
    sys.exit(code)


def exit_on_config(service: str, load: Callable[[], Any]) -> Any:
    """Return ``load()``; a ConfigInvalid ends the process with its one line and exit code 78."""
    try:
        return load()
    except ConfigInvalid as wrong:
        print(f"{service}: {wrong}", file=sys.stderr)
        sys.exit(ConfigInvalid.exit_code)


async def _until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Raised by asyncio on Windows, where Ctrl-C still ends the process.
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    _spare_the_collector()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch_loop_lag(SystemClock()))
        try:
            await main(stop)
        finally:
            watching.cancel()


def _spare_the_collector() -> None:
    """Keep the cyclic collector from what has been loaded, and from coming often: it stops the loop.

    Of what a service has imported alone, 157,000 objects, a full collection takes 77 ms of a quiet core. What sessions
    and records leave behind is freed by counting, nearly all of it; cycles wait a little longer.
    """
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
