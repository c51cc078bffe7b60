"""Strict parsing of store definitions from documents."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.errors import InvalidEntity, Violation
from stores.fields import FIELD_TYPES, TEXTAREA_LENGTH
from stores.index_definitions import LISTS, NO_LISTS, IndexReader
from stores.limits import MOST_VIOLATIONS
from stores.parse import MOST_SEGMENTS
from stores.records import SYSTEM_FIELDS, WRITER_FIELD
from stores.schema import Field, StoreDefinition

STORE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")
MAX_FIELDS: Final[Annotated[int, Limit("store", "fields", "400")]] = 500
MAX_INDEXES: Final[Annotated[int, Limit("store", "indexes", "400")]] = 29
"""MongoDB allows 64 per collection; a path needs two, as does a unique compound index, and the engine itself needs
six."""
MAX_OPTIONS: Final[Annotated[int, Limit("field", "options", "400")]] = 10_000

SETTINGS: Final = ("name", "fields", "open", "indexes", "unique", "search", "retired", "label", "description")
FLAGS: Final = ("required", "unique", "index", "search", "hidden")
FIELD_SETTINGS: Final = frozenset({"id", "type", "label", "length", "options", "default", *FLAGS})

_HAVE_AN_INDEX: Final[Mapping[str, Collection[str]]] = {"unique": ("_id",)}
"""Paths that need no index of their own: every store has a unique index of `_id`."""

_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
}


@dataclass
class _Reader:
    """A reader of one definition document, which collects the first MOST_VIOLATIONS violations, and counts all."""

    violations: list[Violation] = field(default_factory=list)
    refusals: int = 0

    def refuse(self, place: str, detail: str, rule: str = "invalid") -> None:
        self.refusals += 1
        if self.refusals <= MOST_VIOLATIONS:
            self.violations.append(Violation(place, rule, detail))

    def of_type(self, document: Mapping[str, Any], name: str, kind: type, default: Any, place: str) -> Any:
        value = document.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(f"{place}{name}", f"Must be {_KINDS[kind]}.")
            return default
        return value

    def paths(self, document: Mapping[str, Any], name: str) -> tuple[str, ...]:
        found = []
        for i, path in enumerate(self.of_type(document, name, list, [], "")):
            if not self.is_path(path, f"{name}.{i}"):
                continue
            if name == "unique" and path in LISTS:
                self.refuse(f"{name}.{i}", NO_LISTS)
            elif path not in _HAVE_AN_INDEX.get(name, ()):
                found.append(path)
        return tuple(dict.fromkeys(found))

    def is_path(self, path: Any, place: str) -> bool:
        """Return whether a value is a path that can be indexed or searched; otherwise refuse it."""
        if not (isinstance(path, str) and "\0" not in path and _is_path(path)):
            self.refuse(place, "Must be a field path.")
        elif number := next(filter(_is_number, path.split(".")), None):
            self.refuse(place, f"Must be a field path without {number!r}: a number is an array position.")
        else:
            return True
        return False

    def options(self, document: Mapping[str, Any], place: str) -> tuple[tuple[int | str, str], ...]:
        found: dict[int | str, str] = {}
        listed = self.of_type(document, "options", list, [], place)
        if len(listed) > MAX_OPTIONS:
            self.refuse(f"{place}options", f"At most {MAX_OPTIONS} options.")
            return ()
        for i, item in enumerate(listed):
            good = (
                isinstance(item, dict) and isinstance(item.get("id"), int | str) and isinstance(item.get("name"), str)
            )
            if not good or isinstance(item["id"], bool) or set(item) - {"id", "name"}:
                self.refuse(f"{place}options.{i}", "Must be an object with an id and a name.")
            elif item["id"] in found:
                self.refuse(f"{place}options.{i}", "This id is taken.")
            else:
                found[item["id"]] = item["name"]
        return tuple(found.items())

    def field(self, document: Any, place: str) -> Field | None:
        if not isinstance(document, dict):
            self.refuse(place.rstrip("."), "Must be an object.")
            return None
        for name in document.keys() - FIELD_SETTINGS:
            self.refuse(f"{place}{name}", "There is no such setting of a field.")
        flags = {name: self.of_type(document, name, bool, False, place) for name in FLAGS}
        made = Field(
            id=self.of_type(document, "id", str, "", place),
            type=self.of_type(document, "type", str, "", place),
            label=self.of_type(document, "label", str, "", place),
            length=self.of_type(document, "length", int, None, place),
            options=self.options(document, place),
            **flags,
        )
        return self.checked(made, document, place)

    def checked(self, made: Field, document: Mapping[str, Any], place: str) -> Field | None:
        before = self.refusals
        if not _is_field_name(made.id):
            self.refuse(f"{place}id", "Must be a field name that is not reserved.")
        kind = FIELD_TYPES.get(made.type)
        if kind is None:
            self.refuse(f"{place}type", f"Must be one of {', '.join(FIELD_TYPES)}.")
        elif kind.takes_options and not made.options:
            self.refuse(f"{place}options", f"{made.type} needs options.")
        elif made.unique and not kind.may_be_unique:
            self.refuse(f"{place}unique", f"{made.type} cannot be unique.")
        elif made.search and not kind.text:
            self.refuse(f"{place}search", f"{made.type} is not text.")
        if made.length is not None and not 0 < made.length <= TEXTAREA_LENGTH:
            self.refuse(f"{place}length", f"Must be from 1 to {TEXTAREA_LENGTH}.")
        if self.refusals > before:
            return None
        try:
            default = made.check(document.get("default"), f"{place}default")
        except InvalidEntity as error:
            for violation in error.violations:
                self.refuse(violation.field, violation.detail, violation.rule)
            return None
        return replace(made, default=default)


def _is_path(path: str) -> bool:
    segments = path.split(".")
    return len(segments) <= MOST_SEGMENTS and segments[0] != WRITER_FIELD and all(map(_is_segment, segments))


def _is_segment(segment: str) -> bool:
    return bool(segment) and segment[0] != "$"


def _is_number(segment: str) -> bool:
    # It would index one element of an array, and MongoDB would then refuse entities that have an object there with a
    # field of that name.
    return segment.isascii() and segment.isdigit()


def _is_field_name(name: str) -> bool:
    reserved = name in SYSTEM_FIELDS or name == "success"
    return bool(name) and name[0] not in "$_" and "." not in name and "\0" not in name and not reserved


def parse_definition(document: Mapping[str, Any]) -> StoreDefinition:
    """Return the definition in an entity of the store `stores`. Raises InvalidEntity with all violations."""
    reader = _Reader()
    for name in document.keys() - {*SETTINGS, *SYSTEM_FIELDS}:
        reader.refuse(name, "There is no such setting of a store.")
    title: str = reader.of_type(document, "name", str, "", "")
    if not STORE_NAME.match(title):
        reader.refuse("name", "Must be 1 to 63 letters, digits, - or _, beginning with a letter.")
    fields = _parse_fields(reader, document)
    indexes = IndexReader(reader.refuse, reader.is_path, fields)
    indexes.read(reader.of_type(document, "indexes", list, [], ""))
    definition = StoreDefinition(
        name=title,
        fields=fields,
        open=reader.of_type(document, "open", bool, not fields, ""),
        indexes=tuple(indexes.paths),
        unique=tuple(dict.fromkeys([*reader.paths(document, "unique"), *indexes.unique])),
        compounds=tuple(indexes.compounds.values()),
        search=reader.paths(document, "search"),
        retired=tuple(n for n in reader.of_type(document, "retired", list, [], "") if isinstance(n, str)),
        leftovers=(document.get("_rev") or 1) != 1,
        id=document.get("_id") or "",
        rev=document.get("_rev") or 0,
    )
    singles = len(definition.index_paths) + len(definition.unique_paths)
    if singles + len(definition.compounds) > MAX_INDEXES:
        reader.refuse("indexes", f"At most {MAX_INDEXES} indexes.")
    if len(definition.search) > MAX_FIELDS:
        reader.refuse("search", f"At most {MAX_FIELDS} paths.")
    if reader.refusals:
        raise InvalidEntity(reader.violations)
    return definition


def _parse_fields(reader: _Reader, document: Mapping[str, Any]) -> tuple[Field, ...]:
    listed: list[Any] = reader.of_type(document, "fields", list, [], "")
    if len(listed) > MAX_FIELDS:
        reader.refuse("fields", f"At most {MAX_FIELDS} fields.")
        return ()
    fields: dict[str, Field] = {}
    for i, item in enumerate(listed):
        made = reader.field(item, f"fields.{i}.")
        if made and made.id in fields:
            reader.refuse(f"fields.{i}.id", "This id is taken.")
        elif made:
            fields[made.id] = made
    return tuple(fields.values())
