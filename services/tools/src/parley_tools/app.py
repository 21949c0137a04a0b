"""The tools service as a process: ``parley-tools`` runs it, ``parley-tools migrate`` prepares its database.

``parley-tools check FOLDER`` says what is wrong between a business and its tools; ``parley-tools erase BUSINESS --email
ADDRESS`` (or ``--phone``, ``--lead``) removes a person's data.

Puts the parts together and stops them in order: the catalog and the consumer first, then running calls, then
the relay's last pass, then Kafka and the database. Decides nothing itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import httpx

from parley_common.business import Business, load_all
from parley_common.clock import Clock, SystemClock
from parley_common.db import Database
from parley_common.ids import new_id
from parley_common.kafka import Publisher, connect
from parley_common.outbox import Outbox, Relay
from parley_common.service import Readiness, exit_on_config, http_app, run_service, serve_http
from parley_common.settings import load_settings
from parley_tools import commands
from parley_tools.calls import Arrived, CallTable
from parley_tools.catalog import Announcer
from parley_tools.consumer import CallConsumer, Membership
from parley_tools.context import Resources
from parley_tools.dispatch import Dispatcher
from parley_tools.executor import Executor
from parley_tools.guarded_http import AddressGuard, guarded_client
from parley_tools.kits import KITS
from parley_tools.kits.knowledge import index_of
from parley_tools.meaning import Meaning
from parley_tools.offer import Offer
from parley_tools.own_tools import Keeper, Outside, take_in
from parley_tools.providers import HttpEmbeddings, HttpWebSearch
from parley_tools.registry import Registry
from parley_tools.replies import Replies
from parley_tools.settings import ToolsSettings
from parley_tools.store import OUTBOX, SCHEMA
from parley_tools.upkeep import MIGRATIONS, forget_old_results, keep_leases, seed_records, wait_for_database

HTTP_TIMEOUT_S = 10
CLOSE_S = 1.0
LAST_PASS_S = 1.5
"""How long the relay may take for its last pass: what is left goes out after the next start."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What one running instance is made of."""

    settings: ToolsSettings
    instance: str
    offer: Offer
    database: Database
    calls: CallTable
    publisher: Publisher
    replies: Replies
    executor: Executor
    relay: Relay
    clock: Clock
    readiness: Readiness

    def on_ready(self, name: str) -> Callable[[bool, str], None]:
        """Return how a part says whether ``name`` is there."""
        return partial(self.readiness.set, name)


def load_offer(settings: ToolsSettings) -> Offer:
    """Read the businesses and the tools, and check each against the other. Raises ConfigInvalid."""
    businesses = load_all(settings.parley.businesses_dir)
    tools = Registry.of_kits(KITS)
    tools.check_data(businesses.values(), settings.service)
    for business in businesses.values():
        index_of(business)  # so that the first question does not wait for it
    return Offer(settings.service, tools, businesses)


def reach_outside(settings: ToolsSettings) -> Outside:
    """Return what businesses' own tools reach the world with."""
    guard = AddressGuard(allow_private=settings.allow_private_http)
    return Outside(guarded_client(guard), guard, settings.http_secrets)


def build(settings: ToolsSettings, instance: str, offer: Offer, http: httpx.AsyncClient) -> Parts:
    """Put the parts together; nothing is connected yet."""
    clock = SystemClock()
    database = Database(settings.resolved_database_url(), schema=SCHEMA)
    publisher = Publisher(settings.kafka, client_id=instance)
    calls = CallTable(instance, lease_s=settings.lease_s)
    outbox = Outbox(OUTBOX, source=settings.service)
    relay = Relay(database, OUTBOX, publisher.publish, name=settings.service, poll_ms=settings.relay_poll_ms)
    outbox.on_commit(relay.wake)
    replies = Replies(publisher.publish, clock, source=settings.service)
    resources = Resources(
        outbox, http, calls.newest_output, _web_search(settings, http), _meaning(settings, http)
    )
    executor = Executor(offer, database, calls, replies, resources, clock)
    readiness = Readiness("database", "kafka", "calls", "catalog")
    return Parts(
        settings, instance, offer, database, calls, publisher, replies, executor, relay, clock, readiness
    )


def _meaning(settings: ToolsSettings, http: httpx.AsyncClient) -> Meaning | None:
    if settings.embeddings_url is None:
        return None
    key = settings.embeddings_api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    url, deadline_ms = str(settings.embeddings_url), settings.embeddings_deadline_ms
    return Meaning(
        HttpEmbeddings(http, url, model=settings.embeddings_model, headers=headers, deadline_ms=deadline_ms)
    )


def _web_search(settings: ToolsSettings, http: httpx.AsyncClient) -> HttpWebSearch | None:
    if settings.web_search_url is None:
        return None
    key = settings.web_search_api_key
    headers = {settings.web_search_key_header: key.get_secret_value()} if key else {}
    return HttpWebSearch(
        http, str(settings.web_search_url), headers=headers, deadline_ms=settings.web_search_deadline_ms
    )


async def serve(settings: ToolsSettings, instance: str, offer: Offer, stop: asyncio.Event) -> None:
    """Run one instance until ``stop``."""
    outside = reach_outside(settings)
    for business in list(offer.businesses.values()):
        take_in(offer, business, outside)
    async with (
        outside.http,
        httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, follow_redirects=False) as http,
    ):
        parts = build(settings, instance, offer, http)
        app = http_app("tools", parts.readiness)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(serve_http(app, settings.host, settings.port, stop, setting="TOOLS_PORT"))
                group.create_task(_work(parts, outside, stop))
        finally:
            # What the producer still holds is in the outbox, or is asked for again.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await parts.publisher.aclose()
            await parts.database.aclose()


async def _work(parts: Parts, outside: Outside, stop: asyncio.Event) -> None:
    """Wait for what is needed, then do everything that needs it."""
    if not await wait_for_database(parts.database, stop, parts.on_ready("database")):
        return
    offer = parts.offer
    await seed_records(parts.database, offer.tools, offer.businesses.values(), offer.service, parts.clock)
    on_kafka = parts.on_ready("kafka")
    if not await connect(
        parts.publisher.start, stop, what="producer", on_waiting=lambda why: on_kafka(False, why)
    ):
        return
    on_kafka(True, "")
    drained = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        relay = group.create_task(parts.relay.run(drained))
        group.create_task(_keep_up(parts, drained))
        await _serve_calls(parts, outside, stop)
        drained.set()
        await asyncio.wait([relay], timeout=LAST_PASS_S)
        relay.cancel()


async def _keep_up(parts: Parts, drained: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(
            keep_leases(parts.database, parts.calls, parts.clock, drained, parts.on_ready("database"))
        )
        group.create_task(
            forget_old_results(
                parts.database, parts.calls, parts.clock, drained, parts.settings.results_kept_h
            )
        )


async def _serve_calls(parts: Parts, outside: Outside, stop: asyncio.Event) -> None:
    """Accept, run and answer calls until ``stop``, then finish what was accepted."""
    settings = parts.settings
    limit_of = partial(parts.offer.concurrency, default=settings.tool_concurrency)
    async with Dispatcher[Arrived](parts.executor.handle, limit_of=limit_of) as dispatcher:
        consumer = CallConsumer(
            settings.kafka,
            dispatcher,
            parts.executor.is_running,
            parts.replies,
            lane_of=parts.offer.lane,
            membership=Membership(settings.service, parts.instance),
            in_flight_max=settings.in_flight_max,
        )
        announcer = Announcer(
            parts.publisher.publish,
            parts.clock,
            parts.offer.specs,
            service=settings.service,
            instance=parts.instance,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(consumer.run(stop, parts.on_ready("calls")))
            group.create_task(announcer.run(stop, parts.on_ready("catalog")))
            group.create_task(_keep_offer(parts, outside, announcer, stop))
        await dispatcher.drain(settings.drain_s)


async def _keep_offer(parts: Parts, outside: Outside, announcer: Announcer, stop: asyncio.Event) -> None:
    """Follow businesses that change (in development) and MCP servers that come and go."""
    settings, offer = parts.settings, parts.offer

    async def seed(business: Business) -> None:
        await seed_records(parts.database, offer.tools, [business], offer.service, parts.clock)

    reload_s = settings.reload_s if settings.parley.environment == "development" else 0
    keeper = Keeper(offer, outside, announcer.announce_now)
    await keeper.run(stop, settings.parley.businesses_dir, seed, reload_s)


async def migrate(settings: ToolsSettings) -> None:
    """Bring the database to its newest revision."""
    database = Database(settings.resolved_database_url(), schema=SCHEMA)
    try:
        await database.migrate(MIGRATIONS)
    finally:
        await database.aclose()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the service, or its migrations when the first argument is ``migrate``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    settings = exit_on_config("tools", lambda: load_settings(ToolsSettings))
    instance = f"tools-{new_id().replace('-', '')[-12:]}"
    if arguments[:1] == ["migrate"]:
        run_service("tools", settings, instance, lambda _stop: migrate(settings))
    if arguments[:1] == ["erase"]:
        told = exit_on_config("tools", lambda: commands.errand(arguments[1:]))
        run_service("tools", settings, instance, lambda _stop: commands.erase(settings, told))
    if arguments[:1] == ["check"]:
        sys.exit(commands.check(arguments[1:], settings.service))
    offer = exit_on_config("tools", lambda: load_offer(settings))
    run_service("tools", settings, instance, partial(serve, settings, instance, offer))


if __name__ == "__main__":
    main()
