"""Lists, bounds, options, objects and canonical forms over HTTP: in writes, filters, upserts and definitions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.platform.answers import definition_of, good, refused
from tests.support.hub import Client, Hub, entity_of, unique

FIELDS: list[dict[str, Any]] = [
    {"id": "mail", "type": "Email", "unique": True},
    {"id": "phones", "type": "Phone", "many": True, "distinct": True, "index": True},
    {"id": "at", "type": "DateTime", "index": True},
    {"id": "price", "type": "Numeric", "min": 0},
    {"id": "size", "type": "Text", "options": [{"id": "s", "name": "Small"}, {"id": "l", "name": "Large"}]},
    {"id": "tags", "type": "Text", "many": True, "max_items": 3, "search": True},
    {
        "id": "address",
        "type": "Object",
        "fields": [
            {"id": "city", "type": "Text", "required": True, "index": True, "search": True},
            {"id": "code", "type": "Text", "unique": True},
            {"id": "floor", "type": "Number", "min": -5, "max": 200},
        ],
    },
    {
        "id": "lines",
        "type": "Object",
        "many": True,
        "fields": [{"id": "product", "type": "Text", "required": True}, {"id": "since", "type": "DateTime"}],
    },
]
ROWS: list[dict[str, Any]] = [
    {"mail": "Ann@Example.com", "phones": ["001 514 555 0123", "12345"], "at": "2026-11-26T06:00:00+01:00", "price": 1},
    {"mail": "bob@example.com", "phones": [], "at": "2026-11-26 06:00:00", "price": "2.50", "tags": ["Blue", "red"]},
    {"address": {"city": "Gatineau", "floor": 7.0}, "lines": [{"product": "x", "since": "2026-01-01T00:00:00Z"}]},
]


@pytest.fixture
async def rich(hub: Hub, user: Client) -> str:
    store = await hub.define(fields=FIELDS)
    await user.make_all(store, ROWS)
    return store


PARAMETERS: list[tuple[dict[str, str], list[int]]] = [
    ({"mail": "ANN@example.com"}, [0]),
    ({"mail[ne]": "ANN@example.com"}, [1, 2]),
    ({"mail[in]": "x,ANN@example.com,Bob@example.com"}, [0, 1]),
    ({"mail[nin]": "ANN@example.com"}, [1, 2]),
    ({"mail[startswith]": "ann"}, [0]),
    ({"mail": "nobody"}, []),
    ({"phones": "+1 (514) 555-0123"}, [0]),
    ({"phones": "001 514 555-0123"}, [0]),
    ({"phones": " 15145550123"}, [0]),
    ({"phones[in]": "1-2-3-4-5"}, [0]),
    ({"phones[ne]": "1-2-3-4-5"}, [1, 2]),
    ({"at": "2026-11-26T05:00:00Z"}, [0]),
    ({"at": "2026-11-26T00:00:00-06:00"}, [1]),
    ({"at": "2026-11-26T07:00:00 01:00"}, [1]),
    ({"at[gt]": "2026-11-26T05:00:00.5Z"}, [1]),
    ({"at[gte]": "2026-11-26", "at[lt]": "2026-11-26T06:00:00Z"}, [0]),
    ({"price": "2.5"}, [1]),
    ({"tags": "red"}, [1]),
    ({"search": "BLUE"}, [1]),
    ({"search": "gatin"}, [2]),
    ({"address.city": "Gatineau"}, [2]),
    ({"address.floor": "7.0"}, [2]),
    ({"address.floor[lt]": "7"}, []),
    ({"lines.since": "2026-01-01T00:00Z"}, [2]),
    ({"lines.0.product": "x"}, [2]),
]
DOCUMENTS: list[tuple[dict[str, Any], list[int]]] = [
    ({"mail": "ANN@example.com"}, [0]),
    ({"mail": "nobody"}, []),
    ({"price": {"$in": ["2.50", "x"]}}, [1]),
    ({"price": {"$gte": "1.5"}}, [1]),
    ({"phones": {"$all": ["1/2345", "+1 514 5550123"]}}, [0]),
    ({"phones": {"$elemMatch": {"$eq": "123 45"}}}, [0]),
    ({"phones": ["001 5145550123", "123 45"]}, [0]),
    ({"at": {"$not": {"$lte": "2026-11-26T05:00:00Z"}, "$exists": True}}, [1]),
    ({"lines": {"$elemMatch": {"product": "x", "since": {"$lt": "2026-01-01T00:00:00-00:01"}}}}, [2]),
    ({"$or": [{"address.floor": 7}, {"mail": "BOB@EXAMPLE.COM"}]}, [1, 2]),
]


async def found(client: Client, store: str, params: dict[str, str]) -> list[int]:
    """Return the rows, by their positions in the order of creation."""
    order = [each["_id"] for each in await client.list(store)]
    return [order.index(each["_id"]) for each in await client.list(store, params)]


async def test_filters_take_what_writes_take(user: Client, rich: str) -> None:
    """Parameters and documents alike; ranges and negations too."""
    for params, rows in PARAMETERS:
        assert await found(user, rich, params) == rows, params
    for document, rows in DOCUMENTS:
        assert await found(user, rich, {"filter": json.dumps(document)}) == rows, document


async def test_parameters_of_numbers_inside_of_objects_are_numbers(user: Client, rich: str) -> None:
    assert refused(await user.get(f"/{rich}", {"address.floor": "x"}), 400) == {
        "address.floor": ["address.floor takes a number"]
    }


async def test_bulk_changes_and_deltas_find_canonical_values(user: Client, rich: str) -> None:
    since = (await user.get(f"/{rich}")).headers["x-position"]
    assert (await user.patch(f"/{rich}", {"size": "s"}, {"mail": "ANN@EXAMPLE.com"})).json()["count"] == 1
    delta = (await user.get(f"/{rich}", {"since": since, "mail": "aNN@example.com"})).json()
    assert [change["entity"]["size"] for change in delta["changes"]] == ["s"]
    assert (await user.delete(f"/{rich}", {"phones": "12 345"})).json()["count"] == 1


async def test_unique_values_and_keys_of_upserts_are_canonical(user: Client, rich: str) -> None:
    refused(await user.post(f"/{rich}", {"mail": "ann@EXAMPLE.com"}), 409, "mail")
    changed = entity_of(await user.post(f"/{rich}", {"mail": "ANN@EXAMPLE.com", "size": "l"}, {"upsert": "mail"}))
    assert (changed["mail"], changed["size"], changed["price"]) == ("ann@example.com", "l", 1)
    assert len(await user.list(rich)) == len(ROWS)
    code = {"address": {"city": "a", "code": "7"}}
    await user.make(rich, code)
    refused(await user.post(f"/{rich}", code), 409, "address.code")
    upserted = entity_of(await user.post(f"/{rich}", code | {"price": 5}, {"upsert": "address.code"}))
    assert (upserted["price"], upserted["address"]["city"]) == (5, "a")


async def test_an_upsert_does_not_store_an_incomplete_object(user: Client, rich: str) -> None:
    """A required field of the entity may be missing in an upsert that changes one, a required part of an object not."""
    body = {"mail": "ann@example.com", "address": {"floor": 1}}
    refused(await user.post(f"/{rich}", body, {"upsert": "mail"}), 400, "address.city")


async def test_each_mistake_is_named_by_its_path(user: Client, rich: str) -> None:
    body = {
        "mail": "ann",
        "phones": ["12345", "1-2-3-4-5"],
        "price": -1,
        "size": "m",
        "tags": ["a", "b", "c", "d"],
        "address": {"floor": 201, "zip": 1},
        "lines": [{"product": "x"}, {"product": "", "since": "yesterday"}],
    }
    errors = refused(await user.post(f"/{rich}", body), 400)
    assert errors == {
        "mail": ["Must be a mail address, such as ann@example.com."],
        "phones.1": ["This value is in the list already."],
        "price": ["Must be at least 0."],
        "size": ["The selected option is not valid."],
        "tags": ["Must not hold more than 3 values."],
        "address.city": ["This field is required."],
        "address.floor": ["Must be at most 200."],
        "address.zip": ["There is no such field."],
        "lines.1.product": ["This field is required."],
        "lines.1.since": errors["lines.1.since"],
    }
    assert set(refused(await user.post(f"/{rich}", [{}, body]), 400)) == {f"1.{name}" for name in errors}
    [made] = await user.list(rich, {"address.city": "Gatineau"})
    assert refused(await user.patch(f"/{rich}/{made['_id']}", body), 400) == errors
    assert refused(await user.put(f"/{rich}/{made['_id']}", body), 400) == errors
    assert refused(await user.patch(f"/{rich}", body, {"price": "1"}), 400) == errors


async def test_many_values_are_checked_and_kept(user: Client, hub: Hub) -> None:
    """Lists whose check runs in a thread, with the mistakes of a bad one."""
    store = await hub.define(fields=[{"id": "mails", "type": "Email", "many": True, "max_items": 10_000}])
    mails = [f"N{n}@müller.example" for n in range(2_000)]
    made = await user.make(store, {"mails": mails})
    assert made["mails"] == [mail.lower() for mail in mails]
    path = f"/{store}/{made['_id']}"
    for answer in (
        await user.patch(path, {"mails": [*mails, "x"]}),
        await user.put(path, {"mails": [*mails, "x"]}),
        await user.patch(f"/{store}", {"mails": [*mails, "x"]}, {"_id": made["_id"]}),
    ):
        assert refused(answer, 400, "mails.2000")
    assert entity_of(await user.put(path, {"mails": mails[:600]}))["mails"] == made["mails"][:600]


CHANGES: list[tuple[str, dict[str, Any], str | None]] = [
    ("price", {"min": 1}, None),
    ("price", {"min": 2}, "1 entity has a value of it that would not be valid as it is."),
    ("price", {"max": 2}, "1 entity has"),
    ("price", {"max": 2.5}, None),
    ("tags", {"max_items": 2}, None),
    ("tags", {"max_items": 1}, "1 entity has"),
    ("tags", {"many": False, "max_items": None}, "1 entity has"),
    ("tags", {"options": [{"id": "red", "name": "Red"}]}, "1 entity has"),
    ("tags", {"options": [{"id": name, "name": name} for name in ("red", "Blue")]}, None),
    ("tags", {"distinct": True, "min": 3}, None),
    ("tags", {"min": 4}, "1 entity has"),
    ("mail", {"many": True, "unique": False}, "2 entities have"),
    ("mail", {"type": "Text"}, None),
    ("at", {"min": "2026-11-26T05:00:00Z"}, None),
    ("at", {"min": "2026-11-26T05:00:01Z"}, "1 entity has"),
    ("address", {"fields": [{"id": "city", "type": "Text"}]}, "1 entity has"),
    ("address", {"fields": [{"id": "city", "type": "Text"}, {"id": "floor", "type": "Number", "max": 6}]}, "1 entity"),
    ("address", {"fields": [{"id": "city", "type": "Text"}, {"id": "floor", "type": "Number", "max": 7}]}, None),
    ("lines", {"fields": [{"id": "product", "type": "Text"}, {"id": "since", "type": "Date"}]}, "1 entity has"),
    ("lines", {"fields": [*FIELDS[-1]["fields"], {"id": "n", "type": "Number", "required": True}]}, "1 entity has"),
    ("lines", {"fields": [*FIELDS[-1]["fields"], {"id": "n", "type": "Number", "default": 1}]}, None),
]


async def test_a_definition_that_data_stand_against_is_refused(user: Client, hub: Hub, rich: str) -> None:
    """Narrower bounds, fewer options, lists for single values, fields of objects: by name and number of entities."""
    path = await definition_of(hub.admin, rich)
    for name, settings, text in CHANGES:
        fields = [field | settings if field["id"] == name else field for field in FIELDS]
        answer = await hub.admin.patch(path, {"fields": fields})
        if text is None:
            good(answer)
            good(await hub.admin.patch(path, {"fields": FIELDS}))
        else:
            assert refused(answer, 409, name)[name][0].startswith(text), settings
            assert good(await hub.admin.get(path))["fields"] == FIELDS


async def test_a_type_with_a_canonical_form_does_not_take_over_other_forms(user: Client, hub: Hub) -> None:
    """Filters and unique values would miss them."""
    store = await hub.define(fields=[{"id": "mail", "type": "Text"}])
    made = await user.make(store, mail="Ann@example.com")
    path = await definition_of(hub.admin, store)
    change = {"fields": [{"id": "mail", "type": "Email"}]}
    refused(await hub.admin.patch(path, change), 409, "mail")
    entity_of(await user.patch(f"/{store}/{made['_id']}", {"mail": "ann@example.com"}))
    good(await hub.admin.patch(path, change))
    assert len(await user.list(store, {"mail": "ANN@example.com"})) == 1


async def test_new_definitions_have_no_settings_without_an_effect(hub: Hub) -> None:
    option = {"id": 1, "name": "One"}
    fields: list[dict[str, Any]] = [
        {"id": "a", "type": "JSON", "options": [option]},
        {"id": "b", "type": "Object", "fields": [{"id": "c", "type": "Number", "length": 5}]},
        {"id": "d", "type": "Object", "hidden": True, "fields": [{"id": "c", "type": "Text", "search": True}]},
    ]
    errors = refused(await hub.admin.post("/stores", {"name": unique("x"), "fields": fields}), 400)
    assert errors == {
        "fields.0.options": ["JSON takes no options."],
        "fields.1.fields.0.length": ["Number takes no length."],
        "fields.2.fields.0.search": ["The hidden field c cannot be searched."],
    }


async def test_a_hidden_object_stays_hidden(user: Client, hub: Hub) -> None:
    inside = [{"id": "c", "type": "Text"}]
    store = await hub.define(fields=[{"id": "d", "type": "Object", "hidden": True, "fields": inside}])
    made = await user.make(store, {"d": {"c": "hush"}})
    assert "d" not in made
    refused(await user.get(f"/{store}", {"d.c": "hush"}), 400, "d.c")
