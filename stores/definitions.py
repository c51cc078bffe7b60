"""Strict parsing of store definitions from documents."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.definition_reader import DefinitionReader
from stores.errors import InvalidEntity
from stores.field_definitions import MAX_FIELDS, FieldReader
from stores.index_definitions import NO_LISTS, IndexReader
from stores.parse import MOST_SEGMENTS
from stores.paths import is_position
from stores.records import SYSTEM_FIELDS, SYSTEM_LISTS, WRITER_FIELD
from stores.schema import StoreDefinition

STORE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")
MAX_INDEXES: Final[Annotated[int, Limit("store", "indexes", "400")]] = 29
"""MongoDB allows 64 per collection; a path needs two, as does a unique compound index, and the engine itself needs
six."""

PENDING: Final = "pending"
"""The member of a definition that says how far a change of its data in steps has come. Only the hub sets it."""

PURPOSE: Final = "purpose"
"""The member that says what a store of one of the hub's APIs is for. Only the hub sets it."""

SETTINGS: Final = (
    *("name", "fields", "open", "indexes", "unique", "search", "retired", PENDING, PURPOSE),
    *("label", "description"),
)

_HAVE_AN_INDEX: Final[Mapping[str, Collection[str]]] = {"unique": ("_id",)}
"""Paths that need no index of their own: every store has a unique index of `_id`."""


def _is_path(path: str) -> bool:
    segments = path.split(".")
    return len(segments) <= MOST_SEGMENTS and segments[0] != WRITER_FIELD and all(map(_is_segment, segments))


def _is_segment(segment: str) -> bool:
    return bool(segment) and segment[0] != "$"


class PathReader:
    """Reads paths in a definition. `named` are those that it has found, by their locations."""

    def __init__(self, reader: DefinitionReader) -> None:
        self._reader = reader
        self.named: dict[str, str] = {}

    def paths(self, document: Mapping[str, Any], name: str) -> tuple[str, ...]:
        """Return the paths in a list of the definition."""
        found = []
        for i, path in enumerate(self._reader.of_type(document, name, list, [])):
            if not self.is_path(path, f"{name}.{i}"):
                continue
            if name == "unique" and path in SYSTEM_LISTS:
                self._reader.refuse(f"{name}.{i}", NO_LISTS)
            elif path not in _HAVE_AN_INDEX.get(name, ()):
                found.append(path)
        return tuple(dict.fromkeys(found))

    def is_path(self, path: Any, location: str) -> bool:
        """Return whether a value is a path that can be indexed or searched; otherwise refuse it."""
        if not (isinstance(path, str) and "\0" not in path and _is_path(path)):
            self._reader.refuse(location, "Must be a field path.")
        elif number := next(filter(is_position, path.split(".")), None):
            # It would index one element of an array, and MongoDB would then refuse entities that have an object there
            # with a field of that name.
            self._reader.refuse(location, f"Must be a field path without {number!r}: a number is an array position.")
        else:
            self.named[location] = path
            return True
        return False


def parse_definition(document: Mapping[str, Any]) -> StoreDefinition:
    """Return the definition in an entity of the store `stores`. Raises InvalidEntity with all violations."""
    reader = DefinitionReader()
    for name in document.keys() - {*SETTINGS, *SYSTEM_FIELDS}:
        reader.refuse(name, "There is no such setting of a store.")
    title: str = reader.of_type(document, "name", str, "")
    if not STORE_NAME.match(title):
        reader.refuse("name", "Must be 1 to 63 letters, digits, - or _, beginning with a letter.")
    fields = FieldReader(reader).fields(document)
    paths = PathReader(reader)
    indexes = IndexReader(reader.refuse, paths.is_path, fields)
    indexes.read(reader.of_type(document, "indexes", list, []))
    definition = StoreDefinition(
        name=title,
        fields=fields,
        open=reader.of_type(document, "open", bool, not fields),
        indexes=tuple(indexes.paths),
        unique=tuple(dict.fromkeys([*paths.paths(document, "unique"), *indexes.unique])),
        compounds=tuple(indexes.compounds.values()),
        search=paths.paths(document, "search"),
        retired=tuple(n for n in reader.of_type(document, "retired", list, []) if isinstance(n, str)),
        purpose=reader.of_type(document, PURPOSE, str, ""),
        pending=document.get(PENDING) is not None,
        leftovers=(document.get("_rev") or 1) != 1,
        id=document.get("_id") or "",
        rev=document.get("_rev") or 0,
        named_paths=tuple(paths.named.items()),
    )
    singles = len(definition.index_paths) + len(definition.unique_paths)
    if singles + len(definition.compounds) > MAX_INDEXES:
        reader.refuse("indexes", f"At most {MAX_INDEXES} indexes.")
    if len(definition.search) > MAX_FIELDS:
        reader.refuse("search", f"At most {MAX_FIELDS} paths.")
    if reader.refusals:
        raise InvalidEntity(reader.violations)
    return definition
