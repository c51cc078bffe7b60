// The collections of the benchmark, in the way of PocketBase's documentation: fields of their types, records that belong
// to a user, and rules that show a user only what it owns. Clients send the owner, and the rule checks it.
//
// An administrator exists, so that PocketBase does not open a browser to make one. The batch API is enabled, for as many
// requests as the benchmark sends at once. All other settings are PocketBase's own.
//
// The password of the user comes from the environment (BENCHMARK_PASSWORD).
migrate((app) => {
  const account = (collection, email, password) => {
    const record = new Record(app.findCollectionByNameOrId(collection));
    record.set("email", email);
    record.set("password", password);
    app.save(record);
  };
  account("_superusers", "admin@example.org", $security.randomString(30));
  account("users", "sensor@example.org", $os.getenv("BENCHMARK_PASSWORD"));
  account("users", "visitor@example.org", $os.getenv("BENCHMARK_PASSWORD"));

  const settings = app.settings();
  settings.batch.enabled = true;
  settings.batch.maxRequests = 1000;
  settings.batch.timeout = 60;
  app.save(settings);

  const users = app.findCollectionByNameOrId("users").id;
  const OWN = '@request.auth.id != "" && owner = @request.auth.id';
  for (const name of ["readings", "writes"]) {
    const indexes = ["owner", "owner, station", "owner, serial"];
    if (name === "readings") indexes.push("owner, station, value"); // nothing reads writes
    app.save(
      new Collection({
        type: "base",
        name,
        listRule: OWN,
        viewRule: OWN,
        createRule: OWN,
        updateRule: OWN,
        deleteRule: OWN,
        fields: [
          { name: "station", type: "text", required: true },
          { name: "serial", type: "number" },
          { name: "value", type: "number" },
          { name: "unit", type: "text" },
          { name: "valid", type: "bool" },
          { name: "place", type: "json" },
          { name: "tags", type: "json" },
          { name: "note", type: "text" },
          { name: "owner", type: "relation", required: true, collectionId: users, cascadeDelete: true },
          { name: "created", type: "autodate", onCreate: true },
          { name: "updated", type: "autodate", onCreate: true, onUpdate: true },
        ],
        indexes: indexes.map((columns, n) => `CREATE INDEX idx_${name}_${n} ON ${name} (${columns})`),
      }),
    );
  }
});
