"""Store definitions: the typed fields of a store, the checks of entities, and the indexes.

The field types are in `stores/fields/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from stores.compound import CompoundIndex, scalar_paths
from stores.errors import InvalidEntity, Violation
from stores.fields import FIELD_TYPES, FieldType, Rejected
from stores.fields.base import Checker
from stores.limits import MOST_VIOLATIONS
from stores.query import Projection
from stores.records import SYSTEM_FIELDS, Entity, Json

RULES: Final[Mapping[str, str]] = {
    "required": "This field is required.",
    "unknown": "There is no such field.",
    "system": "This field is assigned by the hub.",
    "type": "Must be {detail}.",
    "option": "The selected option is not valid.",
    "too_long": "Must not be longer than {detail} characters.",
    "date": "Must be a real date, such as 2020-11-26.",
    "datetime": "Must be a real UTC time, such as 2020-11-26 06:00:00.",
    "decimal": "Must be a decimal with at most 12 digits before and 3 after the point.",
    "color": "Must be a color, such as #333333.",
    "url": "Must be an http or https URL.",
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


@dataclass(frozen=True)
class Field:
    """One typed field.

    `index`: the field is indexed; `search`: `search=` includes it; `hidden`: it may be written but is never shown,
    filtered or sorted by; `filters`: objects in it may be filters, with operators and dotted paths as names; `length`:
    the most characters of a Text or Textarea."""

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
    options: tuple[tuple[int | str, str], ...] = ()
    default: Json = None

    @cached_property
    def option_ids(self) -> frozenset[int | str]:
        return frozenset(id for id, _ in self.options)

    @property
    def accepts(self) -> tuple[object, ...]:
        """The properties that decide which values are accepted, for comparing two definitions."""
        longest = self.kind.longest
        return self.type, longest and (self.length or longest), self.option_ids

    @cached_property
    def kind(self) -> FieldType:
        """The field type. Raises KeyError when no such type is registered."""
        return FIELD_TYPES[self.type]

    @cached_property
    def checker(self) -> Checker:
        """The check of the field's values, built once: every create and change calls it."""
        return self.kind.checker(self)

    def check(self, value: Any, place: str) -> Json:
        """Return the value in its canonical form. Raises InvalidEntity when the type rejects it. null clears any
        field."""
        if value is None:
            return None
        try:
            return self.checker(value)
        except Rejected as refusal:
            rule, detail = refusal.args
            raise InvalidEntity([Violation(place, rule, detail)]) from None


@dataclass(frozen=True)
class StoreDefinition:
    """The definition of a store. Without `fields` entities may hold any field; with `fields` only these, unless it is
    `open`.

    `indexes`, `unique` and `search` name dotted paths in addition to those of the fields. `compounds` are the indexes
    over several paths or over a part of the entities. `retired` names hidden fields that were removed from the
    definition: they stay hidden. `leftovers`: entities may hold fields that the definition does not allow, from before
    a change of the definition or from another program. `id` and `rev` are those of the entity with the definition; a
    system store has none.
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
    leftovers: bool = False
    id: str = field(default="", compare=False)
    rev: int = field(default=0, compare=False)

    @cached_property
    def by_id(self) -> Mapping[str, Field]:
        return {f.id: f for f in self.fields}

    @cached_property
    def unique_paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(f.id for f in self.fields if f.unique), *self.unique]))

    @cached_property
    def index_paths(self) -> tuple[str, ...]:
        """Paths to index, without the unique paths, which have a unique index."""
        wanted = dict.fromkeys([*(f.id for f in self.fields if f.index), *self.indexes])
        unique = frozenset(self.unique_paths)
        return tuple(p for p in wanted if p not in unique)

    @cached_property
    def scalar_paths(self) -> tuple[str, ...]:
        """Paths that take no lists, objects or booleans, because a unique index covers them."""
        return tuple(dict.fromkeys([*self.unique_paths, *scalar_paths(self.compounds)]))

    @cached_property
    def filter_fields(self) -> frozenset[str]:
        return frozenset(f.id for f in self.fields if f.filters)

    @cached_property
    def search_paths(self) -> tuple[str, ...]:
        """Paths to search, without hidden fields, since the results would reveal their values, and without `_id`, which
        is not text."""
        wanted = dict.fromkeys([*(f.id for f in self.fields if f.search), *self.search])
        return tuple(p for p in wanted if p != "_id" and _top(p) not in self.hidden)

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

    @cached_property
    def whole(self) -> Projection:
        """The projection to everything that may be shown of an entity."""
        known = None if self.open or not self.leftovers else frozenset({*self.by_id, *SYSTEM_FIELDS})
        return Projection(hidden=self.hidden, known=known)

    def check_new(self, entity: Entity) -> tuple[Entity, list[Violation]]:
        """Check a whole entity. Return it with defaults and canonical values, and its violations."""
        filled = self.defaults | entity
        checked, violations = self.check_values(filled)
        missing = [Violation(name, "required") for name in self.required if filled.get(name) in (None, "")]
        return checked, missing + violations

    def check_changes(self, changes: Entity) -> tuple[Entity, list[Violation]]:
        """Check the fields that a merge changes. Return them with canonical values, and their violations."""
        checked, violations = self.check_values(changes)
        emptied = [
            Violation(name, "required") for name in self.required if name in changes and changes[name] in (None, "")
        ]
        return checked, emptied + violations

    def check_values(self, entity: Entity) -> tuple[Entity, list[Violation]]:
        """Check each field. Return all with canonical values, except values that their types reject, and the
        violations; of fields that the definition does not have at most MOST_VIOLATIONS."""
        if not self.fields and not self.scalar_paths and not self.retired:
            return entity, []
        checked: Entity = {}
        violations: list[Violation] = []
        for name, value in entity.items():
            typed = self.by_id.get(name)
            if typed is None:
                checked[name] = value
                if (not self.open or name in self.hidden) and len(violations) < MOST_VIOLATIONS:
                    violations.append(Violation(name, "unknown"))
                continue
            try:
                checked[name] = typed.check(value, name)
            except InvalidEntity as error:
                violations.extend(error.violations)
        violations.extend(Violation(p, "not_scalar") for p in self.scalar_paths if not is_single(entity, p))
        return checked, violations


def _top(path: str) -> str:
    return path.split(".", 1)[0]


def is_single(entity: Entity, path: str) -> bool:
    """Return whether a unique index would hold one value of the entity at most: no object, array or boolean."""
    value: Any = entity
    for segment in path.split("."):
        if not isinstance(value, dict):
            break
        value = value.get(segment)
    return not isinstance(value, dict | list | bool)
