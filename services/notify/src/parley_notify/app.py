"""The notify service as a process: reads settings, connects, runs everything in one tree of tasks, stops in order.

`parley-notify` runs it; `parley-notify migrate` brings its database up to date and exits.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog

from parley_common import business
from parley_common.business import Business
from parley_common.clock import Clock, SystemClock
from parley_common.db import Database
from parley_common.errors import DependencyUnavailable
from parley_common.ids import new_id
from parley_common.kafka import Publisher, connect
from parley_common.outbox import Outbox, Relay
from parley_common.service import Readiness, exit_on_config, http_app, run_service, serve_http
from parley_common.settling import FactConsumer
from parley_common.telemetry import configure_logs
from parley_notify import routes
from parley_notify.channels.email import EmailChannel, PostOffice
from parley_notify.channels.maildir import MaildirOffice
from parley_notify.channels.outcome import Channel
from parley_notify.channels.smtp import SmtpOffice, SmtpServer
from parley_notify.channels.webhook import WebhookChannel, WebhookRules
from parley_notify.deliveries import Deliveries
from parley_notify.dispatcher import Dispatcher, Limits
from parley_notify.intake import HEARD, TOPICS, Intake
from parley_notify.letters import TEMPLATES, Letters
from parley_notify.pace import Pace
from parley_notify.routes import Defaults
from parley_notify.settings import NotifySettings, load, parse_sender
from parley_notify.tables import outbox as outbox_tables
from parley_notify.watch import Watch

SERVICE = "notify"
MIGRATIONS = Path(__file__).parent / "migrations"

log = structlog.get_logger(SERVICE)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the service, or with ``migrate`` its migrations; exits with the process's code."""
    settings: NotifySettings = exit_on_config(SERVICE, load)
    if list(sys.argv[1:] if argv is None else argv)[:1] == ["migrate"]:
        sys.exit(_migrate(settings))
    businesses: dict[str, Business] = exit_on_config(SERVICE, partial(_businesses, settings))
    instance = f"{SERVICE}-{new_id()[-8:]}"
    run_service(SERVICE, settings, instance, partial(serve, settings, businesses))


async def serve(settings: NotifySettings, businesses: dict[str, Business], stop: asyncio.Event) -> None:
    """Serve until ``stop``: HTTP answers from the start, the rest follows as its dependencies come up."""
    readiness = Readiness("database", "kafka", "facts")
    async with asyncio.TaskGroup() as group:
        app = http_app(SERVICE, readiness)
        group.create_task(serve_http(app, settings.host, settings.port, stop, setting="NOTIFY_PORT"))
        group.create_task(_work(settings, businesses, readiness, stop))


async def _work(
    settings: NotifySettings, businesses: dict[str, Business], readiness: Readiness, stop: asyncio.Event
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
        publisher = Publisher(settings.kafka, client_id=SERVICE)
        closing.push_async_callback(publisher.aclose)
        if not await connect(
            publisher.start, stop, what="Kafka", on_waiting=partial(readiness.set, "kafka", False)
        ):
            return
        readiness.set("kafka", True)
        dispatcher = _dispatcher(settings, deliveries, channels, clock)
        intake = Intake(
            database, deliveries, businesses, _defaults(settings), clock=clock, wake=dispatcher.wake
        )
        consumer = FactConsumer(
            settings.kafka,
            publisher,
            topics=TOPICS,
            group=settings.consumer_group,
            handler=intake.take,
            on_ready=partial(readiness.set, "facts"),
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
    webhook = WebhookChannel(
        settings.signing_key,
        WebhookRules(https_only=settings.is_production, allow_private=settings.private_webhooks_allowed),
        clock=clock,
        deadline_s=settings.attempt_deadline_s,
    )
    closing.push_async_callback(webhook.aclose)
    email = EmailChannel(
        Letters(businesses), _post_office(settings), sender=parse_sender(settings.smtp_from), clock=clock
    )
    return {"email": email, "webhook": webhook}


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
            rate_per_s=settings.destination_rate_per_s, in_flight_max=settings.destination_in_flight_max
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


def _defaults(settings: NotifySettings) -> Defaults:
    return Defaults(webhook_url=settings.webhook_url)


def _businesses(settings: NotifySettings) -> dict[str, Business]:
    """Read every business and check its routes; what will stay silent is said once, here."""
    configure_logs(settings.parley, SERVICE)
    found = business.load_all(settings.parley.businesses_dir)
    routes.check(found.values(), templates=TEMPLATES, https_only=settings.is_production)
    for name, route in routes.inactive(found.values(), _defaults(settings)):
        log.warning("route.inactive", business=name, route=route, remedy="set NOTIFY_WEBHOOK_URL")
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
