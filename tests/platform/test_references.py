"""References and serial numbers over REST: what a field refers to exists in sight, and a deletion takes its
consequences."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity, new_id
from tests.platform.answers import definition_of, good, refused
from tests.support.hub import Client, Hub, unique


@pytest.fixture
async def shop(hub: Hub) -> dict[str, str]:
    """Stores of a shop by role: orders refer to customers, and in their lines to products by their `sku`."""
    customers = await hub.define(
        fields=[{"id": "number", "type": "Serial", "start": 10_000}, {"id": "name", "type": "Text"}]
    )
    products = await hub.define(
        fields=[{"id": "sku", "type": "Text", "unique": True}, {"id": "stock", "type": "Number"}]
    )
    lines = [{"id": "product", "type": "Reference", "store": products, "by": "sku"}, {"id": "n", "type": "Number"}]
    orders = await hub.define(
        fields=[
            {"id": "number", "type": "Serial"},
            {"id": "customer", "type": "Reference", "store": customers, "required": True},
            {"id": "lines", "type": "Object", "many": True, "fields": lines},
            {"id": "seen_by", "type": "Reference", "store": customers, "many": True, "on_delete": "clear"},
        ]
    )
    payments = await hub.define(
        fields=[{"id": "order", "type": "Reference", "store": orders, "on_delete": "cascade"}], open=True
    )
    return {"customers": customers, "products": products, "orders": orders, "payments": payments}


async def test_serial_numbers_are_the_hubs(user: Client, shop: dict[str, str]) -> None:
    """What is sent is dropped: in creations, changes, replacements, bulk changes and upserts."""
    store = shop["customers"]
    first = await user.make(store, name="a", number=7)
    assert first["number"] == 10_000
    several = await user.make_all(store, [{"name": "b"}, {"name": "c", "number": 10_000}])
    assert [each["number"] for each in several] == [10_001, 10_002]
    path = f"/{store}/{first['_id']}"
    assert good(await user.patch(path, {"name": "d", "number": None}))["number"] == 10_000
    assert good(await user.put(path, {"name": "e", "number": 5}))["number"] == 10_000
    assert good(await user.put(path, {"name": "f"}))["number"] == 10_000
    assert good(await user.patch(f"/{store}?name=f", {"number": 1, "name": "g"}))["count"] == 1
    assert (await user.see(store, first["_id"]))["number"] == 10_000
    assert [each["_id"] for each in await user.list(store, {"number": "10000"})] == [first["_id"]]


async def test_an_administrator_may_keep_serial_numbers(hub: Hub, user: Client, shop: dict[str, str]) -> None:
    """The numbers of other entities go on above them. An entity that exists keeps the number that it has."""
    path = f"/{shop['customers']}"
    made = await hub.admin.post(path, [{"number": 20_000}, {"name": "a"}, {"number": 5.0}], {"keep": "serials"})
    assert [each["number"] for each in good(made)["entities"]] == [20_000, 20_001, 5]
    assert (await user.make(shop["customers"], name="b", number=7))["number"] == 20_002
    refused(await hub.admin.post(path, {"number": 5}, {"keep": "serials"}), 409, "number")
    refused(await hub.admin.post(path, {"number": 5}, {"upsert": "number"}), 400, "upsert")
    both = {"keep": "serials", "upsert": "number"}
    upserted = await hub.admin.post(path, [{"number": 5, "name": "c"}, {"number": 30_000, "name": "d"}], both)
    assert [(each["number"], each["name"]) for each in good(upserted)["entities"]] == [(5, "c"), (30_000, "d")]
    assert (await user.make(shop["customers"]))["number"] == 30_001
    for wrong in (-1, 10**15 + 1, "5", 1.5, True):
        refused(await hub.admin.post(path, {"number": wrong}, {"keep": "serials"}), 400, "number")
    refused(await user.post(path, {"number": 6}, {"keep": "serials"}), 403, "keep")
    refused(await hub.admin.post(path, {"number": 6}, {"keep": "true"}), 400, "keep")


async def test_a_reference_needs_a_target(user: Client, shop: dict[str, str]) -> None:
    customer = await user.make(shop["customers"], name="a")
    await user.make(shop["products"], sku="s1")
    text = f"There is no such entity of {shop['customers']}."
    for wrong in (new_id(), "x", 5, {}, [customer["_id"]]):
        errors = refused(await user.post(f"/{shop['orders']}", {"customer": wrong}), 400, "customer")
        assert errors["customer"] == [text]
    body: Entity = {"customer": customer["_id"], "lines": [{"product": "s1"}, {"product": "s2"}]}
    errors = refused(await user.post(f"/{shop['orders']}", body), 400)
    assert set(errors) == {"lines.1.product"}
    errors = refused(await user.post(f"/{shop['orders']}", body | {"lines": [{"product": "s1"}, {"product": 5}]}), 400)
    assert set(errors) == {"lines.1.product"}
    errors = refused(
        await user.post(f"/{shop['orders']}", [{"customer": customer["_id"]}, {"customer": new_id()}]), 400
    )
    assert errors == {"1.customer": [text]}
    assert await user.list(shop["orders"]) == []
    made = await user.make(shop["orders"], customer=customer["_id"], lines=[{"product": "s1", "n": 2}])
    assert (made["number"] > 0, made["lines"]) == (True, [{"product": "s1", "n": 2}])
    assert [each["_id"] for each in await user.list(shop["orders"], {"lines.product": "s1"})] == [made["_id"]]


async def test_what_is_out_of_sight_does_not_exist(hub: Hub, user: Client, other: Client, shop: dict[str, str]) -> None:
    """Except where the entity refers to it already."""
    customer = await other.make(shop["customers"], name="a")
    refused(await user.post(f"/{shop['orders']}", {"customer": customer["_id"]}), 400, "customer")
    mine = await user.make(shop["customers"], name="b")
    order = await user.make(shop["orders"], customer=mine["_id"])
    path = f"/{shop['orders']}/{order['_id']}"
    refused(await user.patch(path, {"customer": customer["_id"]}), 400, "customer")
    good(await hub.admin.patch(path, {"customer": customer["_id"]}))
    good(await user.patch(path, {"customer": customer["_id"], "seen_by": [mine["_id"]]}))
    good(await user.put(path, {"customer": customer["_id"]}))
    refused(await user.put(path, {"customer": customer["_id"], "seen_by": [customer["_id"]]}), 400, "seen_by.0")
    blind = await hub.with_token(user.user, scopes=[f"POST /{shop['orders']}/*"])
    refused(await blind.post(f"/{shop['orders']}", {"customer": mine["_id"]}), 400, "customer")


@pytest.mark.gate("sqlite", "mongodb")
async def test_deletions_take_their_consequences(user: Client, shop: dict[str, str]) -> None:
    customer, seen = await user.make_all(shop["customers"], [{"name": "a"}, {"name": "b"}])
    order = await user.make(shop["orders"], customer=customer["_id"], seen_by=[seen["_id"], customer["_id"]])
    payments = await user.make_all(shop["payments"], [{"order": order["_id"]} for _ in range(3)])
    errors = refused(await user.delete(f"/{shop['customers']}/{customer['_id']}"), 409, "_id")
    assert errors["_id"] == [f"Entities of {shop['orders']} refer to it."]
    refused(await user.delete(f"/{shop['customers']}", {"name": "a"}), 409, "_id")
    good(await user.delete(f"/{shop['customers']}/{seen['_id']}"))
    assert (await user.see(shop["orders"], order["_id"]))["seen_by"] == [customer["_id"]]
    assert good(await user.delete(f"/{shop['orders']}", {"number": str(order["number"])}))["count"] == 1
    assert await user.list(shop["payments"]) == []
    history = good(await user.get(f"/{shop['payments']}/{payments[0]['_id']}/history"))["history"]
    assert [(entry["op"], entry["by"]) for entry in history] == [("insert", user.id), ("delete", user.id)]
    good(await user.delete(f"/{shop['customers']}/{customer['_id']}"))


async def test_a_bulk_deletion_takes_what_matched_before_it(user: Client, hub: Hub) -> None:
    """What its consequences change does not come to match, and keeps what refers to it."""
    nodes = await hub.define(fields=[{"id": "name", "type": "Text"}])
    parent = {"id": "parent", "type": "Reference", "store": nodes, "on_delete": "clear"}
    await add_fields(hub, nodes, parent)
    roots = await user.make_all(nodes, [{"name": f"root {n}"} for n in range(2)])
    child = await user.make(nodes, name="child", parent=roots[0]["_id"])
    grandchild = await user.make(nodes, name="grandchild", parent=child["_id"])
    assert good(await user.delete(f"/{nodes}", {"parent": "null"}))["count"] == 2
    left = {each["name"]: each["parent"] for each in await user.list(nodes)}
    assert left == {"child": None, "grandchild": child["_id"]}
    assert (await user.see(nodes, child["_id"]))["_rev"] == 2
    batch = {"requests": [{"method": "DELETE", "path": f"/{nodes}/{child['_id']}"}]}
    good(await user.post("/batch", batch))
    assert (await user.see(nodes, grandchild["_id"]))["parent"] is None


async def test_a_bulk_deletion_follows_a_circle_of_stores(user: Client, hub: Hub) -> None:
    """The deletion of the second entity would clear the first."""
    first = await hub.define(fields=[{"id": "name", "type": "Text"}])
    second = await hub.define(
        fields=[{"id": "owner_of", "type": "Reference", "store": first, "on_delete": "cascade"}], open=True
    )
    await add_fields(hub, first, {"id": "of", "type": "Reference", "store": second, "on_delete": "clear"})
    free, bound = await user.make_all(first, [{"name": "free"}, {"name": "bound"}])
    between = await user.make(second, owner_of=free["_id"])
    good(await user.patch(f"/{first}/{bound['_id']}", {"of": between["_id"]}))
    kept = await user.make(second, owner_of=bound["_id"])
    assert good(await user.delete(f"/{first}", {"of": "null"}))["count"] == 1
    assert [(each["name"], each["of"]) for each in await user.list(first)] == [("bound", None)]
    assert [each["_id"] for each in await user.list(second)] == [kept["_id"]]


async def test_a_bulk_change_keeps_what_all_matches_refer_to(user: Client, other: Client, hub: Hub) -> None:
    """Although it is out of sight. What one of them does not refer to yet is refused."""
    targets = await hub.define()
    to = {"id": "to", "type": "Reference", "store": targets}
    lines = {"id": "lines", "type": "Object", "many": True, "fields": [to]}
    store = await hub.define(fields=[{"id": "n", "type": "Number"}, to | {"many": True}, lines])
    hidden, another = [each["_id"] for each in await other.make_all(targets, [{}, {}])]
    mine = (await user.make(targets))["_id"]
    made = await user.make_all(store, [{"n": 1}, {"n": 1}, {"n": 2}])
    for each in made[:2]:
        refers = {"to": [hidden, mine], "lines": [{"to": hidden}]}
        good(await hub.admin.patch(f"/{store}/{each['_id']}", refers))
    body: Entity = {"to": [hidden], "lines": [{"to": hidden}, {"to": mine}]}
    errors = refused(await user.patch(f"/{store}", body, {"n[gt]": "0"}), 400)
    assert set(errors) == {"to.0", "lines.0.to"}
    errors = refused(await user.patch(f"/{store}", {"to": [hidden, another]}, {"n": "1"}), 400)
    assert set(errors) == {"to.1"}
    assert good(await user.patch(f"/{store}", body, {"n": "1"}))["count"] == 2
    assert [each["to"] for each in await user.list(store, {"n": "1"})] == [[hidden]] * 2


async def test_a_duplicate_beside_references_has_the_position_of_its_body(user: Client, hub: Hub) -> None:
    targets = await hub.define()
    store = await hub.define(
        fields=[{"id": "code", "type": "Text", "unique": True}, {"id": "to", "type": "Reference", "store": targets}]
    )
    to = (await user.make(targets))["_id"]
    bodies = [{"code": "a", "to": to}, {"code": "b", "to": to}, {"code": "a", "to": to}]
    assert set(refused(await user.post(f"/{store}", bodies), 409)) == {"2.code"}


async def test_an_upsert_is_not_by_a_serial_number(user: Client, shop: dict[str, str]) -> None:
    """What a body says of the number is dropped, so each upsert would create another entity."""
    made = await user.make(shop["customers"], name="a")
    body = {"number": made["number"], "name": "b"}
    refused(await user.post(f"/{shop['customers']}?upsert=number", body), 400, "upsert")
    refused(await user.post(f"/{shop['customers']}?upsert=number", [body]), 400, "upsert")
    request = {"method": "POST", "path": f"/{shop['customers']}?upsert=number", "body": body}
    assert (await user.post("/batch", {"requests": [request]})).status_code == 400
    assert len(await user.list(shop["customers"])) == 1


async def add_fields(hub: Hub, store: str, *fields: Entity) -> None:
    """Add fields to the definition of a store."""
    [definition] = await hub.admin.list("stores", {"name": store})
    good(await hub.admin.patch(f"/stores/{definition['_id']}", {"fields": [*definition["fields"], *fields]}))


async def test_a_bulk_deletion_leaves_what_its_consequences_clear(admin: Client, user: Client) -> None:
    """What its consequences clear matches its filter only then."""
    store = unique("store")
    near = {"id": "near", "type": "Reference", "store": store, "on_delete": "clear"}
    kept = {"id": "kept", "type": "Reference", "store": store}
    await admin.make("stores", {"name": store, "fields": [near, kept]})
    first = await user.make(store)
    second = await user.make(store, near=first["_id"])
    third = await user.make(store, near=second["_id"], kept=second["_id"])
    assert good(await user.delete(f"/{store}", {"filter": '{"near": null}'}))["count"] == 1
    assert {each["_id"]: each["near"] for each in await user.list(store)} == {
        second["_id"]: None,
        third["_id"]: second["_id"],
    }


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_value_that_is_referred_to_stays(user: Client, shop: dict[str, str]) -> None:
    product = await user.make(shop["products"], sku="s7", stock=1)
    customer = await user.make(shop["customers"], name="a")
    await user.make(shop["orders"], customer=customer["_id"], lines=[{"product": "s7"}])
    path = f"/{shop['products']}/{product['_id']}"
    for body in ({"sku": "s8"}, {"sku": None}):
        refused(await user.patch(path, body), 409, "sku")
        refused(await user.put(path, body), 409, "sku")
        refused(await user.patch(f"/{shop['products']}?sku=s7", body), 409, "sku")
    good(await user.patch(path, {"sku": "s7", "stock": 2}))
    assert good(await user.post(f"/{shop['products']}?upsert=sku", {"sku": "s7", "stock": 3}))["stock"] == 3
    refused(await user.delete(path), 409, "_id")


@pytest.mark.gate("sqlite", "mongodb")
async def test_upserts_check_references(user: Client, hub: Hub) -> None:
    targets = await hub.define(fields=[{"id": "name", "type": "Text"}])
    store = await hub.define(
        fields=[{"id": "code", "type": "Text", "unique": True}, {"id": "to", "type": "Reference", "store": targets}]
    )
    target = (await user.make(targets, name="a"))["_id"]
    refused(
        await user.post(f"/{store}?upsert=code", [{"code": "a", "to": target}, {"code": "b", "to": new_id()}]),
        400,
        "1.to",
    )
    made = good(await user.post(f"/{store}?upsert=code", {"code": "a", "to": target}))
    blind = await hub.with_token(user.user, scopes=[f"* /{store}/*"])
    assert good(await blind.post(f"/{store}?upsert=code", {"code": "a", "to": target}))["_id"] == made["_id"]
    refused(await blind.post(f"/{store}?upsert=code", {"code": "b", "to": target}), 400, "to")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "Reference"}, "fields.0.store"),
    ({"type": "Reference", "store": "nowhere"}, "fields.0.store"),
    ({"type": "Reference", "store": 5}, "fields.0.store"),
    ({"type": "Reference", "store": "users", "by": "nothing"}, "fields.0.by"),
    ({"type": "Reference", "store": "users", "by": "login_key"}, "fields.0.by"),
    ({"type": "Reference", "store": "tokens"}, "fields.0.store"),
    ({"type": "Reference", "store": "sessions"}, "fields.0.store"),
    ({"type": "Reference", "store": "signins"}, "fields.0.store"),
    ({"type": "Reference", "store": "second_factors", "by": "user"}, "fields.0.store"),
    ({"type": "Reference", "store": "stores"}, "fields.0.store"),
    ({"type": "Reference", "store": "users", "on_delete": "x"}, "fields.0.on_delete"),
    ({"type": "Reference", "store": "users", "on_delete": "clear", "required": True}, "fields.0.on_delete"),
    ({"type": "Text", "store": "users"}, "fields.0.store"),
    ({"type": "Serial", "start": -1}, "fields.0.start"),
    ({"type": "Serial", "required": True}, "fields.0.required"),
    ({"type": "Serial", "many": True}, "fields.0.many"),
    ({"type": "Object", "fields": [{"id": "n", "type": "Serial"}]}, "fields.0.fields.0.type"),
    ({"type": "Object", "fields": [{"id": "n", "type": "Reference", "store": "x"}]}, "fields.0.fields.0.store"),
]


@pytest.mark.parametrize(("field", "place"), WRONG)
async def test_wrong_definitions_are_refused(admin: Client, field: dict[str, Any], place: str) -> None:
    refused(await admin.post("/stores", {"name": "wrong", "fields": [{"id": "f", **field}]}), 400, place)


async def test_definitions_keep_what_others_refer_to(hub: Hub, admin: Client, user: Client) -> None:
    """A target store is not deleted, and the field by which others refer to it stays unique. A store may refer to
    itself."""
    target = await hub.define(fields=[{"id": "code", "type": "Text", "unique": True}])
    own = {"id": "parent", "type": "Reference", "store": target, "on_delete": "clear"}
    [definition] = await admin.list("stores", {"name": target})
    path = f"/stores/{definition['_id']}"
    good(await admin.patch(path, {"fields": [*definition["fields"], own]}))
    store = await hub.define(fields=[{"id": "to", "type": "Reference", "store": target, "by": "code"}])
    refused(await admin.delete(path), 409, "_id")
    refused(await admin.patch(path, {"fields": [{"id": "code", "type": "Text"}, own]}), 409, "code")
    [referring] = await admin.list("stores", {"name": store})
    good(await admin.delete(f"/stores/{referring['_id']}"))
    good(await admin.patch(path, {"fields": [{"id": "code", "type": "Text"}, own]}))
    good(await admin.delete(path))


async def test_values_become_references_if_all_have_a_target(hub: Hub, admin: Client, user: Client) -> None:
    target = await hub.define()
    store = await hub.define()
    there = (await user.make(target, n=1))["_id"]
    good_ones = await user.make_all(store, [{"to": there}, {"to": None}, {}])
    bad = await user.make(store, to=new_id())
    [definition] = await admin.list("stores", {"name": store})
    fields = {"fields": [{"id": "to", "type": "Reference", "store": target}], "open": True}
    errors = refused(await admin.patch(f"/stores/{definition['_id']}", fields), 409, "to")
    text = f"1 entity has a value of it that no entity of the other store has. The first is {bad['_id']}."
    assert errors["to"] == [text]
    good(await user.delete(f"/{store}/{bad['_id']}"))
    good(await admin.patch(f"/stores/{definition['_id']}", fields))
    refused(await user.patch(f"/{store}/{good_ones[1]['_id']}", {"to": new_id()}), 400, "to")
    refused(await user.delete(f"/{target}/{there}"), 409, "_id")


async def test_users_can_be_referred_to(hub: Hub, admin: Client) -> None:
    store = await hub.define(fields=[{"id": "seller", "type": "Reference", "store": "users", "on_delete": "clear"}])
    keeper = await hub.define(fields=[{"id": "boss", "type": "Reference", "store": "users"}])
    seller = await hub.as_user()
    sale = await admin.make(store, seller=seller.id)
    job = await admin.make(keeper, boss=seller.id)
    refused(await admin.delete(f"/users/{seller.id}"), 409, "_id")
    good(await admin.delete(f"/{keeper}/{job['_id']}"))
    good(await admin.delete(f"/users/{seller.id}"))
    assert (await admin.see(store, sale["_id"]))["seller"] is None


async def test_a_default_refers_to_what_is_there(hub: Hub, admin: Client, user: Client) -> None:
    """When the definition is written; what another default said before stays. Also inside of objects and lists."""
    codes = await hub.define(fields=[{"id": "code", "type": "Email", "unique": True}])
    made = await admin.make(codes, code="a@b.example")
    plain = {"id": "of", "type": "Reference", "store": codes}
    keyed = {"id": "by", "type": "Reference", "store": codes, "by": "code"}
    inner: Entity = {"id": "inner", "type": "Object", "fields": [keyed | {"default": "x@b.example"}]}
    outer: Entity = {"id": "outer", "type": "Object", "fields": [plain], "default": {"of": new_id()}}
    several: Entity = plain | {"id": "several", "many": True, "default": [made["_id"], new_id()]}
    fields = [plain | {"default": new_id()}, keyed | {"default": "none"}, inner, outer, several]
    wrong = [f"fields.{place}default" for place in ("0.", "1.", "2.fields.0.", "3.", "4.")]
    body = {"name": unique("store"), "fields": fields}
    errors = refused(await admin.post("/stores", body), 400, *wrong)
    assert {*errors} == {*wrong}
    assert errors["fields.0.default"] == [f"There is no such entity of {codes}."]
    itself = {"id": "up", "type": "Reference", "store": body["name"], "default": new_id()}
    refused(await admin.post("/stores", body | {"fields": [itself]}), 400, "fields.0.default")
    right = [plain | {"default": made["_id"]}, keyed | {"default": "A@B.example"}]
    store = await hub.define(fields=right)
    path = await definition_of(admin, store)
    refused(await admin.patch(path, {"fields": [plain | {"default": new_id()}]}), 400, "fields.0.default")
    assert (await admin.make(store))["by"] == "a@b.example"
    [line] = await admin.list(store)
    good(await admin.delete(f"/{store}/{line['_id']}"))
    good(await admin.delete(f"/{codes}/{made['_id']}"))
    good(await admin.patch(path, {"fields": [*right, {"id": "n", "type": "Number"}]}))


async def test_an_error_says_that_a_value_is_the_default(hub: Hub, admin: Client, user: Client) -> None:
    """In creations, upserts, replacements and batches, for what is out of sight or gone."""
    codes = await hub.define(open=True)
    made = await admin.make(codes)
    of = {"id": "of", "type": "Reference", "store": codes, "default": made["_id"]}
    number: Entity = {"id": "n", "type": "Number", "unique": True}
    store = await hub.define(fields=[of, number, {"id": "o", "type": "Object", "fields": [of]}])
    text = f"The default of this field is no entity of {codes} that you see: send another value."
    mine = await user.make(codes)
    other = await user.make(store, of=mine["_id"], n=1)
    for answer in (
        await user.post(f"/{store}", {"n": 2}),
        await user.post(f"/{store}", {"n": 2}, {"upsert": "n"}),
        await user.put(f"/{store}/{other['_id']}", {"n": 1}),
    ):
        assert refused(answer, 400, "of")["of"] == [text]
    assert refused(await user.post(f"/{store}", {"of": None, "o": {}}), 400)["o.of"] == [text]
    request = {"method": "POST", "path": f"/{store}", "body": {"n": 2}}
    assert refused(await user.post("/batch", {"requests": [request]}), 400)["requests.0.of"] == [text]
    assert refused(await user.post(f"/{store}", {"of": new_id()}), 400)["of"] == [
        f"There is no such entity of {codes}."
    ]
    assert (await user.make(store, of=mine["_id"]))["of"] == mine["_id"]
