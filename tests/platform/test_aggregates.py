"""Sums and groups over REST: `aggregate`, `by`, their order, and what is refused beside them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from stores.aggregation import MOST_GROUPS
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub

ORDERS = [
    {"status": "open", "amount": 10, "price": 0.1, "tags": ["a", "b"], "place": {"city": "Laval"}},
    {"status": "open", "amount": 2.5, "price": 0.2, "tags": ["a"]},
    {"status": "paid", "amount": 7, "price": 1_000.005, "tags": []},
    {"amount": "many"},
]


@pytest.fixture
async def orders(hub: Hub, user: Client) -> str:
    store = await hub.define(
        fields=[{"id": "price", "type": "Numeric"}, {"id": "secret", "type": "Text", "hidden": True}],
        open=True,
        search=["status"],
    )
    await user.make_all(store, ORDERS)
    return store


async def groups(client: Client, store: str, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = good(await client.get(f"/{store}?{query}"))["groups"]
    return found


async def test_an_answer(user: Client, orders: str) -> None:
    """It has the groups, and the position as a list would give it."""
    answer = await user.get(f"/{orders}?aggregate=count,sum:amount,avg:amount,min:price,max:price&by=status")
    listed = await user.get(f"/{orders}")
    assert answer.headers["x-position"] == good(answer)["position"]
    assert answer.json() == {
        "success": True,
        "groups": [
            {"by": {"status": None}, "count": 1, "sum": {"amount": 0}, "avg": {"amount": None},
             "min": {"price": None}, "max": {"price": None}},
            {"by": {"status": "open"}, "count": 2, "sum": {"amount": 12.5}, "avg": {"amount": 6.25},
             "min": {"price": 0.1}, "max": {"price": 0.2}},
            {"by": {"status": "paid"}, "count": 1, "sum": {"amount": 7}, "avg": {"amount": 7.0},
             "min": {"price": 1000.005}, "max": {"price": 1000.005}},
        ],
        "position": good(answer)["position"],
    }  # fmt: skip
    for position in (answer.headers["x-position"], listed.headers["x-position"]):
        assert good(await user.get(f"/{orders}", {"since": position}))["changes"] == []


async def test_without_by_there_is_one_group(user: Client, orders: str) -> None:
    assert await groups(user, orders, "aggregate=count") == [{"by": {}, "count": 4}]
    [nothing] = await groups(user, orders, "aggregate=count,sum:amount,avg:amount,max:amount&status=lost")
    assert nothing == {"by": {}, "count": 0, "sum": {"amount": 0}, "avg": {"amount": None}, "max": {"amount": None}}
    assert await groups(user, orders, "aggregate=count&by=status&status=lost") == []


async def test_the_position_continues_exactly(user: Client, orders: str) -> None:
    position = good(await user.get(f"/{orders}?aggregate=sum:amount"))["position"]
    made = await user.make(orders, amount=5)
    [change] = good(await user.get(f"/{orders}", {"since": position}))["changes"]
    assert (change["op"], change["_id"]) == ("insert", made["_id"])


async def test_conditions_choose_the_entities(user: Client, orders: str) -> None:
    """Filters in every notation, a search, and a period."""
    cases = {
        "status=open": 2,
        "amount[gt]=5": 2,
        "filter=" + json.dumps({"tags": "a"}): 2,
        "search=PAI": 1,
        "from=2000-01-01": 4,
        "to=2000-01-01": 0,
        "by[eq]=x": 0,
        "aggregate[exists]=false": 4,
    }
    for condition, count in cases.items():
        assert await groups(user, orders, f"aggregate=count&{condition}") == [{"by": {}, "count": count}], condition


async def test_by_is_a_parameter_only_beside_aggregate(user: Client, store: str) -> None:
    await user.make_all(store, [{"by": "x", "status": 1}, {"by": "y", "status": 1}])
    assert [e["by"] for e in await user.list(f"{store}?by=x")] == ["x"]
    assert await groups(user, store, "aggregate=count&by=by&by[eq]=x") == [{"by": {"by": "x"}, "count": 1}]
    assert good(await user.patch(f"/{store}?by=x", {"status": 2}))["count"] == 1


async def test_arrays_and_dotted_paths(user: Client, orders: str) -> None:
    assert await groups(user, orders, "aggregate=count&by=tags") == [
        {"by": {"tags": None}, "count": 2},
        {"by": {"tags": "a"}, "count": 2},
        {"by": {"tags": "b"}, "count": 1},
    ]
    found = await groups(user, orders, "aggregate=sum:amount&by=place.city,status&sort=-place.city&limit=1")
    assert found == [{"by": {"place.city": "Laval", "status": "open"}, "sum": {"amount": 10}}]


async def test_the_order_and_the_limit(user: Client, orders: str) -> None:
    async def statuses(query: str) -> list[Any]:
        found = await groups(user, orders, f"aggregate=count,sum:amount&by=status&{query}")
        return [group["by"]["status"] for group in found]

    assert await statuses("sort=-sum:amount") == ["open", "paid", None]
    assert await statuses("sort=-count,-status") == ["open", "paid", None]
    assert await statuses("sort=-status&limit=1") == ["paid"]
    assert await statuses("limit=0") == []
    assert await statuses("limit=100000") == [None, "open", "paid"]


async def test_numbers_have_all_their_digits(hub: Hub, user: Client) -> None:
    """Sums of whole numbers and of Numeric fields are exact, however large."""
    store = await hub.define(fields=[{"id": "price", "type": "Numeric"}, {"id": "n", "type": "Number"}])
    await user.make_all(store, [{"price": 0.1, "n": 2**63 - 1}] * 3)
    await user.make_all(store, [{"price": "999999999999.999", "n": 2**63 - 1}] * 1_000)
    answer = await user.get(f"/{store}?aggregate=sum:price,sum:n,avg:price,max:n")
    [group] = json.loads(answer.text, parse_float=Decimal)["groups"]
    assert group["sum"] == {"price": Decimal("999999999999999.3"), "n": 1_003 * (2**63 - 1)}
    assert group["max"] == {"n": 2**63 - 1}
    assert float(group["avg"]["price"]) == float(Decimal("999999999999999.3") / 1_003)


async def test_periods_of_a_zone(hub: Hub, user: Client) -> None:
    """Of times in text, of dates, which have no zone, and of the creation of entities."""
    store = await hub.define(fields=[{"id": "at", "type": "DateTime"}, {"id": "on", "type": "Date"}])
    await user.make_all(
        store,
        [
            {"at": "2026-11-01 03:59:59", "on": "2026-11-01"},
            {"at": "2026-11-01 05:30:00", "on": "2026-11-01"},
            {"at": "2026-11-01 06:30:00", "on": "2026-11-08"},
        ],
    )

    async def labels(by: str) -> list[Any]:
        return [list(group["by"].values()) for group in await groups(user, store, f"aggregate=count&by={by}")]

    assert await labels("at:month@America/Toronto") == [["2026-10"], ["2026-11"]]
    assert await labels("at:hour@America/Toronto") == [
        ["2026-10-31 23"],
        ["2026-11-01 01-04:00"],
        ["2026-11-01 01-05:00"],
    ]
    assert await labels("on:month@America/Toronto") == [["2026-11"]]
    assert await labels("on:week") == [["2026-W44"], ["2026-W45"]]
    assert await labels("at:hour@Etc/GMT+5,on:year") == [["2026-10-31 22", "2026"], ["2026-11-01 00", "2026"],
                                                         ["2026-11-01 01", "2026"]]  # fmt: skip
    [[today]] = await labels("time:day")
    assert abs(datetime.fromisoformat(f"{today}T12:00:00+00:00") - datetime.now(UTC)).days <= 1


@pytest.mark.gate("sqlite", "mongodb")
async def test_each_user_sums_what_it_sees(user: Client, other: Client, store: str) -> None:
    mine = await user.make(store, n=1)
    await user.make(store, n=2)
    await other.make(store, n=4)

    async def total(client: Client) -> int:
        [group] = await groups(client, store, "aggregate=count,sum:n")
        return int(group["sum"]["n"])

    assert (await total(user), await total(other)) == (3, 4)
    good(await user.put(f"/{store}/{mine['_id']}/access", {"access": [other.id]}))
    assert (await total(user), await total(other)) == (3, 5)
    assert len(await groups(other, store, "aggregate=count&by=owner")) == 2


async def test_a_position_belongs_to_who_may_see_the_same(user: Client, other: Client, store: str) -> None:
    position = good(await user.get(f"/{store}?aggregate=count"))["position"]
    refused(await other.get(f"/{store}", {"since": position}), 410)


async def test_hidden_fields_are_unknown(admin: Client, orders: str) -> None:
    for query in ("aggregate=max:secret", "aggregate=count&by=secret", "aggregate=count&by=secret:day"):
        errors = refused(await admin.get(f"/{orders}?{query}"), 400, "secret")
        assert errors["secret"] == [f"{orders} has no field 'secret'"]
    refused(await admin.get(f"/{orders}?aggregate=count&by=status&sort=secret"), 400, "sort")
    refused(await admin.get("/users?aggregate=max:password"), 400, "password")


async def test_a_store_that_the_caller_may_not_read(hub: Hub, store: str) -> None:
    writer = await hub.as_user(roles=[await hub.role(f"POST /{store}")])
    refused(await writer.get(f"/{store}?aggregate=count"), 403)
    refused(await hub.client().get(f"/{store}?aggregate=count"), 401)
    refused(await hub.admin.get("/nowhere?aggregate=count"), 404)


REFUSED = [
    ("aggregate=", "aggregate"),
    ("aggregate=median:n", "aggregate"),
    ("aggregate=sum", "aggregate"),
    ("aggregate=count:n", "aggregate"),
    ("aggregate=count,count", "aggregate"),
    ("aggregate=count&aggregate=count", "aggregate"),
    ("aggregate=sum:a.0", "aggregate"),
    ("aggregate=count&by=", "by"),
    ("aggregate=count&by=a.0", "by"),
    ("aggregate=count&by=time:decade", "by"),
    ("aggregate=count&by=time:day@Nowhere", "by"),
    ("aggregate=count&by=time:day,time:month", "by"),
    ("aggregate=count&by=a&by=b", "by"),
    ("aggregate=count&sort=n", "sort"),
    ("aggregate=count&by=n&sort=n,n", "sort"),
    ("aggregate=count&limit=-1", "limit"),
    ("aggregate=count&offset=0", "offset"),
    ("aggregate=count&after=x", "after"),
    ("aggregate=count&since=x", "since"),
    ("aggregate=count&only=n", "only"),
    ("aggregate=count&meta=true", "meta"),
    ("aggregate=count&expand=n", "expand"),
    ("aggregate=count&upsert=code", "upsert"),
    ("aggregate=count&all=true", "all"),
    ("aggregate=count&n[what]=1", "n[what]"),
]


@pytest.mark.parametrize(("query", "name"), REFUSED)
async def test_wrong_requests_name_their_mistake(user: Client, bare: str, query: str, name: str) -> None:
    refused(await user.get(f"/{bare}?{query}"), 400, name)


async def test_aggregate_belongs_to_lists(user: Client, bare: str) -> None:
    refused(await user.patch(f"/{bare}?aggregate=count&n=1", {"n": 2}), 400, "aggregate")
    refused(await user.delete(f"/{bare}?aggregate=count&n=1"), 400, "aggregate")
    refused(await user.get(f"/{bare}/{'0' * 24}?aggregate=count"), 400, "aggregate")


async def test_more_groups_than_allowed(user: Client, store: str) -> None:
    """This is an error before `limit`."""
    await user.make_all(store, [{"n": n} for n in range(MOST_GROUPS + 1)])
    assert len(await groups(user, store, f"aggregate=count&by=n&n[lt]={MOST_GROUPS}")) == MOST_GROUPS
    for query in ("by=n", "by=n&limit=1", "by=n,time:day"):
        errors = refused(await user.get(f"/{store}?aggregate=count&{query}"), 400, "by")
        assert "1000 groups (MOST_GROUPS)" in errors["by"][0]


async def test_a_head_has_the_position(user: Client, orders: str) -> None:
    answer = await user.request("HEAD", f"/{orders}?aggregate=count")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["x-position"]
    assert (await user.request("HEAD", f"/{orders}?aggregate=what")).status_code == 400
