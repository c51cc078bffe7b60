"""Strict parsing of `indexes` of a store definition: paths (``"address.city"``), lists of paths with directions
(``["status", "-price"]``), and objects (``{"fields": ["number"], "unique": true, "where": {"state": "open"}}``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.compound import CompoundIndex, conjuncts
from stores.errors import InvalidQuery
from stores.field import Field
from stores.parse import FilterLimits, parse_filter
from stores.query import EVERYTHING, Compare, Equal, Exists, Filter, In, Leaf, Not, Sort, leaves
from stores.records import SYSTEM_LISTS
from stores.schema import StoreDefinition

MOST_INDEX_FIELDS: Final[Annotated[int, Limit("index", "fields", "400")]] = 8
MOST_INDEX_CONDITIONS: Final[Annotated[int, Limit("index", "conditions", "400")]] = 16
MOST_INDEX_VALUES: Final[Annotated[int, Limit("index", "values of a list", "400")]] = 100

NO_LISTS: Final = "Must not be a system field that holds a list."
"""Such a field cannot be unique, and an index cannot hold it beside another list."""

_SETTINGS: Final = frozenset({"fields", "unique", "where"})
_NOT_IN_CONDITIONS: Final = ("_id", "_rev", "_at")
"""MongoDB keeps ids in another form, and may lack revisions; each change of an entity changes `_at`."""
_KIND: Final = "Must be a field path, a list of field paths, or an object with fields."
_CONDITION: Final = "Takes equality with a string, a number, true, false or null, $in, $exists: true, and ranges."

Refuse = Callable[[str, str], None]
"""Refuses the definition: location, text."""
IsPath = Callable[[Any, str], bool]
"""Returns whether a value is a path that can be indexed; otherwise refuses it at a location."""


class IndexReader:
    """The reader of the indexes of one definition.

    `paths` and `unique` are the single paths that it has found, `compounds` the other indexes by their names."""

    def __init__(self, refuse: Refuse, is_path: IsPath, fields: Sequence[Field]) -> None:
        self._refuse = refuse
        self._is_path = is_path
        self._definition = StoreDefinition("", tuple(fields))
        self.paths: dict[str, None] = {}
        self.unique: dict[str, None] = {}
        self.compounds: dict[str, CompoundIndex] = {}

    def read(self, listed: Sequence[Any]) -> None:
        for i, item in enumerate(listed):
            location = f"indexes.{i}"
            if isinstance(item, str):
                if self._is_path(item, location) and item != "_id":  # every store has an index of it
                    self.paths[item] = None
            elif isinstance(item, list):
                self._add(item, location, location, False, EVERYTHING)
            elif isinstance(item, dict):
                self._object(item, location)
            else:
                self._refuse(location, _KIND)

    def _object(self, item: Mapping[str, Any], location: str) -> None:
        for name in sorted(item.keys() - _SETTINGS):
            self._refuse(f"{location}.{name}", "There is no such setting of an index.")
        fields, unique, where = item.get("fields"), item.get("unique"), item.get("where")
        if not isinstance(fields, list):
            self._refuse(f"{location}.fields", "Must be a list of field paths.")
            return
        if not isinstance(unique, bool | None):
            self._refuse(f"{location}.unique", "Must be true or false.")
        condition = EVERYTHING if where is None else self._condition(where, f"{location}.where")
        if condition is not None:
            self._add(fields, f"{location}.fields", location, unique is True, condition)

    def _add(self, terms: list[Any], at: str, location: str, unique: bool, where: Filter) -> None:
        sorts = self._sorts(terms, at, unique)
        if sorts is None:
            return
        if len(sorts) > 1 or where != EVERYTHING:
            index = CompoundIndex.of(sorts, unique, where, location)
            self.compounds.setdefault(index.name, index)
        elif sorts[0].path != ("_id",):
            (self.unique if unique else self.paths)[".".join(sorts[0].path)] = None

    def _sorts(self, terms: list[Any], at: str, unique: bool) -> list[Sort] | None:
        """Return the paths with their directions; None if one of them is refused."""
        if not 0 < len(terms) <= MOST_INDEX_FIELDS:
            self._refuse(at, f"Must have 1 to {MOST_INDEX_FIELDS} fields.")
            return None
        sorts: dict[str, Sort] = {}
        for i, term in enumerate(terms):
            path = term.removeprefix("-") if isinstance(term, str) else term
            if not self._is_path(path, f"{at}.{i}"):
                continue
            if text := self._why_not(path, sorts, unique):
                self._refuse(f"{at}.{i}", text)
            sorts[path] = Sort(tuple(path.split(".")), term.startswith("-"))
            if text:
                del sorts[path]
        return list(sorts.values()) if len(sorts) == len(terms) else None

    def _why_not(self, path: str, sorts: Mapping[str, Sort], unique: bool) -> str:
        """Return the text why an index cannot have the path; empty if it can."""
        typed = self._definition.by_id.get(path)
        if path in sorts:
            return "This path is named twice."
        if path in SYSTEM_LISTS:
            return NO_LISTS
        if unique and path == "_id":
            return "Must not be _id, which is unique by itself."
        if unique and typed is not None and "unique" not in typed.kind.takes:
            return f"{typed.type} cannot be unique."
        return ""

    def _condition(self, document: Any, location: str) -> Filter | None:
        """Return the condition for the entities of an index; None if it is refused."""
        limits = FilterLimits(depth=2, nodes=MOST_INDEX_CONDITIONS, items=MOST_INDEX_VALUES)
        refused: list[str] = []

        def check(path: str) -> None:
            if path in _NOT_IN_CONDITIONS:
                self._refuse(f"{location}.{path}", "Must not be _id, _rev or _at.")
            elif self._is_path(path, f"{location}.{path}"):
                return
            refused.append(path)

        try:
            tree = parse_filter(document, check, limits, self._definition.field_at)
        except InvalidQuery as error:
            self._refuse(location if error.field == "filter" else f"{location}.{error.field}", _sentence(error.message))
            return None
        for path in _not_indexable(tree):
            refused.append(path)
            self._refuse(f"{location}.{path}" if path else location, _CONDITION)
        return None if refused else tree


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _not_indexable(tree: Filter) -> Iterator[str]:
    """Yield the paths of the conditions that an index cannot have."""
    for part in conjuncts(tree):
        if isinstance(part, Leaf) and _is_indexable(part):
            continue
        yield next((".".join(leaf.path) for leaf in leaves(part.part if isinstance(part, Not) else part)), "")


def _is_indexable(leaf: Leaf) -> bool:
    match leaf:
        case Equal(value=value):
            return not isinstance(value, list | dict)
        case In(values=values):
            return bool(values) and not any(isinstance(value, list | dict) for value in values)
        case Compare(value=value):
            return isinstance(value, str | int | float) and not isinstance(value, bool)
    return isinstance(leaf, Exists)
