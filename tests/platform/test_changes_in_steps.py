"""Changes of a definition in steps: more entities than one commit may change, read-only until the last step."""

from __future__ import annotations

from typing import Any

import pytest

from stores.errors import DataChanging, DataConflict
from stores.query import Query
from stores.records import Entity
from tests.platform.answers import definition_of, every_entity_can_be_sent_back, good, refused, shown
from tests.support.engines import Database
from tests.support.hub import Client, Hub, running_hub
from tests.support.live import live
from tests.support.racing import Racing

NAME: Entity = {"id": "name", "type": "Text"}
MARGIN: Entity = {"id": "margin", "type": "Numeric", "index": True}
AMOUNT: Entity = {"id": "amount", "type": "Text"}
OLD: Entity = {"id": "old", "type": "Text"}
NUMBER: Entity = {"id": "number", "type": "Serial", "start": 100}
CONVERT: Entity = {"fields": [NAME, AMOUNT | {"type": "Numeric"}], "data": {"convert": ["amount"], "steps": True}}


async def defined(racing: Racing, *bodies: Entity) -> str:
    store = await racing.make("stores", {"name": "orders", "fields": [NAME, AMOUNT]})
    for body in bodies:
        await racing.make("orders", body)
    return store


async def stepped(admin: Client, path: str, size: int) -> Entity | None:
    """Do one step; return what is left."""
    left: Entity | None = good(await admin.patch(path, {"data": {"continue": size}}))["pending"]
    return left


async def test_more_than_one_commit_may_change_is_changed_in_steps(database: Database, tmp_path: Any) -> None:
    """Reads are answered meanwhile, and writes are 503, also after a restart. Other stores are written as ever."""
    async with running_hub(database, tmp_path, max_matches=3) as hub:
        store, other = await hub.define(fields=[NAME, MARGIN, AMOUNT, OLD], unique=["name"]), await hub.define()
        await hub.admin.make_all(
            store, [{"name": str(n), "margin": n, "amount": f"{n}.0", "old": "x"} for n in range(7)]
        )
        kept = good(await hub.admin.post(f"/{store}", {"name": "k"}, idempotency_key="kept"))
        good(await hub.admin.delete(f"/{store}/{kept['_id']}"))
        path = await definition_of(hub.admin, store)
        fields = [NAME, MARGIN | {"id": "profit"}, AMOUNT | {"type": "Numeric"}, NUMBER]
        data = {
            "rename": {"margin": "profit"},
            "drop": ["old"],
            "convert": ["amount"],
            "fill": ["number"],
            "steps": True,
        }
        async with live(hub, hub.admin) as client:
            watch = await client.watch(store)
            begun = good(await hub.admin.patch(path, {"fields": fields, "data": data}))["pending"]
            assert (begun["done"], begun["total"], begun["after"]) == (0, 7, None)
            await client.until(lambda: watch.ended is not None)
            again = await client.watch(store)
            assert (await stepped(hub.admin, path, 3) or {})["done"] == 3
            await client.until(lambda: len(again.events) == 3)
            assert again.view == {each["_id"]: each for each in await hub.admin.list(store)}
        first = (await hub.admin.list(store))[0]
        user = await hub.as_user()
        writes = [
            hub.admin.post(f"/{store}", {"name": "a"}),
            hub.admin.post(f"/{store}?upsert=name", {"name": "a"}),
            user.patch(f"/{store}/{first['_id']}", {"name": "a"}),
            user.delete(f"/{store}/{first['_id']}"),
            hub.admin.put(f"/{store}/{first['_id']}", {"name": "a"}),
            hub.admin.put(f"/{store}/{first['_id']}/access", {"access": []}),
            hub.admin.patch(f"/{store}?all=true", {"name": "a"}),
            hub.admin.delete(f"/{store}?all=true"),
        ]
        for write in writes:
            refused(await write, 503, "store")
        again_made = await hub.admin.post(f"/{store}", {"name": "k"}, idempotency_key="kept")
        assert good(again_made)["_id"] == kept["_id"]
        refused(await hub.admin.patch(path, {"label": "Orders"}), 409, "data")
        assert await hub.admin.list(other) == []
        await hub.admin.make(other, n=1)
    async with running_hub(database, tmp_path, max_matches=3) as hub:
        refused(await hub.admin.post(f"/{store}", {"name": "a"}), 503, "store")
        while await stepped(hub.admin, path, 2) is not None:
            pass
        refused(await hub.admin.patch(path, {"data": {"continue": 2}}), 400, "data.continue")
        found = await hub.admin.list(store)
        assert shown(found, "name", "profit", "amount", "number", "old", "margin") == [
            {"name": str(n), "profit": n, "amount": n, "number": 100 + n} for n in range(7)
        ]
        assert [each["_rev"] for each in found] == [2] * 7
        assert (await hub.admin.make(store, name="7"))["number"] == 107
        await every_entity_can_be_sent_back(hub.admin, store)


async def test_a_change_in_steps_ends_views_at_its_start(hub: Hub, admin: Client, user: Client) -> None:
    """Also one that only fills, and the positions from before it. What begins then lasts to its end and beyond."""
    store = await hub.define(fields=[NAME])
    await user.make_all(store, [{"name": each} for each in "abc"])
    path = await definition_of(admin, store)
    position = (await user.get(f"/{store}")).headers["x-position"]
    fill: Entity = {"fields": [NAME | {"default": "x"}], "data": {"fill": ["name"], "steps": True}}
    async with live(hub, user) as client:
        watch = await client.watch(store)
        good(await admin.patch(path, fill))
        await client.until(lambda: watch.ended)
        assert (watch.ended or {})["code"] == "410"
        refused(await user.get(f"/{store}", {"since": position}), 410)
        again = await client.watch(store)
        position = (await user.get(f"/{store}")).headers["x-position"]
        while await stepped(admin, path, 2) is not None:
            pass
        made = await user.make(store, {})
        await client.until(lambda: again.events)
        assert (again.ended, [event["entity"] for event in again.take()]) == (None, [made])
        [change] = good(await user.get(f"/{store}", {"since": position}))["changes"]
        assert change["entity"] == made


@pytest.mark.parametrize("size", [0, -1, 1_001, True, "5", None, 1.5])
async def test_the_size_of_a_step(admin: Client, bare_typed: str, size: Any) -> None:
    path = await definition_of(admin, bare_typed)
    refused(await admin.patch(path, {"data": {"continue": size}}), 400, "data.continue")


async def test_references_to_and_from_a_store_that_is_changed_in_steps(admin: Client, hub: Hub, user: Client) -> None:
    """What may be referred to is not deleted meanwhile; new references to its entities are made."""
    customers = await hub.define(fields=[NAME])
    to: Entity = {"id": "customer", "type": "Reference", "store": customers}
    orders = await hub.define(fields=[to])
    payments = await hub.define(fields=[{"id": "order", "type": "Reference", "store": orders}])
    customer, unused = await user.make_all(customers, [{"name": "a"}, {"name": "b"}])
    order = await user.make(orders, customer=customer["_id"])
    path = await definition_of(admin, orders)
    buyer = {"fields": [to | {"id": "buyer"}], "data": {"rename": {"customer": "buyer"}, "steps": True}}
    good(await admin.patch(path, buyer))
    for target in (customer, unused):
        refused(await user.delete(f"/{customers}/{target['_id']}"), 503, "store")
    good(await user.patch(f"/{customers}/{customer['_id']}", {"name": "c"}))
    await user.make(payments, order=order["_id"])
    while await stepped(admin, path, 1) is not None:
        pass
    refused(await user.delete(f"/{customers}/{customer['_id']}"), 409, "_id")
    good(await user.delete(f"/{customers}/{unused['_id']}"))
    assert shown(await user.list(orders), "buyer", "customer") == [{"buyer": customer["_id"]}]


async def test_what_is_checked_against_the_former_definition_waits_for_the_last_step(racing: Racing) -> None:
    """A write that is on its way when a change begins is not made between its steps."""
    store = await defined(racing, {"amount": "1"})
    racing.before("commit", lambda: racing.hub.entities.change(racing.principal, "stores", store, CONVERT, None))
    with pytest.raises(DataChanging):
        await racing.make("orders", {"amount": "2"})
    step = {"data": {"continue": 5}}
    for _ in range(2):
        await racing.hub.entities.change(racing.principal, "stores", store, step, None)
    await racing.make("orders", {"amount": "2"})
    assert [each["amount"] for each in await racing.hub.engine.entities("orders", Query())] == [1, 2]
    assert (await racing.see("stores", store))["pending"] is None


@pytest.mark.gate("sqlite", "mongodb")
async def test_what_another_process_writes_between_the_steps_is_changed_too(racing: Racing) -> None:
    """It may not know of the new definition yet. What cannot be changed is named."""
    store = await defined(racing, {"amount": "1"}, {"amount": "2"})
    step = {"data": {"continue": 1}}
    await racing.hub.entities.change(racing.principal, "stores", store, CONVERT, None)
    for _ in range(2):
        await racing.hub.entities.change(racing.principal, "stores", store, step, None)
    ids = [each["_id"] for each in await racing.hub.engine.entities("orders", Query())]
    await racing.spoil("orders", ids[0], {"amount": "many"})
    await racing.hub.entities.change(racing.principal, "stores", store, step, None)
    with pytest.raises(DataConflict, match=ids[0]):
        await racing.hub.entities.change(racing.principal, "stores", store, step, None)
    await racing.spoil("orders", ids[0], {"amount": "7"})
    while (await racing.see("stores", store))["pending"] is not None:
        await racing.hub.entities.change(racing.principal, "stores", store, step, None)
    assert [each["amount"] for each in await racing.hub.engine.entities("orders", Query())] == [7, 2]


async def test_an_administrator_mends_what_a_step_stops_at(admin: Client, user: Client, hub: Hub) -> None:
    """By a change or a deletion of one entity. Nobody else writes until the last step."""
    store = await hub.define(fields=[NAME, AMOUNT])
    made = await user.make_all(store, [{"amount": each} for each in "1234"])
    path = await definition_of(admin, store)
    sum_: Entity = AMOUNT | {"id": "sum"}
    good(await admin.patch(path, {"fields": [NAME, sum_], "data": {"rename": {"amount": "sum"}, "steps": True}}))
    for each in made[1:3]:
        good(await admin.patch(f"/{store}/{each['_id']}", {"sum": "x"}))
    refused(await admin.patch(path, {"data": {"continue": 5}}), 409, "sum")
    refused(await user.patch(f"/{store}/{made[1]['_id']}", {"sum": None}), 503, "store")
    refused(await user.delete(f"/{store}/{made[2]['_id']}"), 503, "store")
    good(await admin.patch(f"/{store}/{made[1]['_id']}", {"sum": None}))
    refused(await admin.patch(path, {"data": {"continue": 5}}), 409, "sum")
    good(await admin.delete(f"/{store}/{made[2]['_id']}"))
    while await stepped(admin, path, 5) is not None:
        pass
    assert [each["sum"] for each in await user.list(store)] == ["1", "2", "4"]
    await every_entity_can_be_sent_back(user, store)


async def test_a_batch_names_the_request_that_must_wait(admin: Client, user: Client, hub: Hub) -> None:
    """Unless one before it fails. Each of its requests waits, or mends, as if it had been sent alone."""
    store, other = await hub.define(fields=[NAME, AMOUNT]), await hub.define(fields=[NAME])
    made = await user.make_all(store, [{"amount": each} for each in "12"])
    last = await user.make(other, name="z")
    path = await definition_of(admin, store)
    good(await admin.patch(path, CONVERT))

    def post(store: str, **body: Any) -> Entity:
        return {"method": "POST", "path": f"/{store}", "body": body}

    async def sent(client: Client, *requests: Entity) -> Any:
        return await client.post("/batch", {"requests": list(requests)})

    for client in (user, admin):
        answer = await sent(client, post(other, name="a"), post(store, name="a"), post(store))
        refused(answer, 503, "requests.1.store")
        assert answer.headers["retry-after"] == "1"
        refused(await sent(client, post(store), post(other)), 503, "requests.0.store")
        refused(await sent(client, post(other, name=5), post(store)), 400, "requests.0.name")
    change = {"method": "PATCH", "path": f"/{store}/{made[0]['_id']}", "body": {"name": "mended"}}
    delete = {"method": "DELETE", "path": f"/{store}/{made[1]['_id']}"}
    for each in (change, delete):
        refused(await sent(user, post(other, name="a"), each), 503, "requests.1.store")
    assert await user.list(other) == [last]
    good(await sent(admin, post(other, name="b"), change, delete))
    refused(await sent(admin, change | {"method": "PUT"}), 503, "requests.0.store")
    while await stepped(admin, path, 5) is not None:
        pass
    assert shown(await user.list(store), "name", "amount") == [{"name": "mended", "amount": 1}]


async def test_what_would_be_equal_is_found_before_the_first_step(admin: Client, user: Client, hub: Hub) -> None:
    """In unique indexes over several fields, and with entities that do not change."""
    pair = {"fields": ["name", "amount"], "unique": True}
    store = await hub.define(fields=[NAME, AMOUNT], indexes=[pair])
    made = await user.make_all(store, [{"name": "a", "amount": each} for each in ("1", "2", "1.0")])
    errors = refused(await admin.patch(await definition_of(admin, store), CONVERT), 409, "name", "amount")
    text = f"2 entities would share values of name, amount with another. The first is {made[0]['_id']}."
    assert errors["amount"] == [text]
    store = await hub.define(fields=[NAME | {"unique": True}])
    made = await user.make_all(store, [{"name": "a"}, {}])
    body = {"fields": [NAME | {"unique": True, "default": "a"}], "data": {"fill": ["name"], "steps": True}}
    errors = refused(await admin.patch(await definition_of(admin, store), body), 409, "name")
    assert errors["name"][0].startswith("2 entities would share a value of it with another.")


async def test_a_step_of_large_entities_changes_few_of_them(racing: Racing, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be in memory together."""
    monkeypatch.setattr("hub.services.data_steps.STEP_BYTES", 20_000)
    notes: Entity = {"id": "notes", "type": "Textarea"}
    store = await racing.make("stores", {"name": "orders", "fields": [AMOUNT, notes]})
    for n in range(7):
        await racing.make("orders", {"amount": f"{n}.0", "notes": "x" * 9_000})
    convert = CONVERT | {"fields": [AMOUNT | {"type": "Numeric"}, notes]}
    await racing.hub.entities.change(racing.principal, "stores", store, convert, None)
    done = []
    while (pending := (await racing.see("stores", store)).get("pending")) is not None:
        done.append(pending["done"])
        await racing.hub.entities.change(racing.principal, "stores", store, {"data": {"continue": 1_000}}, None)
    assert done == [0, 3, 6, 7]
    found = await racing.hub.engine.entities("orders", Query())
    assert sorted(entity["amount"] for entity in found) == [*range(7)]
