// socket.io-client of every generation, in every way to connect, against a hub.
// `node clients.mjs FOLDER {url, token, cookie, user, store}` prints {"<generation> <way>": "ok" | what went wrong};
// FOLDER holds the packages.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import net from "node:net";

const require = createRequire(`${process.argv[2]}/`);
const given = JSON.parse(process.argv[3]);
const WAYS = { websocket: ["websocket"], polling: ["polling"], upgrade: undefined };
const PATIENCE = 20_000;
const TEXT = "é 😀 مرحبا \u2028 Ã©";

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(condition, what) {
  for (const end = Date.now() + PATIENCE; !condition(); await sleep(5)) assert.ok(Date.now() < end, `no ${what()}`);
}

function heard(socket, event) {
  return new Promise((resolve, reject) => {
    socket.on(event, resolve);
    setTimeout(() => reject(new Error(`no ${event}`)), PATIENCE).unref();
  });
}

const asked = (socket, name, payload) => new Promise((resolve) => socket.emit(name, payload, resolve));

/** A TCP proxy before the hub: `cut` breaks every connection and lets none through until `mend`. */
async function proxy() {
  const { hostname, port, protocol } = new URL(given.url);
  const open = new Set();
  let broken = false;
  const server = net.createServer((socket) => {
    const other = net.connect(port, hostname);
    for (const end of [socket, other]) end.on("error", () => {}).on("close", () => (socket.destroy(), other.destroy()));
    if (broken) return socket.destroy();
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.pipe(other).pipe(socket);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => ((broken = true), open.forEach((socket) => socket.destroy()));
  return { url: `${protocol}//127.0.0.1:${server.address().port}`, cut, mend: () => (broken = false) };
}

async function rest(method, path, body) {
  const headers = { Authorization: `Bearer ${given.token}` };
  const response = await fetch(`${given.url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  assert.equal(response.status, 200, await response.clone().text());
  return response.json();
}

/** Writes entities of one key, and remembers what a subscriber has to see of it. */
class Writer {
  constructor(key) {
    this.path = `/${given.store}`;
    this.key = key;
    this.expected = [];
  }

  async insert(n) {
    const { _id } = await rest("POST", this.path, { key: this.key, n, text: TEXT });
    this.expected.push(["insert", _id, n]);
    return _id;
  }

  async update(_id, n) {
    await rest("PATCH", `${this.path}/${_id}`, { n });
    this.expected.push(["update", _id, n]);
  }

  async remove(_id) {
    await rest("DELETE", `${this.path}/${_id}`);
    this.expected.push(["remove", _id, undefined]);
  }
}

async function isRefused(io, generation, options) {
  for (const query of [{}, { token: "nonsense" }]) {
    const socket = io(given.url, { ...options, query, reconnection: false });
    const error = await heard(socket, generation < 3 ? "error" : "connect_error");
    assert.equal(generation < 3 ? error : error.message, "Unauthorized");
    socket.disconnect();
  }
}

async function isLetIn(io, generation, options) {
  const ways = [
    { query: { token: given.token } },
    { extraHeaders: { Authorization: `Bearer ${given.token}` } },
    { extraHeaders: { Cookie: `other=1; sid=${given.cookie}` } },
    ...(generation < 3 ? [] : [{ auth: { token: given.token } }]),
  ];
  for (const way of ways) {
    const socket = io(given.url, { ...options, ...way, reconnection: false });
    await heard(socket, "connect");
    const answer = await asked(socket, "subscribe", { store: "users", snapshot: true, only: "login" });
    assert.deepEqual(answer.entities?.map((user) => user._id), [given.user], JSON.stringify(answer));
    const gone = heard(socket, "disconnect");
    socket.disconnect();
    await gone;
  }
}

async function follows(io, generation, way, options) {
  const { url, cut, mend } = await proxy();
  const writer = new Writer(`${generation} ${way} ${TEXT}`);
  const first = await writer.insert(0);
  const seen = [];
  let position;
  let connects = 0;
  const quick = { reconnectionDelay: 20, reconnectionDelayMax: 50, randomizationFactor: 0 };
  const socket = io(url, { ...options, ...quick, query: { token: given.token } });
  socket.on("change", (event) => {
    position = event.position;
    seen.push([event.op, event._id, event.entity?.n]);
    if (event.op !== "remove") assert.deepEqual([event.entity.key, event.entity.text], [writer.key, TEXT]);
  });
  socket.on("position", (event) => (position = event.position));
  socket.on("connect", async () => {
    connects += 1;
    const from = position ? { since: position } : { snapshot: true };
    const answer = await asked(socket, "subscribe", { store: given.store, filter: { key: writer.key }, ...from });
    assert.equal(answer.ok, true, JSON.stringify(answer));
    if (answer.entities) seen.push(...answer.entities.map((entity) => ["insert", entity._id, entity.n]));
  });
  const all = () => until(() => seen.length >= writer.expected.length, () => JSON.stringify([seen, writer.expected]));
  await all();
  const second = await writer.insert(1);
  await writer.update(first, 2);
  await all();
  if (way === "upgrade") await until(() => socket.io.engine.transport.name === "websocket", () => "upgrade");
  for (let round = 1; round <= 2; round++) {
    const writing = writer.insert(10 * round);
    cut();
    await writing;
    await until(() => !socket.connected, () => "disconnect");
    await writer.update(first, 10 * round + 1);
    if (round === 2) await writer.remove(second);
    mend();
    await writer.insert(10 * round + 2);
    await all();
    assert.equal(connects, 1 + round);
  }
  await writer.remove(first);
  await all();
  assert.deepEqual(seen, writer.expected);
  assert.equal((await asked(socket, "subscribe", { store: "نوافذ 😀" })).error.code, "404");
  socket.disconnect();
}

async function run(generation, way) {
  const io = require(`socket.io-client-${generation}`);
  const options = { forceNew: true, ...(WAYS[way] && { transports: WAYS[way] }) };
  await isRefused(io, generation, options);
  await isLetIn(io, generation, options);
  await follows(io, generation, way, options);
}

const results = {};
const failed = (error) => String(error.stack ?? error);
process.on("unhandledRejection", (error) => (results.unhandled = failed(error)));
const runs = [1, 2, 3, 4].flatMap((generation) =>
  Object.keys(WAYS).map(async (way) => {
    results[`${generation} ${way}`] = await run(generation, way).then(() => "ok", failed);
  }),
);
await Promise.all(runs);
console.log(JSON.stringify(results));
process.exit(0);
