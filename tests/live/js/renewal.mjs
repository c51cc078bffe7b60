// socket.io-client of every generation is refused, gets another token, and connects with it as docs/realtime.md says.
// `node renewal.mjs FOLDER URL TOKEN` prints {"<generation>": "ok" | what went wrong}; FOLDER holds the packages.

import { createRequire } from "node:module";

const [folder, url, token] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const results = {};

function renewed(generation) {
  const io = require(`socket.io-client-${generation}`);
  const isOld = generation < 3;
  const address = (given) => `${url}?token=${given}`;
  const socket = isOld ? io(address("wrong"), { forceNew: true }) : io(url, { auth: { token: "wrong" }, forceNew: true });
  return new Promise((resolve) => {
    setTimeout(() => resolve("never connected"), 15_000).unref();
    socket.on("connect", () => (resolve("ok"), socket.disconnect()));
    socket.on(isOld ? "error" : "connect_error", (error) => {
      if ((error.message ?? error) !== "Unauthorized") return;
      if (isOld) {
        socket.disconnect();
        socket.io.uri = address(token);
      } else socket.auth = { token };
      socket.connect();
    });
  });
}

for (const generation of [1, 2, 3, 4]) results[generation] = await renewed(generation).catch(String);
console.log(JSON.stringify(results));
process.exit(0);
