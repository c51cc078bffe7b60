// Engine.IO against the echo server: with handshake.mjs 25 tests for EIO=4 and 23 for EIO=3, as many as the public
// suites of engine.io-protocol have, each asserting what they assert. `node engineio.mjs URL engineio 3|4`

import "./handshake.mjs";
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as wire from "./wire.mjs";
import { EIO, Socket, octets } from "./wire.mjs";

const BINARY = EIO === 4 ? "bAQIDBA==" : "b4AQIDBA==";

async function echoes(packets, fields = {}) {
  const sid = await wire.openPolling(fields);
  assert.deepEqual(await wire.push(sid, wire.payload(...packets)), { status: 200, text: "ok" });
  return wire.request({ sid });
}

describe("message by polling", () => {
  it("one text packet", async () => {
    assert.equal(await (await echoes(["4hello"])).text(), wire.payload("4hello"));
  });

  it("several text packets", async () => {
    const packets = ["4test1", "4test2", "4test3"];
    assert.equal(await (await echoes(packets)).text(), wire.payload(...packets));
  });

  it("text and binary, as base64", async () => {
    const packets = ["4hello", BINARY];
    assert.equal(await (await echoes(packets, EIO === 3 ? { b64: 1 } : {})).text(), wire.payload(...packets));
  });

  it("nonsense ends the session", async () => {
    const sid = await wire.openPolling();
    assert.equal((await wire.push(sid, "abc")).status, 400);
    assert.equal((await wire.request({ sid })).status, 400);
  });

  if (EIO === 3) {
    it("text and binary, as octets", async () => {
      const response = await echoes(["4hello", BINARY]);
      const expected = [0, 6, 255, 52, 104, 101, 108, 108, 111, 1, 5, 255, 4, 1, 2, 3, 4];
      assert.equal(response.headers.get("content-type"), "application/octet-stream");
      assert.deepEqual(new Uint8Array(await response.arrayBuffer()), octets(...expected));
    });
  } else {
    it("two polls at once end the session", async () => {
      const sid = await wire.openPolling();
      const second = wire.sleep(5).then(() => wire.request({ sid, t: "burst" }));
      assert.equal(await wire.poll(sid), "1");
      assert.equal((await second).status, 400);
      assert.equal((await wire.request({ sid })).status, 400);
    });

    it("an aborted poll ends the session", async () => {
      const sid = await wire.openPolling();
      const controller = new AbortController();
      wire.request({ sid }, { signal: controller.signal }).catch(() => {});
      await wire.sleep(5);
      controller.abort();
      assert.equal((await wire.request({ sid })).status, 400);
    });
  }
});

describe("message by WebSocket", () => {
  it("text", async () => {
    const socket = new Socket();
    await socket.next();
    socket.send("4hello");
    assert.equal(await socket.next(), "4hello");
    socket.close();
  });

  it("binary", async () => {
    const sent = EIO === 4 ? octets(1, 2, 3, 4) : octets(4, 1, 2, 3, 4);
    const socket = new Socket();
    await socket.next();
    socket.send(sent);
    assert.deepEqual(await socket.next(), sent);
    socket.close();
  });

  it("nonsense closes it", async () => {
    const socket = new Socket();
    await socket.next();
    socket.send("abc");
    await socket.closed;
  });
});
