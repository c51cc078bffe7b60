// Socket.IO against the echo server: with handshake.mjs 32 tests for protocol 5 and 29 for protocol 4, as many as the
// public suites of socket.io-protocol have, each asserting what they assert; but an unknown namespace is refused in
// protocol 4's own shape, a text. `node socketio.mjs URL socketio 3|4`

import { opened } from "./handshake.mjs";
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EIO, Socket, octets } from "./wire.mjs";

const PLACEHOLDERS = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';
const attachment = (...numbers) => (EIO === 3 ? octets(4, ...numbers) : octets(...numbers));

/** A client in `/`. */
async function connected() {
  const socket = await opened();
  if (EIO === 4) {
    socket.send("40");
    assert.match(await socket.next(), /^40\{/);
    assert.equal(await socket.next(), '42["auth",{}]');
  }
  return socket;
}

async function joins(packet, start, auth) {
  const socket = EIO === 3 ? await connected() : await opened();
  socket.send(packet);
  const answer = await socket.nextPacket();
  assert.ok(answer.startsWith(start), answer);
  if (EIO === 4) {
    const data = JSON.parse(answer.slice(start.length));
    assert.deepEqual(Object.keys(data), ["sid"]);
    assert.equal(typeof data.sid, "string");
  } else {
    assert.equal(answer, start);
  }
  assert.equal(await socket.nextPacket(), auth);
  socket.close();
}

async function exchange(sent, expected) {
  const socket = await connected();
  for (const message of sent) socket.send(message);
  for (const message of expected) assert.deepEqual(await socket.nextPacket(), message);
  socket.close();
}

async function closedBy(packet, begin = connected) {
  const socket = await begin();
  socket.send(packet);
  await socket.closed;
}

describe("connect", () => {
  if (EIO === 4) {
    it("to the main namespace", () => joins("40", "40", '42["auth",{}]'));
    it("to the main namespace with a payload", () => joins('40{"token":"123"}', "40", '42["auth",{"token":"123"}]'));
    it("to a namespace with a payload", () =>
      joins('40/custom,{"token":"abc"}', "40/custom,", '42/custom,["auth",{"token":"abc"}]'));
    it("or be closed", async () => {
      await new Socket().closed;
    });
  } else {
    it("to the main namespace, unasked", () => exchange(['42["message","hi"]'], ['42["message-back","hi"]']));
  }

  it("to a namespace", () => joins("40/custom,", "40/custom,", '42/custom,["auth",{}]'));

  it("to an unknown namespace is refused", async () => {
    const socket = EIO === 3 ? await connected() : await opened();
    socket.send("40/random");
    const refusal = EIO === 3 ? '44/random,"Invalid namespace"' : '44/random,{"message":"Invalid namespace"}';
    assert.equal(await socket.nextPacket(), refusal);
    socket.close();
  });

  it("with nonsense closes", () => closedBy("4abc", opened));
});

describe("disconnect", () => {
  it("from the main namespace", async () => {
    const socket = await connected();
    socket.send("41");
    if (EIO === 3) await socket.closed;
    else assert.equal(await socket.next(), "2");
    socket.close();
  });

  it("from a namespace leaves the main one", async () => {
    const socket = await connected();
    if (EIO === 4) {
      assert.equal(await socket.next(), "2");
      socket.send("3");
    }
    socket.send("40/custom");
    assert.ok((await socket.next()).startsWith("40/custom,"));
    assert.ok((await socket.next()).startsWith("42/custom,"));
    socket.send("41/custom");
    socket.send('42["message","message to main namespace"]');
    assert.equal(await socket.next(), '42["message-back","message to main namespace"]');
    socket.close();
  });
});

describe("message", () => {
  it("of text", () => exchange(['42["message",1,"2",{"3":[true]}]'], ['42["message-back",1,"2",{"3":[true]}]']));

  it("with attachments", () => {
    const parts = [attachment(1, 2, 3), attachment(4, 5, 6)];
    return exchange([`452-["message",${PLACEHOLDERS}]`, ...parts], [`452-["message-back",${PLACEHOLDERS}]`, ...parts]);
  });

  it("with an acknowledgement", () =>
    exchange(['42456["message-with-ack",1,"2",{"3":[false]}]'], ['43456[1,"2",{"3":[false]}]']));

  it("with attachments and an acknowledgement", () => {
    const parts = [attachment(1, 2, 3), attachment(4, 5, 6)];
    return exchange([`452-789["message-with-ack",${PLACEHOLDERS}]`, ...parts], [`462-789[${PLACEHOLDERS}]`, ...parts]);
  });

  it("of an unknown type closes", () => closedBy("4abc"));
  it("that is no list closes", () => closedBy("42{}"));
  it("with a bad acknowledgement id closes", () => closedBy('42abc["message-with-ack",1,"2",{"3":[false]}]'));
});
