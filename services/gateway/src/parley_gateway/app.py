"""The gateway process: reads its settings, builds the gateway, serves until told to stop, drains, ends.

Law: it starts when no session service answers, and says so in /readyz until one does.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial

from parley_common.business import Business, load_all
from parley_common.clock import SystemClock
from parley_common.compacted import follow_compacted
from parley_common.contracts.topics import USAGE
from parley_common.errors import ConfigInvalid
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
from parley_common.workers import Workers, begin_worker, run_workers, worker_index, worker_ports
from parley_gateway.admission import Admission, AdmissionLimits
from parley_gateway.clients.flow import FlowLimits
from parley_gateway.door import server_options
from parley_gateway.facts_stream import FactsWatch
from parley_gateway.gateway import Gateway
from parley_gateway.http_api import build_app
from parley_gateway.listing import Listing
from parley_gateway.replicas import Replicas
from parley_gateway.settings import (
    GatewaySettings,
    allowed_origins,
    api_keys,
    session_services,
    timing,
    token_keys,
)
from parley_gateway.token_access import TokenAccess
from parley_gateway.tokens import Tokens
from parley_gateway.usage import SessionsEverywhere

WAITING_FOR = "session_service"


def build_gateway(
    settings: GatewaySettings, readiness: Readiness, everywhere: SessionsEverywhere, listing: Listing
) -> Gateway:
    """Return the gateway that the settings describe. Raises ConfigInvalid."""

    def on_change(is_ready: bool, why: str) -> None:
        readiness.set(WAITING_FOR, is_ready, why)

    limits = AdmissionLimits(
        settings.sessions_max,
        settings.address_opens_per_minute,
        address_sockets_max=settings.address_sockets_max,
    )
    return Gateway(
        tokens=Tokens(token_keys(settings), settings.token_ttl_s),
        businesses=listing.titles,
        business_limits=listing.limits,
        callbacks=listing.callbacks,
        told=everywhere.sessions,
        flow=FlowLimits(settings.client_bytes_per_s, settings.client_messages_per_s),
        admission=Admission(limits),
        replicas=Replicas(session_services(settings), on_change),
        internal_token=settings.parley.internal_token.get_secret_value(),
        timing=timing(settings),
        downlink_queue_bytes=settings.downlink_queue_bytes,
    )


def build_access(settings: GatewaySettings, listing: Listing) -> TokenAccess:
    """Return who may ask for tokens. Raises ConfigInvalid."""
    environment = settings.parley.environment
    return TokenAccess(
        allowed_origins=allowed_origins(settings),
        business_origins=listing.origins,
        api_keys=api_keys(settings),
        is_open=environment != "production",
        trusts_loopback=environment == "development",
    )


async def serve(
    settings: GatewaySettings,
    gateway: Gateway,
    access: TokenAccess,
    everywhere: SessionsEverywhere,
    readiness: Readiness,
    stop: asyncio.Event,
    reload: Callable[[asyncio.Event], Coroutine[None, None, None]],
) -> None:
    """Serve until ``stop``, then drain: sockets outlive the wish to stop by the grace, and no longer."""
    closed = asyncio.Event()
    clock = SystemClock()
    is_development = settings.parley.environment == "development"
    facts = FactsWatch(settings.kafka) if is_development else None
    async with asyncio.TaskGroup() as group:
        background = [
            group.create_task(gateway.replicas.watch(clock)),
            group.create_task(_drain_when_stopped(settings, gateway, readiness, stop, closed)),
        ]
        if any(limits.sessions_max is not None for limits in gateway.business_limits.values()):
            background.append(group.create_task(_follow_usage(settings, gateway, everywhere, closed)))
        if is_development:
            background.append(group.create_task(reload(closed)))
        if facts is not None:
            background += [
                group.create_task(facts.run()),
                group.create_task(_close_when_stopped(facts, stop)),
            ]
        try:
            await serve_http(
                build_app(gateway, readiness, settings.public_url, access=access, facts=facts),
                settings.host,
                settings.port,
                closed,
                setting="GATEWAY_PORT",
                shared=settings.workers > 1,
                forwarded_allow_ips=settings.trusted_proxies,
                **server_options(gateway),
            )
        finally:
            for task in background:
                task.cancel()


async def _follow_usage(
    settings: GatewaySettings, gateway: Gateway, everywhere: SessionsEverywhere, closed: asyncio.Event
) -> None:
    """Only limits need to know what runs elsewhere; without Kafka the gateway holds them by its own sessions."""
    await follow_compacted(
        settings.kafka,
        USAGE,
        closed,
        client_id=f"gateway-{gateway.instance}",
        on_record=everywhere.take,
        on_ready=lambda _ready, _why: None,
    )


async def _close_when_stopped(facts: FactsWatch, stop: asyncio.Event) -> None:
    """A stream of facts has no end of its own: without this the server would wait for it."""
    await stop.wait()
    facts.close()


async def _drain_when_stopped(
    settings: GatewaySettings,
    gateway: Gateway,
    readiness: Readiness,
    stop: asyncio.Event,
    closed: asyncio.Event,
) -> None:
    await stop.wait()
    readiness.set("draining", False, "this gateway is going away")
    await gateway.drain(settings.drain_grace_s)
    closed.set()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the gateway as this process. ``migrate`` has nothing to do here: the gateway keeps nothing."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    settings: GatewaySettings = exit_on_config("gateway", lambda: load_settings(GatewaySettings))
    if arguments[:1] == ["migrate"]:
        return
    readiness = Readiness(WAITING_FOR)
    everywhere = SessionsEverywhere(SystemClock())
    root, listing = settings.parley.businesses_dir, Listing()
    businesses: dict[str, Business] = exit_on_config("gateway", lambda: load_all(root))
    listing.fill(businesses)
    gateway: Gateway = exit_on_config(
        "gateway", lambda: build_gateway(settings, readiness, everywhere, listing)
    )
    access: TokenAccess = exit_on_config("gateway", lambda: build_access(settings, listing))

    def reload(until: asyncio.Event) -> Coroutine[None, None, None]:
        return keep_reloaded(root, businesses, until, on_change=lambda: listing.fill(businesses))

    async def run(stop: asyncio.Event) -> None:
        await serve(settings, gateway, access, everywhere, readiness, stop, reload)

    instance = f"gateway-{socket.gethostname()}-{settings.port}"
    if settings.workers == 1:
        run_service("gateway", settings, instance, run)
        return
    index = _worker(settings, worker_index(arguments))
    port = settings.worker_port + index
    run_service(
        "gateway", settings, f"{instance}-{index}", partial(_run_worker, settings, port, readiness, run)
    )


def _worker(settings: GatewaySettings, index: int | None) -> int:
    """Return which worker this is; the process that has no index starts them all, and ends here."""
    grace_s = settings.drain_grace_s + STOP_GRACE_S + 5
    if index is None:
        exit_on_config("gateway", lambda: _check_ports(settings))
        argv = (sys.executable, "-m", "parley_gateway.app")
        run_workers(Workers("gateway", settings.workers, argv, grace_s), settings.parley)
    begin_worker(index, grace_s)
    return index


def _check_ports(settings: GatewaySettings) -> None:
    """Raise ConfigInvalid once, rather than each worker in its turn. A shared port would not tell that another has it."""
    if not settings.port:
        raise ConfigInvalid(
            "GATEWAY_PORT: 0 is no port to share", remedy="name one, or set GATEWAY_WORKERS to 1"
        )
    ports = worker_ports(settings.worker_port, settings.workers, "GATEWAY_WORKER_PORT")
    if settings.port in ports:
        raise ConfigInvalid(
            f"GATEWAY_WORKER_PORT: port {settings.port} is GATEWAY_PORT", remedy="set it to a port of its own"
        )
    check_free(settings.host, [settings.port], "GATEWAY_PORT")
    check_free(settings.host, ports, "GATEWAY_WORKER_PORT")


async def _run_worker(
    settings: GatewaySettings,
    port: int,
    readiness: Readiness,
    run: Callable[[asyncio.Event], Awaitable[None]],
    stop: asyncio.Event,
) -> None:
    """Run a gateway that shares its port, and beside it what must not be a stranger's worker's: health and metrics."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        app = http_app("gateway", readiness)
        group.create_task(serve_http(app, settings.host, port, over, setting="GATEWAY_WORKER_PORT"))
        await run(stop)
        over.set()


if __name__ == "__main__":
    main()
