"""The OpenAPI document is valid, agrees with the routes, and shows each caller only the calls that it may use."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from auth.policy import authorize
from auth.system_stores import SYSTEM_STORES
from hub.dialects.platform.openapi import OPERATIONS
from hub.dialects.platform.parameter_components import store_parameters
from hub.dialects.platform.parameters import ListParameters
from hub.dialects.platform.schemas import conditions_schema, sent_field, shared_schemas, shown_field, store_schemas
from hub.dialects.platform.system_schemas import refined
from hub.http.errors import STATUS, tags_of
from hub.services.key_fields import with_keys
from stores.definitions import parse_definition
from stores.errors import InvalidEntity, InvalidQuery
from stores.field_definitions import FIELD_SETTINGS
from stores.fields import FIELD_TYPES
from stores.parse import FilterLimits, number
from tests.openapi.sample_stores import CLOSED, MEMBERS, ONE_OF_EACH, OPEN, OPTIONS, SCHEMALESS, STORES
from tests.support.hub import Client, Hub
from tests.support.principals import user

ERRORS = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
METHODS = ("get", "post", "patch", "put", "delete")


async def document(client: Client) -> dict[str, Any]:
    answer = await client.get("/openapi.json")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def calls(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Return (METHOD, path) of every operation in the document."""
    return {(m.upper(), path) for path, item in document["paths"].items() for m in item if m in METHODS}


def stores_in(document: dict[str, Any]) -> set[str]:
    """Return the stores with their own paths."""
    tops = {path.split("/")[3] for path in document["paths"]}
    return tops - {"{store}", "auth", "batch", "openapi.json"}


# The document as a whole.


async def test_the_document_is_valid_with_and_without_credentials(hub: Hub) -> None:
    validate(await document(hub.admin))
    validate(await document(hub.client()))


async def test_every_call_is_in_the_document_and_nothing_else(hub: Hub) -> None:
    everybody = {(o.method, o.path) for o in OPERATIONS if not o.for_administrators}
    assert calls(await document(hub.client())) == everybody
    assert calls(await document(hub.admin)) >= {(o.method, o.path) for o in OPERATIONS}


async def test_every_path_in_the_document_is_served(hub: Hub) -> None:
    for method, path in calls(await document(hub.admin)):
        filled = path.replace("{store}", "notes").replace("{id}", "0" * 24).removeprefix("/api/v1")
        answer = await hub.client().request(method, filled)
        assert answer.status_code not in (404, 405), (method, path)


async def test_operation_ids_are_unique(hub: Hub) -> None:
    paths = (await document(hub.admin))["paths"].values()
    ids = [item[m]["operationId"] for item in paths for m in item if m in METHODS]
    assert len(ids) == len(set(ids))


# Visibility.


async def test_without_credentials_no_store_is_named(hub: Hub) -> None:
    anonymous = await document(hub.client())
    assert not stores_in(anonymous)
    assert not any("." in name and not name.startswith("_any.") for name in anonymous["components"]["schemas"])


async def test_an_administrator_sees_every_store(hub: Hub) -> None:
    assert stores_in(await document(hub.admin)) == {*SYSTEM_STORES, *(str(s["name"]) for s in STORES)}


async def test_a_user_sees_the_calls_that_its_scopes_allow(hub: Hub) -> None:
    reader = await hub.as_user(roles=[await hub.role("GET /products/*", "POST /notes/*")])
    mine = {c for c in calls(await document(reader)) if c[1].split("/")[3] in ("products", "notes", "mixed")}
    entity = "/api/v1/products/{id}"
    reading = {("GET", "/api/v1/products"), ("GET", entity), ("GET", entity + "/history")}
    assert mine == reading | {("POST", "/api/v1/notes")}


async def test_of_the_system_stores_a_user_sees_the_calls_on_its_own_entities(hub: Hub) -> None:
    seen = await document(await hub.as_user())
    assert stores_in(seen) & {*SYSTEM_STORES} == {"users", "tokens", "keys", "sessions", "signins"}
    assert not {m for m, path in calls(seen) if path.startswith("/api/v1/users")} & {"POST", "PUT", "DELETE"}


async def test_the_document_follows_definitions_and_rights(hub: Hub) -> None:
    """Documents are kept, but none is out of date."""
    user = await hub.as_user()
    for client in (hub.admin, user):
        await document(client)
    store = await hub.define()
    assert all([store in stores_in(await document(client)) for client in (hub.admin, user)])
    role = await hub.role("GET /notes/*")
    assert (await hub.admin.patch(f"/users/{user.id}", {"roles": [role]})).status_code == 200
    assert store not in stores_in(await document(user))
    [definition] = await hub.admin.list("stores", {"name": store})
    assert (await hub.admin.delete(f"/stores/{definition['_id']}")).status_code == 200
    assert store not in stores_in(await document(hub.admin))


async def test_wrong_credentials_are_refused(hub: Hub) -> None:
    assert (await hub.client("wrong").get("/openapi.json")).status_code == 401


# Schemas of stores.


async def test_a_hidden_field_is_written_and_never_shown(hub: Hub) -> None:
    schemas = (await document(hub.admin))["components"]["schemas"]
    for store, name in (("users", "password"), ("products", "secret"), ("mixed", "secret")):
        assert name not in schemas[f"{store}.entity"]["properties"]
        for sent in ("new", "replacement", "changes"):
            assert schemas[f"{store}.{sent}"]["properties"][name]["writeOnly"] is True


async def test_system_fields_are_read_only(hub: Hub) -> None:
    schemas = (await document(hub.admin))["components"]["schemas"]
    for store in ("users", "products", "notes"):
        shown = schemas[f"{store}.entity"]["properties"]
        assert all(shown[n]["readOnly"] for n in ("_id", "owner", "group", "access", "branch", "time", "_at", "_rev"))


async def test_required_fields_and_defaults_are_told(hub: Hub) -> None:
    schemas = (await document(hub.admin))["components"]["schemas"]
    assert schemas["products.new"]["required"] == ["name"]
    assert schemas["products.new"]["properties"]["stock"]["default"] == 3
    assert "required" not in schemas["products.changes"]
    assert schemas["notes.new"].get("additionalProperties") is not False
    assert schemas["products.new"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        ("measure", ["count", "sum:stock", "max:aDate"], ["sum", "count:stock", "sum:secret", "median:stock", "sum:x"]),
        ("dimension", ["stock", "time:month", "time:day@Etc/GMT+5"], ["secret", "time:decade", "time:", "time:day@"]),
        ("group_order", ["-count", "-sum:limit (kg)"], ["stock", "-sum:secret"]),
    ],
)
def test_aggregations_name_what_a_caller_may_see(kind: str, taken: list[str], refused: list[str]) -> None:
    schema = store_schemas(parse_definition(CLOSED))[f"products.{kind}"]
    assert [is_valid(text, schema) for text in taken] == [True] * len(taken)
    assert [is_valid(text, schema) for text in refused] == [False] * len(refused)


PATHS = [
    "name", "name.x", "name.0", "tags", "tags.0", "tags.x", "tags.0.0", "aJSON.x.0", "aMultiSelect.1", "aMultiSelect.x",
    "aObject", "aObject.city", "aObject.zip", "aObject.city.x", "aObject.mails.0", "aObject.mails.x", "aObject.0",
    "aReference", "aReference.name", "owner", "owner.name", "access.0", "access.x", "time.0", "_id", "secret",
    "secret.x", "names", "other.x.0", "title", "title.x", "orders(aReference)", "orders(aReference).x",
    "orders(lines.product).lines.product.name", "orders(", "orders().x", "orders(a)b", "orders($a).x",
    "0(aReference).x",
]  # fmt: skip

EXPANDED = [
    "aReference.name", "orders(aReference)", "orders(aReference).x", "orders(lines.product).lines.product.name",
]  # fmt: skip
"""Those that `only` takes beside `expand`, whatever the fields of the store."""


@pytest.mark.parametrize("definition", [CLOSED, OPEN, SCHEMALESS], ids=["closed", "open", "schemaless"])
@pytest.mark.parametrize("path", PATHS)
def test_the_document_and_the_hub_agree_on_paths(definition: dict[str, Any], path: str) -> None:
    """In filters, `sort`, `only`, `by` and functions; with `expand`, `only` takes paths behind references, and to what
    refers here."""
    store = parse_definition(definition)
    try:
        authorize(user(), store, "GET").check_path(path)
        is_taken = True
    except InvalidQuery:
        is_taken = False
    schemas = store_schemas(store)
    for kind, text in (("order", f"-{path}"), ("measure", f"sum:{path}"), ("dimension", f"{path}:month")):
        assert is_valid(text, schemas[f"{store.name}.{kind}"]) is is_taken, kind
    filters = [*schemas[f"{store.name}.filter"]["patternProperties"], "^_id$"]
    conditions = conditions_schema(store, bulk=False)["patternProperties"]
    for name, patterns in ((path, filters), (path, conditions), (f"{path}[eq]", conditions)):
        assert any(re.search(pattern, name) for pattern in patterns) is is_taken, name
    assert is_valid(path, schemas[f"{store.name}.path"]) is (is_taken or path in EXPANDED)


TEXTS = [
    "1", "-1.5e3", "0", "-0", "007", "1234567890123456789", "99999999999999999999", "1,2", "1,null", "1,", ",1", "1, 2",
    '1,"2"', "null", "null,null", "true", "true,false", "True", "true,x", "", ",", "x", "a,b", '"a, b",c',
    '"a ""b"", c"', '"a', '"a"b', 'a"b', '"a""', "2020-02-29",
]  # fmt: skip


@pytest.mark.parametrize("field", ["_at", "time", "_rev", "owner", "other", "number", *(f["id"] for f in ONE_OF_EACH)])
@pytest.mark.parametrize("operator", ["", "[eq]", "[gt]", "[in]", "[nin]"])
def test_the_document_and_the_hub_agree_on_values_in_parameters(field: str, operator: str) -> None:
    """Of system fields, of fields of each type, of a Reference by a number, and of fields without a type."""
    orders = parse_definition({"name": "orders", "fields": [{"id": "n", "type": "Number", "unique": True}]})
    by_number = {"id": "number", "type": "Reference", "store": "orders", "by": "n"}
    definition = parse_definition({"name": "mixed", "open": True, "fields": [*ONE_OF_EACH, by_number]})
    store = with_keys(definition, {"orders": orders})
    name = field + operator
    patterns = conditions_schema(store, bulk=False)["patternProperties"]
    [schema] = [schema for pattern, schema in patterns.items() if re.search(pattern, name)]
    view = authorize(user(), store, "GET")
    for text in TEXTS:
        try:
            ListParameters(view, [(name, text)], FilterLimits(), 10).where()
            is_taken = True
        except InvalidQuery:
            is_taken = False
        assert (is_valid(text, schema) or is_valid(number(text), schema)) is is_taken, text


VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "Boolean": ([True, False], [0, "true"]),
    "ColorSwatch": (["#00ffAA"], ["#00ffA", "red", 7]),
    "Checkbox": ([[], [1, "two"]], [1, [3]]),
    "MultiSelect": ([[], ["two", "two"]], ["two", ["three"]]),
    "Radio": ([1, "two"], ["1", [1]]),
    "Select": ([1, "two"], [2, ""]),
    "Date": (["2020-02-29"], ["2021-02-29", "29.2.2020", 5]),
    "DateTime": (["2020-11-26 06:00:00", "2020-11-26T06:00:00.123Z", "2020-11-26T06:00:00+02:00"], [5, []]),
    "Number": ([0, -(2**63), 2**63 - 1, 1.0], ["1", 1.5, True]),
    "Numeric": ([0, -1.5, "2.125", 999_999_999_999.999], ["x", "1.2345", True, 1e12]),
    "Object": (
        [{"city": "a"}, {"city": "a", "floor": 3, "mails": ["A@b.example"]}, {"city": "a", "floor": None}],
        [{}, {"city": None}, {"city": ""}, {"city": "a", "floor": 201}, {"city": "a", "mails": "a@b.example"}, [], "a"],
    ),
    "URL": (["https://a.example/b"], [5, []]),
    "Email": (["ann@b.example", "Ann@B.example"], [5, "ann", [], "a" * 243 + "@b.example.com"]),
    "Phone": (
        ["+15145550123", "12345", "0049 (30) 12-34.5/6", "+0012345"],
        [5, "1234", "0012345"[:6], "00 1234", "1" * 16, "+1 x 23456", "(0)0-1234", "++12345", ""],
    ),
    "Reference": (["6b03c48bc153bcada89413a9"], ["6b03c48bc153bcada89413a", "x", 5, [], {}]),
    "Serial": ([1, 0], ["1", 1.5, True]),
    "Text": (["", "a" * 255], ["a" * 256, 1]),
    "Textarea": (["", "a" * 256], [1, ["a"]]),
    "Timezone": (["America/Toronto"], ["America/Nowhere", 1]),
    "JSON": ([0, "a", [1], {"a": {"b": None}}], []),
}
"""Type → valid values and invalid values, on which the hub and the schema must agree."""


def test_every_type_of_field_has_samples() -> None:
    assert FIELD_TYPES.keys() == VALUES.keys()


@pytest.mark.parametrize("kind", VALUES)
def test_schemas_and_checks_of_a_field_agree(kind: str) -> None:
    field = parse_definition({"name": "units", "fields": [dict(one(kind), id="a")]}).by_id["a"]
    taken, refused = VALUES[kind]
    for value in [*taken, None]:
        field.check(value, "a")
        assert is_valid(value, sent_field("units", field)), value
        assert is_valid(field.check(value, "a"), shown_field("units", field)), value
    for value in refused:
        with pytest.raises(InvalidEntity):
            field.check(value, "a")
        assert not is_valid(value, sent_field("units", field)), value


FIELDS: list[dict[str, Any]] = [
    {"id": "a", "type": "Reference", "store": "users"},
    {"id": "a", "type": "Reference", "store": "users", "by": "login", "many": True, "on_delete": "clear"},
    {"id": "a", "type": "Object", "fields": [{"id": "b", "type": "Reference", "store": "x", "on_delete": "cascade"}]},
    {"id": "a", "type": "Serial", "start": 10_000},
    {"id": "a", "type": "Select", "options": OPTIONS},
]
NO_FIELDS: list[dict[str, Any]] = [
    {"id": "a", "type": "Reference"},
    {"id": "a", "type": "Reference", "store": ""},
    {"id": "a", "type": "Reference", "store": "users", "on_delete": "ignore"},
    {"id": "a", "type": "Serial", "start": -1},
    {"id": "a", "type": "Select", "options": []},
    {"id": "a", "type": "Object"},
    {"id": "a", "type": "Text", "colour": "red"},
]


def test_every_setting_of_a_field_is_in_the_schema() -> None:
    schema = refined(("stores", "fields"))
    assert schema is not None
    assert schema["items"]["properties"].keys() == FIELD_SETTINGS
    for field in FIELDS:
        assert parse_definition({"name": "x", "fields": [field]})
        assert is_valid([field], schema), field
    for field in NO_FIELDS:
        with pytest.raises(InvalidEntity):
            parse_definition({"name": "x", "fields": [field]})
        assert not is_valid([field], schema), field


def test_an_upsert_is_by_what_a_body_may_say() -> None:
    """Neither by a serial number nor by a hidden field."""
    fields = [
        {"id": "number", "type": "Serial"},
        {"id": "sku", "type": "Text", "unique": True},
        {"id": "secret", "type": "Text", "unique": True, "hidden": True},
    ]
    definition = parse_definition({"name": "x", "fields": fields})
    upsert = next(o for o in OPERATIONS if o.parameters == "upsert")
    [parameter] = [each for each in store_parameters(upsert, definition, "x") if each["name"] == "upsert"]
    assert parameter["schema"] == {"enum": ["sku"]}


def one(kind: str) -> dict[str, Any]:
    return next(field for field in ONE_OF_EACH if field["type"] == kind)


LISTS: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": "Text", "many": True, "max_items": 2}, [[], ["a", "a"]], ["a", [1], ["a", "b", "c"], [None]]),
    ({"type": "Number", "many": True, "distinct": True, "min": 2}, [[2, 3]], [[2, 2], [1]]),
    ({"type": "Numeric", "max": 9.5}, [9.5, -1], [9.6, True]),
    ({"type": "Text", "min": 2, "max": 3}, ["ab", "abc"], ["a", "abcd", ""]),
    ({"type": "Text", "options": OPTIONS[1:]}, ["two"], ["One", 1, ""]),
    ({"type": "MultiSelect", "options": OPTIONS, "max_items": 1, "distinct": True}, [[], [1]], [[1, "two"]]),
    ({"type": "Object", "many": True, "fields": MEMBERS}, [[], [{"city": "a"}]], [[{}], {"city": "a"}]),
]


@pytest.mark.parametrize(("settings", "taken", "refused"), LISTS)
def test_schemas_and_checks_agree_about_settings(
    settings: dict[str, Any], taken: list[Any], refused: list[Any]
) -> None:
    field = parse_definition({"name": "units", "fields": [{"id": "a", **settings}]}).by_id["a"]
    for value in [*taken, None]:
        assert is_valid(value, sent_field("units", field)), value
        assert is_valid(field.check(value, "a"), shown_field("units", field)), value
    for value in refused:
        with pytest.raises(InvalidEntity):
            field.check(value, "a")
        assert not is_valid(value, sent_field("units", field)), value


def test_a_required_field_is_neither_null_nor_empty() -> None:
    field = parse_definition(CLOSED).by_id["name"]
    assert not is_valid(None, sent_field("products", field))
    assert not is_valid("", sent_field("products", field))


def is_valid(value: object, schema: dict[str, Any]) -> bool:
    whole = {"$ref": "#/$defs/it", "$defs": {"it": schema}, "components": {"schemas": shared_schemas()}}
    return bool(OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER).is_valid(value))


@pytest.mark.parametrize(
    "index",
    [
        "a.b",
        ["status", "-price"],
        ["--price", "a9.b9", "-²"],
        ".".join("a" * 100),
        {"fields": ["number"], "unique": True, "where": {"state": "open"}},
        {"fields": ["a"], "where": {"b.c": None, "d": {"$in": [1, "x", True]}, "e": {"$gte": 1, "$lt": 5}}},
        {"fields": ["a"], "where": {"b": {"$exists": True}, "c": {"$eq": 1}}},
    ],
)
def test_every_kind_of_index_is_in_the_schema(index: object) -> None:
    assert parse_definition({"name": "x", "indexes": [index]})
    assert is_valid([index], indexes_schema())


@pytest.mark.parametrize(
    "index",
    [
        5,
        [],
        ["a", "a"],
        ["a", "b.0"],
        ["-9"],
        ["a", "-9.b"],
        ["-"],
        ["-$a"],
        ["-_by.b"],
        "9",
        "_by",
        "a\0",
        ".".join("a" * 101),
        {"fields": ["-9"]},
        {"fields": ["a"], "where": {"9": 1}},
        [*"abcdefghi"],
        {"unique": True},
        {"fields": ["a"], "sparse": True},
        {"fields": ["a"], "unique": 1},
        {"fields": ["a"], "where": {"b": [1]}},
        {"fields": ["a"], "where": {"b": {"$ne": 1}}},
        {"fields": ["a"], "where": {"b": {"$exists": False}}},
        {"fields": ["a"], "where": {"b": {"$gt": None}}},
        {"fields": ["a"], "where": {"$or": [{"b": 1}]}},
        {"fields": ["a"], "where": {"_rev": 1}},
    ],
)
def test_a_wrong_index_is_not_in_the_schema(index: object) -> None:
    with pytest.raises(InvalidEntity):
        parse_definition({"name": "x", "indexes": [index]})
    assert not is_valid([index], indexes_schema())


def indexes_schema() -> dict[str, Any]:
    schema = refined(("stores", "indexes"))
    assert schema is not None
    return schema


# Errors.


def test_every_error_is_documented() -> None:
    text = ERRORS.read_text()
    statuses = {*STATUS.values(), HTTPStatus.INTERNAL_SERVER_ERROR} - {HTTPStatus.NOT_MODIFIED}
    missing = [tag for status in statuses for tag in tags_of(status) if not re.search(rf"`{tag}`", text)]
    assert not missing


async def test_every_error_that_can_be_met_is_declared(hub: Hub) -> None:
    components = (await document(hub.admin))["components"]["responses"]
    # The last one answers a WebSocket handshake, which the document does not describe.
    others = {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_MODIFIED, HTTPStatus.UPGRADE_REQUIRED}
    assert {f"Error{s.value}" for s in STATUS.values() if s not in others} == {*components} - {"NotModified"}
