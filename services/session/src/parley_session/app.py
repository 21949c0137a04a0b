"""The session service: takes links from gateways, runs one conductor per session. Wiring only."""

from __future__ import annotations

import asyncio
import hmac
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from fastapi import FastAPI

from parley_common.audio_door import Accepted, Refusal, audio_door
from parley_common.business import Business, load_all
from parley_common.clock import SystemClock
from parley_common.compacted import follow_compacted
from parley_common.contracts.audio_link import LINK_SUBPROTOCOL
from parley_common.contracts.topics import SWITCHES, TOOL_CATALOG, USAGE
from parley_common.errors import ParleyError
from parley_common.kafka import Publisher, connect
from parley_common.reloading import keep_reloaded
from parley_common.service import (
    STOP_GRACE_S,
    Readiness,
    check_free,
    exit_on_config,
    http_app,
    run_service,
    serve_http,
)
from parley_common.settings import load_settings
from parley_common.websocket import WebSocket
from parley_common.workers import Workers, begin_worker, run_workers, worker_index, worker_ports
from parley_session import catalog as tool_catalog
from parley_session.callbacks import Callbacks, add_callbacks
from parley_session.catalog import Catalog
from parley_session.host import Host, Shared
from parley_session.operators import add_operators
from parley_session.prices import warn_when_old
from parley_session.render import render
from parley_session.settings import SessionSettings
from parley_session.spool import Spool
from parley_session.switches import Switches
from parley_session.tool_bridge import ToolBridge
from parley_session.usage import UsageBook, publish_usage

DRAIN_S = 5
WORKER_GRACE_S = 2 * DRAIN_S + STOP_GRACE_S + 5
"""What a worker may take to end: its sessions, its spool, its sockets, and a moment."""
LINK_FRAME_MAX_BYTES = 1024 * 1024


def build_app(settings: SessionSettings, host: Host, callbacks: Callbacks, readiness: Readiness) -> FastAPI:
    """Return the HTTP app with the link endpoint."""
    app = http_app("session", readiness, about=lambda: {"load": msgspec.structs.asdict(host.load)})
    token = settings.parley.internal_token.get_secret_value()
    add_operators(app, host, token)
    add_callbacks(app, callbacks, token)

    return app


def server_options(host: Host, token: str) -> dict[str, Any]:
    """Return what makes links come in at the port of the HTTP app, from gateways that show the internal token."""

    def accept(path: str, headers: Mapping[str, str]) -> Accepted:
        shown = headers.get("authorization", "").removeprefix("Bearer ")
        if path != "/v1/link":
            raise Refusal(404)
        if not hmac.compare_digest(shown.encode(), token.encode()):
            raise Refusal(403)
        return WebSocket(message_max_bytes=LINK_FRAME_MAX_BYTES), LINK_SUBPROTOCOL, host.serve

    return {"http": audio_door(accept, message_max_bytes=LINK_FRAME_MAX_BYTES)}


def _says(readiness: Readiness, name: str) -> Callable[[bool, str], None]:
    return lambda ready, why: readiness.set(name, ready, why)


async def serve(settings: SessionSettings, stop: asyncio.Event) -> None:
    """Run the service until ``stop``, then end its sessions and write what is left."""
    readiness = Readiness("kafka", "catalog", "usage", "switches", "tool results")
    publisher = Publisher(settings.kafka, client_id=settings.replica)
    clock = SystemClock()
    bridge = ToolBridge(settings.kafka, publisher, replica=settings.replica, ordinal=settings.ordinal)
    spool = Spool(settings.parley.state_dir, settings.replica, publisher, facts_max=settings.spool_facts_max)
    catalog = Catalog()
    businesses = load_all(settings.parley.businesses_dir)
    usage, switches = UsageBook(settings.replica, clock), Switches()
    host = Host(Shared(settings, businesses, catalog, bridge, spool, usage, switches, clock))
    warn_when_old(clock.now().date())
    app = build_app(settings, host, Callbacks(bridge, businesses), readiness)
    late_stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        http = group.create_task(
            serve_http(
                app,
                settings.host,
                settings.port,
                late_stop,
                setting="SESSION_PORT",
                **server_options(host, settings.parley.internal_token.get_secret_value()),
            )
        )
        spooling = group.create_task(spool.run(late_stop))
        running = [
            group.create_task(_connect(publisher, stop, readiness)),
            group.create_task(bridge.write()),
            group.create_task(bridge.read(late_stop, _says(readiness, "tool results"))),
            *(
                group.create_task(
                    follow_compacted(
                        settings.kafka,
                        topic,
                        late_stop,
                        client_id=settings.replica,
                        on_record=take,
                        on_ready=_says(readiness, name),
                    )
                )
                for name, topic, take in (
                    ("catalog", TOOL_CATALOG, partial(tool_catalog.take, catalog)),
                    ("usage", USAGE, usage.take),
                    ("switches", SWITCHES, switches.take),
                )
            ),
            group.create_task(publish_usage(usage, publisher, host.running, clock, late_stop)),
            group.create_task(host.beat(late_stop)),
            *_reloading(group, settings, businesses, late_stop),
        ]
        await stop.wait()
        readiness.set("draining", False, "stopping")
        await host.drain(DRAIN_S)
        late_stop.set()
        await asyncio.wait([http, spooling], timeout=DRAIN_S)
        for task in running:
            task.cancel()
    await publisher.aclose()


def _reloading(
    group: asyncio.TaskGroup, settings: SessionSettings, businesses: dict[str, Business], stop: asyncio.Event
) -> list[asyncio.Task[None]]:
    """In development a changed business is there for the next session."""
    if settings.parley.environment != "development":
        return []
    return [group.create_task(keep_reloaded(settings.parley.businesses_dir, businesses, stop))]


async def _connect(publisher: Publisher, stop: asyncio.Event, readiness: Readiness) -> None:
    said = _says(readiness, "kafka")
    if await connect(publisher.start, stop, what="kafka", on_waiting=lambda why: said(False, why)):
        said(True, "")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the session service as this process; ``render [--again] [business ...]`` makes fixed speech instead."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    settings: SessionSettings = exit_on_config("session", lambda: load_settings(SessionSettings))
    if arguments[:1] == ["render"]:
        _render(settings, arguments[1:])
        return
    if settings.workers > 1:
        settings = _worker(settings, worker_index(arguments))
    run_service("session", settings, settings.replica, lambda stop: serve(settings, stop))


def _worker(settings: SessionSettings, index: int | None) -> SessionSettings:
    """Return the settings of this worker; the process that has no index starts them all, and ends here."""
    if index is None:
        exit_on_config("session", lambda: _check_start(settings))
        argv = (sys.executable, "-m", "parley_session.app")
        run_workers(Workers("session", settings.workers, argv, WORKER_GRACE_S), settings.parley)
    begin_worker(index, WORKER_GRACE_S)
    return settings.of_worker(index)


def _check_start(settings: SessionSettings) -> None:
    """Raise ConfigInvalid once, rather than each worker in its turn."""
    load_all(settings.parley.businesses_dir)
    check_free(settings.host, worker_ports(settings.port, settings.workers, "SESSION_PORT"), "SESSION_PORT")


def _render(settings: SessionSettings, arguments: Sequence[str]) -> None:
    names = [argument for argument in arguments if not argument.startswith("-")]
    try:
        exit_on_config("render", lambda: render(settings, names, again="--again" in arguments))
    except ParleyError as wrong:
        print(f"render: {wrong}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
