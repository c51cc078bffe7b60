"""Store definitions: the typed fields of a store, what each type accepts, and the indexes that come of them.

Each type is one small checker; a value that passes may come back in its normal form (an exact decimal, say). The types
are those of a CRM's custom fields, and `JSON` for whatever has no type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from stores.errors import InvalidEntity, Violation
from stores.query import Projection
from stores.records import SYSTEM_FIELDS, Entity, Json

TEXT_LENGTH: Final = 255
TEXTAREA_LENGTH: Final = 100_000

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
    "not_scalar": "A unique field takes a single value.",
    "duplicate": "Another entity has this value.",
    "invalid": "{detail}",
}
"""Rule → English message; `{detail}` is the violation's. Dialects may say it in their own words."""


class Rejected(Exception):
    """A value that its type refuses: (rule, detail)."""


def _expect(condition: bool, rule: str, detail: str = "") -> None:
    if not condition:
        raise Rejected(rule, detail)


Checker = Callable[["Field", Any], Json]


def _boolean(_: Field, value: Any) -> Json:
    _expect(isinstance(value, bool), "type", "true or false")
    return value  # type: ignore[no-any-return]


def _color(_: Field, value: Any) -> Json:
    _expect(isinstance(value, str) and re.fullmatch(r"#[0-9A-Fa-f]{6}", value) is not None, "color")
    return value  # type: ignore[no-any-return]


def _option(field: Field, value: Any) -> Json:
    _expect(not isinstance(value, bool) and isinstance(value, int | str), "type", "the id of an option")
    _expect(value in field.option_ids, "option")
    return value  # type: ignore[no-any-return]


def _options(field: Field, value: Any) -> Json:
    _expect(isinstance(value, list), "type", "a list of option ids")
    return [_option(field, item) for item in value]


def _date(_: Field, value: Any) -> Json:
    _expect(isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII) is not None, "date")
    try:
        date.fromisoformat(value)
    except ValueError:
        raise Rejected("date", "") from None
    return value  # type: ignore[no-any-return]


def _datetime(_: Field, value: Any) -> Json:
    shape = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    _expect(isinstance(value, str) and re.fullmatch(shape, value, re.ASCII) is not None, "datetime")
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise Rejected("datetime", "") from None
    return value  # type: ignore[no-any-return]


def _integer(_: Field, value: Any) -> Json:
    _expect(isinstance(value, int) and not isinstance(value, bool), "type", "a whole number")
    return value  # type: ignore[no-any-return]


def _decimal(_: Field, value: Any) -> Json:
    """decimal(15,3) held in a double: 15 significant digits survive the way there and back exactly."""
    _expect(isinstance(value, int | float | str) and not isinstance(value, bool), "type", "a number")
    _expect(
        not isinstance(value, str) or re.fullmatch(r"-?\d{1,15}(\.\d{1,6})?", value, re.ASCII) is not None, "decimal"
    )
    number = Decimal(str(value))
    _expect(abs(number) < 10**12 and number == round(number, 3), "decimal")
    return int(number) if number == int(number) else float(number)


def _url(_: Field, value: Any) -> Json:
    _expect(isinstance(value, str) and len(value) <= 2_000, "url")
    try:
        parts = urlsplit(value)
        _expect(parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", value), "url")
    except ValueError:
        raise Rejected("url", "") from None
    return value  # type: ignore[no-any-return]


def _text(field: Field, value: Any) -> Json:
    _expect(isinstance(value, str), "type", "a string")
    _expect(len(value) <= field.longest, "too_long", str(field.longest))
    return value  # type: ignore[no-any-return]


def _timezone(_: Field, value: Any) -> Json:
    _expect(isinstance(value, str) and value in _timezones(), "timezone")
    return value  # type: ignore[no-any-return]


def _timezones() -> frozenset[str]:
    global _known_timezones
    if not _known_timezones:
        _known_timezones = frozenset(available_timezones())
    return _known_timezones


_known_timezones: frozenset[str] = frozenset()


def _anything(_: Field, value: Any) -> Json:
    return value  # type: ignore[no-any-return]


CHECKERS: Final[Mapping[str, Checker]] = {
    "Boolean": _boolean,
    "ColorSwatch": _color,
    "Checkbox": _options,
    "MultiSelect": _options,
    "Radio": _option,
    "Select": _option,
    "Date": _date,
    "DateTime": _datetime,
    "Number": _integer,
    "Numeric": _decimal,
    "URL": _url,
    "Text": _text,
    "Textarea": _text,
    "Timezone": _timezone,
    "JSON": _anything,
}
OPTION_TYPES: Final = ("Checkbox", "MultiSelect", "Radio", "Select")
STRING_TYPES: Final = ("ColorSwatch", "Date", "DateTime", "URL", "Text", "Textarea", "Timezone")
UNIQUE_TYPES: Final = ("ColorSwatch", "Date", "DateTime", "Number", "Numeric", "URL", "Text", "Timezone")


@dataclass(frozen=True)
class Field:
    """One typed field. `index`: kept indexed; `search`: `search=` looks into it; `hidden`: may be written, is never
    shown, filtered or sorted by; `length`: most characters of a Text or Textarea."""

    id: str
    type: str
    label: str = ""
    required: bool = False
    unique: bool = False
    index: bool = False
    search: bool = False
    hidden: bool = False
    length: int | None = None
    options: tuple[tuple[int | str, str], ...] = ()
    default: Json = None

    @cached_property
    def option_ids(self) -> frozenset[int | str]:
        return frozenset(id for id, _ in self.options)

    @property
    def accepts(self) -> tuple[object, ...]:
        """What decides which values pass."""
        return self.type, self.longest if self.type in ("Text", "Textarea") else None, self.option_ids

    @property
    def longest(self) -> int:
        return self.length or (TEXT_LENGTH if self.type == "Text" else TEXTAREA_LENGTH)

    def check(self, value: Any, place: str) -> Json:
        """The value in its normal form; InvalidEntity when the type refuses it. null clears any field."""
        if value is None:
            return None
        try:
            return CHECKERS[self.type](self, value)
        except Rejected as refusal:
            rule, detail = refusal.args
            raise InvalidEntity([Violation(place, rule, detail)]) from None


@dataclass(frozen=True)
class StoreDefinition:
    """A store. Without `fields` it takes any entity; with them only these, unless it is `open`.

    `indexes`, `unique` and `search` name dotted paths besides those that the fields ask for. `retired` names hidden
    fields that were taken out of it: they stay hidden. `leftovers`: entities may hold fields that it does not allow,
    from before it was changed or by another program.
    """

    name: str
    fields: tuple[Field, ...] = ()
    open: bool = True
    indexes: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    administrative: bool = False
    retired: tuple[str, ...] = ()
    leftovers: bool = False

    @cached_property
    def by_id(self) -> Mapping[str, Field]:
        return {f.id: f for f in self.fields}

    @cached_property
    def unique_paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(f.id for f in self.fields if f.unique), *self.unique]))

    @cached_property
    def index_paths(self) -> tuple[str, ...]:
        """Paths to index; the unique ones have theirs already."""
        wanted = dict.fromkeys([*(f.id for f in self.fields if f.index), *self.indexes])
        return tuple(p for p in wanted if p not in self.unique_paths)

    @cached_property
    def search_paths(self) -> tuple[str, ...]:
        """A hidden field is never searched: what is found would tell its value."""
        wanted = dict.fromkeys([*(f.id for f in self.fields if f.search), *self.search])
        return tuple(p for p in wanted if _top(p) not in self.hidden)

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
        """Names that are never shown."""
        return self.hidden_fields.union(n for n in self.retired if n not in self.by_id)

    @cached_property
    def whole(self) -> Projection:
        """All that is shown of an entity."""
        known = None if self.open or not self.leftovers else frozenset({*self.by_id, *SYSTEM_FIELDS})
        return Projection(hidden=self.hidden, known=known)

    def check_new(self, entity: Entity) -> tuple[Entity, list[Violation]]:
        """A whole entity: defaults filled in, required fields there, every value of its type."""
        filled = self.defaults | entity
        checked, violations = self.check_values(filled)
        missing = [Violation(name, "required") for name in self.required if filled.get(name) in (None, "")]
        return checked, missing + violations

    def check_changes(self, changes: Entity) -> tuple[Entity, list[Violation]]:
        """Some fields of an entity, as a merge brings them."""
        checked, violations = self.check_values(changes)
        emptied = [
            Violation(name, "required") for name in self.required if name in changes and changes[name] in (None, "")
        ]
        return checked, emptied + violations

    def check_values(self, entity: Entity) -> tuple[Entity, list[Violation]]:
        if not self.fields and not self.unique and not self.retired:
            return entity, []
        checked: Entity = {}
        violations: list[Violation] = []
        for name, value in entity.items():
            typed = self.by_id.get(name)
            if typed is None:
                checked[name] = value
                if not self.open or name in self.hidden:
                    violations.append(Violation(name, "unknown"))
                continue
            try:
                checked[name] = typed.check(value, name)
            except InvalidEntity as error:
                violations.extend(error.violations)
        violations.extend(Violation(p, "not_scalar") for p in self.unique_paths if not is_single(entity, p))
        return checked, violations


def _top(path: str) -> str:
    return path.split(".", 1)[0]


def is_single(entity: Entity, path: str) -> bool:
    """Whether what a unique index would hold of the entity is one value, or none."""
    value: Any = entity
    for segment in path.split("."):
        if not isinstance(value, dict):
            break
        value = value.get(segment)
    return not isinstance(value, dict | list | bool)
