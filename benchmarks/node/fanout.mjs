// A Socket.IO server to compare with the hub, set up as its documentation begins: `new Server(httpServer)`.
// It gets events as JSON by HTTP. POST /emit sends the event to all clients, POST /tell to the clients that have
// subscribed to the station of its entity, and POST /quiet to none, which measures the cost of the request alone.
// POST /gc collects garbage before memory is measured.
import { createServer } from "node:http";
import { Server } from "socket.io";

const respond = (response, value) => {
  const body = JSON.stringify(value);
  response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  response.end(body);
};

const ways = {
  "/emit": (event) => io.emit("change", event),
  "/tell": (event) => io.to(event.entity.station).emit("change", event),
  "/quiet": () => {},
  "/gc": () => globalThis.gc(),
};

const http = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    ways[request.url](JSON.parse(Buffer.concat(chunks)));
    respond(response, { success: true });
  });
});

const io = new Server(http);
io.on("connection", (socket) => {
  socket.on("subscribe", (view, acknowledge) => {
    if (view.filter) socket.join(view.filter.station);
    acknowledge({ ok: true });
  });
});

http.listen(0, "127.0.0.1", 4096, () => console.log(`live at http://127.0.0.1:${http.address().port}`));
