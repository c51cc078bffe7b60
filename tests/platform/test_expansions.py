"""`expand`: references become the entities that they refer to, as the caller sees them, in both directions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from hub.services.expansion import MOST_EXPANDED, MOST_EXPANDED_BYTES, MOST_TARGETS
from hub.services.expansion_plan import MOST_EXPANDED_DEPTH, MOST_EXPANDED_PATHS, MOST_REFERRING
from stores.records import Entity, new_id
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of


@dataclass(frozen=True)
class Shop:
    """Orders refer to customers, and in their lines to products by their `sku`; customers refer to regions."""

    regions: str
    customers: str
    products: str
    orders: str
    region: Entity
    customer: Entity
    product: Entity
    order: Entity

    @property
    def from_customers(self) -> str:
        return f"{self.orders}(customer)"


@pytest.fixture(scope="module")
async def shop(hub: Hub, user: Client) -> Shop:
    regions = await hub.define(fields=[{"id": "name", "type": "Text"}])
    customers = await hub.define(
        fields=[
            {"id": "name", "type": "Text"},
            {"id": "region", "type": "Reference", "store": regions},
            {"id": "secret", "type": "Text", "hidden": True},
        ]
    )
    products = await hub.define(
        fields=[
            {"id": "sku", "type": "Text", "unique": True},
            {"id": "name", "type": "Text"},
            {"id": "bundle", "type": "Object", "fields": [{"id": "size", "type": "Number"}]},
        ]
    )
    lines = [{"id": "product", "type": "Reference", "store": products, "by": "sku"}, {"id": "n", "type": "Number"}]
    orders = await hub.define(
        fields=[
            {"id": "number", "type": "Serial"},
            {"id": "customer", "type": "Reference", "store": customers},
            {"id": "seen_by", "type": "Reference", "store": customers, "many": True, "on_delete": "clear"},
            {"id": "lines", "type": "Object", "many": True, "fields": lines},
            {"id": "hush", "type": "Reference", "store": customers, "hidden": True},
            {"id": "note", "type": "Text"},
        ]
    )
    region = await user.make(regions, name="East")
    customer = await user.make(customers, name="Ann", region=region["_id"], secret="s")
    product = await user.make(products, sku="p1", name="Tea", bundle={"size": 5})
    order = await user.make(
        orders,
        customer=customer["_id"],
        seen_by=[customer["_id"]],
        lines=[{"product": "p1", "n": 1}, {"product": None}, {"n": 2}, {"product": "p1"}],
        hush=customer["_id"],
    )
    return Shop(regions, customers, products, orders, region, customer, product, order)


def in_lines(product: Entity, *shown: str) -> list[Entity]:
    """Return the lines of the order with a product in them, and of their other fields those that are shown."""
    lines = [{"product": product, "n": 1}, {"product": None}, {"n": 2}, {"product": product}]
    return [{name: value for name, value in line.items() if name in ("product", *shown)} for line in lines]


async def one(client: Client, store: str, entity: Entity, **parameters: str) -> Entity:
    return entity_of(await client.get(f"/{store}/{entity['_id']}", parameters))


async def both_ways(client: Client, store: str, entity: Entity, **parameters: str) -> Entity:
    """Read one entity alone and in a list, which must agree."""
    alone = await one(client, store, entity, **parameters)
    assert await client.list(store, {"_id": entity["_id"], **parameters}) == [alone]
    return alone


async def test_references_become_their_targets(user: Client, shop: Shop) -> None:
    shown = await both_ways(user, shop.orders, shop.order, expand="customer,lines.product,seen_by")
    assert shown == {
        **shop.order,
        "customer": shop.customer,
        "seen_by": [shop.customer],
        "lines": in_lines(shop.product, "n"),
    }
    assert "secret" not in shown["customer"]


async def test_paths_lead_on_from_target_to_target(user: Client, shop: Shop) -> None:
    shown = await both_ways(user, shop.orders, shop.order, expand="customer.region")
    assert shown["customer"] == {**shop.customer, "region": shop.region}
    assert shown["seen_by"] == [shop.customer["_id"]]


async def test_what_refers_here_newest_first(user: Client, shop: Shop) -> None:
    customer = await user.make(shop.customers, name="Bob", region=shop.region["_id"])
    orders = [await user.make(shop.orders, customer=customer["_id"]) for _ in range(3)]
    shown = await both_ways(user, shop.customers, customer, expand=shop.from_customers)
    assert shown == {**customer, shop.from_customers: orders[::-1]}
    # By a list, from inside of objects by a unique field, and onwards from there.
    seen = await both_ways(user, shop.customers, shop.customer, expand=f"{shop.orders}(seen_by).customer.region")
    assert seen[f"{shop.orders}(seen_by)"] == [
        {**shop.order, "customer": {**shop.customer, "region": shop.region}},
    ]
    sold = await both_ways(user, shop.products, shop.product, expand=f"{shop.orders}(lines.product)")
    assert sold[f"{shop.orders}(lines.product)"] == [shop.order]
    below = await both_ways(user, shop.regions, shop.region, expand=f"{shop.customers}(region).{shop.from_customers}")
    assert below[f"{shop.customers}(region)"] == [
        {**customer, shop.from_customers: orders[::-1]},
        {**shop.customer, shop.from_customers: [shop.order]},
    ]
    alone = await user.make(shop.products, sku="p-alone")
    assert (await one(user, shop.products, alone, expand=f"{shop.orders}(lines.product)"))[
        f"{shop.orders}(lines.product)"
    ] == []


async def test_at_most_the_newest_hundred(user: Client, shop: Shop) -> None:
    customer = await user.make(shop.customers, name="Busy")
    made = await user.make_all(shop.orders, [{"customer": customer["_id"]} for _ in range(MOST_REFERRING + 5)])
    shown = await one(user, shop.customers, customer, expand=shop.from_customers, only=f"{shop.from_customers}.number")
    numbers = [each["number"] for each in shown[shop.from_customers]]
    assert numbers == sorted((each["number"] for each in made), reverse=True)[:MOST_REFERRING]


async def test_only_reaches_in(user: Client, shop: Shop) -> None:
    ids = {"_id": shop.order["_id"]}
    customer = {"_id": shop.customer["_id"], "name": "Ann"}
    region = {"_id": shop.region["_id"], "name": "East"}
    size = {"_id": shop.product["_id"], "bundle": {"size": 5}}
    cases: list[tuple[str, str, Entity]] = [
        ("customer", "customer.name", {"customer": customer}),
        ("customer", "customer", {"customer": shop.customer}),
        ("customer", "customer,customer.name", {"customer": shop.customer}),
        ("customer", "number", {"number": shop.order["number"]}),
        ("customer,seen_by", "seen_by.name", {"seen_by": [customer]}),
        ("customer.region", "customer.name,customer.region.name", {"customer": {**customer, "region": region}}),
        ("customer.region", "customer.region", {"customer": {"_id": customer["_id"], "region": shop.region}}),
        ("lines.product", "lines", {"lines": in_lines(shop.product, "n")}),
        ("lines.product", "lines.product", {"lines": in_lines(shop.product)}),
        ("lines.product", "lines.n,lines.product.bundle.size", {"lines": in_lines(size, "n")}),
    ]
    for expand, only, expected in cases:
        assert await both_ways(user, shop.orders, shop.order, expand=expand, only=only) == ids | expected, only
    key = f"{shop.orders}(lines.product)"
    shown = await both_ways(user, shop.products, shop.product, expand=key, only=f"name,{key}.number")
    order = {**ids, "number": shop.order["number"]}
    assert shown == {"_id": shop.product["_id"], "name": "Tea", key: [order]}
    assert await one(user, shop.products, shop.product, expand=key, only="name") == {
        "_id": shop.product["_id"],
        "name": "Tea",
    }


async def test_what_is_out_of_sight_shows_what_refers_to_it(hub: Hub, user: Client, shop: Shop) -> None:
    stranger = await hub.as_user()
    customer = await user.make(shop.customers, region=shop.region["_id"])
    order, _ = await user.make_all(
        shop.orders, [{"customer": customer["_id"], "lines": [{"product": "p1"}]}, {"customer": customer["_id"]}]
    )
    good(await user.put(f"/{shop.orders}/{order['_id']}/access", {"access": [stranger.id]}))
    expand = "customer.region,lines.product"
    expected = ({"_id": customer["_id"]}, [{"product": {"sku": "p1"}}])
    shown = await both_ways(stranger, shop.orders, order, expand=expand)
    assert (shown["customer"], shown["lines"]) == expected
    # A store that the caller may not read is out of sight too, also for its own entities and for any path beyond.
    narrow = await hub.with_token(user.user, scopes=[f"GET /{shop.orders}/*"])
    beyond = {"expand": "customer.nothing.at.all,lines.product", "only": "customer.x,lines"}
    shown = await both_ways(narrow, shop.orders, order, **beyond)
    assert (shown["customer"], shown["lines"]) == expected
    # What refers here is listed as far as it is in sight.
    good(await user.put(f"/{shop.customers}/{customer['_id']}/access", {"access": [stranger.id]}))
    shown = await both_ways(stranger, shop.customers, customer, expand=shop.from_customers)
    assert [each["_id"] for each in shown[shop.from_customers]] == [order["_id"]]
    narrow = await hub.with_token(user.user, scopes=[f"GET /{shop.customers}/*"])
    for key in (shop.from_customers, f"{shop.orders}(nothing)", "nowhere(customer)"):
        assert (await one(narrow, shop.customers, customer, expand=key))[key] == []


async def test_a_changed_definition_counts_for_the_next_expansion(hub: Hub, user: Client) -> None:
    """Its fields are hidden at once, and a reference that is no more is refused."""
    targets = await hub.define(fields=[{"id": "name", "type": "Text"}, {"id": "secret", "type": "Text"}])
    to = {"id": "to", "type": "Reference", "store": targets}
    store = await hub.define(fields=[to, {"id": "n", "type": "Number"}])
    target = await user.make(targets, name="x", secret="s")
    source = await user.make(store, to=target["_id"])
    assert (await both_ways(user, store, source, expand="to"))["to"] == target
    hidden: list[dict[str, Any]] = [
        {"id": "name", "type": "Text"},
        {"id": "secret", "type": "Text", "hidden": True},
    ]
    await redefine(hub, targets, hidden)
    del target["secret"]
    assert (await both_ways(user, store, source, expand="to"))["to"] == target
    await redefine(hub, store, [{"id": "to", "type": "Text"}, {"id": "n", "type": "Number"}])
    refused(await user.get(f"/{store}/{source['_id']}", {"expand": "to"}), 400, "expand")


async def redefine(hub: Hub, store: str, fields: list[dict[str, Any]]) -> None:
    [definition] = await hub.admin.list("stores", {"name": store})
    good(await hub.admin.patch(f"/stores/{definition['_id']}", {"fields": fields}))


@pytest.mark.gate("sqlite", "mongodb")
async def test_an_expansion_shows_what_the_other_store_shows(hub: Hub) -> None:
    """For users of several groups, in both directions."""
    company = await hub.group()
    homes = [company, await hub.group(company), await hub.group(company), None]
    people = [await hub.as_user(group=group) for group in homes]
    targets = await hub.define(fields=[{"id": "n", "type": "Number"}])
    store = await hub.define(
        fields=[{"id": "to", "type": "Reference", "store": targets}, {"id": "n", "type": "Number"}]
    )
    ends = [await client.make(targets, n=n) for n, client in enumerate(people)]
    for n, client in enumerate(people):
        bodies = [{"to": end["_id"], "n": 10 * n + m} for m, end in enumerate(ends)]
        made = await hub.admin.make_all(store, bodies)
        for entity in made:
            good(await hub.admin.put(f"/{store}/{entity['_id']}/access", {"access": [client.id]}))
    key = f"{store}(to)"
    for client in (*people, hub.admin):
        seen = {end["_id"]: end for end in await client.list(targets)}
        plain = await client.list(store)
        assert plain
        assert await client.list(store, {"expand": "to"}) == [
            {**each, "to": seen.get(each["to"], {"_id": each["to"]})} for each in plain
        ]
        assert await client.list(targets, {"expand": key}) == [
            {**end, key: [each for each in reversed(plain) if each["to"] == id]} for id, end in seen.items()
        ]


async def test_wrong_paths_are_refused(user: Client, hub: Hub, shop: Shop) -> None:
    order, customer = f"/{shop.orders}/{shop.order['_id']}", f"/{shop.customers}/{shop.customer['_id']}"
    deep = ".".join(["customer", shop.from_customers] * 2)
    assert len(deep.split("customer.")) - 1 <= MOST_EXPANDED_DEPTH
    for path, expand in (
        (order, ""),
        (order, "nothing"),
        (order, "note"),
        (order, "lines"),
        (order, "lines.n"),
        (order, "lines.0.product"),
        (order, "hush"),
        (order, "customer.nothing"),
        (order, "customer.name"),
        (order, "customer,,lines.product"),
        (order, "$x"),
        (order, shop.from_customers),
        (order, deep),
        (order, ",".join(["customer"] * (MOST_EXPANDED_PATHS + 1))),
        (customer, f"{shop.orders}(hush)"),
        (customer, f"{shop.orders}(number)"),
        (customer, f"{shop.orders}(lines.product)"),
        (customer, "nowhere(customer)"),
    ):
        for at, more in ((path, {}), (path.rpartition("/")[0], {"limit": "1"})):
            refused(await user.get(at, {"expand": expand, **more}), 400, "expand")
    unknown = refused(await user.get(order, {"expand": "unknown"}), 400)["expand"]
    assert [
        text.replace("hush", "unknown") for text in refused(await user.get(order, {"expand": "hush"}), 400)["expand"]
    ] == unknown
    refused(await user.get(order, {"expand": "customer", "only": "customer.secret"}), 400, "only")
    refused(await user.get(order, {"expand": "customer", "only": "hush"}), 400, "hush")
    refused(await user.get(order, {"expand": "customer", "only": f"{shop.from_customers}.number"}), 400, "only")
    refused(await user.get(order, {"expand": "customer", "fields": "x"}), 400, "fields")


async def test_where_nothing_expands(user: Client, shop: Shop) -> None:
    listing = await user.get(f"/{shop.orders}?limit=1")
    for more in ({"since": listing.headers["x-position"]}, {"meta": "true"}):
        refused(await user.get(f"/{shop.orders}", {"expand": "customer", **more}), 400, "expand")
    good(await user.get(f"/{shop.orders}", {"expand": "customer", "meta": "false", "limit": "1"}))
    refused(await user.patch(f"/{shop.orders}?number=1&expand=customer", {"note": "x"}), 400, "expand")
    refused(await user.delete(f"/{shop.orders}?number=1&expand=customer"), 400, "expand")
    refused(await user.patch(f"/{shop.orders}/{shop.order['_id']}?expand=customer", {"note": "x"}), 400, "expand")
    refused(await user.post(f"/{shop.orders}?expand=customer", {"note": "x"}), 400, "expand")


async def test_an_expanded_entity_has_no_etag(user: Client, shop: Shop) -> None:
    path = f"/{shop.orders}/{shop.order['_id']}"
    plain = await user.get(path)
    etag = plain.headers["etag"]
    for headers in ({}, {"if_none_match": etag}, {"if_none_match": "*"}):
        answer = await user.get(path, {"expand": "customer"}, **headers)
        assert good(answer)["customer"] == shop.customer
        assert "etag" not in answer.headers
    assert (await user.get(path, if_none_match=etag)).status_code == 304
    refused(await user.get(path, {"expand": "customer"}, if_match='"999"'), 412)
    good(await user.get(path, {"expand": "customer"}, if_match=etag))
    head = await user.http.head(path, params={"expand": "customer"})
    whole = await user.get(path, {"expand": "customer"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    refused(await user.get(f"/{shop.orders}/{new_id()}", {"expand": "customer"}), 404)
    refused(await user.get(f"/{shop.orders}/x", {"expand": "customer"}), 404)


async def test_pages_of_expanded_lists(user: Client, hub: Hub) -> None:
    """Links lead on with `expand`; the position is that of the list; more than MOST_EXPANDED do not fit on a page."""
    targets = await hub.define(fields=[{"id": "n", "type": "Number"}])
    store = await hub.define(
        fields=[{"id": "n", "type": "Number"}, {"id": "to", "type": "Reference", "store": targets}]
    )
    ends = await user.make_all(targets, [{"n": n} for n in range(150)])
    made = await user.make_all(store, [{"n": n, "to": ends[n % 150]["_id"]} for n in range(MOST_EXPANDED + 300)])
    expected = [{**each, "to": ends[each["n"] % 150]} for each in made]
    seen: list[Entity] = []
    at, sizes = f"/{store}?expand=to&limit=5000", []
    while at:
        answer = await user.get(at)
        page = good(answer)
        seen += page
        sizes.append(len(page))
        at = answer.headers.get("link", "").partition(">")[0].removeprefix("</api/v1")
    assert sizes == [MOST_EXPANDED, 300]
    assert seen == expected
    answer = await user.get(f"/{store}?expand=to&sort=-n&offset=3&limit=2")
    assert good(answer) == expected[::-1][3:5]
    changed = await user.make(store, n=-1)
    since = answer.headers["x-position"]
    changes = good(await user.get(f"/{store}", {"since": since}))["changes"]
    assert [change["_id"] for change in changes] == [changed["_id"]]
    assert good(await user.get(f"/{store}?expand=to&limit=0")) == []
    key = f"{store}(to)"
    shown = good(await user.get(f"/{targets}", {"expand": key, "only": f"n,{key}.n"}))
    assert [[each["n"] for each in end[key]] for end in shown] == [
        [n for n in range(MOST_EXPANDED + 299, -1, -1) if n % 150 == end["n"]] for end in shown
    ]


async def test_a_large_target_is_not_sent_a_thousand_times(user: Client, hub: Hub) -> None:
    targets = await hub.define()
    store = await hub.define(fields=[{"id": "to", "type": "Reference", "store": targets}])
    large = await user.make(targets, text="x" * 1_000_000)
    await user.make_all(store, [{"to": large["_id"]} for _ in range(1_000)])
    errors = refused(await user.get(f"/{store}?expand=to"), 400, "expand")
    assert "MOST_EXPANDED_BYTES" in errors["expand"][0]
    most = MOST_EXPANDED_BYTES // 1_001_000
    answer = await user.get(f"/{store}?expand=to&limit={most}")
    assert [len(each["to"]["text"]) for each in good(answer)] == [1_000_000] * most
    assert {each["to"]["_id"] for each in good(await user.get(f"/{store}?expand=to&only=to._id"))} == {large["_id"]}
    # The same in the other direction, and for one entity.
    await user.make_all(targets, [{"text": "y" * 200_000} for _ in range(5)])
    key = f"{store}(to)"
    lists = await hub.define(fields=[{"id": "to", "type": "Reference", "store": targets, "many": True}], open=True)
    much = await user.make_all(lists, [{"to": [large["_id"]], "text": "z" * 250_000} for _ in range(70)])
    refused(await user.get(f"/{targets}/{large['_id']}?expand={lists}(to)"), 400, "expand")
    shown = good(await user.get(f"/{targets}/{large['_id']}?expand={key}"))
    assert len(shown[key]) == MOST_REFERRING
    await asyncio.gather(*(user.delete(f"/{lists}/{each['_id']}") for each in much[:10]))
    shown = good(await user.get(f"/{targets}/{large['_id']}?expand={lists}(to)&only=_id,{lists}(to)"))
    assert [each["_id"] for each in shown[f"{lists}(to)"]] == [each["_id"] for each in much[:9:-1]]


async def test_too_many_targets(user: Client, hub: Hub) -> None:
    targets = await hub.define(fields=[{"id": "n", "type": "Number"}])
    store = await hub.define(
        fields=[{"id": "to", "type": "Reference", "store": targets, "many": True, "max_items": 10_000}]
    )
    half = MOST_TARGETS // 2
    first = [each["_id"] for each in await user.make_all(targets, [{"n": 1} for _ in range(half)])]
    second = [each["_id"] for each in await user.make_all(targets, [{"n": 2} for _ in range(half + 1)])]
    await user.make_all(store, [{"to": first}, {"to": second}])
    errors = refused(await user.get(f"/{store}?expand=to&only=to.n"), 400, "expand")
    assert "MOST_TARGETS" in errors["expand"][0]
    [shown] = good(await user.get(f"/{store}?expand=to&only=to.n&limit=1"))
    assert shown["to"] == [{"_id": id, "n": 1} for id in first]


async def test_what_refers_here_by_a_field_that_is_not_shown(user: Client, hub: Hub) -> None:
    targets = await hub.define(fields=[{"id": "key", "type": "Text", "unique": True}, {"id": "n", "type": "Number"}])
    store = await hub.define(fields=[{"id": "to", "type": "Reference", "store": targets, "by": "key"}])
    target = await user.make(targets, key="k", n=5)
    entity = await user.make(store, to="k")
    assert (await both_ways(user, store, entity, expand="to", only="to.n"))["to"] == {"_id": target["_id"], "n": 5}
    key = f"{store}(to)"
    assert await both_ways(user, targets, target, expand=key) == {**target, key: [entity]}
    assert await both_ways(user, targets, target, expand=f"{key}.to", only=f"n,{key}.to.n") == {
        "_id": target["_id"],
        "n": 5,
        key: [{"_id": entity["_id"], "to": {"_id": target["_id"], "n": 5}}],
    }
    no_key = await user.make(targets, n=6)
    assert (await both_ways(user, targets, no_key, expand=key))[key] == []


async def test_the_document_describes_expanded_answers(user: Client, shop: Shop) -> None:
    document = good(await user.get("/openapi.json"))
    several = document["paths"][f"/api/v1/{shop.orders}"]["get"]["responses"]["200"]
    shown = several["content"]["application/json"]["schema"]
    one = document["paths"][f"/api/v1/{shop.orders}/{{id}}"]["get"]["responses"]["200"]
    assert document["components"]["headers"]["ETag-of-plain"]["required"] is False
    assert one["headers"]["ETag"] == {"$ref": "#/components/headers/ETag-of-plain"}

    def is_valid(answer: Any, schema: dict[str, Any]) -> bool:
        return bool(OAS31Validator({**schema, "components": document["components"]}).is_valid(answer))

    expansions: list[dict[str, str]] = [
        {},
        {"expand": "customer.region,lines.product,seen_by"},
        {"expand": "lines.product", "only": "lines"},
    ]
    for parameters in expansions:
        listed = await user.list(shop.orders, {"_id": shop.order["_id"], **parameters})
        alone = good(await user.get(f"/{shop.orders}/{shop.order['_id']}", parameters))
        schema = one["content"]["application/json"]["schema"]
        assert (is_valid(listed, shown), is_valid(alone, schema)) == (True, True)
        assert not is_valid([{**listed[0], "customer": 5}], shown)
        assert not is_valid({**alone, "lines": [{"product": []}]}, schema)


async def test_users_expand_to_what_their_reader_may_see(hub: Hub, user: Client) -> None:
    store = await hub.define(fields=[{"id": "seller", "type": "Reference", "store": "users", "on_delete": "clear"}])
    sale: dict[str, Any] = await hub.admin.make(store, seller=user.id)
    seller = (await one(hub.admin, store, sale, expand="seller"))["seller"]
    assert seller == await hub.admin.see("users", user.id)
    assert "password" not in seller
    stranger = await hub.as_user()
    good(await hub.admin.put(f"/{store}/{sale['_id']}/access", {"access": [stranger.id, user.id]}))
    assert (await one(stranger, store, sale, expand="seller"))["seller"] == {"_id": user.id}
    assert (await one(user, store, sale, expand="seller"))["seller"] == await user.see("users", user.id)
