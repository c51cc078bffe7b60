"""Finds the fields of other stores by which references refer: a reference has its value in their form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stores.field import Field
from stores.schema import StoreDefinition

Definitions = Mapping[str, StoreDefinition]


def with_keys(definition: StoreDefinition, stores: Definitions) -> StoreDefinition:
    """Return the definition with the keys of its references. `stores` has all definitions by their names."""
    if all(relation.by == "_id" for relation in definition.relations):
        return definition
    return replace(definition, fields=tuple(_with_key(each, stores, frozenset()) for each in definition.fields))


def _with_key(field: Field, stores: Definitions, seen: frozenset[tuple[str, str]]) -> Field:
    """Return the field with the field that it refers to by its key. `seen` are the keys that lead here: a key may be a
    reference itself, and in a circle none of them has a type."""
    if field.fields:
        return replace(field, fields=tuple(_with_key(each, stores, seen) for each in field.fields))
    referred = field.store, field.by
    if not field.by or field.store not in stores or referred in seen:
        return field
    key = stores[field.store].by_id.get(field.by)
    return field if key is None else replace(field, key=_with_key(key, stores, seen | {referred}))
