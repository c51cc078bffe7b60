// A Feathers 5 application over MongoDB without authentication: Koa, one service per collection. It does less than the
// hub: no sign-in, no schemas, no counts for pagination. Writes are as durable as the hub's: majority and journaled.
//
//   node server.mjs MONGODB_URL
//
// It prints its port.
import { feathers } from "@feathersjs/feathers";
import { bodyParser, errorHandler, koa, rest } from "@feathersjs/koa";
import { MongoDBService } from "@feathersjs/mongodb";
import { MongoClient } from "mongodb";
import { once } from "node:events";

const client = new MongoClient(process.argv[2], { writeConcern: { w: "majority", journal: true } });
await client.connect();
const app = koa(feathers());
app.use(errorHandler());
app.use(bodyParser({ jsonLimit: "16mb" }));
app.configure(rest());
for (const name of ["readings", "writes"]) {
  const collection = client.db().collection(name);
  const sorted = name === "readings" ? [{ key: { station: 1, value: -1 } }] : []; // nothing reads writes
  await collection.createIndexes([{ key: { station: 1 } }, { key: { serial: 1 } }, ...sorted]);
  app.use(name, new MongoDBService({ Model: collection, multi: true, filters: {}, operators: ["$gte"] }));
}
const server = await app.listen(0, "127.0.0.1");
if (!server.listening) await once(server, "listening");
console.log(server.address().port);
