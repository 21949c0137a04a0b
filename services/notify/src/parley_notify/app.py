"""The notify service as a process: reads settings, connects, runs everything in one tree of tasks, stops in order.

`parley-notify` runs it; `parley-notify migrate` brings its database up to date and exits; `parley-notify preview` and
`parley-notify check` are preview.py's.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from parley_common import business
from parley_common.business import Business
from parley_common.clock import Clock, SystemClock
from parley_common.contracts.asyncapi import asyncapi_document
from parley_common.db import Database
from parley_common.errors import DependencyUnavailable
from parley_common.ids import new_id
from parley_common.kafka import Publisher, connect
from parley_common.outbox import Outbox, Relay
from parley_common.service import Readiness, exit_on_config, http_app, run_service, serve_http
from parley_common.settling import FactConsumer, RetryBudget
from parley_common.telemetry import configure_logs
from parley_notify import preview, routes
from parley_notify.channels.email import EmailChannel, PostOffice
from parley_notify.channels.guarded_http import WebhookRules
from parley_notify.channels.hubspot import HubSpotChannel
from parley_notify.channels.maildir import MaildirOffice
from parley_notify.channels.outcome import Channel
from parley_notify.channels.salesforce import SalesforceChannel
from parley_notify.channels.slack import SlackChannel
from parley_notify.channels.smtp import SmtpOffice, SmtpServer
from parley_notify.channels.webhook import WebhookChannel
from parley_notify.dead_letters import DeadLetters
from parley_notify.deliveries import Deliveries
from parley_notify.dispatcher import Dispatcher, Limits
from parley_notify.docket import Docket
from parley_notify.intake import HEARD, TOPICS, Intake
from parley_notify.letters import TEMPLATES, Letters
from parley_notify.operators import Desk, add_operators
from parley_notify.pace import Pace
from parley_notify.settings import NotifySettings, load, parse_sender
from parley_notify.tables import outbox as outbox_tables
from parley_notify.watch import Watch

SERVICE = "notify"
MIGRATIONS = Path(__file__).parent / "migrations"

log = structlog.get_logger(SERVICE)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the service, or what the first argument names; exits with the process's code."""
    asked = list(sys.argv[1:] if argv is None else argv)
    if asked[:1] in (["preview"], ["check"]):
        sys.exit(preview.main(asked))
    settings: NotifySettings = exit_on_config(SERVICE, load)
    if asked[:1] == ["migrate"]:
        sys.exit(_migrate(settings))
    businesses: dict[str, Business] = exit_on_config(SERVICE, partial(_businesses, settings))
    instance = f"{SERVICE}-{new_id()[-8:]}"
    run_service(SERVICE, settings, instance, partial(serve, settings, businesses))


async def serve(settings: NotifySettings, businesses: dict[str, Business], stop: asyncio.Event) -> None:
    """Serve until ``stop``: HTTP answers from the start, the rest follows as its dependencies come up."""
    readiness = Readiness("database", "kafka", "facts")
    desk = Desk()
    async with asyncio.TaskGroup() as group:
        app = http_app(SERVICE, readiness)
        app.get("/asyncapi.json")(contracts)
        add_operators(app, desk, settings.parley.internal_token.get_secret_value(), SystemClock())
        group.create_task(serve_http(app, settings.host, settings.port, stop, setting="NOTIFY_PORT"))
        group.create_task(_work(settings, businesses, readiness, desk, stop))


async def contracts() -> dict[str, Any]:
    """Return the AsyncAPI document of every topic, without the examples, which stand in docs/."""
    return asyncapi_document({})


async def _work(
    settings: NotifySettings,
    businesses: dict[str, Business],
    readiness: Readiness,
    desk: Desk,
    stop: asyncio.Event,
) -> None:
    clock = SystemClock()
    async with AsyncExitStack() as closing:
        database = Database(settings.database, schema=SERVICE)
        closing.push_async_callback(database.aclose)
        outbox = Outbox(outbox_tables, source=SERVICE)
        deliveries = Deliveries(database, outbox)
        channels = _channels(settings, businesses, clock, closing)
        watch = Watch(
            deliveries,
            readiness,
            channels=tuple(channels),
            kept_days=settings.finished_kept_days,
            clock=clock,
        )
        if not await watch.wait_until_migrated(stop):
            return
        desk.docket = Docket(database, deliveries)
        publisher = Publisher(settings.kafka, client_id=SERVICE)
        closing.push_async_callback(publisher.aclose)
        if not await connect(
            publisher.start, stop, what="Kafka", on_waiting=partial(readiness.set, "kafka", False)
        ):
            return
        readiness.set("kafka", True)
        desk.letters = DeadLetters(settings.kafka, publisher, database, deliveries)
        dispatcher = _dispatcher(settings, deliveries, channels, clock)
        intake = Intake(
            database, deliveries, businesses, settings.defaults, clock=clock, wake=dispatcher.wake
        )
        consumer = FactConsumer(
            settings.kafka,
            publisher,
            topics=TOPICS,
            group=settings.consumer_group,
            handler=intake.take,
            on_ready=partial(readiness.set, "facts"),
            budget=RetryBudget(retry_ms=round(settings.handler_retry_s * 1_000)),
        )
        relay = Relay(database, outbox_tables, publisher.publish, name=SERVICE)
        outbox.on_commit(relay.wake)
        await _run(consumer, dispatcher, watch, relay, stop)


async def _run(
    consumer: FactConsumer, dispatcher: Dispatcher, watch: Watch, relay: Relay, stop: asyncio.Event
) -> None:
    """Run all; the relay stops last, so that what the last attempts came to still goes out."""
    relay_stop = asyncio.Event()
    async with asyncio.TaskGroup() as relaying:
        relaying.create_task(relay.run(relay_stop))
        async with asyncio.TaskGroup() as working:
            working.create_task(consumer.run(stop))
            working.create_task(dispatcher.run(stop))
            working.create_task(watch.run(stop))
        relay_stop.set()


def _channels(
    settings: NotifySettings, businesses: dict[str, Business], clock: Clock, closing: AsyncExitStack
) -> dict[str, Channel]:
    """Open every channel that is set up; routes on others are inactive, so nothing is planned for them."""
    rules = WebhookRules(https_only=settings.is_production, allow_private=settings.private_webhooks_allowed)
    letters = Letters(businesses)
    shared: Any = {"clock": clock, "deadline_s": settings.attempt_deadline_s}
    webhook = WebhookChannel(settings.signing_key, rules, **shared)
    slack = SlackChannel(letters, settings.slack_hooks, rules, **shared)
    email = EmailChannel(
        letters, _post_office(settings), sender=parse_sender(settings.smtp_from), clock=clock
    )
    channels: dict[str, Channel] = {"email": email, "webhook": webhook, "slack": slack}
    open_ones: list[WebhookChannel | SlackChannel | HubSpotChannel | SalesforceChannel] = [webhook, slack]
    if settings.hubspot_token is not None:
        hubspot = HubSpotChannel(
            letters, businesses, settings.hubspot_token, url=settings.hubspot_url, **shared
        )
        channels["hubspot"] = hubspot
        open_ones.append(hubspot)
    if settings.salesforce is not None:
        salesforce = SalesforceChannel(letters, businesses, settings.salesforce, **shared)
        channels["salesforce"] = salesforce
        open_ones.append(salesforce)
    for channel in open_ones:
        closing.push_async_callback(channel.aclose)
    return channels


def _post_office(settings: NotifySettings) -> PostOffice:
    if settings.smtp_host is None:
        log.info("email.to_maildir", folder=str(settings.maildir_used))
        return MaildirOffice(settings.maildir_used)
    return SmtpOffice(
        SmtpServer(
            host=settings.smtp_host,
            port=settings.smtp_port_used,
            tls=settings.smtp_tls,
            username=settings.smtp_username,
            password=settings.smtp_password,
            deadline_s=settings.attempt_deadline_s,
        )
    )


def _dispatcher(
    settings: NotifySettings, deliveries: Deliveries, channels: dict[str, Channel], clock: Clock
) -> Dispatcher:
    return Dispatcher(
        deliveries,
        channels,
        policy=settings.retry_policy,
        pace=Pace(
            rate_per_s=settings.destination_rate_per_s,
            in_flight_max=settings.destination_in_flight_max,
            circuit=settings.circuit,
        ),
        limits=Limits(
            in_flight_max=settings.in_flight_max,
            attempt_deadline_s=settings.attempt_deadline_s,
            lease_margin_s=settings.lease_margin_s,
            poll_ms=settings.poll_ms,
        ),
        clock=clock,
        jitter=random.SystemRandom().random,
    )


def _businesses(settings: NotifySettings) -> dict[str, Business]:
    """Read every business and check its routes; what will stay silent is said once, here."""
    configure_logs(settings.parley, SERVICE)
    found = business.load_all(settings.parley.businesses_dir)
    routes.check(found.values(), templates=TEMPLATES, https_only=settings.is_production)
    for name, silent in routes.inactive(found.values(), settings.defaults):
        remedy = routes.REMEDIES[silent.channel]
        log.warning("route.inactive", business=name, route=silent.name, channel=silent.channel, remedy=remedy)
    for name, route, fact in routes.unheard(found.values(), HEARD):
        log.warning("route.unheard", business=name, route=route, fact=fact)
    return found


def _migrate(settings: NotifySettings) -> int:
    """Bring the database to its newest revision; 0 when it is there, 1 when it cannot be reached."""
    try:
        asyncio.run(migrate(settings.database))
    except DependencyUnavailable as wrong:
        print(f"{SERVICE}: {wrong}", file=sys.stderr)
        return 1
    return 0


async def migrate(database_url: str) -> None:
    """Bring a database to its newest revision. Raises DependencyUnavailable."""
    database = Database(database_url, schema=SERVICE)
    try:
        await database.migrate(MIGRATIONS)
    finally:
        await database.aclose()


if __name__ == "__main__":
    main()
