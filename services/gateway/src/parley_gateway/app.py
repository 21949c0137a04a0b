"""The gateway process: reads its settings, builds the gateway, serves until told to stop, drains, ends.

Law: it starts when no session service answers, and says so in /readyz until one does.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence

from parley_common import business
from parley_common.clock import SystemClock
from parley_common.service import Readiness, exit_on_config, run_service, serve_http
from parley_common.settings import load_settings
from parley_gateway.admission import Admission, AdmissionLimits
from parley_gateway.client_socket import server_options
from parley_gateway.gateway import Gateway
from parley_gateway.http_api import build_app
from parley_gateway.metrics import watch_loop_lag
from parley_gateway.replicas import Replicas
from parley_gateway.settings import GatewaySettings, session_services, timing, token_keys
from parley_gateway.tokens import Tokens

WAITING_FOR = "session_service"


def build_gateway(settings: GatewaySettings, readiness: Readiness) -> Gateway:
    """Return the gateway that the settings describe. Raises ConfigInvalid."""

    def on_change(is_ready: bool, why: str) -> None:
        readiness.set(WAITING_FOR, is_ready, why)

    return Gateway(
        tokens=Tokens(token_keys(settings), settings.token_ttl_s),
        businesses={
            name: found.config.title
            for name, found in business.load_all(settings.parley.businesses_dir).items()
        },
        admission=Admission(AdmissionLimits(settings.sessions_max, settings.address_opens_per_minute)),
        replicas=Replicas(session_services(settings), on_change),
        internal_token=settings.parley.internal_token.get_secret_value(),
        timing=timing(settings),
        downlink_queue_bytes=settings.downlink_queue_bytes,
        resume_grace_s=settings.resume_grace_s,
    )


async def serve(
    settings: GatewaySettings, gateway: Gateway, readiness: Readiness, stop: asyncio.Event
) -> None:
    """Serve until ``stop``, then drain: sockets outlive the wish to stop by the grace, and no longer."""
    closed = asyncio.Event()
    clock = SystemClock()
    async with asyncio.TaskGroup() as group:
        background = [
            group.create_task(gateway.replicas.watch(clock)),
            group.create_task(watch_loop_lag(clock)),
            group.create_task(_drain_when_stopped(settings, gateway, readiness, stop, closed)),
        ]
        try:
            await serve_http(
                build_app(gateway, readiness, settings.public_url),
                settings.host,
                settings.port,
                closed,
                setting="GATEWAY_PORT",
                forwarded_allow_ips=settings.trusted_proxies,
                **server_options(),
            )
        finally:
            for task in background:
                task.cancel()


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
    gateway: Gateway = exit_on_config("gateway", lambda: build_gateway(settings, readiness))
    instance = f"gateway-{socket.gethostname()}-{settings.port}"
    run_service("gateway", settings, instance, lambda stop: serve(settings, gateway, readiness, stop))


if __name__ == "__main__":
    main()
