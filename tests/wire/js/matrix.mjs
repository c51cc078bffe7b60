// Real clients of every generation against the echo server, in every way to connect. `node matrix.mjs URL` prints
// {"<generation> <way>": "ok" | what went wrong}.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const BASE = process.argv[2];
const TEXT = "héllo wörld € 😀 \u2028 \u00c3\u00a9 日本";
const DATA = { text: TEXT, list: [1, null, true, { ключ: "значение" }] };
const LONG = "é😀".repeat(30_000);
const WAYS = { websocket: ["websocket"], polling: ["polling"], upgrade: undefined };

const heard = (socket, event, ...rest) =>
  new Promise((resolve, reject) => {
    socket.on(event, (...data) => resolve(data));
    setTimeout(() => reject(new Error(`no ${event} ${rest}`)), 8000);
  });

async function echoed(socket, ...data) {
  const back = heard(socket, "message-back");
  socket.emit("message", ...data);
  assert.deepEqual(await back, data);
  socket.off("message-back");
  const answer = await new Promise((resolve) => socket.emit("message-with-ack", ...data, (...got) => resolve(got)));
  assert.deepEqual(answer, data);
}

async function burst(socket) {
  const sent = Array.from({ length: 40 }, (_, index) => index);
  const got = [];
  socket.on("message-back", (index) => got.push(index));
  for (const index of sent) socket.emit("message", index);
  await new Promise((resolve) => socket.emit("message-with-ack", resolve));
  assert.deepEqual(got, sent);
  socket.off("message-back");
}

async function upgraded(socket) {
  for (let tries = 0; socket.io.engine.transport.name !== "websocket" && tries < 200; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.equal(socket.io.engine.transport.name, "websocket");
}

async function other(io, options, generation) {
  const custom = io(`${BASE}/custom?token=1`, { ...options, forceNew: true });
  await heard(custom, "auth");
  await echoed(custom, TEXT);
  custom.disconnect();
  const random = io(`${BASE}/random`, { ...options, forceNew: true });
  const [error] = await heard(random, generation < 3 ? "error" : "connect_error", "for an unknown namespace");
  assert.equal(error.message ?? error, "Invalid namespace");
  random.disconnect();
}

async function run(generation, transports) {
  const io = require(`socket.io-client-${generation}`);
  const options = { forceNew: true, reconnection: false, ...(transports && { transports }) };
  const socket = io(BASE, options);
  const auth = heard(socket, "auth");
  await heard(socket, "connect");
  if (generation < 3) assert.equal(socket.id, socket.io.engine.id);
  await auth;
  await echoed(socket, TEXT, DATA);
  if (!transports) await upgraded(socket);
  await echoed(socket, Buffer.from([0, 1, 2, 250]), { deep: [Buffer.from(TEXT)] }, TEXT);
  await echoed(socket, LONG);
  await burst(socket);
  await other(io, options, generation);
  const gone = heard(socket, "disconnect");
  socket.disconnect();
  await gone;
}

const results = {};
for (const generation of [1, 2, 3, 4]) {
  const ways = Object.entries(WAYS).map(async ([way, transports]) => {
    const key = `${generation} ${way}`;
    results[key] = await run(generation, transports).then(() => "ok", (error) => String(error.stack ?? error));
  });
  await Promise.all(ways);
}
console.log(JSON.stringify(results));
process.exit(0);
