"""Filters as URL parameters and as JSON: their results, the types of values, and errors."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from stores.records import Entity
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, unique
from tests.support.live import live

ROWS: list[Entity] = [
    {"n": 0, "price": 10, "name": "alpha", "tags": ["a", "b"], "place": {"city": "Oslo"}, "items": [{"q": 1, "r": 9}]},
    {"n": 1, "price": 20, "name": "beta", "tags": ["b"], "place": {"city": "Rome"}, "items": [{"q": 1}, {"r": 9}]},
    {"n": 2, "price": 20.5, "name": "alphabet", "tags": [], "place": None, "sold": True},
    {"n": 3, "price": "20", "name": "a,b", "tags": "a", "sold": False},
    {"n": 4, "price": None, "name": 'say "hi"', "tags": [1, 2, 3], "a b": "x"},
    {"n": 5, "name": "true", "price": -5, "tags": [[1], 4], "limit": 3},
    {"n": 6, "name": True, "price": 7, "tags": None},
]
ALL = [row["n"] for row in ROWS]


@pytest.fixture(scope="module")
async def rows(hub: Hub, user: Client) -> str:
    """A store with ROWS; tests do not change it."""
    store = await hub.define()
    await user.make_all(store, ROWS)
    return store


async def found(user: Client, store: str, query: str) -> list[int]:
    return [e["n"] for e in await user.list(f"{store}?{query}")]


URL_CASES: list[tuple[str, list[int]]] = [
    ("price=20", [1]),
    ("price[eq]=20", [1]),
    ("price%5Beq%5D=20", [1]),
    ("price=20.0", [1]),
    ('price="20"', [3]),
    ("price=%2220%22", [3]),
    ("price=-5", [5]),
    ("price=null", [4]),
    ("place=null", [2, 3, 4, 5, 6]),
    ("name=alpha", [0]),
    ('name="alpha"', [0]),
    ('name="true"', [5]),
    ("name=true", [6]),
    ("name=alpha&price=10", [0]),
    ("name=alpha&price=11", []),
    ("price[ne]=20", [0, 2, 3, 4, 5, 6]),
    ("price[gt]=20", [2]),
    ("price[gte]=20", [1, 2]),
    ("price[lt]=10", [5, 6]),
    ("price[lte]=10", [0, 5, 6]),
    ("price[gte]=10&price[lt]=20.5", [0, 1]),
    ('price[gte]="2"', [3]),
    ("name[gt]=alphabet", [1, 4, 5]),
    ("price[in]=10,20", [0, 1]),
    ('price[in]=10,"20"', [0, 3]),
    ('name[in]="a,b",beta', [1, 3]),
    ('name[in]="say ""hi""",beta', [1, 4]),
    ('name[in]=say "hi",beta', [1, 4]),
    ('name[nin]="say ""hi""","a,b"', [0, 1, 2, 5, 6]),
    ("price[in]=null,7", [4, 6]),
    ("price[nin]=10,20,20.5", [3, 4, 5, 6]),
    ("sold[exists]=true", [2, 3]),
    ("sold[exists]=false", [0, 1, 4, 5, 6]),
    ("tags[exists]=true", ALL),
    ("sold=true", [2]),
    ("sold=false", [3]),
    ("sold[ne]=true", [0, 1, 3, 4, 5, 6]),
    ("name[contains]=pha", [0, 2]),
    ("name[contains]=PHA", []),
    ("name[contains]=.*", []),
    ("name[contains]=%25", []),
    ("name[startswith]=alpha", [0, 2]),
    ("name[startswith]=lpha", []),
    ("price[contains]=2", [3]),
    ("tags=a", [0, 3]),
    ("tags[in]=a,2", [0, 3, 4]),
    ("tags[gt]=2", [4, 5]),
    ("tags[contains]=a", [0, 3]),
    ("place.city=Oslo", [0]),
    ("place.city[ne]=Oslo", [1, 2, 3, 4, 5, 6]),
    ("items.q=1", [0, 1]),
    ("items.0.r=9", [0]),
    ("a b=x", [4]),
    ("a+b=x", [4]),
    ("limit[eq]=3", [5]),
    ("nothing=5", []),
    ("nothing[exists]=false", ALL),
    ("_rev=1", ALL),
    ("_rev[gt]=1", []),
]


@pytest.mark.parametrize(("query", "expected"), URL_CASES, ids=[query for query, _ in URL_CASES])
async def test_a_parameter_filters(user: Client, rows: str, query: str, expected: list[int]) -> None:
    """``<field>=v`` and ``<field>[op]=v`` are conditions. All of them must hold; quotes force a string."""
    assert await found(user, rows, query) == expected


JSON_CASES: list[tuple[Any, list[int]]] = [
    ({}, ALL),
    ({"price": 20}, [1]),
    ({"price": {"$eq": "20"}}, [3]),
    ({"price": {"$ne": 20, "$gt": 0}}, [0, 2, 6]),
    ({"price": {"$gt": 10, "$lte": 20.5}}, [1, 2]),
    ({"price": {"$gte": 20, "$lt": 20.5}}, [1]),
    ({"price": {"$in": [10, "20", None]}}, [0, 3, 4]),
    ({"price": {"$in": []}}, []),
    ({"price": {"$nin": [10, 20]}}, [2, 3, 4, 5, 6]),
    ({"sold": {"$exists": True}}, [2, 3]),
    ({"place": None}, [2, 3, 4, 5, 6]),
    ({"place": {"city": "Oslo"}}, [0]),
    ({"place.city": "Rome"}, [1]),
    ({"tags": {"$all": ["a", "b"]}}, [0]),
    ({"tags": {"$all": []}}, []),
    ({"tags": {"$size": 0}}, [2]),
    ({"tags": {"$size": 3}}, [4]),
    ({"tags": ["b"]}, [1]),
    ({"tags": [1]}, [5]),
    ({"tags": {"$elemMatch": {"$gte": 2, "$lt": 3}}}, [4]),
    ({"items": {"$elemMatch": {"q": 1, "r": 9}}}, [0]),
    ({"items.q": 1, "items.r": 9}, [0, 1]),
    ({"price": {"$not": {"$gte": 10}}}, [3, 4, 5, 6]),
    ({"$and": [{"price": {"$gt": 0}}, {"sold": True}]}, [2]),
    ({"$or": [{"price": 10}, {"name": "beta"}]}, [0, 1]),
    ({"$nor": [{"price": {"$gt": 0}}, {"tags": "a"}]}, [4, 5]),
    ({"$or": [{"$and": [{"n": 0}, {"n": 1}]}, {"n": {"$not": {"$lt": 6}}}]}, [6]),
    ({"name": {"$contains": "pha"}}, [0, 2]),
    ({"name": {"$startswith": "alphab"}}, [2]),
    ({"name": {"$contains": '"hi"'}}, [4]),
    ({"name": {"$contains": ""}}, [0, 1, 2, 3, 4, 5]),
]


@pytest.mark.parametrize(("document", "expected"), JSON_CASES, ids=[json.dumps(d) for d, _ in JSON_CASES])
async def test_a_json_filter_filters(user: Client, rows: str, document: Any, expected: list[int]) -> None:
    """Every documented operator, alone and combined."""
    assert await found(user, rows, "filter=" + quote(json.dumps(document))) == expected


async def test_both_notations_hold_together(user: Client, rows: str) -> None:
    """`filter`, parameters and search form one conjunction, for lists and for meta."""
    query = 'filter={"price":{"$gt":0}}&n[lt]=3&name[startswith]=alpha'
    assert await found(user, rows, query) == [0, 2]
    assert good(await user.get(f"/{rows}?{query}&meta=true"))["count"] == 2


UNKNOWN = ["$where", "$expr", "$regex", "$text", "$jsonSchema", "$type", "$mod", "$function", "$eqq", "$", "$set"]


@pytest.mark.parametrize("operator", UNKNOWN)
async def test_an_unknown_operator_is_named(user: Client, bare: str, operator: str) -> None:
    """It is answered 400 with its name at the top, on a field, in a negation, in an element, beside a known operator,
    and in a value."""
    documents: list[Any] = [
        {operator: "1"},
        {"a": {operator: 1}},
        {"a": {"$not": {operator: 1}}},
        {"a": {"$elemMatch": {operator: 1}}},
        {"a": {"$elemMatch": {"b": {operator: 1}}}},
        {"a": {"$eq": 1, operator: 1}},
        {"$or": [{"a": {operator: 1}}]},
        {"a": {"$in": [{operator: 1}]}},
        {"a": {"$eq": {operator: 1}}},
    ]
    for document in documents:
        answer = await user.get(f"/{bare}", {"filter": json.dumps(document)})
        refused(answer, 400, operator)
        assert operator in str(answer.json()["errors"][operator])


async def test_an_unknown_url_operator_is_named(user: Client, bare: str) -> None:
    """Examples are ``price[regex]`` and text that only looks like an operator."""
    for operator in ("regex", "where", "", "$gt", "GT", "size"):
        errors = refused(await user.get(f"/{bare}", {f"price[{operator}]": "1"}), 400)
        assert operator in str(errors)


BAD_FILTERS = [
    "", "{", "x", "{'a':1}", "[]", "5", "null", '"a"', "[1]", '{"a":NaN}', '{"a":1}x', '{"a":Infinity}',
    '{"$and":[]}', '{"$and":{}}', '{"$or":[5]}', '{"$nor":5}', '{"a":{"$in":5}}', '{"a":{"$in":{}}}',
    '{"a":{"$all":"x"}}', '{"a":{"$size":-1}}', '{"a":{"$size":1.5}}', '{"a":{"$size":true}}',
    '{"a":{"$exists":1}}', '{"a":{"$elemMatch":5}}', '{"a":{"$elemMatch":{}}}', '{"a":{"$not":5}}',
    '{"a":{"$not":{}}}', '{"a":{"$contains":5}}', '{"a":{"$startswith":null}}', '{"a":{"$gt":[1]}}',
    '{"a":{"$lt":{"b":1}}}', '{"":1}', '{"a..b":1}', '{".a":1}', '{"a.$b":1}', '{"a.":1}',
    '{"a":"\\u0000"}', '{"a\\u0000":1}', '{"a":{"$contains":"\\u0000"}}', '{"_id":5}', '{"_id":"x"}',
    '{"_id":{"$in":["x"]}}', '{"_id":{"$contains":"a"}}', '{"a":"\\ud800"}',
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_FILTERS)
async def test_a_malformed_filter_is_refused(user: Client, bare: str, text: str) -> None:
    """It is answered 400 with an explanation, for lists, meta, deltas and bulk changes."""
    assert refused(await user.get(f"/{bare}", {"filter": text}), 400)
    assert refused(await user.get(f"/{bare}", {"filter": text, "meta": "true"}), 400)
    assert refused(await user.delete(f"/{bare}", {"filter": text}), 400)


async def test_a_filter_has_bounds(user: Client, bare: str) -> None:
    """Too much depth, too many conditions, values or parameters, and integers beyond 64 bits are answered 400."""
    deep: Any = {"a": 1}
    for _ in range(40):
        deep = {"$and": [deep]}
    documents: list[Any] = [deep, {"$or": [{"a": 1}] * 1_001}, {"a": {"$in": [1] * 10_001}}]
    for document in documents:
        text = json.dumps(document, separators=(",", ":"))
        refused(await user.get(f"/{bare}", {"filter": text}), 400)
    value: Any = "x"
    for _ in range(40):
        value = [value]
    refused(await user.get(f"/{bare}", {"filter": json.dumps({"a": value})}), 400)
    for number in (2**63, -(2**63) - 1, 2**64, 10**20, -(10**30)):
        for condition in (number, {"$in": [1, number]}, {"$lt": number}):
            text = json.dumps({"a": condition})
            assert "64 bits" in str(refused(await user.get(f"/{bare}", {"filter": text}), 400))
            refused(await user.delete(f"/{bare}", {"filter": text}), 400)
    good(await user.get(f"/{bare}", {"filter": '{"a":1e20}'}))
    refused(await user.get(f"/{bare}?" + "&".join(f"f{n}=1" for n in range(1_100))), 400)


@pytest.mark.parametrize("query", ['name[in]="a,b', 'name[in]="say "hi", you"', 'name[nin]=beta,"a"b'])
async def test_a_quote_that_encloses_no_whole_item_is_refused(user: Client, bare: str, query: str) -> None:
    """It is refused, because otherwise part of the list would be ignored silently."""
    refused(await user.get(f"/{bare}?{query}"), 400, "name")


async def test_ids_are_compared_as_ids(user: Client, store: str) -> None:
    """Upper and lower case are equal; values that are not ids are refused in comparisons of ids."""
    a, b = await user.make_all(store, [{"n": 1}, {"n": 2}])
    for query in (
        f"_id={a['_id']}",
        f"_id={a['_id'].upper()}",
        f"_id[in]={a['_id']}",
        f"_id[ne]={b['_id']}",
        f'_id="{a["_id"]}"',
        f'_id[in]="{a["_id"]}"',
    ):
        assert await found(user, store, query) == [1]
    assert await found(user, store, f"_id[gt]={a['_id']}&_id[lte]={b['_id']}") == [2]
    refused(await user.get(f"/{store}?_id=5"), 400, "_id")


@pytest.fixture(scope="module")
async def flats(hub: Hub, user: Client) -> str:
    """A typed store with three entities; tests do not change it."""
    fields = [
        {"id": "n", "type": "Number"},
        {"id": "name", "type": "Text"},
        {"id": "price", "type": "Numeric"},
        {"id": "sold", "type": "Boolean"},
        {"id": "day", "type": "Date"},
        {"id": "state", "type": "Select", "options": [{"id": 1, "name": "new"}, {"id": "old", "name": "old"}]},
        {"id": "extra", "type": "JSON"},
        {"id": "secret", "type": "Text", "hidden": True},
    ]
    store = await hub.define(fields=fields)
    await user.make_all(
        store,
        [
            {"n": 1, "name": "7", "price": 7, "sold": True, "day": "2020-01-01", "state": 1, "extra": {"a": 5}},
            {"n": 2, "name": "true", "price": 12.5, "sold": False, "state": "old", "extra": "5", "secret": "x"},
            {"n": 3, "name": "null", "day": "2021-01-01"},
            {"n": 4},
        ],
    )
    return store


TYPED_CASES: list[tuple[str, list[int]]] = [
    ("name=7", [1]),
    ('name="7"', [1]),
    ("name=true", [2]),
    ("name=null", [4]),
    ('name="null"', [3]),
    ("name[in]=7,true", [1, 2]),
    ("name[gte]=7", [1, 2, 3]),
    ("price=7", [1]),
    ("price=7.000", [1]),
    ("price[gt]=7", [2]),
    ("price=null", [3, 4]),
    ("sold=true", [1]),
    ("sold=false", [2]),
    ("sold=null", [3, 4]),
    ("day[gt]=2020-06-01", [3]),
    ("day[startswith]=2020", [1]),
    ("state=1", [1]),
    ("state=old", [2]),
    ("extra=5", []),
    ('extra="5"', [2]),
    ("extra.a=5", [1]),
    ("_rev=1", [1, 2, 3, 4]),
    ("access[exists]=true", [1, 2, 3, 4]),
]


@pytest.mark.parametrize(("query", "expected"), TYPED_CASES, ids=[query for query, _ in TYPED_CASES])
async def test_values_are_typed_by_the_schema(user: Client, flats: str, query: str, expected: list[int]) -> None:
    """``7`` is text for a text field and a number for a number field."""
    assert await found(user, flats, query) == expected


@pytest.fixture(scope="module")
async def stamps(hub: Hub, user: Client) -> str:
    """A store with two entities; tests do not change it."""
    events = await hub.define(fields=[{"id": "at", "type": "DateTime", "unique": True}])
    fields = [
        {"id": "n", "type": "Number"},
        {"id": "at", "type": "DateTime"},
        {"id": "day", "type": "Date"},
        {"id": "price", "type": "Numeric"},
        {"id": "mail", "type": "Email"},
        {"id": "phone", "type": "Phone"},
        {"id": "of", "type": "Reference", "store": events, "by": "at"},
    ]
    store = await hub.define(fields=fields)
    early, late = "2026-11-26 06:00:00", "2026-11-26 23:00:00"
    one = {"day": "2026-11-26", "price": 7, "mail": "ann@b.example", "phone": "12345"}
    two = {"day": "2026-11-27", "price": 8, "mail": "bob@b.example", "phone": "+12345"}
    await user.make_all(events, [{"at": early}, {"at": late}])
    made: list[Entity] = [one | {"n": 1, "at": early, "of": early}, two | {"n": 2, "at": late, "of": late}]
    await user.make_all(store, made)
    return store


OUT_OF_TYPE: list[tuple[str, Entity, list[int]]] = [
    ("at[gte]=2026-11-26T06:00:01", {"at": {"$gte": "2026-11-26T06:00:01"}}, [2]),
    ("at[lt]=2026-11-26T06:00:01", {"at": {"$lt": "2026-11-26T06:00:01"}}, [1]),
    ("at[gt]=2026-11-26 06:00", {"at": {"$gt": "2026-11-26 06:00"}}, [2]),
    ("at=2026-11-26T23:00", {"at": "2026-11-26T23:00"}, [2]),
    ("at[ne]=2026-11-26T23:00", {"at": {"$ne": "2026-11-26T23:00"}}, [1]),
    ("at[gte]=2026-11-26 1", {"at": {"$gte": "2026-11-26 1"}}, [2]),
    ("at=2026-11-26", {"at": "2026-11-26"}, []),
    ("of[gt]=2026-11-26T06:00", {"of": {"$gt": "2026-11-26T06:00"}}, [2]),
    ("of[lt]=2026-11-26 1", {"of": {"$lt": "2026-11-26 1"}}, [1]),
    ("day[gte]=2026-11-26 06:00:00", {"day": {"$gte": "2026-11-26 06:00:00"}}, [2]),
    ("day[lt]=2026-12", {"day": {"$lt": "2026-12"}}, [1, 2]),
    ("price[lt]=7.0005", {"price": {"$lt": "7.0005"}}, [1]),
    ("price[gt]=7.0005", {"price": {"$gt": 7.0005}}, [2]),
    ("mail[gte]=b", {"mail": {"$gte": "b"}}, [2]),
    ("mail[gt]=B", {"mail": {"$gt": "B"}}, [1, 2]),
    ("phone[lt]=1", {"phone": {"$lt": "1"}}, [2]),
    ("phone[ne]=1", {"phone": {"$ne": 12345}}, [1, 2]),
]
"""Parameter, the same as a filter, and what both find: values that the types of the fields refuse."""


@pytest.mark.parametrize(("query", "document", "expected"), OUT_OF_TYPE, ids=[query for query, _, _ in OUT_OF_TYPE])
async def test_a_range_compares_what_the_type_refuses_as_it_is(
    user: Client, stamps: str, query: str, document: Entity, expected: list[int]
) -> None:
    """Texts by code point and numbers by value; a time without a zone is in UTC. It is equal to nothing."""
    assert await found(user, stamps, query) == expected
    assert await found(user, stamps, f"filter={quote(json.dumps(document))}") == expected
    [group] = good(await user.get(f"/{stamps}?aggregate=count&{query}"))["groups"]
    assert group["count"] == len(expected)


BAD_TYPED = [("price=cheap", "price"), ("n=x", "n"), ("n[gt]=x", "n"), ("sold=yes", "sold"), ("_rev=x", "_rev"),
             ("name[exists]=maybe", "name"), ("time[gt]=x", "time")]  # fmt: skip


@pytest.mark.parametrize(("query", "name"), BAD_TYPED)
async def test_a_value_of_another_type_is_refused(user: Client, flats: str, query: str, name: str) -> None:
    """The answer is 400 with the field."""
    errors = refused(await user.get(f"/{flats}?{query}"), 400)
    assert name in str(errors)


@pytest.mark.parametrize("name", ["colour", "Name", "colour[gt]", "colour.x", "ofset", "_secret"])
async def test_an_unknown_parameter_of_a_typed_store_is_named(user: Client, flats: str, name: str) -> None:
    """It is answered 400, so that a misspelt parameter does not silently find all entities. The same holds for unknown
    fields in `filter`, `sort` and `only`."""
    field = name.split("[")[0]
    assert field in str(refused(await user.get(f"/{flats}", {name: "1"}), 400))
    refused(await user.get(f"/{flats}", {"filter": json.dumps({field: 1})}), 400, field)
    assert field in str(refused(await user.get(f"/{flats}", {"sort": field}), 400))
    assert field in str(refused(await user.get(f"/{flats}", {"only": field}), 400))


@pytest.mark.parametrize(
    "params",
    [
        {"secret": "x"},
        {"secret[exists]": "true"},
        {"secret.a": "x"},
        {"filter": '{"secret":"x"}'},
        {"filter": '{"$or":[{"n":1},{"secret":{"$gt":""}}]}'},
        {"filter": '{"$nor":[{"secret":{"$startswith":"x"}}]}'},
        {"sort": "secret"},
        {"sort": "-n,secret"},
        {"only": "secret"},
        {"only": "n,secret.a"},
    ],
)
async def test_a_hidden_field_cannot_be_asked_about(
    user: Client, admin: Client, flats: str, params: dict[str, str]
) -> None:
    """Even administrators cannot filter, sort or project by it, and no list shows it."""
    for caller in (user, admin):
        assert "secret" in str(refused(await caller.get(f"/{flats}", params), 400))
        assert "secret" in str(refused(await caller.get(f"/{flats}", params | {"meta": "true"}), 400))
        assert "secret" not in (await caller.get(f"/{flats}")).text


async def test_who_wrote_an_entity_cannot_be_asked_for(hub: Hub, user: Client, bare: str) -> None:
    """An engine may store the writer as `_by`. Both engines refuse that name in lists, live and in definitions."""
    for params in ({"_by": user.id}, {"sort": "-_by"}, {"only": "_by"}, {"filter": '{"_by.x":{"$exists":true}}'}):
        assert "has no field '_by" in str(refused(await user.get(f"/{bare}", params), 400))
    async with live(hub, user) as client:
        for request in ({"filter": {"_by": user.id}}, {"only": "_by"}):
            assert (await client.subscribe(bare, **request))["error"]["code"] == "400"
    for definition in ({"unique": ["_by"]}, {"indexes": ["_by"]}, {"search": ["_by.x"]}):
        refused(await hub.admin.post("/stores", {"name": unique("store"), **definition}), 400)


@pytest.mark.parametrize("path", ["/{store}/5f00000000000000000000a1", "/{store}/5f00000000000000000000a1/history"])
async def test_a_parameter_that_a_call_does_not_take_is_named(user: Client, bare: str, path: str) -> None:
    refused(await user.get(path.format(store=bare) + "?sort=name"), 400, "sort")


@pytest.mark.parametrize("count", [496, 10_000])
async def test_long_lists_of_values_are_answered(user: Client, rows: str, count: int) -> None:
    """Parameters and JSON accept the documented number of values."""
    values = [10, *range(20, 19 + count)]
    assert await found(user, rows, f"price[in]={','.join(map(str, values))}") == [0, 1]
    inner = json.dumps({"items.q": {"$in": [v - 9 for v in values]}}, separators=(",", ":"))
    assert await found(user, rows, f"filter={inner}") == [0, 1]


@pytest.mark.parametrize("value", [9, {"$gt": 9}], ids=["value", "operator"])
async def test_as_many_conditions_as_documented_are_answered(user: Client, rows: str, value: Any) -> None:
    """A field and what stands behind it are one of them."""
    fields = {f"f{n}": value for n in range(600)}
    document = json.dumps({"$or": [{"price": 10}, fields]}, separators=(",", ":"))
    assert await found(user, rows, f"filter={quote(document)}") == [0]
