"""A CRM that keeps leads up to date from Parley's lead facts: no lead missed, none counted twice.

    pip install confluent-kafka
    python crm_consumer.py --brokers 127.0.0.1:9092 --group our-crm --database crm.db

The whole of it is one rule: in one transaction of your own database remember ce_id and do the work; only then let
Kafka know that the record is done. A crash in between brings the record again, and ce_id says that it is known.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

TOPIC = "parley.lead.events"
SCHEMA = """
CREATE TABLE IF NOT EXISTS facts_seen (ce_id TEXT PRIMARY KEY, lead_id TEXT NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS leads (
  lead_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, name TEXT, email TEXT, phone TEXT,
  interest TEXT, score INTEGER, disposition TEXT, call_at TEXT, erased INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS tally (kind TEXT PRIMARY KEY, "count" INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS parked (
  partition INTEGER, "offset" INTEGER, cause TEXT NOT NULL, PRIMARY KEY (partition, "offset")
);
"""


def main() -> None:
    """Consume until SIGTERM or Ctrl-C."""
    options = _options()
    database = sqlite3.connect(options.database, isolation_level=None)
    database.executescript("PRAGMA journal_mode=WAL; PRAGMA busy_timeout=10000;" + SCHEMA)
    consumer = Consumer(
        {
            "bootstrap.servers": options.brokers,
            "group.id": options.group,
            # A new group begins with the oldest record that Kafka still has (30 days).
            "auto.offset.reset": "earliest",
            # The client commits by itself, also when partitions are taken away, but only what we have stored below.
            "enable.auto.commit": True,
            "enable.auto.offset.store": False,
            # A rebalance takes away only what moves: the other partitions go on.
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    consumer.subscribe([TOPIC], on_assign=_say_assigned, on_revoke=_say_revoked)
    try:
        while running:
            record = consumer.poll(0.5)
            if record is None:
                continue
            if record.error():
                _pass_over_or_raise(record.error())
                continue
            take_in(database, record)
            # An error above ends the program before this line: the record comes again when it is started again.
            consumer.store_offsets(message=record)
    finally:
        consumer.close()  # commits what is stored and leaves the group at once
        database.close()


def take_in(database: sqlite3.Connection, record: Message) -> None:
    """Take one record in, in one transaction; a repeat changes nothing."""
    headers = {name: value.decode() for name, value in record.headers() or [] if value is not None}
    database.execute("BEGIN IMMEDIATE")
    try:
        fact = _read(record.value())
        if fact is None or "ce_id" not in headers:
            # Not ours to mend, and nothing may wait behind it: put it aside and go on.
            place = (record.partition(), record.offset(), "unreadable")
            database.execute("INSERT OR IGNORE INTO parked VALUES (?, ?, ?)", place)
        elif _is_new(database, headers["ce_id"], fact):
            _count(database, headers["ce_type"])
            _apply(database, headers["ce_type"], fact)
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise


def _read(value: bytes | None) -> dict[str, Any] | None:
    try:
        fact = json.loads(value or b"")
    except ValueError:
        return None
    return fact if isinstance(fact, dict) and {"lead_id", "seq"} <= fact.keys() else None


def _is_new(database: sqlite3.Connection, ce_id: str, fact: Mapping[str, Any]) -> bool:
    row = (ce_id, fact["lead_id"], fact["seq"])
    return database.execute("INSERT OR IGNORE INTO facts_seen VALUES (?, ?, ?)", row).rowcount == 1


def _count(database: sqlite3.Connection, kind: str) -> None:
    """Count facts by kind: what only a consumer that knows repeats gets right."""
    counted = 'INSERT INTO tally VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET "count" = "count" + 1'
    database.execute(counted, (kind,))


def _apply(database: sqlite3.Connection, kind: str, fact: Mapping[str, Any]) -> None:
    """Bring a lead up to date. Facts of one lead come in order, for they share a key and so a partition."""
    known = database.execute("SELECT seq, erased FROM leads WHERE lead_id = ?", (fact["lead_id"],)).fetchone()
    before, erased = known or (0, 0)
    if fact["seq"] <= before or erased:
        return  # a replay of something older than what we have, or of a lead that we had to forget
    if fact["seq"] > before + 1:
        print(f"lead {fact['lead_id']}: seq {before + 1} to {fact['seq'] - 1} never came", file=sys.stderr)
    changes: dict[str, Any] = {"seq": fact["seq"]}
    match kind:
        case "parley.lead.captured.v1" | "parley.lead.updated.v1":
            changes |= _person(fact) | {"interest": json.dumps(fact.get("interest", {}))}
        case "parley.lead.qualified.v1" | "parley.lead.disqualified.v1":
            changes |= _person(fact) | {"score": fact["score"], "disposition": fact["disposition"]}
        case "parley.lead.call_scheduled.v1":
            changes["call_at"] = None if fact.get("status") == "cancelled" else fact["starts_at"]
        case "parley.lead.erased.v1":
            gone = ("name", "email", "phone", "interest", "score", "disposition", "call_at")
            changes |= dict.fromkeys(gone) | {"erased": 1}
        case _:
            pass  # a type that came after this program: its seq counts, the rest is not for us
    names = ", ".join(changes)
    places = ", ".join("?" * (len(changes) + 1))
    updates = ", ".join(f"{name} = excluded.{name}" for name in changes)
    database.execute(
        f"INSERT INTO leads (lead_id, {names}) VALUES ({places}) "  # noqa: S608 - names are the literals above
        f"ON CONFLICT (lead_id) DO UPDATE SET {updates}",
        (fact["lead_id"], *changes.values()),
    )


def _person(fact: Mapping[str, Any]) -> dict[str, Any]:
    """Return the person as they are now: a field that is left out is not known."""
    person = fact.get("person", {})
    return {name: person.get(name) for name in ("name", "email", "phone")}


def _pass_over_or_raise(error: KafkaError) -> None:
    """Brokers that are away come back, and the client keeps trying; what cannot heal ends the program."""
    print(f"kafka: {error.str()}", file=sys.stderr)
    if error.fatal():
        raise KafkaException(error)


def _say_assigned(_consumer: Consumer, partitions: list[TopicPartition]) -> None:
    print(f"assigned {sorted(each.partition for each in partitions)}", file=sys.stderr)


def _say_revoked(_consumer: Consumer, partitions: list[TopicPartition]) -> None:
    print(f"revoked {sorted(each.partition for each in partitions)}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--group", default="our-crm")
    parser.add_argument("--database", default="crm.db")
    return parser.parse_args()


if __name__ == "__main__":
    main()
