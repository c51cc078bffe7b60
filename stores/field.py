"""One typed field of a store: its settings, and what its type makes of values.

The field types are in `stores/fields/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from stores.errors import InvalidEntity
from stores.fields import FIELD_TYPES, FieldType, OptionId, Rejected
from stores.fields.base import Adder, Canonical, Checker
from stores.fields.numbers import digits_of, places_of
from stores.fields.settings import checker_of, most_items
from stores.records import Json
from stores.relation import OnDelete

SERIAL: Final = "Serial"


@dataclass(frozen=True)
class Field:
    """One typed field.

    `index`: the field is indexed; `search`: `search=` includes it; `hidden`: it may be written but is never shown,
    filtered or sorted by; `filters`: objects in it may be filters, with operators and dotted paths as names; `length`:
    the most characters of a Text or Textarea. `min`, `max`: bounds of values, or of the lengths of texts, in canonical
    form. `digits`, `places`: the most digits of a Numeric, and how many of them are after the point. `many`: values are
    lists, of at most `max_items` values (1 000), and without doubles if `distinct`. `fields`: those of an Object.
    `store`, `by` and `on_delete`: what a Reference refers to (see `stores.relation`). `start`: the first number of a
    Serial. The type's `takes` lists the settings that have a meaning.

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
    digits: int | None = None
    places: int | None = None
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
        decimals = (digits_of(self), places_of(self)) if "digits" in self.kind.takes else None
        limits = decimals, self.option_ids, self.min, self.max, self.many, items, self.distinct
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

    @cached_property
    def add(self) -> Adder:
        """The sum of a value and the amount of an `$inc`."""
        return self.kind.adder(self)

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
