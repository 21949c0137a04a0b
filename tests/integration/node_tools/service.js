// A tool service in another language, written from the contract alone: announces convert_currency every few
// seconds, answers its calls where they ask to be answered, and takes the announcement back when it is told to stop.
"use strict";

const { randomUUID } = require("node:crypto");
const { Kafka, logLevel } = require("kafkajs");

const CATALOG = "parley.tool.catalog";
const RESULTS = "parley.tool.results";
const ANNOUNCE_EVERY_MS = 5000;
const EUR_PER_USD = 0.9;

const service = process.env.SERVICE;
const instance = `${service}-${process.pid}`;
const callsTopic = `parley.tool.calls.${service}`;

const convertCurrency = {
  name: "convert_currency",
  description: "Convert an amount of US dollars into euros, at a rate that is fixed for the test.",
  parameters: {
    type: "object",
    properties: {
      amount_usd: { type: "number", description: "The amount in dollars", minimum: 0, maximum: 1e9 },
    },
    required: ["amount_usd"],
    additionalProperties: false,
  },
  class: "read",
  deadline_ms: 4000,
};

function headers(type, subject, more = {}) {
  return {
    ce_specversion: "1.0",
    ce_id: randomUUID(),
    ce_type: type,
    ce_source: `/parley/${service}`,
    ce_time: new Date().toISOString(),
    ce_subject: subject,
    "content-type": "application/json",
    ...more,
  };
}

function announcement() {
  return {
    service,
    instance,
    calls_topic: callsTopic,
    tools: [convertCurrency],
    announced_at: new Date().toISOString(),
  };
}

function answer(call) {
  const usd = call.arguments.amount_usd;
  if (typeof usd !== "number") {
    const say = "How many dollars is it?";
    return { status: "refused", code: "invalid_arguments", output: { error: { code: "invalid_arguments", message: say, say }, say } };
  }
  const eur = Math.round(usd * EUR_PER_USD * 100) / 100;
  return { status: "ok", output: { amount_eur: eur, say: `That is ${eur} euros.` } };
}

async function main() {
  const kafka = new Kafka({ brokers: [process.env.KAFKA], logLevel: logLevel.ERROR });
  const producer = kafka.producer();
  const consumer = kafka.consumer({ groupId: service });
  await producer.connect();
  await consumer.connect();
  await consumer.subscribe({ topic: callsTopic, fromBeginning: true });

  const announce = () =>
    producer.send({
      topic: CATALOG,
      messages: [
        {
          key: `${service}/${instance}`,
          value: JSON.stringify(announcement()),
          headers: headers("parley.tool.announcement.v1", `${service}/${instance}`),
        },
      ],
    });

  await consumer.run({
    eachMessage: async ({ message }) => {
      const call = JSON.parse(message.value.toString());
      const replyTo = message.headers.parley_reply_to ? message.headers.parley_reply_to.toString() : "";
      const result = {
        call_id: call.call_id,
        session_id: call.session_id,
        tool: call.tool,
        attempt: call.attempt,
        ...answer(call),
      };
      await producer.send({
        topic: RESULTS,
        messages: [
          {
            key: call.session_id,
            partition: call.reply_partition,
            value: JSON.stringify(result),
            headers: headers("parley.tool.result.v1", call.session_id, { parley_reply_to: replyTo }),
          },
        ],
      });
    },
  });
  await announce();
  const timer = setInterval(announce, ANNOUNCE_EVERY_MS);
  console.log("announced");

  const stop = async () => {
    clearInterval(timer);
    await producer.send({ topic: CATALOG, messages: [{ key: `${service}/${instance}`, value: null }] });
    await consumer.disconnect();
    await producer.disconnect();
    process.exit(0);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}

main().catch((wrong) => {
  console.error(wrong);
  process.exit(1);
});
