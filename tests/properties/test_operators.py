"""Operators: both engines and a reference written from the contract make the same entity of every body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stores.computing import OperatorChange, prepared
from stores.errors import InvalidEntity
from stores.field import Field
from stores.limits import EntityLimits
from stores.parse_operators import parse_change
from stores.protocol import DeleteMany, Engine, Insert, Update, UpdateMany, Upsert, Write
from stores.query import EVERYTHING, Query
from stores.records import Entity
from stores.schema import StoreDefinition
from tests.properties.operator_reference import Refused, changed, equal
from tests.properties.strategies import INNER, SCALARS
from tests.support.entities import entity

STORE = StoreDefinition("counted", fields=(Field("price", "Numeric"), Field("code", "Text", unique=True)), open=True)
NUMERIC = frozenset({"price"})
BODIES = 8
PATHS = ["a", "a.b", "a.b.c", "b", "b.a", "c", "price", "a.0", "n", "n.m.o"]

amounts = st.sampled_from([1, -1, 2, 0.5, 1.0, 0.1, 2**62, -(2**62), 2**53, 1e308]) | st.integers(-3, 3)
prices = st.integers(-2_000_000, 2_000_000).map(lambda n: n / 1000 if n % 1000 else n // 1000)
comparables = st.sampled_from([s for s in SCALARS if isinstance(s, int | float | str) and not isinstance(s, bool)])
few = st.sampled_from([0, 1, 1.0, True, "1", "a", None, 2])


def values(depth: int) -> st.SearchStrategy[Any]:
    if depth == 0:
        return few
    inner = values(depth - 1)
    objects = st.dictionaries(st.sampled_from(INNER), inner, max_size=2)
    return st.one_of(few, st.lists(inner, max_size=3), objects, objects)


added = values(1) | st.lists(values(1), max_size=3).map(lambda items: {"$each": items})
OPERANDS: dict[str, st.SearchStrategy[Any]] = {
    "$inc": amounts,
    "$min": comparables,
    "$max": comparables,
    "$set": values(2),
    "$push": added,
    "$addToSet": added,
    "$pull": values(1),
}
entities = st.fixed_dictionaries(
    {},
    optional={
        "a": values(3) | amounts,
        "b": values(2) | comparables,
        "c": st.lists(values(1), max_size=4),
        "n": st.none() | amounts,
        "price": st.none() | prices,
    },
)


@st.composite
def bodies(draw: st.DrawFn) -> Entity:
    """A body whose paths do not conflict, mostly with operators that fit."""
    body: Entity = {}
    taken: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(PATHS))
        if any(f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.") for other in taken):
            continue
        taken.append(path)
        if path == "price":
            name = draw(st.sampled_from(["$inc", "$min", "$max", "$set", "$unset"]))
            operand: st.SearchStrategy[Any] = prices
        else:
            name = draw(st.sampled_from([*OPERANDS, "$unset", "plain"]))
            operand = OPERANDS.get(name, few)
        if name == "plain":
            body[path.split(".")[0]] = draw(values(1))
            taken.append(path.split(".")[0])
        elif name == "$unset":
            body.setdefault(name, []).append(path)
        else:
            body.setdefault(name, {})[path] = draw(operand)
    return body


@dataclass(frozen=True)
class Case:
    entities: list[Entity]
    bodies: list[Entity]


cases = st.builds(
    Case, st.lists(entities, min_size=1, max_size=4), st.lists(bodies(), min_size=BODIES, max_size=BODIES)
)


def is_consistent(body: Entity) -> bool:
    """Return whether no path is changed twice: drawn plain fields may stand above paths drawn before."""
    try:
        parse_change(body)
    except InvalidEntity:
        return False
    return True


def computed(body: Entity) -> tuple[Entity, OperatorChange]:
    plain, operators = parse_change(body)
    ready, violations = prepared(operators, STORE, frozenset(), EntityLimits())
    assert not violations
    return plain, OperatorChange(ready, STORE)


def expected(before: Sequence[Entity], body: Entity) -> list[Entity] | None:
    """Return what a body makes of all entities; None if it does not fit one of them."""
    try:
        return [changed(each, body, NUMERIC) for each in before]
    except Refused:
        return None


@pytest.fixture(scope="session")
async def counting(engines: dict[str, Engine]) -> dict[str, Engine]:
    """The engines, with the store."""
    for engine in engines.values():
        await engine.define(STORE)
    return engines


@pytest.mark.generated
@settings(phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(case=cases)
async def test_engines_and_reference_make_the_same_of_every_body(counting: dict[str, Engine], case: Case) -> None:
    """One by one, as upserts of an array, and as bulk changes; what is refused changes nothing."""
    for kind, engine in counting.items():
        await engine.commit([DeleteMany("counted", EVERYTHING, 1_000)], None)
        present = [entity(each, code=f"{n}") for n, each in enumerate(case.entities)]
        await engine.commit([Insert("counted", each) for each in present], None)
        for number, body in enumerate(filter(is_consistent, case.bodies)):
            wanted = expected(present, body)
            try:
                await engine.commit(writes_of(number, body, present), None)
            except InvalidEntity:
                assert wanted is None, (kind, body, present)
            else:
                assert wanted is not None, (kind, body, present)
            found = await engine.entities("counted", Query())
            assert all(map(is_same, found, present if wanted is None else wanted)), (kind, body, present, found)
            assert all(map(is_revised, present, found)), (kind, body, present, found)
            present = found


def writes_of(number: int, body: Entity, present: Sequence[Entity]) -> list[Write]:
    """Return writes that make the change of a body in all entities, of a kind that the number chooses."""
    plain, compute = computed(body)
    if number % 3 == 0:
        return [UpdateMany("counted", EVERYTHING, plain, 1_000, compute=compute)]
    if number % 3 == 1:
        return [Update("counted", each["_id"], plain, compute=compute) for each in present]
    return [Upsert("counted", "code", entity(code=each["code"]), plain, compute=compute) for each in present]


def is_same(a: Entity, b: Entity) -> bool:
    return equal(a | {"_rev": 0}, b | {"_rev": 0})


def is_revised(before: Entity, after: Entity) -> bool:
    """Return whether the revision is one more if the entity has been altered, and the same if not."""
    return bool(after["_rev"] == before["_rev"] + (not is_same(before, after)))
