// What the protocol suites share: polling, WebSockets whose messages wait to be read, and payloads of both versions.

import assert from "node:assert/strict";
import WebSocket from "ws";

export const [, , BASE, LAYER, VERSION] = process.argv;
export const EIO = Number(VERSION);
export const PING_INTERVAL = 300;
export const PING_TIMEOUT = 200;
export const OPEN_KEYS = ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"];

const path = LAYER === "engineio" ? "/engine.io/" : "/socket.io/";

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export const octets = (...numbers) => Uint8Array.from(numbers);

/** A payload of text packets, as a poll answers it and a POST brings it. */
export function payload(...packets) {
  return EIO === 4 ? packets.join("\x1e") : packets.map((packet) => `${packet.length}:${packet}`).join("");
}

export function query(fields) {
  return `${path}?${new URLSearchParams(fields)}`;
}

/** One HTTP request; `fields` come on top of EIO and transport, null takes one away. */
export function request(fields = {}, options = {}) {
  const all = { EIO, transport: "polling", ...fields };
  const kept = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
  return fetch(BASE + query(kept), options);
}

export async function poll(sid) {
  const response = await request({ sid });
  assert.equal(response.status, 200);
  return response.text();
}

export async function push(sid, body) {
  const response = await request({ sid }, { method: "POST", body });
  return { status: response.status, text: await response.text() };
}

/** The open packet's data, out of the payload that answers a handshake. */
export function opened(text) {
  const packet = EIO === 4 ? text : text.slice(text.indexOf(":") + 1);
  if (EIO === 3) assert.equal(Number(text.slice(0, text.indexOf(":"))), packet.length);
  assert.equal(packet[0], "0");
  return JSON.parse(packet.slice(1));
}

export async function openPolling(fields = {}) {
  return opened(await (await request(fields)).text()).sid;
}

/** A WebSocket: `next()` resolves to messages in order, `closed` when it has closed. Errors count as a close. */
export class Socket {
  constructor(fields = {}) {
    const all = { EIO, transport: "websocket", ...fields };
    const kept = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
    this.socket = new WebSocket(BASE.replace("http", "ws") + query(kept));
    this.waiting = [];
    this.readers = [];
    this.closed = new Promise((resolve) => this.socket.on("close", resolve));
    this.opened = new Promise((resolve) => this.socket.on("open", resolve));
    this.refusal = new Promise((resolve) => this.socket.on("unexpected-response", (_, response) => resolve(response.statusCode)));
    this.socket.on("error", () => {});
    this.socket.on("message", (data, isBinary) => this.#arrived(isBinary ? new Uint8Array(data) : data.toString()));
  }

  #arrived(message) {
    const reader = this.readers.shift();
    reader ? reader(message) : this.waiting.push(message);
  }

  next() {
    if (this.waiting.length) return Promise.resolve(this.waiting.shift());
    return new Promise((resolve) => this.readers.push(resolve));
  }

  /** The next message that is no ping. */
  async nextPacket() {
    let message = await this.next();
    while (message === "2") message = await this.next();
    return message;
  }

  send(message) {
    this.socket.send(message);
  }

  close() {
    this.socket.close();
  }
}
