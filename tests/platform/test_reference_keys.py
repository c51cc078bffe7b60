"""References by a key, a unique field of the target: what can be one, in which form it is held, and that it stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stores.records import Entity
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, unique


async def referring_by(hub: Hub, target: str, by: str, **more: Any) -> str:
    """Create a store that refers to `target` by a field."""
    return await hub.define(fields=[{"id": "of", "type": "Reference", "store": target, "by": by, **more}], open=True)


async def test_a_replacement_does_not_remove_a_key(hub: Hub, user: Client) -> None:
    """A body that omits the field removes it, like one that sends null."""
    target = await hub.define(fields=[{"id": "sku", "type": "Text", "unique": True}, {"id": "n", "type": "Number"}])
    store = await referring_by(hub, target, "sku")
    product = await user.make(target, sku="s1", n=1)
    line = await user.make(store, of="s1")
    path = f"/{target}/{product['_id']}"
    refused(await user.put(path, {"n": 2}), 409, "sku")
    request = {"method": "PUT", "path": path, "body": {"n": 2}}
    assert (await user.post("/batch", {"requests": [request]})).status_code == 409
    assert good(await user.put(path, {"sku": "s1", "n": 2}))["sku"] == "s1"
    good(await user.delete(f"/{store}/{line['_id']}"))
    assert "sku" not in good(await user.put(path, {"n": 3}))


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_key_in_another_case_is_another_key_save_for_an_email(hub: Hub, user: Client) -> None:
    """A Text would leave what refers to it without a target. An Email is stored in one form, so nothing changes."""
    for kind, key, status in (("Text", "Ann@example.com", 409), ("Email", "ann@example.com", 200)):
        target = await hub.define(fields=[{"id": "key", "type": kind, "unique": True}])
        store = await referring_by(hub, target, "key")
        made = await user.make(target, key=key)
        line = await user.make(store, of=key)
        path, body = f"/{target}/{made['_id']}", {"key": "ANN@example.com"}
        request = {"method": "PATCH", "path": path, "body": body}
        answers = [
            await user.patch(path, body),
            await user.put(path, body),
            await user.patch(f"/{target}?all=true", body),
            await user.patch(path, {"$set": body}),
            await user.post("/batch", {"requests": [request]}),
        ]
        assert [answer.status_code for answer in answers] == [status] * len(answers)
        assert (await user.see(target, made["_id"]))["key"] == key
        assert (await user.see(store, line["_id"]))["of"] == key


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_number_beyond_64_bits_is_no_key(hub: Hub, user: Client) -> None:
    """No entity has it: a reference to it is refused, and a filter finds nothing."""
    field = {"id": "n", "type": "Text"}
    for fields in ([{"id": "no", "type": "Number", "unique": True}], [{"id": "no", "type": "Numeric", "unique": True}]):
        numbers = await referring_by(hub, await hub.define(fields=fields), "no")
        assert good(await user.get(f"/{numbers}?of=1e300")) == []
        assert good(await user.get(f"/{numbers}", params={"filter": json.dumps({"of": -1e300})})) == []
    anything = await referring_by(hub, await hub.define(fields=[field], open=True, unique=["no"]), "no")
    refused(await user.post(f"/{anything}", {"of": 1e300}), 400, "of")
    assert good(await user.get(f"/{anything}?of=1e300")) == []


async def test_a_replacement_keeps_a_serial_number_and_an_id(hub: Hub, user: Client) -> None:
    target = await hub.define(fields=[{"id": "number", "type": "Serial"}], open=True)
    numbers = await referring_by(hub, target, "number")
    ids = await hub.define(fields=[{"id": "of", "type": "Reference", "store": target}])
    made = await user.make(target, n=1)
    await user.make(numbers, of=made["number"])
    await user.make(ids, of=made["_id"])
    assert good(await user.put(f"/{target}/{made['_id']}", {"n": 2}))["number"] == made["number"]


async def test_keys_of_users_and_roles_stay(hub: Hub, admin: Client) -> None:
    logins, names = await referring_by(hub, "users", "login"), await referring_by(hub, "roles", "name")
    seller = await hub.as_user()
    role = await admin.make("roles", name=unique("role"), scopes=[])
    login = (await admin.see("users", seller.id))["login"]
    sale, duty = await admin.make(logins, of=login), await admin.make(names, of=role["name"])
    refused(await admin.patch(f"/users/{seller.id}", {"login": unique("new")}), 409, "login")
    refused(await admin.patch(f"/roles/{role['_id']}", {"name": unique("new")}), 409, "name")
    refused(await admin.put(f"/roles/{role['_id']}", {"name": unique("new"), "scopes": []}), 409, "name")
    assert good(await admin.patch(f"/users/{seller.id}", {"login": login, "name": "Ann"}))["name"] == "Ann"
    for store, made in ((logins, sale), (names, duty)):
        good(await admin.delete(f"/{store}/{made['_id']}"))
    assert good(await admin.patch(f"/users/{seller.id}", {"login": f"{login}x"}))["login"] == f"{login}x"
    good(await admin.patch(f"/roles/{role['_id']}", {"name": unique("new")}))


KEYS: list[tuple[str, Any, list[Any], list[Any]]] = [
    ("Email", "ann@example.com", ["Ann@Example.com"], ["ann", 5, {}]),
    ("Phone", "+15145550123", ["+1 (514) 555-0123", "001 514 555 0123"], ["x", 15145550123]),
    ("DateTime", "2026-11-27 06:00:00", ["2026-11-27T06:00:00Z", "2026-11-27T07:00:00+01:00"], ["yesterday"]),
    ("Number", 5, [5.0], ["5", 5.5, True]),
    ("Numeric", 7, ["7.00", 7.0], [7.5, "x"]),
    ("Text", "5", [], [5, ["5"]]),
]
"""Type of the key, a value, other forms of the value, and what is none."""
JSON_TYPES = {"Number": "Must be a whole number", "Text": "Must be a string"}
"""The errors for values of another JSON type than the key has. `"5"` is no number."""


@pytest.mark.parametrize(("kind", "value", "forms", "wrong"), KEYS)
async def test_references_have_the_form_of_their_key(
    hub: Hub, user: Client, kind: str, value: Any, forms: list[Any], wrong: list[Any]
) -> None:
    """In bodies, filters, parameters and bulk changes, also through another store, and inside of objects. So a bulk
    change to another form of the same value alters nothing."""
    target = await hub.define(fields=[{"id": "key", "type": kind, "unique": True}])
    ref = {"id": "of", "type": "Reference", "store": target, "by": "key", "unique": True}
    inner = {"id": "inner", "type": "Object", "fields": [ref | {"unique": False}]}
    store = await hub.define(fields=[ref, inner, {"id": "n", "type": "Number"}])
    further = await referring_by(hub, store, "of")
    await user.make(target, key=value)
    begin, end = (
        (JSON_TYPES[kind], f", as key of {target} is.") if kind in JSON_TYPES else ("There is no such entity", ".")
    )
    for each in wrong:
        text = refused(await user.post(f"/{store}", {"of": each}), 400, "of")["of"][0]
        assert text.startswith(begin)
        assert text.endswith(end)
    for n, form in enumerate([value, *forms]):
        made = await user.make(store, of=form, n=n, inner={"of": form})
        assert (made["of"], made["inner"]) == (value, {"of": value})
        refused(await user.post(f"/{store}", {"of": form}), 409, "of")
        held = await user.make(further, of=form)
        assert held["of"] == value
        filters: list[Entity] = [{"of": form}, {"of": {"$in": [form]}}, {"inner.of": form}]
        for each in filters:
            assert [found["_id"] for found in await found_by(user, store, each)] == [made["_id"]], each
        parameter = form if isinstance(form, str) else str(value)
        assert [found["_id"] for found in await user.list(store, {"of": parameter})] == [made["_id"]]
        assert good(await user.patch(f"/{store}", {"of": form}, {"n": str(n)}))["count"] == 0
        assert (await user.see(store, made["_id"]))["of"] == value
        good(await user.delete(f"/{further}/{held['_id']}"))
        good(await user.delete(f"/{store}/{made['_id']}"))


async def found_by(user: Client, store: str, where: Entity) -> list[Entity]:
    return await user.list(store, {"filter": json.dumps(where)})


async def test_a_key_that_gets_a_type_gives_it_to_references(hub: Hub, admin: Client, user: Client) -> None:
    target = await hub.define(fields=[{"id": "mail", "type": "Text", "unique": True}])
    store = await referring_by(hub, target, "mail")
    await user.make(target, mail="ann@example.com")
    refused(await user.post(f"/{store}", {"of": "Ann@example.com"}), 400, "of")
    [definition] = await admin.list("stores", {"name": target})
    fields = [{"id": "mail", "type": "Email", "unique": True}]
    good(await admin.patch(f"/stores/{definition['_id']}", {"fields": fields}))
    assert (await user.make(store, of="Ann@example.com"))["of"] == "ann@example.com"


UNFIT: list[tuple[str, list[Entity], Entity]] = [
    ("a.b", [{"id": "a", "type": "Object", "fields": [{"id": "b", "type": "Text", "unique": True}]}], {}),
    ("of", [{"id": "of", "type": "Reference", "store": "users", "unique": True, "on_delete": "clear"}], {}),
    ("owner", [], {"unique": ["owner"]}),
    ("code", [{"id": "code", "type": "Text"}], {}),
]
"""A field, the definition of its store, and more of that."""


@pytest.mark.parametrize(("by", "fields", "more"), UNFIT)
async def test_a_key_is_a_unique_field_of_the_store_that_stays(
    hub: Hub, admin: Client, by: str, fields: list[Entity], more: Entity
) -> None:
    target = await hub.define(fields=fields, **more)
    own = {"id": "f", "type": "Reference", "store": target, "by": by}
    refused(await admin.post("/stores", {"name": unique("wrong"), "fields": [own]}), 400, "fields.0.by")


async def test_a_key_does_not_become_one_that_deletions_clear(hub: Hub, admin: Client) -> None:
    key = {"id": "of", "type": "Reference", "store": "users", "unique": True}
    target = await hub.define(fields=[key])
    await referring_by(hub, target, "of")
    [definition] = await admin.list("stores", {"name": target})
    path = f"/stores/{definition['_id']}"
    refused(await admin.patch(path, {"fields": [key | {"on_delete": "clear"}]}), 409, "of")
    good(await admin.patch(path, {"fields": [key | {"on_delete": "cascade"}]}))


async def test_a_condition_of_an_index_has_the_form_of_the_key(hub: Hub, admin: Client, user: Client) -> None:
    """Another form is refused, and the text has the right one: an index with it would hold no entity."""
    target = await hub.define(fields=[{"id": "mail", "type": "Email", "unique": True}])
    field = {"id": "of", "type": "Reference", "store": target, "by": "mail"}
    fields = [{"id": "n", "type": "Number"}, field, {"id": "o", "type": "Object", "fields": [field]}]
    index = {
        "fields": ["n"],
        "unique": True,
        "where": {"of": "Ann@Example.com", "o.of": {"$in": ["b@c.test", "B@c.test"]}},
    }
    definition: Entity = {"name": unique("orders"), "fields": fields, "indexes": [index]}
    errors = refused(await admin.post("/stores", definition), 400)
    assert errors == {
        "indexes.0.where.of": ["Must be 'ann@example.com', as it is stored."],
        "indexes.0.where.o.of": ["Must be 'b@c.test', as it is stored."],
    }
    index["where"] = {"of": "ann@example.com"}
    good(await admin.post("/stores", definition))
    await user.make(target, mail="Ann@Example.com")
    await user.make(definition["name"], n=1, of="Ann@Example.com")
    refused(await user.post(f"/{definition['name']}", {"n": 1, "of": "ann@example.com"}), 409, "n")
