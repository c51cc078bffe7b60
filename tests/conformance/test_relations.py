"""References between stores: their targets exist when they are written, and a deletion takes its consequences, whatever
races."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from stores import writes
from stores.errors import DataConflict, InvalidEntity, TooManyConsequences, TooManyMatches
from stores.protocol import Delete, DeleteMany, Engine, Insert, Procedure, Update, Written
from stores.query import EVERYTHING, NOTHING, And, Equal, Filter, Query
from stores.records import Entity, new_id
from stores.reference_checks import Deletion, FieldChange, ReferenceChecks, check_change, check_keys
from stores.relation import Relation
from stores.schema import StoreDefinition
from tests.support.entities import USER, entity, value
from tests.support.reading import changes_since

CUSTOMERS, ORDERS, LINES, TAGS = "customers", "orders", "lines", "tags"
CUSTOMER = Relation(ORDERS, ("customer",), CUSTOMERS)
ORDER = Relation(LINES, ("order",), ORDERS, on_delete="cascade")
PARENT = Relation(CUSTOMERS, ("parent",), CUSTOMERS, on_delete="clear")
TAGGED = Relation(ORDERS, ("tags",), TAGS, by="code", many=True, on_delete="clear")
RELATIONS = (CUSTOMER, ORDER, PARENT, TAGGED)


@pytest.fixture
async def engine(engine: Engine) -> Engine:
    await engine.define(
        StoreDefinition(CUSTOMERS, indexes=("parent",)),
        StoreDefinition(ORDERS, indexes=("customer", "tags")),
        StoreDefinition(LINES, indexes=("order",)),
        StoreDefinition(TAGS, unique=("code",)),
    )
    return engine


def everything(store: str) -> Filter | None:
    return EVERYTHING


async def create(engine: Engine, store: str, sight: Any = everything, **fields: Any) -> Entity:
    made = entity(**fields)
    checks = ReferenceChecks(sight, [relation for relation in RELATIONS if relation.store == store])
    checks.add_new(made)
    _, written = await engine.commit([Procedure(store, checks.check), Insert(store, made)], USER)
    return value(written)


async def change(engine: Engine, store: str, id: str, sight: Any = everything, **fields: Any) -> Written:
    relations = [relation for relation in RELATIONS if relation.store == store and relation.field in fields]
    checks = ReferenceChecks(sight, relations)
    check = partial(check_change, FieldChange(store, Equal(("_id",), id), fields), checks)
    _, written = await engine.commit([Procedure(store, check), Update(store, id, fields)], USER)
    return written


def referring(store: str, relations: Sequence[Relation] = RELATIONS) -> list[Relation]:
    return [relation for relation in relations if relation.target == store]


async def delete(
    engine: Engine, store: str, id: str, relations: Sequence[Relation] = RELATIONS, most: int = 1_000
) -> None:
    await delete_with(engine, Delete(store, id), Equal(("_id",), id), relations, most)


async def delete_all(engine: Engine, store: str, where: Filter, relations: Sequence[Relation], most: int) -> int:
    """Delete all matches; return their number."""
    return await delete_with(engine, DeleteMany(store, where, most), where, relations, most)


async def delete_with(
    engine: Engine, write: Delete | DeleteMany, where: Filter, relations: Sequence[Relation], most: int
) -> int:
    deletion = Deletion(write.store, most, lambda name: referring(name, relations), lambda name: ())
    before = Procedure(write.store, partial(deletion.collect, where))
    written = await engine.commit([before, write, Procedure(write.store, deletion.take)], USER)
    return written[1].count


async def ids(engine: Engine, store: str) -> list[str]:
    return [each["_id"] for each in await engine.entities(store, Query())]


def locations(error: pytest.ExceptionInfo[InvalidEntity]) -> list[tuple[str, str, str]]:
    return [(each.field, each.rule, each.detail) for each in error.value.violations]


async def test_what_is_referred_to_exists_in_sight(engine: Engine) -> None:
    customer = await create(engine, CUSTOMERS, name="ada")
    await create(engine, TAGS, code="a")
    with pytest.raises(InvalidEntity) as missing:
        await create(engine, ORDERS, customer=new_id(), tags=["a", "b", 5])
    assert locations(missing) == [
        ("customer", "reference", CUSTOMERS),
        ("tags.1", "reference", TAGS),
        ("tags.2", "reference", TAGS),
    ]
    for hidden in (NOTHING, None):
        with pytest.raises(InvalidEntity) as unseen:
            await create(engine, ORDERS, lambda store, hidden=hidden: hidden, customer=customer["_id"])
        assert locations(unseen) == [("customer", "reference", CUSTOMERS)]
    assert await ids(engine, ORDERS) == []
    made = await create(engine, ORDERS, customer=customer["_id"], tags=["a"])
    assert await ids(engine, ORDERS) == [made["_id"]]


async def test_a_change_keeps_what_is_out_of_sight(engine: Engine) -> None:
    """Only values that are new to the entity are checked."""
    customer, other = [(await create(engine, CUSTOMERS))["_id"] for _ in range(2)]
    order = (await create(engine, ORDERS, customer=customer))["_id"]
    blind = lambda store: NOTHING
    await change(engine, ORDERS, order, blind, customer=customer, n=1)
    await change(engine, ORDERS, order, blind, customer=None)
    for id in (customer, other):
        with pytest.raises(InvalidEntity):
            await change(engine, ORDERS, order, blind, customer=id)
    assert (await change(engine, ORDERS, order, customer=other)).rev == 4


async def test_a_deletion_is_refused_while_something_refers(engine: Engine) -> None:
    customer = (await create(engine, CUSTOMERS))["_id"]
    order = (await create(engine, ORDERS, customer=customer))["_id"]
    with pytest.raises(DataConflict) as refused:
        await delete(engine, CUSTOMERS, customer)
    assert refused.value.found == {"_id": "Entities of orders refer to it."}
    await delete(engine, ORDERS, order)
    await delete(engine, CUSTOMERS, customer)
    assert await ids(engine, CUSTOMERS) == []


async def test_a_deletion_clears_references(engine: Engine) -> None:
    """In a list the value goes, and the others stay."""
    parent = (await create(engine, CUSTOMERS))["_id"]
    child = (await create(engine, CUSTOMERS, parent=parent))["_id"]
    codes = {code: (await create(engine, TAGS, code=code))["_id"] for code in ("a", "b")}
    order = (await create(engine, ORDERS, customer=child, tags=["a", "b"]))["_id"]
    begun = await engine.feed.position()
    await delete(engine, CUSTOMERS, parent)
    await delete(engine, TAGS, codes["a"])
    [left] = await engine.entities(CUSTOMERS, Query())
    assert (left["_id"], left["parent"], left["_rev"]) == (child, None, 2)
    assert [each["tags"] for each in await engine.entities(ORDERS, Query())] == [["b"]]
    changes = await changes_since(engine.feed, begun)
    assert [(each.store, each.op, each.id, each.by) for each in changes] == [
        (CUSTOMERS, "delete", parent, USER),
        (CUSTOMERS, "update", child, USER),
        (TAGS, "delete", codes["a"], USER),
        (ORDERS, "update", order, USER),
    ]


async def test_references_inside_of_objects(engine: Engine) -> None:
    """An order has lines, each with a product and others that may stand for it."""
    product = Relation(ORDERS, ("lines", "product"), TAGS, on_delete="clear")
    others = Relation(ORDERS, ("lines", "more", "others"), TAGS, many=True, on_delete="clear")
    tags = [(await create(engine, TAGS))["_id"] for _ in range(3)]
    lines = [
        {"n": 1, "product": tags[0], "more": {"others": [tags[1], tags[2]]}},
        {"n": 2, "product": tags[1]},
        {"n": 3, "product": None, "more": None},
    ]
    order = entity(lines=lines)
    assert list(product.locations(order)) == [("lines.0.product", tags[0]), ("lines.1.product", tags[1])]
    assert [location for location, _ in others.locations(order)] == ["lines.0.more.others.0", "lines.0.more.others.1"]
    await engine.commit([Insert(ORDERS, order)], USER)
    await delete(engine, TAGS, tags[1], (product, others))
    [left] = await engine.entities(ORDERS, Query())
    assert left["lines"] == [
        {"n": 1, "product": tags[0], "more": {"others": [tags[2]]}},
        {"n": 2, "product": None},
        {"n": 3, "product": None, "more": None},
    ]


async def test_a_deletion_takes_what_belongs_to_it(engine: Engine) -> None:
    """Through several stores, in one commit. What goes with it refuses nothing; the bound counts all."""
    relations = (
        Relation(ORDERS, ("customer",), CUSTOMERS, on_delete="cascade"),
        ORDER,
        Relation(LINES, ("first",), ORDERS),
    )
    customer, other = [(await create(engine, CUSTOMERS))["_id"] for _ in range(2)]
    orders = [(await create(engine, ORDERS, customer=customer))["_id"] for _ in range(3)]
    kept = (await create(engine, ORDERS, customer=other))["_id"]
    for order in orders:
        await create(engine, LINES, order=order, first=orders[0])
    with pytest.raises(TooManyConsequences) as refused:
        await delete(engine, CUSTOMERS, customer, relations, most=6)
    assert (refused.value.most, refused.value.limit_name) == ("6 entities", "max_matches")
    assert len(await ids(engine, LINES)) == 3
    await delete(engine, CUSTOMERS, customer, relations, most=7)
    assert [await ids(engine, store) for store in (CUSTOMERS, ORDERS, LINES)] == [[other], [kept], []]


@pytest.mark.parametrize("on_delete", ["clear", "cascade"])
async def test_a_deletion_is_bounded_by_the_bytes_that_go_with_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, on_delete: Any
) -> None:
    """The entities that a deletion finds count, and so do those that it changes or deletes."""
    relation = Relation(ORDERS, ("customer",), CUSTOMERS, on_delete=on_delete)
    customer = (await create(engine, CUSTOMERS))["_id"]
    it = Equal(("_id",), customer)
    for _ in range(20):
        await create(engine, ORDERS, customer=customer, text="x" * 300)
    for most in (300, 5_000):
        monkeypatch.setattr(writes, "MOST_BULK_BYTES", most)
        for write in (Delete(CUSTOMERS, customer), DeleteMany(CUSTOMERS, it, 100)):
            with pytest.raises(TooManyConsequences) as refused:
                await delete_with(engine, write, it, (relation,), 100)
            assert (refused.value.most, refused.value.limit_name) == ("256 MiB", "MOST_BULK_BYTES")
    assert len(await ids(engine, ORDERS)) == 20
    monkeypatch.undo()
    await delete(engine, CUSTOMERS, customer, (relation,))
    assert len(await ids(engine, ORDERS)) == (20 if on_delete == "clear" else 0)


async def test_a_bulk_deletion_takes_what_matched_before_it(engine: Engine) -> None:
    """Its consequences do not add to the matches."""
    root = (await create(engine, CUSTOMERS, parent=None))["_id"]
    child = (await create(engine, CUSTOMERS, parent=root))["_id"]
    grandchild = (await create(engine, CUSTOMERS, parent=child))["_id"]
    begun = await engine.feed.position()
    assert await delete_all(engine, CUSTOMERS, Equal(("parent",), None), (PARENT,), 10) == 1
    changes = await changes_since(engine.feed, begun)
    assert [(each.op, each.id) for each in changes] == [("delete", root), ("update", child)]
    left = await engine.entities(CUSTOMERS, Query())
    assert [(each["_id"], each["parent"]) for each in left] == [(child, None), (grandchild, child)]


@pytest.mark.parametrize("on_delete", ["clear", "cascade"])
async def test_a_search_for_what_refers_passes_over_what_goes_anyway(engine: Engine, on_delete: Any) -> None:
    """However much of that there is: the last entity refers to the first, and does not match."""
    relation = Relation(CUSTOMERS, ("parent",), CUSTOMERS, on_delete=on_delete)
    first = (await create(engine, CUSTOMERS, n=0))["_id"]
    for _ in range(5):
        await create(engine, CUSTOMERS, n=0, parent=first)
    last = (await create(engine, CUSTOMERS, n=1, parent=first))["_id"]
    with pytest.raises(TooManyMatches):
        await delete_all(engine, CUSTOMERS, Equal(("n",), 0), (relation,), 5)
    with pytest.raises(TooManyConsequences):
        await delete_all(engine, CUSTOMERS, Equal(("n",), 0), (relation,), 6)
    assert await delete_all(engine, CUSTOMERS, Equal(("n",), 0), (relation,), 7) == 6
    left = await engine.entities(CUSTOMERS, Query())
    assert [(each["_id"], each["parent"]) for each in left] == ([(last, None)] if on_delete == "clear" else [])


async def test_circles_end(engine: Engine) -> None:
    relations = (Relation(CUSTOMERS, ("parent",), CUSTOMERS, on_delete="cascade"),)
    root = (await create(engine, CUSTOMERS))["_id"]
    child = (await create(engine, CUSTOMERS, parent=root))["_id"]
    await change(engine, CUSTOMERS, root, parent=child)
    alone = (await create(engine, CUSTOMERS))["_id"]
    await change(engine, CUSTOMERS, alone, parent=alone)
    refusing = (Relation(CUSTOMERS, ("parent",), CUSTOMERS),)
    with pytest.raises(DataConflict):
        await delete(engine, CUSTOMERS, root, refusing)
    await delete(engine, CUSTOMERS, alone, refusing)  # what refers to itself does not refuse
    await delete(engine, CUSTOMERS, root, relations)
    assert await ids(engine, CUSTOMERS) == []


async def test_a_value_that_others_refer_to_does_not_change(engine: Engine) -> None:
    tag = (await create(engine, TAGS, code="a", name="x"))["_id"]
    order = (await create(engine, ORDERS, tags=["a"]))["_id"]

    async def rename(code: str) -> None:
        check = partial(check_keys, FieldChange(TAGS, Equal(("_id",), tag), {"code": code}), [TAGGED])
        await engine.commit([Procedure(TAGS, check), Update(TAGS, tag, {"code": code})], USER)

    with pytest.raises(DataConflict) as refused:
        await rename("b")
    assert refused.value.found == {"code": "Entities of orders refer to this value."}
    await rename("a")
    await change(engine, ORDERS, order, tags=[])
    await rename("b")
    assert [each["code"] for each in await engine.entities(TAGS, Query())] == ["b"]


async def test_a_hot_target_refuses_nobody(engine: Engine) -> None:
    customer = (await create(engine, CUSTOMERS))["_id"]

    async def client() -> None:
        for _ in range(5):
            await create(engine, ORDERS, customer=customer)

    await asyncio.gather(*(client() for _ in range(64)))
    assert len(await ids(engine, ORDERS)) == 64 * 5


@pytest.mark.generated(0.1)
async def test_of_a_deletion_and_references_one_side_is_refused(engine: Engine) -> None:
    for _ in range(10):
        customer = (await create(engine, CUSTOMERS))["_id"]
        order = (await create(engine, ORDERS))["_id"]
        outcomes = await asyncio.gather(
            *(create(engine, ORDERS, customer=customer) for _ in range(5)),
            delete(engine, CUSTOMERS, customer),
            change(engine, ORDERS, order, customer=customer),
            return_exceptions=True,
        )
        assert all(
            not isinstance(each, BaseException) or isinstance(each, InvalidEntity | DataConflict) for each in outcomes
        ), outcomes
        left = await engine.entities(CUSTOMERS, Query(Equal(("_id",), customer)))
        refers = await engine.entities(ORDERS, Query(And((Equal(("customer",), customer),))))
        assert bool(left) == bool(refers)
