"""The plan of an expansion: which references are followed, what is read of each store, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import orjson
import pytest

from auth.policy import authorize
from hub.dialects.platform.expand import parse_expand, parse_segments
from hub.services.expansion_plan import MOST_EXPANDED_PATHS, Hop, Level, Planner, Referring
from hub.services.listing_texts import texts_in
from hub.services.registry import StoreRegistry
from stores.errors import InvalidQuery
from stores.field import Field
from stores.parse import MOST_SEGMENTS, MOST_SHOWN
from stores.schema import StoreDefinition
from tests.support.principals import user
from tests.support.registries import FixedRegistry

STORES = {
    definition.name: definition
    for definition in (
        StoreDefinition("regions", (Field("code", "Text", unique=True), Field("name", "Text")), open=False),
        StoreDefinition(
            "customers",
            (
                Field("name", "Text"),
                Field("secret", "Text", hidden=True),
                Field("region", "Reference", store="regions", by="code"),
            ),
            open=False,
        ),
        StoreDefinition("products", (Field("name", "Text"),)),
        StoreDefinition(
            "orders",
            (
                Field("customer", "Reference", store="customers"),
                Field("hush", "Reference", store="customers", hidden=True),
                Field("lines", "Object", many=True, fields=(Field("product", "Reference", store="products"),)),
                Field("note", "Text"),
            ),
            open=False,
        ),
    )
}


def planned(store: str, expand: str, only: str | None = None, **rights: Any) -> Level:
    principal = user(**rights)
    view = authorize(principal, STORES[store], "GET")
    return Planner(cast("StoreRegistry", FixedRegistry(STORES.values())), principal).plan(
        view, parse_expand(expand, only)
    )


def outline(hops: Iterable[Hop]) -> dict[str, Any]:
    """Return the hops as a tree of names; None for a store out of sight."""
    return {hop.text: None if hop.level is None else outline(hop.level.hops) for hop in hops}


def paths(level: Level | None) -> set[str] | None:
    """Return the paths that are read at a level; None for all."""
    assert level is not None
    return None if level.read.only is None else {".".join(path) for path in level.read.only}


@pytest.mark.parametrize(
    ("store", "expand", "expected"),
    [
        ("orders", "customer", {"customer": {}}),
        ("orders", "customer,lines.product", {"customer": {}, "lines.product": {}}),
        ("orders", "customer.region,customer", {"customer": {"region": {}}}),
        ("orders", " customer , customer", {"customer": {}}),
        ("customers", "orders(customer).lines.product", {"orders(customer)": {"lines.product": {}}}),
        ("products", "orders(lines.product).customer", {"orders(lines.product)": {"customer": {}}}),
        (
            "regions",
            "customers(region).orders(customer).customer",
            {"customers(region)": {"orders(customer)": {"customer": {}}}},
        ),
    ],
)
def test_paths_become_hops(store: str, expand: str, expected: dict[str, Any]) -> None:
    assert outline(planned(store, expand).hops) == expected


@pytest.mark.parametrize(
    ("expand", "named"),
    [
        ("nothing", "nothing"),
        ("note", "note"),
        ("lines", "lines"),
        ("hush", "hush"),
        ("customer.nothing", "nothing"),
        ("customer.secret", "secret"),
        ("lines.product.name", "name"),
        ("orders(customer)", "orders(customer)"),
        ("customer.orders(hush)", "orders(hush)"),
        ("nowhere(x)", "nowhere(x)"),
        ("customer.orders(customer).customer.region", "3 references"),
        ("", "paths"),
        ("customer,", "paths"),
        ("customer..region", "customer..region"),
        (",".join(["customer"] * (MOST_EXPANDED_PATHS + 1)), str(MOST_EXPANDED_PATHS)),
        (".".join(["x"] * (MOST_SEGMENTS + 1)), str(MOST_SEGMENTS)),
    ],
)
def test_wrong_paths(expand: str, named: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        planned("orders", expand)
    assert refusal.value.field == "expand"
    assert named in refusal.value.message


@pytest.mark.parametrize(
    ("only", "field"),
    [
        ("hush", "hush"),
        ("nothing", "nothing"),
        ("customer.secret", "only"),
        ("customer.nothing", "only"),
        ("orders(customer)", "only"),
        ("customer,,note", "only"),
        (",".join(["note"] * (MOST_SHOWN + 1)), "only"),
    ],
)
def test_wrong_paths_to_show(only: str, field: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        planned("orders", "customer", only)
    assert refusal.value.field == field


def test_only_is_split_among_the_levels() -> None:
    plan = planned("orders", "customer.region,lines.product", "note,customer.name,customer.region.name,lines.product")
    customer, product = plan.hops
    assert customer.level is not None
    [region] = customer.level.hops
    assert paths(plan) == {"note", "customer", "lines.product"}
    assert paths(customer.level) == {"name", "region"}
    assert paths(region.level) == {"name"}
    assert paths(product.level) is None


def test_what_is_not_shown_is_not_read() -> None:
    assert outline(planned("orders", "customer,lines.product", "note,lines").hops) == {"lines.product": {}}
    assert outline(planned("orders", "customer.region", "customer.name").hops) == {"customer": {}}
    with pytest.raises(InvalidQuery):
        planned("orders", "customer.nothing", "note")


def test_the_field_by_which_others_refer_is_read_but_not_shown() -> None:
    plan = planned("regions", "customers(region)", "name,customers(region).name")
    assert paths(plan) == {"name", "code"}
    assert plan.shown.only == (("name",),)
    [hop] = plan.hops
    assert (hop.values({"code": "x"}), hop.values({"code": None}), hop.values({})) == ({"x"}, frozenset(), frozenset())
    whole = planned("regions", "customers(region)")
    assert whole.read == whole.shown
    by_id = planned("customers", "orders(customer)", "name")
    assert (by_id.read, outline(by_id.hops)) == (by_id.shown, {})


def test_a_store_out_of_sight() -> None:
    """What it holds, and whether it exists, is not said."""
    narrow = {"role": "GET /orders/*"}
    assert outline(planned("orders", "customer.what.ever,lines.product", **narrow).hops) == {
        "customer": None,
        "lines.product": None,
    }
    of_customers = {"role": "GET /customers/*"}
    for path in ("orders(customer)", "orders(nothing)", "nowhere(customer)"):
        assert outline(planned("customers", path, **of_customers).hops) == {path: None}
    with pytest.raises(InvalidQuery):
        planned("customers", "nowhere(customer)", role="GET /customers/*,GET /nowhere/*")
    with pytest.raises(InvalidQuery):
        planned("customers", "nowhere(customer)", admin=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ("a(b)", (Referring("a", ("b",)),)),
        ("x.a(b.c).d", ("x", Referring("a", ("b", "c")), "d")),
        ("a(b", ("a(b",)),
        ("a()", ("a()",)),
        ("a(b)c", ("a(b)c",)),
        ("9(b)", ("9(b)",)),
    ],
)
def test_segments(text: str, expected: tuple[Any, ...]) -> None:
    assert parse_segments("expand", text) == expected
    assert ".".join(map(str, expected)) == text


@pytest.mark.parametrize("size", [1, 2_000_000])
def test_texts_of_a_piece(size: int) -> None:
    """A piece begins with the list or in its middle, and ends with an entity or with the list."""
    entities = [
        {"_id": "1", "text": '],[{é\\"', "values": [{"a": [1, 1.5, None]}], "large": "x" * size},
        {"_id": "2", "n": 2**63 - 1, "o": {}},
    ]
    texts = [orjson.dumps(each) for each in entities]
    for before in (b"[", b","):
        for after in (b"", b"]"):
            assert texts_in(before + b",".join(texts) + after) == texts
    for empty in (b"[]", b"[", b"]"):
        assert texts_in(empty) == []
