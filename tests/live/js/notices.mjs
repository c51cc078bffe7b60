// socket.io-client of every generation hears why the hub ends its connection, by polling and by WebSocket.
// `node notices.mjs FOLDER {url, admin, pid, users}` prints {"<generation> <way> <kind>": what the client heard};
// `users` holds a token and its id for each of them, `pid` is the hub's process, and FOLDER holds the packages.

import { createRequire } from "node:module";

const require = createRequire(`${process.argv[2]}/`);
const given = JSON.parse(process.argv[3]);
const results = {};

async function rest(method, path, body) {
  const headers = { Authorization: `Bearer ${given.admin}` };
  const response = await fetch(`${given.url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  if (response.status !== 200) throw new Error(await response.text());
}

/** Connects; the result has `connected`, and `ended` with what the client heard, by its disconnect. */
function client(generation, transport, token) {
  const io = require(`socket.io-client-${generation}`);
  const socket = io(given.url, { transports: [transport], query: { token }, forceNew: true, reconnection: false });
  const heard = [];
  const connected = new Promise((resolve, reject) => {
    socket.on("connect", resolve);
    socket.on("connect_error", reject);
  });
  const ended = new Promise((resolve) => {
    socket.on("notice", ({ kind }) => heard.push(kind));
    socket.on("disconnect", () => setTimeout(() => resolve(heard.join()), 50));
    setTimeout(() => resolve(`${heard.join()} and no disconnect`), 20_000).unref();
  });
  return { connected, ended };
}

const ACTS = {
  revoked: (id) => rest("DELETE", `/tokens/${id}`),
  expired: (id) => rest("PATCH", `/tokens/${id}`, { expires: Date.now() + 800 }),
  shutdown: () => {},
};

async function all(kind) {
  const ends = [1, 2, 3, 4].flatMap((generation) =>
    ["polling", "websocket"].map(async (transport) => {
      const { token, id } = given.users.pop();
      const { connected, ended } = client(generation, transport, token);
      await connected;
      await ACTS[kind](id);
      return { name: `${generation} ${transport} ${kind}`, ended };
    }),
  );
  const ending = await Promise.all(ends);
  if (kind === "shutdown") process.kill(given.pid, "SIGTERM");
  for (const { name, ended } of ending) results[name] = await ended;
}

for (const kind of Object.keys(ACTS)) await all(kind);
console.log(JSON.stringify(results));
process.exit(0);
