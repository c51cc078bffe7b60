"""A bulk change needs a condition: a missing or an empty filter does not mean all entities."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub

NO_CONDITION: list[Any] = [
    {},
    {"$and": [{}]},
    {"$and": [{}, {"$or": [{}]}]},
    {"$or": [{}]},
    {"$or": [{"n": 1}, {}]},
    {"$nor": [{"n": {"$in": []}}]},
    {"n": {"$nin": []}},
    {"n": {"$not": {"$in": []}}},
    {"$nor": [{"n": {"$all": []}}]},
    {"_id": {"$exists": True}},
    {"_id": {"$ne": None}},
    {"time": {"$nin": [None]}},
    {"owner": {"$ne": "undefined"}},
    {"_rev": {"$ne": "undefined"}},
    {"time": {"$nin": ["undefined", None]}},
    {"_at": {"$nin": [True, [1]]}},
    {"_rev": {"$not": {"$lt": "undefined"}}},
    {"_rev": {"$not": {"$contains": ""}}},
    {"time": {"$not": {"$size": 1}}},
    {"time": {"$not": {"$elemMatch": {"$gt": 1}}}},
    {"name": {"$startswith": ""}},
    {"name": {"$contains": ""}},
    {"$nor": [{"list": {"$elemMatch": {"$in": []}}}]},
    {"n": {"$not": {"$gt": None}}},
    {"$nor": [{"n": {"$gt": None}}]},
    {"n": {"$not": {"$lt": None}}},
    {"_id": {"$not": {"$gt": None}}},
    {"n": {"$not": {"$lt": ""}}},
    {"list": {"$not": {"$elemMatch": {"$gt": None}}}},
    {"owner": {"$not": {"$size": 1}}},
    {"owner": {"$not": {"$elemMatch": {"$gt": ""}}}},
    {"owner": {"$not": {"$gt": 5}}},
    {"owner": {"$not": {"$contains": "undefined"}}},
    {"access": {"$not": {"$elemMatch": {"$eq": "undefined"}}}},
    {"access": {"$ne": None}},
    {"_rev": {"$gte": 0}},
    {"_rev": {"$ne": 1.5}},
    {"code": {"$not": {"$size": 1}}},
]

NO_VALUE = ["", "?name[nin]=", "?owner[ne]=undefined", "?owner[nin]=", "?group[ne]=x", "?_id[exists]=true",
            "?name[startswith]=", "?name[contains]=", "?search=", "?_id[nin]=", "?all=false",
            "?from=0", "?time[gte]=0"]  # fmt: skip

MALFORMED: list[Any] = [{"$nor": []}, {"$and": []}, {"$or": []}, [], None]


@pytest.mark.parametrize("document", NO_CONDITION, ids=json.dumps)
async def test_a_filter_without_a_condition_changes_nothing(user: Client, store: str, document: Any) -> None:
    """PATCH and DELETE are answered 400 with the filter; a list accepts it."""
    made = await user.make(store, name="a", n=1, list=[1])
    params = {"filter": json.dumps(document)}
    assert await user.list(store, params) == [made]
    refused(await user.patch(f"/{store}", {"n": 2}, params), 400, "filter")
    refused(await user.delete(f"/{store}", params), 400, "filter")
    assert await user.list(store) == [made]


@pytest.mark.parametrize("query", NO_VALUE)
async def test_a_parameter_without_a_value_is_no_condition(user: Client, store: str, query: str) -> None:
    made = await user.make(store, name="a", title="t")
    assert refused(await user.patch(f"/{store}{query}", {"n": 2}), 400)
    assert refused(await user.delete(f"/{store}{query}"), 400)
    assert await user.list(store) == [made]


FIELDS: list[dict[str, Any]] = [
    {"id": "name", "type": "Text", "required": True},
    {"id": "customer", "type": "Reference", "store": "users"},
    {"id": "by_login", "type": "Reference", "store": "users", "by": "login"},
    {"id": "customers", "type": "Reference", "store": "users", "many": True},
    {"id": "n", "type": "Number", "min": 1},
    {"id": "day", "type": "Date"},
    {"id": "due", "type": "Date", "required": True},
    {"id": "at", "type": "DateTime"},
    {"id": "mail", "type": "Email"},
    {"id": "phone", "type": "Phone"},
    {"id": "color", "type": "ColorSwatch"},
    {"id": "site", "type": "URL"},
    {"id": "zone", "type": "Timezone"},
    {"id": "state", "type": "Select", "options": [{"id": 1, "name": "open"}]},
    {"id": "lines", "type": "Object", "many": True, "fields": [{"id": "day", "type": "Date"}]},
]
REJECTED = [
    *(f"?{path}[ne]=undefined" for path in ("customer", "customers", "day", "at", "mail", "phone", "color", "site")),
    *("?zone[ne]=undefined", "?state[ne]=undefined", "?lines.day[ne]=undefined", "?customer[nin]=undefined,x"),
    *("?customer[ne]=", "?n[ne]=0", "?name[ne]=", "?name[ne]=null", "?due[lt]=undefined", "?day[ne]=2020-02-30"),
    *('?filter={"day":{"$not":{"$gt":"undefined"}}}', '?filter={"n":{"$not":{"$gt":"undefined"}}}'),
    '?filter={"lines":{"$not":{"$elemMatch":{"day":"undefined"}}}}',
]
ACCEPTED = ["?day[ne]=2020-11-27", "?customer[ne]=6b03c48bc153bcada89413a9", "?by_login[ne]=undefined", "?n[ne]=2",
            "?state[ne]=1", "?customer[ne]=null&n=1", "?day[lt]=undefined"]  # fmt: skip


@pytest.fixture(scope="module")
async def orders(hub: Hub, user: Client) -> str:
    store = await hub.define(fields=FIELDS)
    await user.make(store, name="a", due="2020-11-26", day="2020-11-26", n=1, customer=user.user["_id"])
    return store


@pytest.mark.parametrize("query", REJECTED)
async def test_a_value_that_the_type_rejects_is_no_condition(user: Client, orders: str, query: str) -> None:
    """No entity can have it, so its negation is true of all: such values come from unset variables in clients."""
    before = await user.list(orders)
    refused(await user.delete(f"/{orders}{query}"), 400, "filter")
    refused(await user.patch(f"/{orders}{query}", {"n": 2}), 400, "filter")
    assert await user.list(orders) == before
    assert good(await user.get(f"/{orders}{query}&meta=true"))["count"] == len(before)


@pytest.mark.parametrize("query", ACCEPTED)
async def test_a_value_that_an_entity_may_have_is_a_condition(user: Client, orders: str, query: str) -> None:
    good(await user.patch(f"/{orders}{query}", {"name": "b"}))


@pytest.mark.parametrize("document", MALFORMED, ids=json.dumps)
async def test_a_malformed_filter_changes_nothing(user: Client, store: str, document: Any) -> None:
    made = await user.make(store, name="a")
    assert refused(await user.delete(f"/{store}", {"filter": json.dumps(document)}), 400)
    assert await user.list(store) == [made]


async def test_a_condition_beside_an_empty_filter_is_one(user: Client, store: str) -> None:
    await user.make_all(store, [{"n": 1}, {"n": 2}])
    assert good(await user.delete(f"/{store}", {"filter": "{}", "n": "1"}))["count"] == 1
    assert good(await user.delete(f"/{store}", {"filter": '{"n":{"$exists":true}}'}))["count"] == 1


async def test_a_large_body_for_many_entities_is_refused(user: Client, store: str) -> None:
    """Body times matches is bounded: nothing is changed."""
    await user.make_all(store, [{"n": n} for n in range(300)])
    body = {"text": "x" * 1_000_000}
    [text] = refused(await user.patch(f"/{store}?all=true", body), 400, "filter")["filter"]
    assert text == "The entities that match exceed 256 MiB with the changes: narrow the filter."
    assert good(await user.get(f"/{store}?meta=true&text[exists]=true"))["count"] == 0
    assert good(await user.patch(f"/{store}?n[lt]=3", body))["count"] == 3


CONDITIONS: list[Any] = [
    {"_rev": {"$ne": 2}},
    {"time": {"$nin": ["undefined", 5]}},
    {"_rev": {"$not": {"$gt": 1.5}}},
    {"list": {"$not": {"$elemMatch": {"owner": "bob"}}}},
    {"list": {"$elemMatch": {"_rev": {"$ne": "undefined"}}}},
    {"list": {"$elemMatch": {"_id": "abc"}}},
]


@pytest.mark.parametrize("document", CONDITIONS, ids=json.dumps)
async def test_what_an_entity_may_fail_is_a_condition(user: Client, store: str, document: Any) -> None:
    """System fields can have these values, and the fields of an element are not system fields."""
    await user.make(store, list=[{"owner": "bill", "_id": "abc", "_rev": 1}])
    assert good(await user.delete(f"/{store}", {"filter": json.dumps(document)}))["count"] == 1


async def test_all_says_everything_on_purpose(user: Client, other: Client, store: str) -> None:
    """`all` covers every visible entity, for PATCH and DELETE, and excludes all other parameters."""
    await user.make_all(store, [{"n": 1}, {"n": 2}])
    hidden = await other.make(store, n=3)
    refused(await user.delete(f"/{store}", {"all": "true", "n": "1"}), 400, "all")
    refused(await user.delete(f"/{store}", {"all": "yes"}), 400, "all")
    refused(await user.get(f"/{store}", {"all": "true"}), 400, "all")
    assert good(await user.patch(f"/{store}", {"n": 9}, {"all": "true"})) == {"success": True, "count": 2}
    assert [entity["n"] for entity in await user.list(store)] == [9, 9]
    assert good(await user.delete(f"/{store}", {"all": "true"}))["count"] == 2
    assert await other.list(store) == [hidden]
