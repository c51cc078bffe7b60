"""Typed stores: valid and invalid values of each type, null, defaults and required fields."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity
from tests.platform.answers import refused
from tests.support.hub import Client, Hub, entity_of

OPTIONS = [{"id": 1, "name": "one"}, {"id": "two", "name": "Two"}, {"id": 3, "name": "three"}]

MEMBERS = [{"id": "city", "type": "Text", "required": True}, {"id": "floor", "type": "Number", "default": 0}]

TYPES = ["Boolean", "ColorSwatch", "Checkbox", "MultiSelect", "Radio", "Select", "Date", "DateTime", "Number",
         "Numeric", "Object", "URL", "Email", "Phone", "Text", "Textarea", "Timezone", "JSON"]  # fmt: skip
NEEDED: dict[str, dict[str, Any]] = {
    **{type: {"options": OPTIONS} for type in ("Checkbox", "MultiSelect", "Radio", "Select")},
    "Object": {"fields": MEMBERS},
}

GOOD: dict[str, list[Any]] = {
    "Boolean": [True, False],
    "ColorSwatch": ["#333333", "#aBcDeF"],
    "Checkbox": [[], [1], [1, "two", 3]],
    "MultiSelect": [[], ["two"], [3, 1]],
    "Radio": [1, "two"],
    "Select": [3, "two"],
    "Date": ["2020-11-26", "2020-02-29", "0001-01-01", "9999-12-31"],
    "DateTime": ["2020-11-26 06:00:00", "2020-02-29 23:59:59"],
    "Number": [0, -1, 2**63 - 1, -(2**63)],
    "Numeric": [0, 1250.33, -0.001, 999999999999.999, 12, "1250.330", "-7", "0.5"],
    "Object": [{"city": "a", "floor": 1}, {"city": "a", "floor": None}],
    "Email": ["ann@example.com", "müller@bücher.example"],
    "Phone": ["+15145550123", "12345"],
    "URL": ["https://example.com", "http://localhost:8000/a?b=c#d", "https://example.com/ü"],
    "Text": ["", "x", "é" * 255, "null"],
    "Textarea": ["", "x" * 100_000, "a\nb"],
    "Timezone": ["America/Toronto", "Europe/Berlin", "UTC"],
    "JSON": [1, "a", [1, [2]], {"a": {"b": 1}}, True],
}

BAD: dict[str, list[Any]] = {
    "Boolean": [1, 0, "true", "", [], {}],
    "ColorSwatch": ["333333", "#333", "#33333g", "red", "", 333333, "#3333333", "#333333\n"],
    "Checkbox": [4, "two", [4], [1, "three"], {"1": True}, [[1]], [None], [True]],
    "MultiSelect": ["1", [0], ["One"], [1.5], [{"id": 1}]],
    "Radio": [4, "1", "Two", [1], True, {}, 1.5],
    "Select": [0, "", "two ", ["two"], False],
    "Date": ["2020-13-01", "2021-02-29", "26.11.2020", "2020-1-1", "2020-11-26 06:00:00", "", 20201126, "2020-11-26\n"],
    "DateTime": ["2020-11-26", "2020-11-26T06:00:00", "2020-11-26T24:00:00Z", "2020-11-26T06:00:00+24:00",
                 "2020-W48-4T06:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:00:00-02:00",
                 "2020-02-30T06:00:00Z", "2020-11-26T06:00:00,Z", "2020-11-26 24:00:00", "2020-11-26 06:60:00", "", 0,
                 "2020-02-30 00:00:00"],
    "Number": [1.5, "5", "", True, [], "x", 1e30, 2.0**53 + 2],
    "Object": [{}, {"city": ""}, {"city": "a", "zip": 1}, {"city": "a", "floor": "x"}, [], "a", [{"city": "a"}]],
    "Email": ["ann", "ann@localhost", "", 5, "Ann <ann@example.com>"],
    "Phone": ["1234", "", 5, "call me", "00 1234"],
    "Numeric": [1.2345, "1.2345", "x", "", True, [], 1e12, "1000000000000", "1e3", " 1"],
    "URL": ["example.com", "ftp://example.com", "javascript:alert(1)", "https://", "", 5, "https://a b", "//x",
            "\u0001http://example.com/", "http://exa\u0001mple.com/", "http://\u200b/", "http://example.com/\u202e",
            "http://example.com/\u00a0", "http://example.com\n"],
    "Text": [5, True, [], {}, "x" * 256],
    "Textarea": [5, False, ["x"], "x" * 100_001],
    "Timezone": ["Toronto", "america/toronto", "", "+02:00", 2, "Mars/Olympus"],
}  # fmt: skip


@pytest.fixture(scope="module")
async def every_type(hub: Hub) -> str:
    """A store with one field of each type, named after the type."""
    fields = [{"id": t, "type": t, "label": t, **NEEDED.get(t, {})} for t in TYPES]
    return await hub.define(fields=fields)


@pytest.mark.parametrize("type", TYPES)
async def test_a_good_value_is_kept(user: Client, every_type: str, type: str) -> None:
    """It is kept on creation and change; null clears it."""
    for value in GOOD[type]:
        made = await user.make(every_type, {type: value})
        if type == "Numeric" and isinstance(value, str):
            assert made[type] == float(value)
        else:
            assert made[type] == value
        assert await user.see(every_type, made["_id"]) == made
        path = f"/{every_type}/{made['_id']}"
        assert entity_of(await user.patch(path, {type: None}))[type] is None
        assert entity_of(await user.patch(path, {type: value}))[type] == made[type]
    assert (await user.make(every_type, {type: None}))[type] is None


@pytest.mark.parametrize("type", list(BAD))
async def test_a_bad_value_is_refused_by_name(user: Client, every_type: str, type: str) -> None:
    """Creation, change, replacement, upsert and bulk change are answered 400 with the field, and nothing is written."""
    made = await user.make(every_type, {type: GOOD[type][0]})
    path = f"/{every_type}/{made['_id']}"
    for value in BAD[type]:
        body: Entity = {type: value}
        errors = refused(await user.post(f"/{every_type}", body), 400)
        assert {name.partition(".")[0] for name in errors} == {type}
        assert refused(await user.patch(path, body), 400) == errors
    body = {type: BAD[type][0]}
    [name] = refused(await user.put(path, body), 400)
    refused(await user.post(f"/{every_type}", [{}, body]), 400, f"1.{name}")
    refused(await user.patch(f"/{every_type}", body, {"_id": made["_id"]}), 400, name)
    assert await user.see(every_type, made["_id"]) == made


async def test_decimals_are_exact(user: Client, every_type: str) -> None:
    """Decimals such as ``1250.330`` are returned digit for digit, and so are values that floats would round."""
    for text in ("1250.330", "0.001", "0.3", "123456789012.345", "999999999999.999", "-0.1"):
        answer = await user.post(f"/{every_type}", {"Numeric": text})
        shown = answer.text.split('"Numeric":')[1].split(",")[0].rstrip("}")
        assert shown == text.rstrip("0"), text
    [found] = await user.list(f"{every_type}?Numeric=123456789012.345")
    assert found["Numeric"] == 123456789012.345


async def test_every_mistake_is_named_at_once(user: Client, typed: str) -> None:
    """One answer names all errors."""
    body = {"price": "x", "floor": "y", "sold": "z", "colour": "w"}
    errors = refused(await user.post(f"/{typed}", body), 400, "name", "price", "floor", "sold", "colour")
    assert set(errors) == {"name", "price", "floor", "sold", "colour"}


async def test_a_closed_store_knows_its_fields_only(user: Client, hub: Hub) -> None:
    """An unknown field is refused with its name, unless the store is open."""
    field = {"id": "name", "type": "Text"}
    closed, open = await hub.define(fields=[field]), await hub.define(fields=[field], open=True)
    refused(await user.post(f"/{closed}", {"name": "a", "nmae": "b"}), 400, "nmae")
    made = await user.make(open, name="a", nmae="b")
    assert made["nmae"] == "b"
    refused(await user.post(f"/{open}", {"name": 5, "nmae": 5}), 400, "name")
    assert await user.list(f"{open}?nmae=b") == [made]


async def test_a_required_field_cannot_be_missing_or_emptied(user: Client, typed: str) -> None:
    """A missing field, null and an empty text are refused; a PATCH of other fields need not repeat the field."""
    for body in ({}, {"name": None}, {"name": ""}):
        refused(await user.post(f"/{typed}", body), 400, "name")
    made = await user.make(typed, name="a")
    path = f"/{typed}/{made['_id']}"
    assert entity_of(await user.patch(path, {"floor": 1}))["name"] == "a"
    for value in (None, ""):
        refused(await user.patch(path, {"name": value}), 400, "name")
        refused(await user.patch(f"/{typed}", {"name": value}, {"name": "a"}), 400, "name")
    refused(await user.put(path, {"floor": 1}), 400, "name")
    assert (await user.see(typed, made["_id"]))["name"] == "a"


async def test_defaults_fill_what_is_not_sent(user: Client, hub: Hub) -> None:
    """Defaults apply on creation and replacement, not on change; an explicit null stays null."""
    fields = [
        {"id": "state", "type": "Select", "options": OPTIONS, "default": 1},
        {"id": "count", "type": "Number", "default": 0},
        {"id": "name", "type": "Text", "required": True, "default": "unnamed"},
    ]
    store = await hub.define(fields=fields)
    made = await user.make(store)
    assert (made["state"], made["count"], made["name"]) == (1, 0, "unnamed")
    assert (await user.make(store, state=None))["state"] is None
    path = f"/{store}/{made['_id']}"
    await user.patch(path, {"state": None, "count": 5})
    assert entity_of(await user.patch(path, {"name": "b"}))["state"] is None
    replaced = entity_of(await user.put(path, {"name": "c"}))
    assert (replaced["state"], replaced["count"]) == (1, 0)


async def test_a_unique_field_is_held_by_one_entity(user: Client, other: Client, typed: str) -> None:
    """A duplicate is answered 409 with the field, on creation, change and replacement, even if the other entity is
    invisible. Null does not count as a value, and deletion frees the value."""
    first = await user.make(typed, name="a", code="x")
    second = await user.make(typed, name="b", code="y")
    await user.make_all(typed, [{"name": "c"}, {"name": "d", "code": None}, {"name": "e", "code": None}])
    refused(await user.post(f"/{typed}", {"name": "f", "code": "x"}), 409, "code")
    refused(await other.post(f"/{typed}", {"name": "f", "code": "x"}), 409, "code")
    path = f"/{typed}/{second['_id']}"
    refused(await user.patch(path, {"code": "x"}), 409, "code")
    refused(await user.put(path, {"name": "b", "code": "x"}), 409, "code")
    refused(await user.patch(f"/{typed}", {"code": "z"}, {"name[in]": "c,d"}), 409, "code")
    assert await user.see(typed, second["_id"]) == second
    assert entity_of(await user.patch(path, {"code": "y", "floor": 1}))["code"] == "y"
    assert (await user.make(typed, name="g", code="X"))["code"] == "X"
    await user.delete(f"/{typed}/{first['_id']}")
    assert entity_of(await user.patch(path, {"code": "x"}))["code"] == "x"


async def test_a_unique_path_of_a_schemaless_store(user: Client, hub: Hub) -> None:
    """A dotted path can be unique; its values cannot be objects, arrays or booleans."""
    store = await hub.define(unique=["ref.no"])
    await user.make(store, ref={"no": 1})
    await user.make_all(store, [{}, {}, {"ref": {"no": None}}, {"ref": "x"}])
    refused(await user.post(f"/{store}", {"ref": {"no": 1}}), 409, "ref.no")
    refused(await user.post(f"/{store}", {"ref": {"no": 1.0}}), 409, "ref.no")
    assert (await user.make(store, ref={"no": "1"}))["ref"] == {"no": "1"}
    for value in ([1], {"a": 1}, True):
        errors = refused(await user.post(f"/{store}", {"ref": {"no": value}}), 400, "ref.no")
        assert errors["ref.no"] == ["A unique field takes a string, a number or null."]


async def test_a_large_whole_number_has_no_point_or_exponent(user: Client, typed: str) -> None:
    """Beyond 2^53 a double may be another number than the one that was written: the error says so."""
    for value, text in ((1e18, ", written without point and exponent"), (1.5, ", written"), ("1", "."), (True, ".")):
        errors = refused(await user.post(f"/{typed}", {"name": "a", "floor": value}), 400, "floor")
        assert errors["floor"][0].startswith(f"Must be a whole number{text}")


CONVERTED: list[tuple[str, Any, Any]] = [
    ("Number", 1.0, 1),
    ("Number", -0.0, 0),
    ("Number", 1e3, 1000),
    ("Number", 2.0**53, 2**53),
    ("Numeric", "12.50", 12.5),
    ("DateTime", "2020-11-26T06:00:00Z", "2020-11-26 06:00:00"),
    ("DateTime", "2020-11-26T06:00:00.999999Z", "2020-11-26 06:00:00"),
    ("DateTime", "2020-11-26T06:00:00.123456789+05:30", "2020-11-26 00:30:00"),
    ("DateTime", "2020-11-26 06:00-0800", "2020-11-26 14:00:00"),
    ("DateTime", "0001-01-01T00:00:00z", "0001-01-01 00:00:00"),
    ("Email", "Ann@Example.COM", "ann@example.com"),
    ("Phone", "001 (514) 555-0123", "+15145550123"),
    ("Object", {"city": "a"}, {"city": "a", "floor": 0}),
]


async def test_other_forms_are_taken_and_stored_in_one(user: Client, every_type: str) -> None:
    """Creation, change, replacement and bulk change store the same."""
    for type, sent, stored in CONVERTED:
        made = await user.make(every_type, {type: sent})
        assert made[type] == stored, sent
        assert isinstance(made[type], int) is (type == "Number"), "a whole number is shown without a point"
        path = f"/{every_type}/{made['_id']}"
        for change in (user.patch, user.put):
            await user.patch(path, {type: None})
            assert entity_of(await change(path, {type: sent}))[type] == stored
        assert (await user.patch(f"/{every_type}", {type: sent}, {"_id": made["_id"]})).json()["count"] == 0


async def test_a_hidden_field_is_written_and_never_shown(user: Client, admin: Client, typed: str) -> None:
    """It is in no answer to a write, a read, a list, a delta or the history. A replacement without it keeps it."""
    start = (await user.get(f"/{typed}")).headers["x-position"]
    answers = [await user.post(f"/{typed}", {"name": "a", "secret": "hush"})]
    path = f"/{typed}/{entity_of(answers[0])['_id']}"
    answers += [
        await user.patch(path, {"secret": "hush hush"}),
        await user.put(path, {"name": "b"}),
        await user.get(path),
        await user.get(f"/{typed}"),
        await user.get(f"/{typed}?only=name"),
        await user.get(f"/{typed}?meta=true"),
        await user.get(f"/{typed}?since={start}"),
        await user.get(path + "/history"),
        await user.post(f"/{typed}", [{"name": "c", "secret": "hush"}]),
        await user.post(f"/{typed}", {"name": "c", "code": "1", "secret": "hush"}, {"upsert": "code"}),
        await admin.get(path),
        await admin.get(f"/{typed}"),
        await admin.get(path + "/history"),
        await user.delete(path),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert "hush" not in answer.text
        assert "secret" not in answer.text
