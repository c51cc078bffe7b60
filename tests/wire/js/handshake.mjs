// What both layers must do alike: handshake, heartbeat, close, upgrade. 16 tests, as in the public Socket.IO suites.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as wire from "./wire.mjs";
import { EIO, LAYER, Socket } from "./wire.mjs";

const greeting = LAYER === "socketio" && EIO === 3;
export const GREETING = greeting ? ["40", '42["auth",{}]'] : [];

/** A WebSocket past the open packet, and past what protocol 4 sends unasked. */
export async function opened() {
  const socket = new Socket();
  await socket.next();
  for (const expected of GREETING) assert.equal(await socket.next(), expected);
  return socket;
}

function checkOpen(data, upgrades) {
  const keys = Object.keys(data).sort();
  const known = EIO === 4 || LAYER === "socketio" ? wire.OPEN_KEYS : wire.OPEN_KEYS.slice(1);
  assert.deepEqual(keys, known);
  assert.equal(typeof data.sid, "string");
  assert.deepEqual(data.upgrades, upgrades);
  assert.equal(data.pingInterval, wire.PING_INTERVAL);
  assert.equal(data.pingTimeout, wire.PING_TIMEOUT);
  if ("maxPayload" in data) assert.equal(data.maxPayload, 1000000);
}

describe("handshake", () => {
  it("polling opens a session", async () => {
    const response = await wire.request();
    assert.equal(response.status, 200);
    checkOpen(wire.opened(await response.text()), ["websocket"]);
  });

  it("polling without EIO, or with a wrong one, is refused", async () => {
    assert.equal((await wire.request({ EIO: null })).status, 400);
    const response = await wire.request({ EIO: "abc" });
    assert.equal(response.status, 400);
    assert.deepEqual(await response.json(), { code: 5, message: "Unsupported protocol version" });
  });

  it("polling without transport, or with a wrong one, is refused", async () => {
    assert.equal((await wire.request({ transport: null })).status, 400);
    assert.equal((await wire.request({ transport: "abc" })).status, 400);
  });

  it("polling by another method is refused", async () => {
    assert.equal((await wire.request({}, { method: "POST" })).status, 400);
    assert.equal((await wire.request({}, { method: "PUT" })).status, 400);
  });

  it("WebSocket opens a session", async () => {
    const socket = new Socket();
    const message = await socket.next();
    assert.equal(message[0], "0");
    checkOpen(JSON.parse(message.slice(1)), []);
    socket.close();
  });

  it("WebSocket without EIO, or with a wrong one, is refused", async () => {
    assert.equal(await new Socket({ EIO: null }).refusal, 400);
    assert.equal(await new Socket({ EIO: "abc" }).refusal, 400);
  });

  it("WebSocket without transport, or with a wrong one, is refused", async () => {
    assert.equal(await new Socket({ transport: null }).refusal, 400);
    assert.equal(await new Socket({ transport: "abc" }).refusal, 400);
  });
});

describe("heartbeat", () => {
  it("goes to and fro by polling", async () => {
    const sid = await wire.openPolling();
    for (let round = 0; round < 3; round++) {
      if (EIO === 4) {
        assert.equal(await wire.poll(sid), "2");
        assert.equal((await wire.push(sid, "3")).status, 200);
      } else {
        assert.equal((await wire.push(sid, "1:2")).status, 200);
        assert.equal(await wire.poll(sid), wire.payload(...(round ? [] : GREETING), "3"));
      }
    }
  });

  it("that stops ends a session that polls, on time", async () => {
    const sid = await wire.openPolling();
    await wire.sleep(wire.PING_INTERVAL + wire.PING_TIMEOUT);
    assert.equal((await wire.request({ sid })).status, 400);
  });

  it("goes to and fro by WebSocket", async () => {
    const socket = await opened();
    for (let round = 0; round < 3; round++) {
      if (EIO === 4) {
        assert.equal(await socket.next(), "2");
        socket.send("3");
      } else {
        socket.send("2");
        assert.equal(await socket.next(), "3");
      }
    }
    socket.close();
  });

  it("that stops closes the WebSocket", async () => {
    await new Socket().closed;
  });
});

describe("close", () => {
  it("by a client that polls", async () => {
    const sid = await wire.openPolling();
    const [answer] = await Promise.all([wire.poll(sid), wire.push(sid, wire.payload("1"))]);
    assert.equal(answer, wire.payload(...(greeting ? GREETING : ["6"])));
    assert.equal((await wire.request({ sid })).status, 400);
  });

  it("by WebSocket", async () => {
    const socket = new Socket();
    await socket.next();
    socket.send("1");
    await socket.closed;
  });
});

describe("upgrade", () => {
  it("from polling to WebSocket", async () => {
    const sid = await wire.openPolling();
    const socket = new Socket({ sid });
    await socket.opened;
    socket.send("2probe");
    assert.equal(await socket.next(), "3probe");
    assert.equal(await wire.poll(sid), wire.payload("6"));
    socket.send("5");
    if (LAYER === "engineio") {
      socket.send("4hello");
      assert.equal(await socket.nextPacket(), "4hello");
    }
    socket.close();
  });

  it("ends polling with that session", async () => {
    const sid = await wire.openPolling();
    const socket = new Socket({ sid });
    await socket.opened;
    socket.send("2probe");
    socket.send("5");
    assert.equal(await socket.next(), "3probe");
    assert.equal((await wire.request({ sid })).status, 400);
    socket.close();
  });

  it("leaves a second WebSocket closed, and the first as it was", async () => {
    const sid = await wire.openPolling();
    const socket = new Socket({ sid });
    await socket.opened;
    socket.send("2probe");
    socket.send("5");
    const second = new Socket({ sid });
    await second.opened;
    await second.closed;
    if (LAYER === "engineio") {
      socket.send("4hello");
      assert.equal(await socket.next(), "3probe");
      assert.equal(await socket.nextPacket(), "4hello");
    }
    socket.close();
  });
});
