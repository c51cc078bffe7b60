"""A hidden field can be written but is never revealed by a search, a key, an error, a revision or a new definition."""

from __future__ import annotations

from typing import Any

import pytest

from tests.platform.answers import definition_of, good, refused
from tests.support.hub import Client, Hub, unique

NAME: dict[str, Any] = {"id": "name", "type": "Text", "search": True}
SECRET: dict[str, Any] = {"id": "secret", "type": "Text", "hidden": True}
VALUE = "4711-x"


@pytest.mark.parametrize(
    ("definition", "place"),
    [
        ({"fields": [NAME, SECRET | {"search": True}]}, "fields.1.search"),
        ({"fields": [NAME, SECRET | {"unique": True}]}, "fields.1.unique"),
        ({"fields": [SECRET], "search": ["secret"]}, "search.0"),
        ({"fields": [SECRET | {"type": "JSON"}], "open": True, "search": ["name", "secret.pin"]}, "search.1"),
        ({"fields": [SECRET | {"type": "JSON"}], "open": True, "unique": ["secret.pin"]}, "unique.0"),
    ],
)
async def test_a_definition_that_would_tell_hidden_values_is_refused(
    admin: Client, hub: Hub, definition: dict[str, Any], place: str
) -> None:
    """It is refused when a store is created and when one is changed."""
    refused(await admin.post("/stores", {"name": unique("store"), **definition}), 400, place)
    path = await definition_of(admin, await hub.define(fields=[NAME]))
    refused(await admin.patch(path, definition), 400, place)
    refused(await admin.put(path, definition | {"name": good(await admin.get(path))["name"]}), 400, place)


async def test_nothing_tells_a_hidden_value(hub: Hub, user: Client) -> None:
    """Every parameter that could name the field is refused, and a search ignores it."""
    store = await hub.define(fields=[NAME, SECRET], open=True, search=["free"])
    made = await user.make(store, name="a", secret=VALUE)
    assert "secret" not in made
    for params in (
        {"secret": VALUE},
        {"secret[startswith]": "4"},
        {"filter": '{"secret":"4711-x"}'},
        {"filter": '{"$or":[{"secret.a":{"$exists":true}}]}'},
        {"sort": "secret"},
        {"sort": "-secret.a"},
        {"only": "name,secret"},
        {"meta": "true", "secret": VALUE},
        {"meta": "true", "only": "secret"},
    ):
        refused(await user.get(f"/{store}", params), 400)
        refused(await user.patch(f"/{store}", {"name": "b"}, params), 400)
    assert await user.list(store, {"search": VALUE}) == []
    position = (await user.get(f"/{store}")).headers["x-position"]
    refused(await user.get(f"/{store}", {"since": position, "secret": VALUE}), 400)
    refused(await user.post(f"/{store}", {"secret": VALUE}, {"upsert": "secret"}), 400, "upsert")


async def leftovers(hub: Hub, client: Client, store: str, id: str) -> str:
    """Return all that the API shows of an entity, as one text."""
    path = f"/{store}/{id}"
    answers = [
        await client.get(path),
        await client.get(f"/{store}"),
        await client.get(f"/{store}", {"meta": "true"}),
        await client.get(path + "/history"),
        await client.patch(path, {"name": unique("name")}),
    ]
    return "".join(answer.text for answer in answers)


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_hidden_field_leaves_with_its_data(hub: Hub, user: Client, admin: Client, is_open: bool) -> None:
    """Removing or renaming the field is refused while entities have values in it, and its old values are never
    shown."""
    store = await hub.define(fields=[NAME, SECRET], open=is_open)
    made = await user.make(store, name="a", secret=VALUE)
    await user.make(store, name="none")
    path = await definition_of(admin, store)
    for fields in ([NAME], [NAME, SECRET | {"id": "renamed"}], [NAME, {"id": "renamed", "type": "Text"}]):
        errors = refused(await admin.patch(path, {"fields": fields}), 409, "secret")
        assert "1 entity" in errors["secret"][0]
    good(await user.patch(f"/{store}/{made['_id']}", {"secret": None}))
    good(await admin.patch(path, {"fields": [NAME]}))
    assert VALUE not in await leftovers(hub, user, store, made["_id"])
    assert "secret" not in await leftovers(hub, admin, store, made["_id"])
    refused(await user.patch(f"/{store}/{made['_id']}", {"secret": "new"}), 400, "secret")
    refused(await user.get(f"/{store}", {"secret[exists]": "true"}), 400)
    shown = await user.see(store, made["_id"])
    assert good(await user.put(f"/{store}/{made['_id']}", shown))["success"] is True


async def test_a_retired_name_stays_hidden_when_the_store_is_opened(hub: Hub, user: Client, admin: Client) -> None:
    """It stays hidden although the definition no longer has it. Defined again, it follows the new definition."""
    store = await hub.define(fields=[NAME, SECRET])
    made = await user.make(store, name="a", secret=VALUE)
    path = await definition_of(admin, store)
    good(await user.patch(f"/{store}/{made['_id']}", {"secret": None}))
    good(await admin.patch(path, {"fields": [NAME]}))
    definition = good(await admin.get(path))
    assert definition.pop("retired") == ["secret"]
    good(await admin.put(path, {n: v for n, v in definition.items() if n != "success"} | {"open": True}))
    assert VALUE not in await leftovers(hub, user, store, made["_id"])
    assert good(await admin.get(path))["retired"] == ["secret"]
    good(await admin.patch(path, {"fields": [NAME, SECRET], "retired": []}))
    assert good(await admin.get(path))["retired"] == []
    good(await user.patch(f"/{store}/{made['_id']}", {"secret": "new"}))
    assert "secret" not in await user.see(store, made["_id"])


async def test_a_replacement_leaves_hidden_fields_alone(hub: Hub, user: Client, admin: Client) -> None:
    """This includes required fields and fields with a default, because a caller cannot send back an invisible field."""
    pin = {"id": "pin", "type": "Text", "hidden": True, "required": True}
    level = {"id": "level", "type": "Number", "hidden": True, "default": 1}
    store = await hub.define(fields=[NAME, pin, level])
    made = await user.make(store, name="a", pin="1", level=7)
    refused(await user.post(f"/{store}", {"name": "b"}), 400, "pin")
    again = good(await user.put(f"/{store}/{made['_id']}", {"name": "c"}))
    assert again["name"] == "c"
    path = await definition_of(admin, store)
    shown = [NAME, pin | {"hidden": False}, level | {"hidden": False}]
    good(await admin.patch(path, {"fields": shown}))
    entity = await user.see(store, made["_id"])
    assert (entity["pin"], entity["level"]) == ("1", 7)
