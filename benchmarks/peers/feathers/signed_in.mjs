// A Feathers 5 application over MongoDB, as `npm create feathers` makes it with local sign-in and TypeBox. Entities
// have owners, as in the Feathers guide. Each request verifies the token and loads its user, queries and data are checked
// against schemas, and users see only their own entities.
//
// It does less than the hub: no counts for pagination. It also lacks parts of the generated application (CORS, static
// files, the error log) and of the guide's (the user in each entity). Writes are as durable as the hub's: majority and
// journaled.
//
//   node signed_in.mjs MONGODB_URL
//
// It prints its port and the token of a new user.
import { AuthenticationService, JWTStrategy, authenticate } from "@feathersjs/authentication";
import { LocalStrategy, passwordHash } from "@feathersjs/authentication-local";
import { feathers } from "@feathersjs/feathers";
import { bodyParser, errorHandler, koa, parseAuthentication, rest } from "@feathersjs/koa";
import { MongoDBService, keywordObjectId } from "@feathersjs/mongodb";
import { Ajv, hooks, resolve } from "@feathersjs/schema";
import { ObjectIdSchema, Type, getValidator, querySyntax } from "@feathersjs/typebox";
import { MongoClient } from "mongodb";
import { randomBytes } from "node:crypto";
import { once } from "node:events";

const dataValidator = new Ajv({}).addKeyword(keywordObjectId);
const queryValidator = new Ajv({ coerceTypes: true }).addKeyword(keywordObjectId);

const USER = { _id: ObjectIdSchema(), email: Type.String(), password: Type.Optional(Type.String()) };
const ENTITY = {
  _id: ObjectIdSchema(),
  station: Type.String(),
  serial: Type.Number(),
  value: Type.Number(),
  unit: Type.String(),
  valid: Type.Boolean(),
  place: Type.Object(
    { city: Type.String(), lat: Type.Number(), lon: Type.Number(), floor: Type.Number() },
    { additionalProperties: false },
  ),
  tags: Type.Array(Type.String()),
  note: Type.String(),
  userId: Type.String({ objectid: true }),
  createdAt: Type.Number(),
};
const SENT = ["station", "serial", "value", "unit", "valid", "place", "tags", "note"];
const ASKED = ["_id", "station", "serial", "value", "userId", "createdAt"];

// Returns the hooks of a generated service. `sent`: the properties that clients may write. `asked`: those that they may
// query by.
function schemaHooks(name, properties, sent, asked, { external = {}, data, query }) {
  const schema = Type.Object(properties, { $id: name, additionalProperties: false });
  const dataSchema = Type.Pick(schema, sent, { $id: `${name}Data` });
  const querySchema = Type.Intersect(
    [querySyntax(Type.Pick(schema, asked)), Type.Object({}, { additionalProperties: false })],
    { additionalProperties: false },
  );
  return {
    around: [hooks.resolveExternal(resolve(external)), hooks.resolveResult(resolve({}))],
    all: [hooks.validateQuery(getValidator(querySchema, queryValidator)), hooks.resolveQuery(resolve(query))],
    create: [hooks.validateData(getValidator(dataSchema, dataValidator)), hooks.resolveData(resolve(data))],
  };
}

const own = async (value, _query, { params }) => params.user?._id ?? value;
const methods = ["find", "get", "create"];
const client = new MongoClient(process.argv[2], { writeConcern: { w: "majority", journal: true } });
await client.connect();
const app = koa(feathers());
app.set("authentication", {
  entity: "user",
  service: "users",
  secret: randomBytes(24).toString("base64"),
  authStrategies: ["jwt", "local"],
  jwtOptions: { header: { typ: "access" }, audience: "https://yourdomain.com", algorithm: "HS256", expiresIn: "1d" },
  local: { usernameField: "email", passwordField: "password" },
});
app.use(errorHandler());
app.use(parseAuthentication());
app.use(bodyParser({ jsonLimit: "16mb" }));
app.configure(rest());

const authentication = new AuthenticationService(app);
authentication.register("jwt", new JWTStrategy());
authentication.register("local", new LocalStrategy());
app.use("authentication", authentication);

const ofUsers = schemaHooks("User", USER, ["email", "password"], ["_id", "email"], {
  external: { password: async () => undefined },
  data: { password: passwordHash({ strategy: "local" }) },
  query: { _id: own },
});
app.use("users", new MongoDBService({ Model: client.db().collection("users") }), { methods });
app.service("users").hooks({
  around: { all: ofUsers.around, find: [authenticate("jwt")], get: [authenticate("jwt")] },
  before: { all: ofUsers.all, create: ofUsers.create },
});

for (const name of ["readings", "writes"]) {
  const collection = client.db().collection(name);
  const sorted = name === "readings" ? [{ key: { userId: 1, station: 1, value: -1 } }] : []; // nothing reads writes
  await collection.createIndexes([
    { key: { station: 1 } },
    { key: { serial: 1 } },
    { key: { userId: 1, _id: 1 } },
    ...sorted,
  ]);
  const ofEntities = schemaHooks(name, ENTITY, SENT, ASKED, {
    data: { userId: async (_value, _entity, { params }) => params.user._id, createdAt: async () => Date.now() },
    query: { userId: own },
  });
  app.use(name, new MongoDBService({ Model: collection, multi: true }), { methods });
  app.service(name).hooks({
    around: { all: [authenticate("jwt"), ...ofEntities.around] },
    before: { all: ofEntities.all, create: ofEntities.create },
  });
}

const server = await app.listen(0, "127.0.0.1");
if (!server.listening) await once(server, "listening");
const account = { email: "sensor@example.org", password: randomBytes(12).toString("hex") };
await app.service("users").create(account);
const { accessToken } = await app.service("authentication").create({ strategy: "local", ...account });
console.log(server.address().port, accessToken);
