"""What definitions with references need: a target store, a unique field to refer by, and that neither goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from hub.services.registry import StoreRegistry
from stores.errors import DataStandsAgainst, InvalidEntity, NotFound, StoreNotEmpty, Violation
from stores.field_definitions import MAX_OBJECT_LEVELS
from stores.protocol import Expect
from stores.query import And, Equal, Not, Or
from stores.schema import Field, StoreDefinition

DEFINITIONS = "stores"


_NONE: Final[Mapping[str, StoreDefinition]] = MappingProxyType({})


def check_targets(
    registry: StoreRegistry,
    old: StoreDefinition | None,
    new: StoreDefinition,
    others: Mapping[str, StoreDefinition] = _NONE,
) -> list[Expect]:
    """Raise InvalidEntity for a new reference to a store that does not exist, or by a field that is not unique there.
    `others` are definitions that the same commit creates. Return the conditions of the commit that targets still
    exist."""
    known = set() if old is None else {(each.target, each.by) for each in old.relations}
    violations: list[Violation] = []
    targets: set[str] = set()
    for place, field in _references(new.fields, ""):
        if (field.store, field.by or "_id") in known:
            continue
        try:
            target = new if field.store == new.name else others.get(field.store) or registry.get(field.store)
        except NotFound:
            violations.append(Violation(f"{place}store", "invalid", f"There is no store {field.store!r}."))
            continue
        if field.by and field.by not in target.unique_paths:
            text = f"{field.by!r} is not a unique field of {field.store}."
            violations.append(Violation(f"{place}by", "invalid", text))
        if not target.system and field.store != new.name:
            targets.add(field.store)
    if violations:
        raise InvalidEntity(violations)
    return [Expect(DEFINITIONS, Equal(("name",), target)) for target in sorted(targets)]


def check_referring(registry: StoreRegistry, new: StoreDefinition) -> None:
    """Raise DataStandsAgainst if a field by which others refer to the store would not be unique any more."""
    for relation in registry.referring(new.name):
        if relation.by not in ("_id", *new.unique_paths):
            text = f"It must stay unique: {relation.store} refers to {new.name} by it."
            raise DataStandsAgainst({relation.by: text})


def nothing_refers(registry: StoreRegistry, store: str) -> Expect:
    """Return the condition that no other definition refers to the store. Raises StoreNotEmpty."""
    for relation in registry.referring(store):
        if relation.store != store:
            raise StoreNotEmpty(f"The store {relation.store} refers to it.")
    levels = range(1, MAX_OBJECT_LEVELS + 2)
    refers = Or(tuple(Equal((*["fields"] * level, "store"), store) for level in levels))
    return Expect(DEFINITIONS, And((refers, Not(Equal(("name",), store)))), least=0, most=0)


def _references(fields: Iterable[Field], place: str) -> Iterator[tuple[str, Field]]:
    for i, each in enumerate(fields):
        here = f"{place}fields.{i}."
        if each.store:
            yield here, each
        yield from _references(each.fields, here)
