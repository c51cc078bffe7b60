"""Compound indexes change no answer, and both engines refuse the same entities because of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stores import query
from stores.compound import CompoundIndex, conjuncts
from stores.definitions import parse_definition
from stores.errors import DuplicateValue, InvalidQuery, ParallelArrays, StoreError
from stores.matcher import matches
from stores.parse import parse_filter
from stores.paths import sort_values
from stores.protocol import DeleteMany, Engine, Insert, Update
from stores.query import EVERYTHING, Filter, Query, Sort
from stores.records import Entity
from tests.conftest import CASES_PER_EXAMPLE
from tests.properties.checking import check, fill
from tests.properties.strategies import QUOTED, Case, Example, cases, data_sets, filters, observed

STORE: Final = "compound"
DEFINITION: Final = parse_definition(
    {
        "name": STORE,
        "indexes": [
            ["a", "-b"],
            ["b", "a.b", "c"],
            ["-a.b", "b.a"],
            [QUOTED, "time"],
            ["group", "-a"],
            ["owner", "c", "_id"],
            {"fields": ["b"], "where": {"a": {"$in": [0, 1, "a", None, True]}}},
            {"fields": ["c", "-a"], "where": {"b": {"$gte": 0}}},
            {"fields": ["a"], "where": {"c": None}},
            {"fields": ["time"], "where": {"a.b": {"$exists": True}}},
            {"fields": ["-c"], "where": {"a": 1, "b": {"$lt": "b"}}},
        ],
    }
)


@st.composite
def served(draw: st.DrawFn, entities: list[Entity]) -> Case:
    """A query for one of the indexes: equalities with its first paths, and a sort by the others. Then more of any
    kind."""
    index = draw(st.sampled_from(DEFINITION.compounds))
    bound = draw(st.integers(0, len(index.sorts)))
    parts = [*conjuncts(index.where)] if draw(st.integers(0, 3)) else []
    parts += [draw(equality(s, entities)) for s in index.sorts[:bound]]
    turned = draw(st.booleans())
    rest = [Sort(s.path, s.descending is not turned) for s in index.sorts[draw(st.integers(0, bound)) :]]
    case = draw(cases(filters(entities)))
    where = case.query.where if draw(st.booleans()) else EVERYTHING
    for part in parts:
        where = query.both(where, part)
    return replace(case, query=replace(case.query, where=where, sort=query.total(tuple(rest))))


def equality(sort: Sort, entities: list[Entity]) -> st.SearchStrategy[Filter]:
    """Equality of the path with a value that an entity has there, or with null."""
    path = ".".join(sort.path)
    values = [value for e in entities for place, value in observed(e) if place == path]
    return st.sampled_from([None, *values]).map(lambda value: parse_filter({path: {"$eq": value}}))


@st.composite
def examples(draw: st.DrawFn) -> Example:
    entities = draw(data_sets())
    return Example(entities, draw(st.lists(served(entities), min_size=CASES_PER_EXAMPLE, max_size=CASES_PER_EXAMPLE)))


@pytest.mark.generated
@settings(phases=(Phase.explicit, Phase.reuse, Phase.generate))  # no shrinking: failures print the entities concerned
@given(example=examples())
async def test_answers_are_those_of_the_reference(engines: dict[str, Engine], example: Example) -> None:
    """Lists, pages and counts are the same as without an index. Entities that an index cannot hold are refused."""
    held = [entity for entity in example.entities if can_be_held(entity)]
    refused = [entity for entity in example.entities if entity not in held]
    for kind, engine in engines.items():
        await engine.define(DEFINITION)
        await fill(engine, STORE, held)
        for entity in refused[:5]:
            with pytest.raises(ParallelArrays):
                await engine.commit([Insert(STORE, entity)], None)
        for case in example.cases:
            await check((f"{kind}/{STORE}", engine, STORE), held, case)


def can_be_held(entity: Entity) -> bool:
    """Return whether the entity can be sorted by the paths of each index that covers it."""
    for index in DEFINITION.compounds:
        if matches(index.where, entity):
            try:
                list(sort_values(entity, [s.path for s in index.sorts]))
            except InvalidQuery:
                return False
    return True


# Uniqueness.

UNIQUE: Final = parse_definition(
    {
        "name": "unique",
        "indexes": [
            {"fields": ["a", "b"], "unique": True},
            {"fields": ["a"], "unique": True, "where": {"c": {"$in": ["x", None, True]}, "d": {"$exists": True}}},
            {"fields": ["b", "a"], "unique": True, "where": {"c": {"$gte": 2}}},
        ],
    }
)
PARTS: Final = {"all": UNIQUE.compounds[:1], "set": UNIQUE.compounds[1:2], "range": UNIQUE.compounds[2:]}

single = st.sampled_from([None, 0, 1, 1.0, 2**53, 2**53 + 1, "", "a", "1"])
anything = st.sampled_from([None, True, False, 1, 2, 2.5, "x", "y", [], [1, 3], ["x"], [None], {"x": 2}])
fields = st.fixed_dictionaries({}, optional={"a": single, "b": single, "c": anything, "d": st.just(0)})
steps = st.lists(st.tuples(fields, st.none() | st.integers(0, 20)), min_size=10, max_size=30)


@pytest.mark.generated
@given(part=st.sampled_from([*PARTS]), steps=steps)
async def test_both_engines_refuse_the_same_duplicates(
    engines: dict[str, Engine], part: str, steps: list[tuple[Entity, int | None]]
) -> None:
    """Entities are created and changed one after the other. Each is refused exactly if another one in the part of the
    index has the same values, none of them missing."""
    [index] = PARTS[part]
    for engine in engines.values():
        await engine.define(replace(UNIQUE, compounds=(index,)))
        await engine.commit([DeleteMany("unique", EVERYTHING, 10_000)], None)
        state: dict[str, Entity] = {}
        for number, (changes, target) in enumerate(steps):
            id = [*state][target % len(state)] if target is not None and state else f"5f{number:022x}"
            wanted: Entity = {**state.get(id, {"_id": id, "_rev": 1, "time": number, "_at": number}), **changes}
            write = Update("unique", id, changes) if id in state else Insert("unique", wanted)
            expected = clashes(index, wanted, [entity for other, entity in state.items() if other != id])
            assert await is_refused(engine, write) is expected, (part, wanted, state)
            if not expected:
                state[id] = wanted
        found = await engine.entities("unique", Query())
        assert [{k: v for k, v in e.items() if k != "_rev"} for e in sorted(found, key=lambda e: e["_id"])] == [
            {k: v for k, v in state[id].items() if k != "_rev"} for id in sorted(state)
        ]


def clashes(index: CompoundIndex, entity: Entity, others: list[Entity]) -> bool:
    key = key_of(index, entity)
    return key is not None and any(key_of(index, other) == key for other in others)


def key_of(index: CompoundIndex, entity: Entity) -> list[Any] | None:
    values = [entity.get(path) for path in index.paths]
    return values if matches(index.where, entity) and None not in values else None


async def is_refused(engine: Engine, write: Insert | Update) -> bool:
    try:
        await engine.commit([write], None)
    except DuplicateValue:
        return True
    except StoreError as error:
        raise AssertionError(error) from error
    return False
