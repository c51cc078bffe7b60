// Prints every change of some stores. After an interruption it continues exactly where it was.
//
//   npm install socket.io-client
//   node client.mjs http://127.0.0.1:8000 TOKEN readings

import { io } from "socket.io-client";

const [url, token, ...stores] = process.argv.slice(2);
const watched = stores.map((store) => ({ store, channel: null, position: undefined }));
const socket = io(url, { auth: { token } });

/** `since`: only changes after that position. "auto": a fresh list instead if these are no longer known. */
function subscribe(watch) {
  const request = { store: watch.store, since: watch.position, snapshot: "auto" };
  socket.emit("subscribe", request, ({ ok, error, channel, position, entities, resync }) => {
    if (!ok) return over("refused", watch, error);
    Object.assign(watch, { channel, position });
    if (entities) console.log(resync ? "resync" : "snapshot", watch.store, JSON.stringify(entities));
  });
}

/** 410: changes were missed or the store was redefined, so subscribe anew. 503: the database is unavailable, so retry.
 *  Otherwise the store was deleted, or reading it is no longer allowed. */
function over(word, watch, { code, message, errors }) {
  console.log(word, watch.store, message, errors ? JSON.stringify(errors) : "");
  watch.channel = null;
  if (code === "410") watch.position = undefined;
  if (code === "410" || code === "503") setTimeout(() => socket.connected && !watch.channel && subscribe(watch), 1000);
}

socket.on("connect", () => { // the first time, and after every reconnect
  watched.forEach((watch) => (watch.channel = null));
  watched.forEach(subscribe);
});

socket.on("change", ({ channel, op, store, _id, entity, position }) => {
  const watch = watched.find((watch) => watch.channel === channel);
  if (!watch) return; // an event of an earlier subscription
  console.log(op, store, _id, entity ? JSON.stringify(entity) : "");
  watch.position = position;
});

// The position that the connection has reached. It counts for all current subscriptions.
socket.on("position", ({ position }) => {
  for (const watch of watched) if (watch.channel) watch.position = position;
});

socket.on("ended", ({ channel, error }) => {
  const watch = watched.find((watch) => watch.channel === channel);
  if (watch) over("ended", watch, error);
});

socket.on("notice", ({ kind }) => console.log("notice", kind)); // expired, revoked, lagging or shutdown
// Unauthorized: the token is not valid. Forbidden: there is no token, and the origin of the page is not in the hub's
// HUB_TRUSTED_ORIGINS, so its cookie does not count.
socket.on("connect_error", ({ message }) => {
  if (socket.active) return; // a network error: socket.io-client retries by itself
  console.log("refused", message);
  if (message === "Unauthorized" || message === "Forbidden") process.exit(1);
  setTimeout(() => socket.connect(), 1000);
});
