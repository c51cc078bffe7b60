"""Store definitions: the fields of a store, the checks of entities, and the indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Final

from stores.compound import CompoundIndex, scalar_paths
from stores.errors import Violation
from stores.field import SERIAL, Field
from stores.fields.base import Checker
from stores.fields.inside import DeadEnd, dead_end, dead_end_in_system_field
from stores.fields.members import check_members, missing
from stores.fields.references import check_kept_serial
from stores.paths import is_position, is_single
from stores.query import Projection
from stores.records import SYSTEM_FIELDS, Entity
from stores.relation import Relation, Value, default_references, key_types

_AT_ONCE: Final = 5_000
_COSTLY_AT_ONCE: Final = 100
"""Measured: up to 3 µs for a value of most types, 0.3 ms for a mail address beyond ASCII."""


@dataclass(frozen=True)
class StoreDefinition:
    """The definition of a store. Without `fields` entities may hold any field; with `fields` only these, unless it is
    `open`.

    `indexes`, `unique` and `search` name dotted paths in addition to those of the fields. `compounds` are the indexes
    over several paths or over a part of the entities. `retired` names hidden fields that were removed from the
    definition: they stay hidden. `purpose`: what the store is for, as one of the hub's APIs knows it
    (``listings.properties``); empty for a store of users. `pending`: entities are being changed with the definition, so
    nobody else may write them. `leftovers`: entities may hold fields that the definition does not allow, from before a
    change of the definition or from another program. `keeps_serials`: new entities may bring their serial numbers. `id`
    and `rev` are those of the entity with the definition; a system store has none. `known_revs` are the revisions of
    all definitions, by their ids, that were known when this one was read; None if it was not read with others.
    `named_paths` are the locations in the definition that name paths (``indexes.1.fields.0``), with the paths."""

    name: str
    fields: tuple[Field, ...] = ()
    open: bool = True
    indexes: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    compounds: tuple[CompoundIndex, ...] = ()
    system: bool = False
    retired: tuple[str, ...] = ()
    purpose: str = ""
    pending: bool = False
    leftovers: bool = False
    keeps_serials: bool = field(default=False, compare=False)
    id: str = field(default="", compare=False)
    rev: int = field(default=0, compare=False)
    known_revs: Mapping[str, int] | None = field(default=None, compare=False, repr=False)
    named_paths: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def by_id(self) -> Mapping[str, Field]:
        return {f.id: f for f in self.fields}

    def is_decimal(self, path: str) -> bool:
        """Return whether the values at a dotted path are decimals."""
        field = self.field_at(path.split("."))
        return field is not None and field.kind.decimal

    @cached_property
    def unique_paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*_paths(self.fields, lambda f: f.unique or f.type == SERIAL), *self.unique]))

    @cached_property
    def upsert_paths(self) -> tuple[str, ...]:
        """Unique paths by whose value a caller can name an entity: not those of hidden fields, nor serial numbers, of
        which a body says nothing."""
        excluded = self.hidden | self.serial_names
        return tuple(p for p in self.unique_paths if _top(p) not in excluded)

    @cached_property
    def index_paths(self) -> tuple[str, ...]:
        """Paths to index, without the unique paths, which have a unique index."""
        wanted = dict.fromkeys([*_paths(self.fields, lambda f: f.index or bool(f.store)), *self.indexes])
        unique = frozenset(self.unique_paths)
        return tuple(p for p in wanted if p not in unique)

    @cached_property
    def list_paths(self) -> tuple[str, ...]:
        """Paths of references that are in lists, or in objects in lists."""
        return tuple(_list_paths(self.fields))

    @cached_property
    def scalar_paths(self) -> tuple[str, ...]:
        """Paths that take no lists, objects or booleans, because a unique index covers them."""
        return tuple(dict.fromkeys([*self.unique_paths, *scalar_paths(self.compounds)]))

    @cached_property
    def filter_fields(self) -> frozenset[str]:
        return frozenset(f.id for f in self.fields if f.filters)

    @cached_property
    def search_paths(self) -> tuple[str, ...]:
        """Paths to search, without hidden fields, since the results would reveal their values, without `_id`, which is
        not text, and without paths at which no entity has a value."""
        wanted = dict.fromkeys([*_paths(self.fields, lambda f: f.search), *self.search])
        return tuple(p for p in wanted if p != "_id" and _top(p) not in self.hidden and not self.dead_end(p.split(".")))

    @cached_property
    def required(self) -> tuple[str, ...]:
        return tuple(f.id for f in self.fields if f.required)

    @cached_property
    def defaults(self) -> Entity:
        return {f.id: f.default for f in self.fields if f.default is not None}

    @cached_property
    def hidden_fields(self) -> frozenset[str]:
        return frozenset(f.id for f in self.fields if f.hidden)

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Names of fields that are never shown."""
        return self.hidden_fields.union(n for n in self.retired if n not in self.by_id)

    def field_at(self, path: Sequence[str]) -> Field | None:
        """Return the field at a path, also inside of objects, or None if its values have no type. Positions in lists
        are passed over."""
        found = self.by_id.get(path[0]) if path else None
        for segment in path[1:]:
            if found is None:
                break
            if not (found.many and is_position(segment)):
                found = found.members.get(segment)
        return found

    def dead_end(self, path: Sequence[str]) -> DeadEnd | None:
        """Return why no entity has a value at a path, by the types of the fields; None if one may have."""
        top = self.by_id.get(path[0])
        if top is not None:
            return dead_end(top, path)
        if path[0] in SYSTEM_FIELDS:
            return dead_end_in_system_field(path)
        return None if self.open else DeadEnd(f"{self.name} has no field {path[0]!r}")

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        """The references to other stores, also those inside of objects."""
        found = _relations(self.name, self.fields)
        return tuple(replace(each, defaults=_defaults_of(self.fields, each)) for each in found)

    @cached_property
    def key_types(self) -> Mapping[tuple[str, str], str]:
        """The fields of other stores, as (store, field), whose types the values of references have."""
        return dict(key_types(self.fields))

    @cached_property
    def serials(self) -> tuple[Field, ...]:
        """The fields that the hub fills with numbers."""
        return tuple(f for f in self.fields if f.type == SERIAL)

    @cached_property
    def serial_names(self) -> frozenset[str]:
        return frozenset(f.id for f in self.serials)

    @cached_property
    def checked_at_once(self) -> float:
        """The number of values in one entity whose check may hold the event loop."""
        if not any(f.many or f.fields for f in self.fields):
            return inf  # no more than there are fields
        return _COSTLY_AT_ONCE if any(f.costly for f in self.fields) else _AT_ONCE

    @cached_property
    def keeping_serials(self) -> StoreDefinition:
        """The same definition for new entities that bring their serial numbers."""
        return replace(self, keeps_serials=True)

    @cached_property
    def _checkers(self) -> Mapping[str, Checker]:
        checkers = {f.id: f.checker for f in self.fields}
        return checkers | dict.fromkeys(self.serial_names, check_kept_serial) if self.keeps_serials else checkers

    def _is_unknown(self, name: str) -> bool:
        return not self.open or name in self.hidden

    @cached_property
    def whole(self) -> Projection:
        """The projection to everything that may be shown of an entity."""
        known = None if self.open or not self.leftovers else frozenset({*self.by_id, *SYSTEM_FIELDS})
        return Projection(hidden=self.hidden, known=known)

    def check_new(self, entity: Entity) -> tuple[Entity, list[Violation]]:
        """Check a whole entity. Return it with defaults and canonical values, and its violations."""
        filled = self.defaults | entity
        checked, violations = self.check_values(filled)
        return checked, missing(self.required, filled) + violations

    def check_changes(self, changes: Entity) -> tuple[Entity, list[Violation]]:
        """Check the fields that a merge changes. Return them with canonical values, and their violations."""
        checked, violations = self.check_values(changes)
        if self.required:
            violations = missing((name for name in self.required if name in changes), changes) + violations
        return checked, violations

    def check_values(self, entity: Entity) -> tuple[Entity, list[Violation]]:
        """Check each field. Return all with canonical values, except values that their types reject, and at least the
        first MOST_VIOLATIONS violations."""
        if not self.fields and not self.scalar_paths and not self.retired:
            return entity, []
        if self.serials and not self.keeps_serials:  # the hub assigns them: what is sent is dropped
            entity = {name: value for name, value in entity.items() if name not in self.serial_names}
        checked, violations = check_members(entity, self._checkers, self._is_unknown)
        if self.scalar_paths:
            violations.extend(Violation(p, "not_scalar") for p in self.scalar_paths if not is_single(entity, p))
        return checked, violations


def _paths(fields: Iterable[Field], wanted: Callable[[Field], bool], above: str = "") -> Iterator[str]:
    """Yield the paths of the fields that are wanted, those inside of objects too."""
    for each in fields:
        if wanted(each):
            yield above + each.id
        yield from _paths(each.fields, wanted, f"{above}{each.id}.")


def _list_paths(fields: Iterable[Field], above: str = "", inside: bool = False) -> Iterator[str]:
    for each in fields:
        if each.store and (inside or each.many):
            yield above + each.id
        yield from _list_paths(each.fields, f"{above}{each.id}.", inside or each.many)


def _relations(store: str, fields: Iterable[Field], above: tuple[str, ...] = ()) -> Iterator[Relation]:
    for each in fields:
        path = (*above, each.id)
        if each.store:
            yield Relation(store, path, each.store, each.by or "_id", each.many, each.on_delete)
        yield from _relations(store, each.fields, path)


def _defaults_of(fields: Sequence[Field], relation: Relation) -> frozenset[Value]:
    return frozenset(value for _, values in default_references(fields, relation.path) for value in values)


def _top(path: str) -> str:
    return path.split(".", 1)[0]
