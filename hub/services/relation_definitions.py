"""Definitions with references need a target store and a field that is fit to refer by, and neither may go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from hub.services.registry import StoreRegistry
from stores.errors import DataConflict, InvalidEntity, NotFound, StoreNotEmpty, Violation
from stores.field import Field
from stores.field_definitions import MAX_OBJECT_LEVELS
from stores.protocol import Expect
from stores.query import And, Compare, Equal, Filter, In, Leaf, Not, Or, leaves
from stores.records import SYSTEM_FIELDS, same
from stores.schema import StoreDefinition

DEFINITIONS = "stores"
REFERABLE: Final = frozenset({"users", "groups", "roles"})
"""System stores to which others may refer. The hub empties the others itself, which takes no consequences."""


_NONE: Final[Mapping[str, StoreDefinition | None]] = MappingProxyType({})


def check_targets(
    registry: StoreRegistry,
    old: StoreDefinition | None,
    new: StoreDefinition,
    others: Mapping[str, StoreDefinition | None] = _NONE,
) -> list[Expect]:
    """Raise InvalidEntity for a new reference to a store that does not exist or cannot be referred to, or by a field
    that is no key there. `others` are definitions that the same commit creates: None for one that is refused for
    another reason, which is reported instead. Return the conditions of the commit that targets still exist, and are
    defined as they were where a field of them is referred by."""
    known = set() if old is None else {(each.target, each.by) for each in old.relations}
    violations: list[Violation] = []
    targets: dict[str, Filter] = {}
    for location, field in _references(new.fields, ""):
        if (field.store, field.by or "_id") in known:
            continue
        if field.store != new.name and others.get(field.store, new) is None:
            continue
        try:
            target = new if field.store == new.name else others.get(field.store) or registry.get(field.store)
        except NotFound:
            violations.append(Violation(f"{location}store", "invalid", f"There is no store {field.store!r}."))
            continue
        if target.system and target.name not in REFERABLE:
            text = f"Entities of {target.name} cannot be referred to: the hub removes them itself."
            violations.append(Violation(f"{location}store", "invalid", text))
        elif field.by and (text := _why_no_key(target, field.by)):
            violations.append(Violation(f"{location}by", "invalid", text))
        if not target.system and field.store != new.name:
            is_judged = bool(field.by) and field.store not in others
            targets[field.store] = _judged(target) if is_judged else targets.get(field.store, _named(field.store))
    if violations:
        raise InvalidEntity(violations)
    return [Expect(DEFINITIONS, where) for _, where in sorted(targets.items())]


def new_targets(old: StoreDefinition, new: StoreDefinition) -> frozenset[str]:
    """Return the stores to which a definition comes to refer: by another field or key, or with other consequences."""
    known = frozenset(old.relations)
    return frozenset(relation.target for relation in new.relations if relation not in known)


def no_others_refer(
    registry: StoreRegistry, old: StoreDefinition, new: StoreDefinition, changed: Collection[str]
) -> list[Expect]:
    """Return the condition that no definition has come to refer to the store, if a field is fit for that no more or its
    values are `changed`: those that refer to it were looked at."""
    keys = [path for path in old.unique_paths if not _why_no_key(old, path)]
    if not any(path in changed or _why_no_key(new, path) for path in keys):
        return []
    referring = {relation.store for relation in registry.referring(new.name)} - {new.name}
    known = [_judged(registry.get(store)) for store in sorted(referring)]
    return [Expect(DEFINITIONS, And((_refers_to(new.name), *map(Not, (_named(new.name), *known)))), least=0, most=0)]


def _judged(definition: StoreDefinition) -> Filter:
    """Return the filter for the revision of a definition that this request has looked at."""
    return And((_named(definition.name), Equal(("_rev",), definition.rev)))


def _named(store: str) -> Filter:
    return Equal(("name",), store)


def check_conditions(registry: StoreRegistry, new: StoreDefinition) -> None:
    """Raise InvalidEntity for a value in a condition of an index that references by a key never have: that of another
    form. The text has the form that they have."""
    typed = registry.with_keys(new)
    violations = [
        Violation(f"{index.location}.where.{'.'.join(leaf.path)}", "invalid", f"Must be {stored!r}, as it is stored.")
        for index in new.compounds
        for leaf in leaves(index.where)
        if (field := typed.field_at(leaf.path)) is not None and field.key is not None
        for value in _values(leaf)
        if not same(stored := field.canonical(value), value)
    ]
    if violations:
        raise InvalidEntity(violations)


def _values(leaf: Leaf) -> Sequence[Any]:
    match leaf:
        case In(values=values):
            return values
        case Equal(value=value) | Compare(value=value):
            return (value,)
    return ()


def check_referring(registry: StoreRegistry, old: StoreDefinition, new: StoreDefinition) -> None:
    """Raise DataConflict if a field by which entities refer to the store would not be fit for it any more. Those
    of the store itself refer as the new definition says."""
    others = [each for each in registry.referring(new.name) if each.store != new.name]
    for relation in (*others, *(each for each in new.relations if each.target == new.name)):
        text = "" if relation.by == "_id" else _why_no_key(new, relation.by)
        if text and text != _why_no_key(old, relation.by):
            raise DataConflict({relation.by: f"{relation.store} refers to {new.name} by it. {text}"})


def _why_no_key(target: StoreDefinition, by: str) -> str:
    """Return the text why no reference can be by a field of a store; empty if one can."""
    field = target.by_id.get(by)
    if "." in by:
        return f"{by!r} is inside of an object: a key is a field of {target.name} itself."
    if by not in target.unique_paths or by in SYSTEM_FIELDS:
        return f"{by!r} is not a unique field of {target.name}."
    if by in target.stamp_names:
        return f"{by!r} is a Stamp: every change of an entity sets another one."
    if by in target.hidden:
        return f"{by!r} is hidden in {target.name}: references would tell its values."
    if field is not None and field.store and field.on_delete == "clear":
        return f"{by!r} is a reference that deletions clear: what refers by it would lose its target."
    return ""


def nothing_refers(registry: StoreRegistry, store: str) -> Expect:
    """Return the condition that no other definition refers to the store. Raises StoreNotEmpty."""
    for relation in registry.referring(store):
        if relation.store != store:
            raise StoreNotEmpty(f"The store {relation.store} refers to it.")
    return Expect(DEFINITIONS, And((_refers_to(store), Not(_named(store)))), least=0, most=0)


def _refers_to(store: str) -> Filter:
    """Return the filter for definitions that refer to a store."""
    levels = range(1, MAX_OBJECT_LEVELS + 2)
    return Or(tuple(Equal((*["fields"] * level, "store"), store) for level in levels))


def _references(fields: Iterable[Field], prefix: str) -> Iterator[tuple[str, Field]]:
    for i, each in enumerate(fields):
        here = f"{prefix}fields.{i}."
        if each.store:
            yield here, each
        yield from _references(each.fields, here)
