"""The indexes of a collection that a store definition asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo import IndexModel

from stores.compound import CompoundIndex
from stores.mongo.compile import Match, compile_filter, compile_sort, conjunction
from stores.query import EVERYTHING, Sort
from stores.schema import StoreDefinition

OURS: Final = "hub_"
"""How the names of the hub's indexes begin."""

_CREATION: Final = ("time", "_id")
_SHARING: Final = ("access", "group", "branch")
"""The fields that let users other than the owner see an entity. Their indexes contain shared entities only."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index of a collection. `compound` is the compound index of the definition that it enforces."""

    name: str
    sorts: tuple[Sort, ...]
    options: dict[str, Any] = field(default_factory=dict)
    compound: CompoundIndex | None = None

    @classmethod
    def over(cls, name: str, *paths: str, **options: Any) -> Index:
        """Return an ascending index over paths, each of which is named once."""
        return cls(f"{OURS}{name}", tuple(Sort(tuple(path.split("."))) for path in dict.fromkeys(paths)), options)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(".".join(s.path) for s in self.sorts)


def model_of(index: Index) -> IndexModel:
    return IndexModel([*compile_sort(index.sorts).items()], name=index.name, **index.options)


def indexes_of(definition: StoreDefinition) -> list[Index]:
    """Return the indexes of a store, the first one of several over the same fields."""
    indexes = [
        Index.over("creation", *_CREATION),
        Index.over("owner", "owner", *_CREATION),
        # One for the entities of a value in order of creation, one for sorting by the values.
        *(Index.over(f"ix_{path}", path, *_CREATION) for path in definition.index_paths),
        *(Index.over(f"sort_{path}", path, "_id") for path in definition.index_paths),
        *map(_unique, definition.unique_paths),
        *(Index.over(name, name, *_CREATION, partialFilterExpression=_texts(name)) for name in _SHARING),
    ]
    single = {index.fields: index for index in reversed(indexes)}.values()
    compound = (index for each in definition.compounds for index in _compound(each))
    return [*{index.name: index for index in (*compound, *single)}.values()]


def _unique(path: str) -> Index:
    return Index.over(f"unique_{path}", path, unique=True, partialFilterExpression=_scalars(path))


def _compound(index: CompoundIndex) -> Iterator[Index]:
    """Yield the index for queries, and if it is unique the one that refuses writes. This one has only entities with
    values at all the paths, so it serves few queries."""
    covered = [] if index.where == EVERYTHING else [compile_filter(index.where)]
    yield Index(_name(index), index.keys, _partial(covered), index)
    if index.unique:
        scalars = [_scalars(path) for path in index.paths]
        yield Index(f"{OURS}one_{index.name}", index.sorts, {"unique": True, **_partial(scalars + covered)}, index)


def _partial(conditions: list[Match]) -> dict[str, Any]:
    return {"partialFilterExpression": conjunction(*conditions)} if conditions else {}


def _name(index: CompoundIndex) -> str:
    """Return the name of the index for queries. MongoDB has no two indexes with the same fields, so one that a path or
    the engine itself may need is known by the same name."""
    plain = f"{OURS}compound_{CompoundIndex.of(index.sorts, where=index.where).name}"
    if index.where != EVERYTHING or any(s.descending for s in index.keys):
        return plain
    first, *rest = [".".join(s.path) for s in index.keys]
    if first == "time" and rest == ["_id"]:
        return f"{OURS}creation"
    if rest == [*_CREATION]:
        return f"{OURS}owner" if first == "owner" else f"{OURS}ix_{first}"
    return f"{OURS}sort_{first}" if rest == ["_id"] else plain


def _scalars(path: str) -> Match:
    """Return the condition for documents with a string or a number at the path: nulls do not collide. In this form the
    planner recognises that any equality with a string or a number implies it."""
    return {"$or": [_texts(path), {path: {"$gte": float("-inf")}}]}


def _texts(path: str) -> dict[str, Any]:
    """Return the condition for documents with a string at the path."""
    return {path: {"$gte": ""}}
