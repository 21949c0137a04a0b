"""The notify service as a process on a real broker: told once, through repeats, kills, poison and lost databases."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import make_url

from fakes.hubspot import FakeHubSpot
from fakes.salesforce import LOGIN, FakeSalesforce
from fakes.slack import FakeSlack
from fakes.smtp import FakeSmtp
from harness.fault_proxy import FaultProxy
from harness.maildir import Mail, mails
from harness.otlp import OtlpCollector
from harness.processes import Proc, Processes
from harness.topics import Record as Found
from harness.topics import Topics
from harness.waiting import until
from harness.webhook_receiver import Reply, Silence, WebhookReceiver
from parley_common.contracts.record import Fact, fact_record
from parley_common.contracts.topics import DELIVERY_EVENTS, LEAD_EVENTS, dead_letters
from parley_common.ids import new_id
from parley_common.kafka import Publisher
from parley_common.settings import KafkaSettings
from parley_common.topic_admin import apply_topics
from unit.notify.samples import AT, TRACEPARENT, business, captured, erased, qualified, route

pytestmark = pytest.mark.kafka

READY_S = 30.0
TOLD_S = 30.0
REJOINED_S = 90.0
"""A broker waits for a killed member's session to end before its group goes on."""


@dataclass
class Service:
    """One deployment of notify: its own business, group, database and mail folder on the run's broker."""

    env: dict[str, str]
    processes: Processes
    publisher: Publisher
    topics: Topics
    business: str
    folder: Path
    port: int

    def start(self, **env: str) -> Proc:
        argv = [sys.executable, "-m", "parley_notify.app"]
        return self.processes.start(argv, name="notify", env=self.env | env)

    async def migrate(self) -> None:
        argv = [sys.executable, "-m", "parley_notify.app", "migrate"]
        assert await self.processes.start(argv, name="migrate", env=self.env).wait_exit(20) == 0

    async def ready(self, **env: str) -> Proc:
        proc = self.start(**env)
        await proc.wait_ready(f"{self.url}/readyz", READY_S)
        return proc

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def readiness(self) -> dict[str, str]:
        """Return what the service waits for; empty when it is ready."""
        async with httpx.AsyncClient(trust_env=False) as client:
            waiting: dict[str, str] = (await client.get(f"{self.url}/readyz")).json()["waiting_for"]
            return waiting

    async def publish(self, fact: Fact, fact_id: str | None = None, traceparent: str | None = None) -> None:
        record = fact_record(fact, source="tools", time=AT, fact_id=fact_id, traceparent=traceparent)
        await self.publisher.publish(record)

    def mails(self) -> list[Mail]:
        return mails(self.folder / "mail")

    async def dead(self) -> list[Found]:
        """Return what this deployment's consumer buried."""
        letters = await self.topics.read_all(dead_letters(LEAD_EVENTS).name)
        group = self.env["NOTIFY_CONSUMER_GROUP"]
        return [letter for letter in letters if letter.header("parley_dead_group") == group]

    async def delivery_facts(self, subject_id: str, count: int) -> list[dict[str, object]]:
        """Return the delivery facts about a subject once there are ``count``, in order of their seq."""

        async def found() -> list[dict[str, object]]:
            records = await self.topics.read_all(DELIVERY_EVENTS.name)
            facts = [
                {"type": one.header("ce_type"), **json.loads(one.value or b"{}")}
                for one in records
                if one.key == subject_id.encode()
            ]
            return facts if len(facts) >= count else []

        return await until(found, TOLD_S, f"{count} delivery facts")


@pytest.fixture
async def service(
    bootstrap_servers: str,
    topics: Topics,
    unique: Callable[[str], str],
    port: Callable[[], int],
    processes: Processes,
    tmp_path: Path,
    webhooks: WebhookReceiver,
) -> AsyncIterator[Service]:
    name = unique("b")
    facts = ("lead.captured", "lead.qualified")
    business(
        tmp_path / "businesses", route("sales", *facts), route("crm", *facts, channel="webhook"), name=name
    )
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers)
    await apply_topics(kafka)
    publisher = Publisher(kafka, client_id=unique("test"))
    await publisher.start()
    http_port = port()
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "PARLEY_STATE_DIR": str(tmp_path),
        "PARLEY_BUSINESSES_DIR": str(tmp_path / "businesses"),
        "NOTIFY_PORT": str(http_port),
        "NOTIFY_CONSUMER_GROUP": unique("notify"),
        "NOTIFY_WEBHOOK_URL": webhooks.url,
        "NOTIFY_ATTEMPT_DEADLINE_S": "5",
        "NOTIFY_CIRCUIT_WAIT_MAX_S": "0.5",
        "NOTIFY_RETRY_FIRST_S": "0.1",
        "NOTIFY_RETRY_WAIT_MAX_S": "0.5",
        "NOTIFY_POLL_MS": "50",
        "NOTIFY_DESTINATION_RATE_PER_S": "1000",
    }
    yield Service(env, processes, publisher, topics, name, tmp_path, http_port)
    await publisher.aclose()


def deliveries_of(webhooks: WebhookReceiver) -> list[str]:
    return [request.headers["parley-delivery"] for request in webhooks.requests]


async def test_a_fact_becomes_one_email_one_webhook_and_two_delivery_facts(
    service: Service, webhooks: WebhookReceiver
) -> None:
    await service.migrate()
    proc = await service.ready()
    lead, fact_id = new_id(), new_id()
    await service.publish(captured(lead, business=service.business), fact_id)
    facts = await service.delivery_facts(lead, 2)
    (mail,) = service.mails()
    (hook,) = webhooks.bodies()
    assert mail.subject == "New lead: Dana Reyes - Harbor Lending"
    assert (hook["id"], hook["type"], hook["data"]["lead_id"]) == (fact_id, "parley.lead.captured.v1", lead)
    assert "v1=" in webhooks.requests[0].headers["parley-signature"]
    assert [fact["type"] for fact in facts] == ["parley.delivery.delivered.v1"] * 2
    assert sorted(str(fact["route"]) for fact in facts) == ["crm", "sales"]
    assert [fact["seq"] for fact in facts] == [1, 2]
    assert await proc.terminate() == 0
    assert not [word for word in ("Dana", "dana.reyes", "5550142", "sales@") if word in proc.log()]


async def test_a_record_that_comes_twice_is_told_once(service: Service, webhooks: WebhookReceiver) -> None:
    await service.migrate()
    await service.ready()
    lead, fact_id = new_id(), new_id()
    for _ in range(3):
        await service.publish(captured(lead, business=service.business), fact_id)
    # Same key, same partition: once this one is told, the repeats before it were taken in.
    await service.publish(qualified(lead, business=service.business))
    await service.delivery_facts(lead, 4)
    assert len(service.mails()) == 2
    assert [body["data"]["seq"] for body in webhooks.bodies()] == [1, 2]


async def test_a_killed_service_tells_the_rest_after_its_restart_and_no_email_twice(
    service: Service, webhooks: WebhookReceiver
) -> None:
    await service.migrate()
    service.env["NOTIFY_LEASE_MARGIN_S"] = "0.5"
    service.env["NOTIFY_ATTEMPT_DEADLINE_S"] = "2"
    leads = [new_id() for _ in range(12)]
    first = await service.ready()
    webhooks.then(200, 200, 200, Silence())
    for lead in leads:
        await service.publish(captured(lead, business=service.business))
    await until(lambda: len(webhooks.requests) >= 4, TOLD_S, "attempts to be under way")
    first.kill9()
    webhooks.then(*[500] * 3)
    service.start()

    def told() -> bool:
        return len(service.mails()) >= 12 and len({hook["subject"] for hook in webhooks.bodies()}) == 12

    await until(told, REJOINED_S, "every lead to be told on both routes")
    for lead in leads:
        await service.delivery_facts(lead, 2)
    assert len(service.mails()) == 12
    assert len(set(deliveries_of(webhooks))) == 12


async def test_a_poison_record_goes_to_the_dead_letters_and_the_process_outlives_it(
    service: Service, webhooks: WebhookReceiver
) -> None:
    await service.migrate()
    proc = await service.ready()
    lead = new_id()
    good = dict(fact_record(captured(lead, business=service.business), source="tools", time=AT).headers)
    await service.topics.produce(
        LEAD_EVENTS.name, b"{not json", key=lead.encode(), headers=list(good.items())
    )
    await service.topics.produce(LEAD_EVENTS.name, b"{}", key=lead.encode(), headers=[("ce_id", b"1")])
    await service.publish(captured(lead, business=service.business))
    await service.delivery_facts(lead, 2)
    assert proc.is_running
    dead = [letter for letter in await service.dead() if letter.key == lead.encode()]
    causes = sorted(str(letter.header("parley_dead_cause")) for letter in dead)
    assert causes == ["invalid_envelope", "invalid_value"]
    assert len(service.mails()) == 1


async def test_a_lost_database_buries_nothing_and_is_made_up_for(
    service: Service, webhooks: WebhookReceiver, postgres_url: str
) -> None:
    url = make_url(postgres_url)
    assert url.port is not None
    async with FaultProxy(url.port) as proxy:
        through = url.set(port=proxy.port).render_as_string(hide_password=False)
        service.env["NOTIFY_DATABASE_URL"] = through
        await service.migrate()
        proc = await service.ready()
        await proxy.refuse()
        lead = new_id()
        await service.publish(captured(lead, business=service.business))

        async def noticed() -> bool:
            return {"database", "facts"} <= set(await service.readiness())

        await until(noticed, TOLD_S, "the service to say that it waits for its database")
        assert webhooks.requests == []
        await proxy.accept()
        await service.delivery_facts(lead, 2)
        await proc.wait_ready(f"{service.url}/readyz", READY_S)
        assert len(service.mails()) == 1
        assert len(webhooks.requests) == 1
        assert [letter for letter in await service.dead() if letter.key == lead.encode()] == []
        assert await proc.terminate() == 0


async def test_a_service_that_starts_first_waits_for_its_tables_and_says_so(service: Service) -> None:
    proc = service.start()
    await proc.wait_ready(f"{service.url}/healthz")
    await until(service.readiness, READY_S, "the reason why it waits")
    assert "parley migrate" in (await service.readiness())["database"]
    async with httpx.AsyncClient(trust_env=False) as client:
        document = (await client.get(f"{service.url}/asyncapi.json")).json()
    assert document["asyncapi"] == "3.0.0"
    assert LEAD_EVENTS.name in document["channels"]
    await service.migrate()
    await proc.wait_ready(f"{service.url}/readyz", READY_S)


async def test_order_per_lead_holds_while_a_receiver_is_down(
    service: Service, webhooks: WebhookReceiver
) -> None:
    await service.migrate()
    await service.ready()
    webhooks.always = Reply(503)
    leads = [new_id() for _ in range(3)]
    for lead in leads:
        await service.publish(captured(lead, business=service.business))
        await service.publish(qualified(lead, business=service.business))
    await until(lambda: len(service.mails()) == 6, TOLD_S, "the e-mails, which do not wait for the webhook")
    await until(lambda: len(webhooks.requests) >= 9, TOLD_S, "the receiver to be asked again")
    assert {body["data"]["seq"] for body in webhooks.bodies()} == {1}
    refused = len(webhooks.requests)
    webhooks.always = Reply(200)
    for lead in leads:
        await service.delivery_facts(lead, 4)
    taken = [(body["subject"], body["data"]["seq"]) for body in webhooks.bodies()[refused:]]
    for lead in leads:
        assert [seq for subject, seq in taken if subject == lead][-2:] == [1, 2]


async def test_an_erased_lead_is_not_told_any_more(service: Service, webhooks: WebhookReceiver) -> None:
    await service.migrate()
    await service.ready()
    webhooks.always = Reply(503)
    lead = new_id()
    await service.publish(captured(lead, business=service.business))
    await until(lambda: webhooks.requests, TOLD_S, "a first attempt")
    await service.delivery_facts(lead, 1)  # the e-mail's, which is not waiting for anything
    await service.publish(erased(lead, business=service.business))
    facts = await service.delivery_facts(lead, 2)
    cancelled = [fact for fact in facts if fact["type"] == "parley.delivery.cancelled.v1"]
    assert [(fact["route"], fact["cause"]) for fact in cancelled] == [("crm", "subject_erased")]
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = (await client.get(f"{service.url}/metrics")).text
    assert 'parley_deliveries_total{channel="webhook",outcome="cancelled"} 1.0' in metrics
    assert "Dana" not in metrics


async def test_one_trace_leads_from_the_fact_to_the_receiver(
    service: Service, webhooks: WebhookReceiver, otlp: OtlpCollector
) -> None:
    await service.migrate()
    await service.ready(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)
    lead = new_id()
    await service.publish(captured(lead, business=service.business), traceparent=TRACEPARENT)
    trace_id, parent_id = TRACEPARENT.split("-")[1:3]
    await service.delivery_facts(lead, 2)
    deliveries = ("deliver email", "deliver webhook")
    for name in deliveries:
        await until(lambda name=name: otlp.spans(name, trace_id=trace_id), TOLD_S, f"{name} to be exported")
    spans = {span.name: span for span in otlp.spans(trace_id=trace_id)}
    taken_in = spans[f"process {LEAD_EVENTS.name}"]
    assert taken_in.parent_id == parent_id
    for name in deliveries:
        assert spans[name].parent_id == taken_in.span_id
        assert not spans[name].is_error
    assert spans["deliver webhook"].attributes["server.address"] == f"127.0.0.1:{webhooks.port}"
    sent = webhooks.requests[0].headers["traceparent"]
    assert sent.split("-")[1:3] == [trace_id, spans["deliver webhook"].span_id]
    said = json.dumps([dict(span.attributes) for span in spans.values()])
    assert not [word for word in ("Dana", "sales@", "/hook") if word in said]


async def test_email_goes_by_smtp_when_a_server_is_set(service: Service) -> None:
    await service.migrate()
    async with FakeSmtp() as server:
        smtp = {
            "NOTIFY_SMTP_HOST": "127.0.0.1",
            "NOTIFY_SMTP_PORT": str(server.port),
            "NOTIFY_SMTP_TLS": "none",
        }
        await service.ready(**smtp)
        await service.publish(captured(new_id(), business=service.business))
        await until(lambda: server.taken, TOLD_S, "the e-mail")
    assert server.taken[0].recipients == ("sales@example.com",)
    assert service.mails() == []


async def test_slack_hubspot_and_salesforce_are_told_by_the_process_as_it_is_set_up(service: Service) -> None:
    await service.migrate()
    name = f"{service.business[:20]}-crm"
    fields = {"score": "lead_score"}
    business(
        service.folder / "businesses",
        route("desk", "lead.qualified", channel="slack", to="desk"),
        route("hub", "lead.qualified", channel="hubspot", fields=fields),
        route("force", "lead.qualified", channel="salesforce"),
        name=name,
    )
    with FakeSlack() as slack, FakeHubSpot() as hubspot, FakeSalesforce() as org:
        hubspot.lose_answer_to("POST /crm/v3/objects/notes")
        org.fail_next(503, "SERVER_UNAVAILABLE")
        proc = await service.ready(
            NOTIFY_SLACK_HOOKS=json.dumps({"desk": slack.url}),
            NOTIFY_HUBSPOT_TOKEN=hubspot.token,
            NOTIFY_HUBSPOT_URL=hubspot.url,
            NOTIFY_SALESFORCE_URL=org.url,
            NOTIFY_SALESFORCE_CLIENT_ID=LOGIN[0],
            NOTIFY_SALESFORCE_CLIENT_SECRET=LOGIN[1],
        )
        lead = new_id()
        await service.publish(qualified(lead, business=name))
        facts = await service.delivery_facts(lead, 3)
    assert {(fact["route"], fact["type"]) for fact in facts} == {
        (each, "parley.delivery.delivered.v1") for each in ("desk", "hub", "force")
    }
    assert len(slack.taken) == 1
    assert [contact.properties["lead_score"] for contact in hubspot.contacts.values()] == [86]
    assert (len(hubspot.notes), len(org.leads), len(org.tasks)) == (1, 1, 1)
    secrets = (FakeSlack.PATH, hubspot.token, LOGIN[1])
    assert not [word for word in ("Dana", "dana.reyes", *secrets) if word in proc.log()]


@pytest.mark.parametrize(
    ("variable", "value"), [("NOTIFY_WEBHOOK_KEYS", "nonsense"), ("PARLEY_BUSINESSES_DIR", "/nowhere")]
)
async def test_a_wrong_setting_ends_the_process_with_one_line(
    service: Service, variable: str, value: str
) -> None:
    proc = service.start(**{variable: value})
    assert await proc.wait_exit() == 78
    (line,) = proc.log().strip().splitlines()
    assert variable in line


async def test_a_taken_port_ends_the_process_and_names_its_setting(
    service: Service, webhooks: WebhookReceiver
) -> None:
    proc = service.start(NOTIFY_PORT=str(webhooks.port))
    assert await proc.wait_exit() == 78
    assert "NOTIFY_PORT" in proc.log()
