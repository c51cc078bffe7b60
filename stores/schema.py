"""Store definitions: the typed fields of a store, the checks of entities, and the indexes.

The field types are in `stores/fields/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Any, Final

from stores.compound import CompoundIndex, scalar_paths
from stores.errors import InvalidEntity, Violation
from stores.fields import FIELD_TYPES, FieldType, OptionId, Rejected
from stores.fields.base import Canonical, Checker
from stores.fields.inside import DeadEnd, dead_end, dead_end_in_system_field
from stores.fields.members import check_members, missing
from stores.fields.references import check_kept_serial
from stores.fields.settings import checker_of, most_items
from stores.paths import is_position, is_single
from stores.query import Projection
from stores.records import SYSTEM_FIELDS, Entity, Json
from stores.relation import OnDelete, Relation, Value, default_references, key_types

SERIAL: Final = "Serial"

RULES: Final[Mapping[str, str]] = {
    "required": "This field is required.",
    "unknown": "There is no such field.",
    "system": "This field is assigned by the hub.",
    "type": "Must be {detail}.",
    "option": "The selected option is not valid.",
    "too_long": "Must not be longer than {detail} characters.",
    "too_short": "Must not be shorter than {detail} characters.",
    "too_low": "Must be at least {detail}.",
    "too_high": "Must be at most {detail}.",
    "reference": "There is no such entity of {detail}.",
    "reference_default": "The default of this field is no entity of {detail} that you see: send another value.",
    "double": "This value is in the list already.",
    "date": "Must be a real date, such as 2020-11-26.",
    "datetime": "Must be a real UTC time, such as 2020-11-26 06:00:00, or a time with a zone in ISO 8601.",
    "decimal": "Must be a decimal with at most 12 digits before and 3 after the point.",
    "color": "Must be a color, such as #333333.",
    "url": "Must be an http or https URL.",
    "email": "Must be a mail address, such as ann@example.com.",
    "phone": "Must be a phone number of 5 to 15 digits, such as +15145550123.",
    "timezone": "Must be an IANA time zone, such as America/Toronto.",
    "bad_name": "Field names must not be empty, start with $ or contain a dot or NUL.",
    "reserved": "This name is reserved: names that begin with _ are the hub's own.",
    "name_too_long": "Field names must not be longer than {detail} characters.",
    "nul": "Text must not contain NUL.",
    "integer_range": "Integers must fit in 64 bits.",
    "too_large": "Must not be larger than {detail} bytes.",
    "too_many": "Must not hold more than {detail} values.",
    "too_deep": "Must not be nested deeper than {detail} levels.",
    "not_scalar": "A unique field takes a string, a number or null.",
    "duplicate": "Another entity has this value.",
    "duplicate_together": "Another entity has these values of {detail}.",
    "parallel": "Must not be a list while {detail} leads to one: an index covers both.",
    "invalid": "{detail}",
}
"""Rule → English message; `{detail}` is `Violation.detail`. Dialects may use messages of their own."""

_AT_ONCE: Final = 5_000
_COSTLY_AT_ONCE: Final = 100
"""Measured: up to 3 µs for a value of most types, 0.3 ms for a mail address beyond ASCII."""


@dataclass(frozen=True)
class Field:
    """One typed field.

    `index`: the field is indexed; `search`: `search=` includes it; `hidden`: it may be written but is never shown,
    filtered or sorted by; `filters`: objects in it may be filters, with operators and dotted paths as names; `length`:
    the most characters of a Text or Textarea. `min`, `max`: bounds of values, or of the lengths of texts, in canonical
    form. `many`: values are lists, of at most `max_items` values (1 000), and without doubles if `distinct`. `fields`:
    those of an Object. `store`, `by` and `on_delete`: what a Reference refers to (see `stores.relation`). `start`: the
    first number of a Serial. The type's `takes` lists the settings that have a meaning.

    `key`: the field `by` of the other store, where it is known. It is not a part of the definition.
    """

    id: str
    type: str
    label: str = ""
    required: bool = False
    unique: bool = False
    index: bool = False
    search: bool = False
    hidden: bool = False
    filters: bool = False
    length: int | None = None
    options: tuple[tuple[OptionId, str], ...] = ()
    default: Json = None
    min: Json = None
    max: Json = None
    many: bool = False
    max_items: int | None = None
    distinct: bool = False
    fields: tuple[Field, ...] = ()
    store: str = ""
    by: str = ""
    on_delete: OnDelete = "refuse"
    start: int | None = None
    key: Field | None = field(default=None, compare=False, repr=False)

    @cached_property
    def option_ids(self) -> frozenset[OptionId]:
        return frozenset(id for id, _ in self.options)

    @cached_property
    def members(self) -> Mapping[str, Field]:
        """The fields of an Object by their names."""
        return {member.id: member for member in self.fields}

    @property
    def accepts(self) -> tuple[object, ...]:
        """The properties that decide which values are accepted, for comparing two definitions."""
        longest = (self.length or self.kind.longest) if "length" in self.kind.takes else None
        items = most_items(self) if self.many else self.max_items
        members = tuple((name, member.required, member.accepts) for name, member in sorted(self.members.items()))
        limits = self.option_ids, self.min, self.max, self.many, items, self.distinct
        return self.type, longest, *limits, members, self.store, self.by

    @cached_property
    def kind(self) -> FieldType:
        """The field type. Raises KeyError when no such type is registered."""
        return FIELD_TYPES[self.type]

    @cached_property
    def checker(self) -> Checker:
        """The check of the field's values, built once: every create and change calls it."""
        return checker_of(self)

    @cached_property
    def converts(self) -> bool:
        """Whether the canonical form of a value may differ from the value."""
        return any(member.converts for member in self.fields) if self.fields else self.kind.converts

    @cached_property
    def costly(self) -> bool:
        """Whether the check of a value may take long."""
        return any(member.costly for member in self.fields) if self.fields else self.typed.kind.costly

    @property
    def typed(self) -> Field:
        """The field whose type the values have: for a Reference, that of its key."""
        return self if self.key is None else self.key.typed

    @cached_property
    def may_hold_text(self) -> bool:
        """Whether values, or elements of lists, may be texts, for a search to find."""
        field = self.typed
        has_texts = field.kind.text or field.kind.free or bool(field.store)
        return has_texts or any(isinstance(id, str) for id in field.option_ids)

    def parse(self, text: str) -> Json:
        """Return the value of a query parameter's text. Raises ValueError that says what the field takes."""
        return self.typed.kind.parse(text)

    @cached_property
    def most_costly(self) -> int:
        """The most values of this field in one entity whose check takes long: operators check all of them again."""
        each = sum(member.most_costly for member in self.fields) if self.fields else int(self.kind.costly)
        return each * most_items(self) if self.many else each

    @cached_property
    def _canonical(self) -> Canonical:
        return self.kind.canonical(self)

    def canonical(self, value: Any) -> Json:
        """Return the value of a filter in the form in which such values are stored: one value, or a list of them. A
        value that the type rejects is returned as it is."""
        if self.many and isinstance(value, list):
            return [*map(self._canonical, value)]
        return self._canonical(value)

    def costly_in(self, value: Any) -> int:
        """Return the number of values whose canonical form takes long to find."""
        if self.many and isinstance(value, list):
            return sum(self.kind.costly_in(self, item) for item in value)
        return self.kind.costly_in(self, value)

    def check(self, value: Any, location: str) -> Json:
        """Return the value in its canonical form. Raises InvalidEntity when the type rejects it. null clears any
        field."""
        if value is None:
            return None
        try:
            return self.checker(value)
        except Rejected as refusal:
            raise InvalidEntity([*refusal.at(location)]) from None


@dataclass(frozen=True)
class StoreDefinition:
    """The definition of a store. Without `fields` entities may hold any field; with `fields` only these, unless it is
    `open`.

    `indexes`, `unique` and `search` name dotted paths in addition to those of the fields. `compounds` are the indexes
    over several paths or over a part of the entities. `retired` names hidden fields that were removed from the
    definition: they stay hidden. `pending`: entities are being changed with the definition, so nobody else may write
    them. `leftovers`: entities may hold fields that the definition does not allow, from before a change of the
    definition or from another program. `keeps_serials`: new entities may bring their serial numbers. `id` and `rev` are
    those of the entity with the definition; a system store has none. `known_revs` are the revisions of all definitions,
    by their ids, that were known when this one was read; None if it was not read with others. `named_paths` are the
    locations in the definition that name paths (``indexes.1.fields.0``), with the paths.
    """

    name: str
    fields: tuple[Field, ...] = ()
    open: bool = True
    indexes: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    compounds: tuple[CompoundIndex, ...] = ()
    system: bool = False
    retired: tuple[str, ...] = ()
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
        """Return why no entity has a value at a path, as far as the fields tell; None if one may have."""
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
