// A CRM that keeps leads up to date from Parley's lead facts: no lead missed, none counted twice.
//
//     npm ci
//     node crm_consumer.js 127.0.0.1:9092 our-crm postgresql://user@127.0.0.1:5432/crm
//
// The whole of it is one rule: in one transaction of your own database remember ce_id and do the work; only then let
// Kafka know that the record is done. A crash in between brings the record again, and ce_id says that it is known.

"use strict";

const { Kafka, logLevel } = require("kafkajs");
const { Pool } = require("pg");

const TOPIC = "parley.lead.events";
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS facts_seen (ce_id TEXT PRIMARY KEY, lead_id TEXT NOT NULL, seq INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS leads (
    lead_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, name TEXT, email TEXT, phone TEXT,
    interest TEXT, score INTEGER, disposition TEXT, call_at TEXT, erased BOOLEAN NOT NULL DEFAULT FALSE
  );
  CREATE TABLE IF NOT EXISTS tally (kind TEXT PRIMARY KEY, "count" INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS parked (
    partition INTEGER, "offset" BIGINT, cause TEXT NOT NULL, PRIMARY KEY (partition, "offset")
  );`;

async function main() {
  const [brokers = "127.0.0.1:9092", group = "our-crm", database = "postgresql://127.0.0.1/crm"] = process.argv.slice(2);
  const pool = new Pool({ connectionString: database });
  pool.on("error", (error) => console.error(`database: ${error.message}`)); // an idle connection died; the next is new
  await createTables(pool);

  const kafka = new Kafka({ clientId: group, brokers: brokers.split(","), logLevel: logLevel.WARN });
  const consumer = kafka.consumer({
    groupId: group,
    // An error in eachMessage starts the consumer again at the record that failed, for ever: nothing is passed over.
    retry: { restartOnFailure: async () => true },
  });
  const stop = async () => {
    await consumer.disconnect(); // finishes the record in hand, commits, leaves the group at once
    await pool.end();
    process.exit(0);
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);

  await consumer.connect();
  // A new group begins with the oldest record that Kafka still has (30 days).
  await consumer.subscribe({ topics: [TOPIC], fromBeginning: true });
  await consumer.run({
    // Offsets are committed after eachMessage has resolved, never before; the default, spelled out.
    autoCommit: true,
    autoCommitInterval: 1000,
    eachMessage: async ({ partition, message }) => takeIn(pool, partition, message),
  });
  console.error("consuming");
}

// Two members that start at once may both make the tables, which PostgreSQL does not like: one after the other.
async function createTables(pool) {
  const db = await pool.connect();
  try {
    await db.query("BEGIN");
    await db.query("SELECT pg_advisory_xact_lock(20260302)");
    await db.query(SCHEMA);
    await db.query("COMMIT");
  } finally {
    db.release();
  }
}

// Takes one record in, in one transaction; a repeat changes nothing.
async function takeIn(pool, partition, record) {
  const headers = Object.fromEntries(
    Object.entries(record.headers ?? {}).map(([name, value]) => [name, String(value)]),
  );
  const fact = read(record.value);
  const db = await pool.connect();
  let broken;
  try {
    await db.query("BEGIN");
    if (fact === null || !headers.ce_id) {
      // Not ours to mend, and nothing may wait behind it: put it aside and go on.
      await db.query("INSERT INTO parked VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [
        partition, record.offset, "unreadable",
      ]);
    } else if (await isNew(db, headers.ce_id, fact)) {
      await count(db, headers.ce_type);
      await apply(db, headers.ce_type, fact);
    }
    await db.query("COMMIT");
  } catch (error) {
    broken = error;
    await db.query("ROLLBACK").catch(() => {});
    throw error;
  } finally {
    db.release(broken); // a connection that failed is thrown away
  }
}

function read(value) {
  try {
    const fact = JSON.parse(value);
    return typeof fact?.lead_id === "string" && Number.isInteger(fact.seq) ? fact : null;
  } catch {
    return null;
  }
}

async function isNew(db, ceId, fact) {
  const inserted = await db.query(
    "INSERT INTO facts_seen VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    [ceId, fact.lead_id, fact.seq],
  );
  return inserted.rowCount === 1;
}

// Counts facts by kind: what only a consumer that knows repeats gets right.
async function count(db, kind) {
  await db.query(
    'INSERT INTO tally VALUES ($1, 1) ON CONFLICT (kind) DO UPDATE SET "count" = tally."count" + 1',
    [kind],
  );
}

// Brings a lead up to date. Facts of one lead come in order, for they share a key and so a partition.
async function apply(db, kind, fact) {
  const known = await db.query("SELECT seq, erased FROM leads WHERE lead_id = $1", [fact.lead_id]);
  const { seq: before, erased } = known.rows[0] ?? { seq: 0, erased: false };
  if (fact.seq <= before || erased) return; // a replay of something older, or of a lead that we had to forget
  if (fact.seq > before + 1) console.error(`lead ${fact.lead_id}: seq ${before + 1} to ${fact.seq - 1} never came`);
  const changes = { seq: fact.seq, ...changesOf(kind, fact) };
  const names = Object.keys(changes);
  const places = names.map((_, index) => `$${index + 2}`);
  const updates = names.map((name) => `${name} = excluded.${name}`);
  await db.query(
    `INSERT INTO leads (lead_id, ${names.join(", ")}) VALUES ($1, ${places.join(", ")})
     ON CONFLICT (lead_id) DO UPDATE SET ${updates.join(", ")}`,
    [fact.lead_id, ...Object.values(changes)],
  );
}

function changesOf(kind, fact) {
  switch (kind) {
    case "parley.lead.captured.v1":
    case "parley.lead.updated.v1":
      return { ...person(fact), interest: JSON.stringify(fact.interest ?? {}) };
    case "parley.lead.qualified.v1":
    case "parley.lead.disqualified.v1":
      return { ...person(fact), score: fact.score, disposition: fact.disposition };
    case "parley.lead.call_scheduled.v1":
      return { call_at: fact.status === "cancelled" ? null : fact.starts_at };
    case "parley.lead.erased.v1":
      return {
        name: null, email: null, phone: null, interest: null,
        score: null, disposition: null, call_at: null, erased: true,
      };
    default:
      return {}; // a type that came after this program: its seq counts, the rest is not for us
  }
}

// The person as they are now: a field that is left out is not known.
function person(fact) {
  const { name = null, email = null, phone = null } = fact.person ?? {};
  return { name, email, phone };
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
