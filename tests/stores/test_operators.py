"""Operators as a function of one entity: what they make of it, what they refuse, and how they are prepared."""

from __future__ import annotations

from typing import Any

import pytest

from stores.computing import Computed, OperatorChange, prepared
from stores.errors import InvalidEntity
from stores.field import Field
from stores.limits import EntityLimits
from stores.operators import MOST_OPERATIONS, NO_OPERATORS, apply
from stores.parse_operators import parse_change
from stores.records import Entity
from stores.schema import StoreDefinition

ANYTHING = StoreDefinition("things")
LARGEST = 2**63 - 1
LIMITS = EntityLimits()


def made(entity: Entity, definition: StoreDefinition = ANYTHING, **operators: Any) -> Entity:
    """Return the entity after operators, whose names are given without ``$``."""
    return apply(parse_change({f"${name}": value for name, value in operators.items()})[1], entity, definition)


def change(definition: StoreDefinition = ANYTHING, limits: EntityLimits = LIMITS, **operators: Any) -> OperatorChange:
    ready, violations = prepared(
        parse_change({f"${name}": value for name, value in operators.items()})[1], definition, definition.hidden, limits
    )
    if violations:
        raise InvalidEntity(violations)
    return OperatorChange(ready, definition, limits)


def refusals(error: pytest.ExceptionInfo[InvalidEntity]) -> dict[str, str]:
    return {violation.field: violation.rule for violation in error.value.violations}


EFFECTS: list[tuple[Entity, Entity, Entity]] = [
    ({"n": 5}, {"inc": {"n": -2}}, {"n": 3}),
    ({}, {"inc": {"n": 2}}, {"n": 2}),
    ({"n": None}, {"inc": {"n": 2}}, {"n": 2}),
    ({"n": LARGEST - 1}, {"inc": {"n": 1}}, {"n": LARGEST}),
    ({"n": 2**53}, {"inc": {"n": 1}}, {"n": 2**53 + 1}),
    ({"n": 1}, {"inc": {"n": 0.5}}, {"n": 1.5}),
    ({"n": 0.1}, {"inc": {"n": 0.2}}, {"n": 0.1 + 0.2}),
    ({"a": {"b": {"c": 1}, "d": 2}}, {"inc": {"a.b.c": 1}}, {"a": {"b": {"c": 2}, "d": 2}}),
    ({"a": None}, {"inc": {"a.b.c": 1}}, {"a": {"b": {"c": 1}}}),
    ({"n": 5, "m": 5}, {"min": {"n": 3, "m": 7}}, {"n": 3, "m": 5}),
    ({"n": 5, "m": 5}, {"max": {"n": 3, "m": 7}}, {"n": 5, "m": 7}),
    ({"n": 2**53 + 1}, {"max": {"n": 2.0**53}}, {"n": 2**53 + 1}),
    ({"t": "b", "u": None}, {"min": {"t": "a", "u": "z", "v": 1}}, {"t": "a", "u": "z", "v": 1}),
    ({"t": "Z"}, {"max": {"t": "a"}}, {"t": "a"}),
    ({"a": 1}, {"set": {"a": None, "b.c": [1], "d": {"e": 1}}}, {"a": None, "b": {"c": [1]}, "d": {"e": 1}}),
    ({"a": 1, "b": {"c": 1, "d": 2}, "n": None}, {"unset": ["a", "b.c", "x.y", "n.z"]}, {"b": {"d": 2}, "n": None}),
    ({"n": None}, {"unset": ["n"]}, {}),
    ({"l": [1]}, {"push": {"l": [2]}}, {"l": [1, [2]]}),
    ({"l": [1]}, {"push": {"l": {"$each": [1, None, {"a": 1}]}, "m.n": "x"}},
     {"l": [1, 1, None, {"a": 1}], "m": {"n": ["x"]}}),
    ({"l": None}, {"push": {"l": {"$each": []}}}, {"l": []}),
    ({"l": [1, "a", {"a": 1, "b": [True]}]},
     {"addToSet": {"l": {"$each": [1.0, True, "1", {"b": [True], "a": 1}, "a", "a"]}}},
     {"l": [1, "a", {"a": 1, "b": [True]}, True, "1"]}),
    ({}, {"addToSet": {"l": {"$each": [2, 2.0, 2**63 - 1, 2.0**63]}}}, {"l": [2, 2**63 - 1, 2.0**63]}),
    ({"l": [1, 2, 1.0, True, "1", [1]]}, {"pull": {"l": 1}}, {"l": [2, True, "1", [1]]}),
    ({"l": [{"a": 1, "b": 2}, {"a": 1}]}, {"pull": {"l": {"b": 2, "a": 1.0}}}, {"l": [{"a": 1}]}),
    ({"a": None}, {"pull": {"l": 1, "a.b": 1}}, {"a": None}),
]  # fmt: skip


@pytest.mark.parametrize(("before", "operators", "after"), EFFECTS)
def test_effects(before: Entity, operators: Entity, after: Entity) -> None:
    """The result is exact to the type of numbers, and the entity itself stays as it is."""
    untouched = repr(before)
    assert repr(made(before, **operators)) == repr(after)
    assert repr(before) == untouched


MISFITS: list[tuple[Entity, Entity, dict[str, str]]] = [
    ({"n": LARGEST}, {"inc": {"n": 1}}, {"n": "integer_range"}),
    ({"n": -LARGEST}, {"inc": {"n": -2}}, {"n": "integer_range"}),
    ({"n": 1.7e308}, {"inc": {"n": 1.7e308}}, {"n": "invalid"}),
    ({"n": "5", "a": {"b": True}}, {"inc": {"n": 1, "a.b": 1, "m": 1}}, {"n": "type", "a.b": "type"}),
    ({"n": "5"}, {"min": {"n": 5}}, {"n": "invalid"}),
    ({"n": True}, {"max": {"n": 5}}, {"n": "invalid"}),
    ({"n": [5]}, {"max": {"n": 5}}, {"n": "invalid"}),
    ({"a": [{"b": 1}]}, {"set": {"a.0.b": 2}}, {"a.0.b": "invalid"}),
    ({"a": {"b": 5}}, {"unset": ["a.b.c"]}, {"a.b.c": "invalid"}),
    ({"a": "x"}, {"inc": {"a.b": 1}}, {"a.b": "invalid"}),
    ({"l": {"0": 1}, "m": 5, "n": "x"}, {"push": {"l": 1}, "pull": {"m": 1}, "addToSet": {"n": 1}},
     {"l": "invalid", "m": "invalid", "n": "invalid"}),
]  # fmt: skip


@pytest.mark.parametrize(("before", "operators", "fields"), MISFITS)
def test_what_does_not_fit_the_entity_is_refused_by_path(
    before: Entity, operators: Entity, fields: dict[str, str]
) -> None:
    with pytest.raises(InvalidEntity) as error:
        made(before, **operators)
    assert refusals(error) == fields


SHOP = StoreDefinition(
    "products",
    fields=(
        Field("name", "Text", required=True, length=5),
        Field("price", "Numeric"),
        Field("stock", "Number"),
        Field("code", "Text", unique=True),
        Field("tags", "MultiSelect", options=((1, "One"), ("two", "Two"))),
        Field("day", "Date"),
        Field("data", "JSON"),
        Field("pin", "Text", hidden=True),
    ),
    open=False,
    retired=("old",),
)


def test_numeric_fields_are_added_as_decimals() -> None:
    """0.1 + 0.2 is 0.3 there, and text is taken as for the field itself."""
    assert change(SHOP, inc={"price": 0.2})({"price": 0.1}).fields == {"price": 0.3}
    assert change(SHOP, inc={"price": "0.200"})({"price": 0.1}).fields == {"price": 0.3}
    assert repr(change(SHOP, inc={"price": 0.5})({"price": 0.5}).fields) == "{'price': 1}"
    assert change(SHOP, inc={"price": "1.50"})({}).fields == {"price": 1.5}
    assert change(SHOP, inc={"price": 0.001})({"price": 999_999_999_999.998}).fields == {"price": 999_999_999_999.999}
    with pytest.raises(InvalidEntity) as error:
        change(SHOP, inc={"price": 0.001})({"price": 999_999_999_999.999})
    assert refusals(error) == {"price": "decimal"}


def test_values_are_compared_as_they_are_stored() -> None:
    assert change(SHOP, min={"price": "2.50"})({"price": 3}).fields == {"price": 2.5}
    assert change(SHOP, inc={"stock": 1.0})({"stock": 2**53}).fields == {"stock": 2**53 + 1}
    assert change(SHOP, set={"price": "1.500"})({"price": 1.5}) == Computed({})
    assert change(SHOP, max={"day": "2026-11-27"})({"day": "2026-11-26"}).fields == {"day": "2026-11-27"}


@pytest.mark.parametrize(
    ("operators", "field", "rule"),
    [
        ({"inc": {"stock": 0.5}}, "stock", "type"),
        ({"inc": {"name": 1}}, "name", "type"),
        ({"unset": ["name"]}, "name", "required"),
        ({"set": {"name": ""}}, "name", "required"),
        ({"set": {"name": "longer than five"}}, "name", "too_long"),
        ({"set": {"wings": 1}}, "wings", "unknown"),
        ({"set": {"old": 1}}, "old", "unknown"),
        ({"push": {"tags": 3}}, "tags", "option"),
        ({"set": {"code.a": 1}}, "code.a", "invalid"),
        ({"unset": ["code.a"]}, "code.a", "invalid"),
        ({"max": {"day": "2026-11-31"}}, "day", "date"),
        ({"inc": {"_rev": 1}}, "_rev", "system"),
        ({"push": {"access": "x"}}, "access", "system"),
        ({"set": {"owner.name": "x"}}, "owner.name", "system"),
        ({"set": {"success": False}}, "success", "system"),
        ({"set": {"_mine": 1}}, "_mine", "reserved"),
        ({"inc": {"data.n": "1"}}, "data.n", "type"),
        ({"inc": {"data": True}}, "data", "type"),
        ({"min": {"data": None}}, "data", "type"),
        ({"max": {"data": [1]}}, "data", "type"),
        ({"inc": {"data.n": 2**63}}, "data.n", "integer_range"),
        ({"set": {"data.n": {"$x": 1}}}, "data.n.$x", "bad_name"),
        ({"set": {"data": "a\0b"}}, "data", "nul"),
        ({"push": {"data": {"a": "\0"}}}, "data.0.a", "nul"),
        ({"inc": {"pin": 1}}, "pin", "invalid"),
        ({"max": {"pin": "z"}}, "pin", "invalid"),
        ({"set": {"pin.a": 1}}, "pin.a", "invalid"),
    ],
)
def test_what_breaks_the_definition_is_refused(operators: Entity, field: str, rule: str) -> None:
    with pytest.raises(InvalidEntity) as error:
        change(SHOP, **operators)({"name": "x"})
    assert (field, rule) in {(violation.field, violation.rule) for violation in error.value.violations}


def test_a_hidden_field_can_be_set_and_unset_as_a_whole() -> None:
    assert change(SHOP, set={"pin": "1234"})({"name": "x"}).fields == {"pin": "1234"}
    assert change(SHOP, unset=["pin"])({"name": "x", "pin": "1"}).removed == {"pin"}


def test_only_altered_fields_are_checked_and_returned() -> None:
    """An entity may be older than its definition: fields that the operators leave alone do not stand in the way."""
    invalid: Entity = {"name": "much too long", "stock": "many", "price": 1, "tags": [7]}
    assert change(SHOP, inc={"price": 1})(invalid) == Computed({"price": 2})
    assert change(SHOP, pull={"tags": 1})(invalid) == Computed({})
    assert change(SHOP, max={"price": 0}, unset=["data"])(invalid) == Computed({})


def test_unique_fields_hold_one_value() -> None:
    store = StoreDefinition("things", unique=("place.code",))
    with pytest.raises(InvalidEntity) as error:
        change(store, push={"place.code": 1})({})
    assert refusals(error) == {"place.code": "not_scalar"}


def test_lists_do_not_grow_beyond_the_bound_of_an_entity() -> None:
    """An entity that is beyond it may shrink, and change as long as it does not grow."""
    few = EntityLimits(nodes=6)
    assert change(limits=few, push={"l": 3})({"l": [1, 2], "n": 1}).fields == {"l": [1, 2, 3]}
    with pytest.raises(InvalidEntity) as error:
        change(limits=few, push={"l": {"$each": [3, 4]}})({"l": [1, 2], "n": 1})
    assert (refusals(error), error.value.limit_name) == ({"entity": "too_many"}, "max_entity_nodes")
    large: Entity = {"l": [*range(9)], "n": 1}
    assert change(limits=few, pull={"l": 3})(large).fields == {"l": [0, 1, 2, 4, 5, 6, 7, 8]}
    assert change(limits=few, inc={"n": 3})(large).fields == {"n": 4}


def test_depth_and_names_are_bounded_with_the_path() -> None:
    limits = EntityLimits(depth=3, name_length=4)
    assert change(limits=limits, set={"a.b": {"c": 1}})({}).fields == {"a": {"b": {"c": 1}}}
    for operators in ({"set": {"a.b.c": {"d": 1}}}, {"push": {"a.b.c": 1}}, {"unset": ["a.b.c.d"]}):
        with pytest.raises(InvalidEntity) as error:
            change(limits=limits, **operators)
        assert set(refusals(error).values()) == {"too_deep"}
    with pytest.raises(InvalidEntity) as error:
        change(limits=limits, set={"a.longer": 1})
    assert refusals(error) == {"a.longer": "name_too_long"}


def test_many_paths_of_one_object_are_set_in_one_copy() -> None:
    """The cost is that of the object and the paths, not of their product."""
    before: Entity = {"a": {str(n): n for n in range(100_000)}}
    after = made(before, set={f"a.{n}": 0 for n in range(MOST_OPERATIONS)})
    assert (after["a"]["999"], before["a"]["999"]) == (0, 999)


# Bodies.


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"$rename": {"a": "b"}}, "$rename"),
        ({"$": 1}, "$"),
        ({"$inc": 5}, "$inc"),
        ({"$inc": ["a"]}, "$inc"),
        ({"$unset": {"a": ""}}, "$unset"),
        ({"$unset": "a"}, "$unset"),
        ({"$unset": ["a", 5]}, "$unset"),
        ({"$set": {"": 1}}, "$set"),
        ({"$set": {"a..b": 1}}, "$set"),
        ({"$set": {"a.$.b": 1}}, "$set"),
        ({"$set": {"a\0": 1}}, "$set"),
        ({"$set": {".".join("a" * 101): 1}}, "$set"),
        ({"$push": {"a": {"$each": 5}}}, "a"),
        ({"$push": {"a": {"$each": [1], "$slice": 1}}}, "a"),
        ({"$addToSet": {"a.b": {"$position": 1}}}, "a.b"),
        ({"a": 1, "$inc": {"a": 1}}, "a"),
        ({"a": {}, "$inc": {"a.b": 1}}, "a.b"),
        ({"$inc": {"a.b": 1}, "$set": {"a": 1}}, "a.b"),
        ({"$inc": {"a.b": 1}, "$unset": ["a.b"]}, "a.b"),
        ({"$unset": ["a", "a"]}, "a"),
        ({"$set": {"a": 1, "a.b": 1, "a.c": 1}}, "a.c"),
    ],
)
def test_malformed_operators_are_named(body: Entity, field: str) -> None:
    with pytest.raises(InvalidEntity) as error:
        parse_change(body)
    assert field in refusals(error)


def test_paths_that_only_look_alike_do_not_conflict() -> None:
    plain, operators = parse_change({"ab": 1, "$inc": {"a.b": 1, "a.bc": 1, "aa": 1}, "$set": {"a.c.b": 1}})
    assert plain == {"ab": 1}
    assert operators.names == {"a", "aa"}
    assert parse_change({"a": 1}) == ({"a": 1}, NO_OPERATORS)
    assert not parse_change({"$inc": {}})[1]


def test_the_number_of_paths_is_bounded() -> None:
    paths = {f"a{n}": 1 for n in range(MOST_OPERATIONS)}
    assert len(parse_change({"$inc": paths})[1].operations) == MOST_OPERATIONS
    with pytest.raises(InvalidEntity) as error:
        parse_change({"$inc": paths, "$unset": ["b"]})
    assert (refusals(error), error.value.limit_name) == ({"$unset": "invalid"}, "MOST_OPERATIONS")
