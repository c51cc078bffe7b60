"""Batches: writes of several entities that are done together or not at all, each as if it had been sent alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.services import batch, batch_answers
from hub.services.batch import MOST_REQUESTS
from stores.records import Entity, new_id
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of

Request = dict[str, Any]


def post(store: str, **fields: Any) -> Request:
    return {"method": "POST", "path": f"/{store}", "body": fields}


def patch(store: str, id: str, **fields: Any) -> Request:
    return {"method": "PATCH", "path": f"/{store}/{id}", "body": fields}


def delete(store: str, id: str) -> Request:
    return {"method": "DELETE", "path": f"/{store}/{id}"}


def of(field: str) -> dict[str, str]:
    return {"$ref": field}


async def carried_out(client: Client, *requests: Request, **headers: str) -> list[Entity]:
    """Return the entities in the answer to a batch."""
    body = good(await client.post("/batch", {"requests": list(requests)}, None, **headers))
    assert body.keys() == {"success", "responses"}
    assert all(each["status"] == 200 and each["body"].pop("success") is True for each in body["responses"])
    return [each["body"] for each in body["responses"]]


async def refusal(client: Client, *requests: Any, status: int = 400) -> dict[str, list[str]]:
    """Return the errors with which a batch is refused."""
    answer = await client.post("/batch", {"requests": list(requests)})
    assert answer.status_code == status, answer.text
    found: dict[str, list[str]] = answer.json().get("errors", {})
    return found


async def test_each_request_does_what_it_would_do_alone(user: Client, typed: str, store: str) -> None:
    """The answers are those of the single calls, and so are the entities afterwards, their owners and times."""
    kept, gone = await user.make_all(store, [{"n": 1, "old": True}, {"n": 2}])
    made, changed, replaced, deleted, upserted = await carried_out(
        user,
        post(typed, name="chair", price="10.50"),
        patch(store, kept["_id"], n=5),
        {"method": "PUT", "path": f"/{store}/{kept['_id']}", "body": {"n": 6, "code": "c"}, "if_match": 2},
        delete(store, gone["_id"]),
        {"method": "POST", "path": f"/{store}?upsert=code", "body": {"code": "c", "m": 1}},
    )
    assert (made["name"], made["_rev"], made["owner"]) == ("chair", 1, user.id)
    assert made["price"] == entity_of(await user.get(f"/{typed}/{made['_id']}"))["price"]
    assert (changed["n"], changed["old"], changed["_rev"]) == (5, True, 2)
    assert (replaced["n"], "old" in replaced, replaced["_rev"]) == (6, False, 3)
    assert deleted == gone
    assert (upserted["_id"], upserted["n"], upserted["m"], upserted["_rev"]) == (kept["_id"], 6, 1, 4)
    assert await user.list(store) == [upserted]
    assert await user.list(typed) == [made]


async def test_a_reference_stands_for_a_field_of_an_earlier_answer(user: Client, store: str) -> None:
    """In bodies at any depth, and as text inside a path; any field of the answer, system fields included."""
    order, line, changed, gone = await carried_out(
        user,
        post(store, customer={"name": "Ann", "tags": ["a", "b"]}, n=3),
        post(store, order=of("0._id"), lines=[{"by": of("0.owner"), "of": [of("0.n")]}], who=of("0.customer")),
        patch(store, '{"$ref":"0._id"}', first=of("1._id"), rev=of("0._rev"), name=of("1.who.name")),
        delete(store, '{"$ref": "1._id"}'),
    )
    assert line["order"] == order["_id"]
    assert line["lines"] == [{"by": user.id, "of": [3]}]
    assert line["who"] == {"name": "Ann", "tags": ["a", "b"]}
    assert (changed["_id"], changed["first"], changed["rev"], changed["name"]) == (order["_id"], line["_id"], 1, "Ann")
    assert gone == line
    assert [each["_id"] for each in await user.list(store)] == [order["_id"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1._id", "earlier request"),
        ("2._id", "earlier request"),
        ("0", "number of an earlier request"),
        ("_id", "number of an earlier request"),
        ("00._id", "number of an earlier request"),
        (3, "number of an earlier request"),
        ("0.nothing", "no field"),
        ("0.tags.0", "no field"),
        ("0.tags.x", "no field"),
        ("0.n.m", "no field"),
    ],
)
async def test_references_that_mean_nothing(user: Client, bare: str, text: object, said: str) -> None:
    """Forward, own, malformed, unknown, and into an array."""
    first = post(bare, n=1, tags=["x"])
    errors = await refusal(user, first, post(bare, a={"b": [of(text)]}))  # type: ignore[arg-type]
    assert [*errors] == ["requests.1.a.b.0"]
    assert said in errors["requests.1.a.b.0"][0]
    if isinstance(text, str):
        errors = await refusal(user, first, delete(bare, f'{{"$ref":"{text}"}}'))
        assert [*errors] == ["requests.1.path"]
    assert await user.list(bare) == []


async def test_a_reference_in_a_path_is_a_text_or_a_number(user: Client, bare: str) -> None:
    first = post(bare, n=1, tags=["x"], yes=True)
    for field in ("tags", "yes"):
        assert [*await refusal(user, first, delete(bare, f'{{"$ref":"0.{field}"}}'))] == ["requests.1.path"]
    await refusal(user, first, delete(bare, '{"$ref":"0.n"}'), status=404)


@pytest.mark.parametrize("text", ['{"$ref":"0.n"}', '{"$ref":"0._id"}s', '{"$ref":5}', "%7B%22$ref%22:%220.n%22%7D"])
async def test_a_reference_does_not_stand_for_a_store(user: Client, bare: str, text: str) -> None:
    """Rights on the stores of a batch are looked up before its first request is carried out."""
    for request in (post(text), patch(text, new_id()), post(f"{text}?upsert=code", code="a")):
        errors = await refusal(user, post(bare, n=bare), request)
        assert [*errors] == ["requests.1.path"]
        assert "the store must be named" in errors["requests.1.path"][0]


@pytest.mark.parametrize("text", ['{"$ref":5}', '{"$ref":"0._id"', '{"$ref":"0._id","n":1}', "$ref:0._id"])
async def test_malformed_references_in_a_path(user: Client, bare: str, text: str) -> None:
    errors = await refusal(user, post(bare, n=1), delete(bare, text))
    assert [*errors] == ["requests.1.path"]
    assert "number of an earlier request" in errors["requests.1.path"][0]


async def test_a_reference_shows_only_what_the_caller_sees(hub: Hub, user: Client, typed: str) -> None:
    """Hidden fields are not in the answer, and for a caller who may only write nothing but id and revision is."""
    errors = await refusal(user, post(typed, name="a", secret="gold"), post(typed, name=of("0.secret")))
    assert [*errors] == ["requests.1.name"]
    writer = await hub.as_user(roles=[await hub.role(f"POST /{typed}/*")])
    errors = await refusal(writer, post(typed, name="a"), post(typed, name=of("0.name")))
    assert [*errors] == ["requests.1.name"]
    first, second = await carried_out(writer, post(typed, name="a"), post(typed, name=of("0._id")))
    assert first.keys() == second.keys() == {"_id", "_rev"}


@pytest.mark.gate("sqlite", "mongodb")
async def test_the_first_failure_names_its_request_and_undoes_all(user: Client, other: Client, typed: str) -> None:
    """With the status that the request would have alone."""
    taken = await user.make(typed, name="x", code="taken")
    hidden = await other.make(typed, name="y")
    good_one = post(typed, name="z")
    cases: list[tuple[Request, int, list[str]]] = [
        (post(typed, name=5), 400, ["requests.1.name"]),
        (post(typed), 400, ["requests.1.name"]),
        (post(typed, name="n", code="taken"), 409, ["requests.1.code"]),
        (patch(typed, taken["_id"], floor="top"), 400, ["requests.1.floor"]),
        (patch(typed, taken["_id"], floor=1) | {"if_match": 7}, 412, ["requests.1"]),
        (patch(typed, hidden["_id"], floor=1), 404, ["requests.1"]),
        (delete(typed, new_id()), 404, ["requests.1"]),
        (delete(typed, "nonsense"), 404, ["requests.1"]),
        ({"method": "PUT", "path": f"/{typed}/{taken['_id']}", "body": {}}, 400, ["requests.1.name"]),
        ({"method": "POST", "path": f"/{typed}?upsert=name", "body": {"name": "a"}}, 400, ["requests.1.upsert"]),
        (post("nowhere", n=1), 404, ["requests.1"]),
        (post("users", login="n"), 403, ["requests.1.path"]),
    ]
    for request, status, places in cases:
        errors = await refusal(user, good_one, request, post(typed, name=7), status=status)
        assert [*errors] == places, (request, errors)
    assert await user.list(typed) == [taken]
    errors = await refusal(user, post(typed, name=7), post("users", login="n"))
    assert [*errors] == ["requests.0.name"], "the first failure, although the second needs no commit"


async def test_each_store_needs_its_own_scopes(hub: Hub, typed: str, store: str) -> None:
    """An upsert needs both of its methods."""
    writer = await hub.as_user(roles=[await hub.role(f"POST /{typed}/*", f"PATCH /{store}/*")])
    await carried_out(writer, post(typed, name="a"))
    assert [*await refusal(writer, post(typed, name="a"), post(store, n=1), status=403)] == ["requests.1"]
    upsert = {"method": "POST", "path": f"/{typed}?upsert=code", "body": {"name": "a", "code": "c"}}
    assert [*await refusal(writer, upsert, status=403)] == ["requests.0"]


async def test_system_stores_have_no_place_in_a_batch(admin: Client, typed: str) -> None:
    """The text is that of bulk changes and upserts."""
    for store in ("users", "groups", "roles", "tokens", "stores"):
        errors = await refusal(admin, post(typed, name="a"), post(store, name="n"), status=403)
        text = f"{store} is a system store: change its entities one by one."
        assert errors == {"requests.1.path": [text]}
        assert refused(await admin.patch(f"/{store}?all=true", {"name": "n"}), 400) == {"store": [text]}


@pytest.mark.parametrize(
    ("item", "place"),
    [
        (5, "method"),
        ({}, "method"),
        ({"method": "GET", "path": "/S"}, "method"),
        ({"method": "post", "path": "/S", "body": {}}, "method"),
        ({"method": "POST", "body": {}}, "path"),
        ({"method": "POST", "path": "S", "body": {}}, "path"),
        ({"method": "POST", "path": "/S/5f00000000000000000000a1", "body": {}}, "path"),
        ({"method": "PATCH", "path": "/S?n=1", "body": {}}, "path"),
        ({"method": "DELETE", "path": "/S"}, "path"),
        ({"method": "PUT", "path": "/S/5f00000000000000000000a1/access", "body": {}}, "path"),
        ({"method": "POST", "path": "/S?upsert=code&only=a", "body": {}}, "path"),
        ({"method": "POST", "path": "/S?upsert=", "body": {}}, "path"),
        ({"method": "PATCH", "path": "/S/5f00000000000000000000a1?upsert=code", "body": {}}, "path"),
        ({"method": "POST", "path": "/S"}, "body"),
        ({"method": "POST", "path": "/S", "body": [{}]}, "body"),
        ({"method": "DELETE", "path": "/S/5f00000000000000000000a1", "body": {}}, "body"),
        ({"method": "POST", "path": "/S", "body": {}, "if_match": 1}, "if_match"),
        ({"method": "POST", "path": "/S", "body": {}, "if_match": None}, "if_match"),
        ({"method": "PATCH", "path": "/S/5f00000000000000000000a1", "body": {}, "if_match": "1"}, "if_match"),
        ({"method": "PATCH", "path": "/S/5f00000000000000000000a1", "body": {}, "if_match": True}, "if_match"),
        ({"method": "PATCH", "path": "/S/5f00000000000000000000a1", "body": {}, "if_match": -1}, "if_match"),
        ({"method": "PATCH", "path": "/S/5f00000000000000000000a1", "body": {}, "if_match": 2**63}, "if_match"),
        ({"method": "DELETE", "path": "/S/5f00000000000000000000a1", "if_match": 2**64 - 1}, "if_match"),
        ({"method": "DELETE", "path": '/S/{"$ref":"\\q"}'}, "path"),
        ({"method": "DELETE", "path": '/S/{"$ref":"0._id%00"}'}, "path"),
        ({"method": "POST", "path": "/S", "body": {}, "headers": {}}, "headers"),
        ({"method": "POST", "path": "/S", "body": {}, "headers": None}, "headers"),
        ({"method": None, "path": "/S", "body": {}}, "method"),
        ({"method": "POST", "path": None, "body": {}}, "path"),
        ({"method": "POST", "path": "/S", "body": None}, "body"),
        ({"method": "PATCH", "path": "/S/5f00000000000000000000a1", "body": None}, "body"),
        ({"method": "POST", "path": "/S", "body": {}, "upsert": None}, "upsert"),
        (None, "method"),
    ],
)
async def test_malformed_requests_are_refused_by_name(user: Client, bare: str, item: Any, place: str) -> None:
    assert [*await refusal(user, post(bare, n=1), item)] == [f"requests.1.{place}"]


async def test_a_condition_that_is_null_is_refused(user: Client, store: str) -> None:
    """It is what a client sends that has lost the revision: the write is not made without the condition."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    for request in (
        patch(store, made["_id"], n=2),
        {"method": "PUT", "path": path, "body": {}},
        {"method": "DELETE", "path": path},
    ):
        assert [*await refusal(user, post(store, n=3), request | {"if_match": None})] == ["requests.1.if_match"]
    assert await user.list(store) == [made]


@pytest.mark.parametrize(
    ("fields", "rule"), [({"list": [0] * 100_001}, "100000 values"), ({"text": "x" * 1_048_577}, "1048576 bytes")]
)
async def test_a_request_that_is_too_large_is_named(user: Client, bare: str, fields: Entity, rule: str) -> None:
    """Although it is refused before it is known to be a request."""
    errors = await refusal(user, post(bare, n=1), post(bare, **fields), post(bare, n=2))
    assert [*errors] == ["requests.1"]
    assert rule in errors["requests.1"][0]


async def test_references_in_deep_bodies(user: Client, bare: str) -> None:
    value: Any = of("0._id")
    for _ in range(240):
        value = [value]
    errors = await refusal(user, post(bare, n=1), post(bare, deep=value))
    [place] = errors
    assert place.startswith("requests.1.deep.0")
    assert "levels" in errors[place][0]


async def test_malformed_batches_are_refused(user: Client, bare: str) -> None:
    for body, place in (
        ([], "body"),
        ({}, "requests"),
        ({"requests": []}, "requests"),
        ({"requests": {}}, "requests"),
        ({"requests": [post(bare)] * (MOST_REQUESTS + 1)}, "requests"),
        ({"requests": [post(bare)], "more": []}, "more"),
        ({"more": 1, "requests": [post(bare)]}, "more"),
    ):
        answer = await user.post("/batch", body)
        assert (answer.status_code, [*answer.json()["errors"]]) == (400, [place]), answer.text
    answer = await user.post("/batch?x=1", {"requests": [post(bare)]})
    assert answer.status_code == 400
    assert (await user.send("POST", "/batch", b'{"requests":[{"method":')).status_code == 400
    assert (await user.get("/batch")).status_code == 405
    assert await user.list(bare) == []


async def test_many_requests_are_one_commit(user: Client, store: str) -> None:
    """As many as are allowed, each with a reference to the one before."""
    first = post(store, n=0)
    made = await carried_out(user, first, *(post(store, n=n, of=of(f"{n - 1}._id")) for n in range(1, MOST_REQUESTS)))
    assert [each.get("of") for each in made[1:]] == [each["_id"] for each in made[:-1]]
    changes = (await user.get(f"/{store}?meta=true")).json()
    assert changes["count"] == MOST_REQUESTS


async def test_the_feed_shows_a_batch_as_one(user: Client, typed: str, store: str) -> None:
    """In delta sync the last change of each store's view is marked."""
    start = (await user.get(f"/{store}")).headers["x-position"]
    typed_start = (await user.get(f"/{typed}")).headers["x-position"]
    await carried_out(
        user, post(store, n=1), post(typed, name="a"), post(store, n=2), patch(store, '{"$ref":"0._id"}', n=3)
    )
    changes = good(await user.get(f"/{store}?since={start}"))["changes"]
    [other] = good(await user.get(f"/{typed}?since={typed_start}"))["changes"]
    assert [(c["entity"]["n"], c["op"], c.get("last")) for c in changes] == [
        (1, "insert", None),
        (2, "insert", None),
        (3, "update", True),
    ]
    assert {c["commit"] for c in changes} == {other["commit"]}
    assert other["last"] is True


async def test_history_records_each_change(user: Client, store: str) -> None:
    made, _ = await carried_out(user, post(store, n=1), patch(store, '{"$ref":"0._id"}', n=2))
    history = good(await user.get(f"/{store}/{made['_id']}/history"))["history"]
    assert [(entry["op"], entry["by"], entry["_rev"]) for entry in history] == [
        ("insert", user.id, 1),
        ("update", user.id, 2),
    ]


async def test_a_key_covers_the_whole_batch(user: Client, typed: str, store: str) -> None:
    """A repetition gets the first outcome, as the caller may see it now, and writes nothing."""
    key = f"batch-{new_id()}"
    requests = [post(typed, name="a", code=key), post(store, of=of("0._id"))]
    first = await carried_out(user, *requests, idempotency_key=key)
    assert await carried_out(user, *requests, idempotency_key=key) == first
    answer = await user.post("/batch", {"requests": requests[:1]}, idempotency_key=key)
    assert (answer.status_code, [*answer.json()["errors"]]) == (409, ["Idempotency-Key"])
    assert len(await user.list(typed)) == len(await user.list(store)) == 1


async def test_what_references_stand_for_is_bounded(user: Client, store: str) -> None:
    large = post(store, text="x" * 300_000)
    errors = await refusal(user, large, post(store, many=[of("0.text")] * 4))
    assert [*errors] == ["requests.1.many.3"]
    many = [of("0._id")] * (batch_answers.MOST_REFERENCES // 2 + 1)
    errors = await refusal(user, large, post(store, many=many), post(store, many=many))
    assert [*errors] == ["requests.2"]
    assert await user.list(store) == []


async def test_what_a_batch_changes_is_bounded(user: Client, store: str) -> None:
    """Its answer holds each entity whole."""
    made = await user.make_all(store, [{"text": "x" * 900_000} for _ in range(2)])
    fitting = batch.MOST_BATCH_BYTES // 900_000
    requests = [patch(store, made[n % 2]["_id"], n=n) for n in range(fitting + 1)]
    assert next(iter(await refusal(user, *requests))) in (f"requests.{fitting}.path", f"requests.{fitting - 1}.path")
    assert all("n" not in each for each in await user.list(store))


@pytest.mark.gate("sqlite", "mongodb")
async def test_batches_and_single_changes_compute_exactly(user: Client, store: str) -> None:
    """None is refused, however many come between the steps of another."""
    product = await user.make(store, stock=0)
    path = f"/{store}/{product['_id']}"
    increment = {"$inc": {"stock": 1}}

    async def alone() -> None:
        for _ in range(10):
            good(await user.patch(path, increment))

    async def together() -> None:
        for _ in range(5):
            await carried_out(user, post(store, bought=1), patch(store, product["_id"], **increment))

    await asyncio.gather(*(alone() for _ in range(20)), *(together() for _ in range(8)))
    assert entity_of(await user.get(path))["stock"] == 240


async def test_lists_that_an_index_refuses_are_named_by_their_paths(hub: Hub, user: Client, store: str) -> None:
    other = await hub.define(indexes=[["a.b", "c.d.e"]])
    body = {"a": {"b": [1]}, "c": {"d": {"e": [1]}}}
    errors = await refusal(user, post(store, n=1), {"method": "POST", "path": f"/{other}", "body": body})
    assert [*errors] == ["requests.1.c.d.e"]
    assert "a.b" in errors["requests.1.c.d.e"][0]


@pytest.mark.gate("sqlite", "mongodb")
async def test_two_batches_lose_no_decrement(user: Client, store: str) -> None:
    """Each lowers the stock that it has read, at the revision that it has read."""
    product = await user.make(store, stock=40)
    path = f"/{store}/{product['_id']}"

    async def buy() -> None:
        while True:
            seen = entity_of(await user.get(path))
            lower = patch(store, product["_id"], stock=seen["stock"] - 1) | {"if_match": seen["_rev"]}
            answer = await user.post("/batch", {"requests": [post(store, bought=product["_id"]), lower]})
            if answer.status_code == 200:
                return
            assert answer.status_code == 412, answer.text
            assert [*answer.json()["errors"]] == ["requests.1"]

    await asyncio.gather(*(buy() for _ in range(20)))
    assert entity_of(await user.get(path))["stock"] == 20
    assert len([each for each in await user.list(store) if "bought" in each]) == 20


async def test_batch_is_no_name_for_a_store(admin: Client) -> None:
    answer = await admin.post("/stores", {"name": "batch"})
    assert (answer.status_code, [*answer.json()["errors"]]) == (400, ["name"])


async def test_references_and_serial_numbers_within_a_batch(hub: Hub, user: Client) -> None:
    """A request may refer to an entity that one before it makes, and delete what one before it no longer refers to."""
    customers = await hub.define()
    fields = [{"id": "customer", "type": "Reference", "store": customers}, {"id": "number", "type": "Serial"}]
    orders = await hub.define(fields=fields)
    customer, order, changed = await carried_out(
        user,
        post(customers, name="Ann"),
        post(orders, customer=of("0._id")),
        patch(customers, '{"$ref":"0._id"}', latest=of("1.number")),
    )
    assert (order["customer"], order["number"], changed["latest"]) == (customer["_id"], 1, 1)
    errors = await refusal(user, post(customers, name="Bob"), post(orders, customer=new_id()))
    assert [*errors] == ["requests.1.customer"]
    refused = await refusal(user, post(customers, name="Bob"), delete(customers, customer["_id"]), status=409)
    assert next(iter(refused)).startswith("requests.1")
    await carried_out(user, delete(orders, order["_id"]), delete(customers, customer["_id"]))
    assert await user.list(customers) == await user.list(orders) == []
