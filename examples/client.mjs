// Prints every change of some stores, and after any interruption goes on exactly where it was.
//
//   npm install socket.io-client
//   node client.mjs http://127.0.0.1:8000 TOKEN units notes

import { io } from "socket.io-client";

const [url, token, ...stores] = process.argv.slice(2);
const watched = stores.map((store) => ({ store, channel: null, position: undefined }));
const socket = io(url, { auth: { token } });

/** With the last position only what was missed comes; "auto": a fresh list instead if that is no longer known. */
function subscribe(watch) {
  const request = { store: watch.store, since: watch.position, snapshot: "auto" };
  socket.emit("subscribe", request, ({ ok, error, channel, position, entities, resync }) => {
    if (!ok) return console.log("refused", watch.store, error.message);
    Object.assign(watch, { channel, position });
    if (entities) console.log(resync ? "resync" : "snapshot", watch.store, JSON.stringify(entities));
  });
}

socket.on("connect", () => watched.forEach(subscribe)); // at first, and after every reconnect

socket.on("change", ({ channel, op, store, _id, entity, position }) => {
  console.log(op, store, _id, entity ? JSON.stringify(entity) : "");
  watched.find((watch) => watch.channel === channel).position = position;
});

// How far a quiet connection has seen: it counts for every subscription.
socket.on("position", ({ position }) => watched.forEach((watch) => (watch.position = position)));

// The store was redefined (410: begin anew), deleted, or is not allowed any more.
socket.on("ended", ({ channel, error }) => {
  const watch = watched.find((watch) => watch.channel === channel);
  console.log("ended", watch.store, error.message);
  watch.position = undefined;
  if (error.code === "410") subscribe(watch);
});

socket.on("notice", ({ kind }) => console.log("notice", kind)); // revoked, lagging or shutdown
socket.on("connect_error", ({ message }) => {
  if (socket.active) return; // the network: socket.io-client tries again by itself
  console.log("refused", message);
  if (message === "Unauthorized") process.exit(1);
  setTimeout(() => socket.connect(), 1000);
});
