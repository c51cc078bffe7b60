"""Compound indexes: several paths in one index, or the entities of a part of the store, which may be unique there.

An index holds each element of a list, as MongoDB's do. So it cannot hold an entity with different lists at two of its
paths (see `stores.paths.parallel_arrays`): both engines refuse to write one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from json import JSONDecoder
from typing import Any

import orjson

from stores import ordering, query
from stores.canonical import canonical_text, filter_text
from stores.errors import ParallelArrays
from stores.matcher import Predicate, compile_filter, value_test
from stores.parse import parse_filter
from stores.paths import Path, parallel_arrays, traverses_array
from stores.query import EVERYTHING, And, Compare, Equal, Exists, Filter, In, Leaf, Query, Sort, leaves, total
from stores.records import Entity, Json


@dataclass(frozen=True, slots=True)
class CompoundIndex:
    """An index of the entities that meet `where`, over the paths of `sorts` in their directions, the first of which is
    ascending: an index serves the reverse order too. `unique`: no two of these entities have the same values, unless
    one of the values is missing or null.

    `name` identifies an index: two with the same name are equal. `location` is that in the definition."""

    name: str
    sorts: tuple[Sort, ...] = field(compare=False)
    unique: bool = field(default=False, compare=False)
    where: Filter = field(default=EVERYTHING, compare=False)
    location: str = field(default="", compare=False)

    @classmethod
    def of(
        cls, sorts: Sequence[Sort], unique: bool = False, where: Filter = EVERYTHING, location: str = ""
    ) -> CompoundIndex:
        ascending = tuple(Sort(s.path, s.descending is not sorts[0].descending) for s in sorts)
        condition = _ordered(where)
        return cls(_name(ascending, unique, condition), ascending, unique, condition, location)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(".".join(s.path) for s in self.sorts)

    def locations(self) -> Iterator[tuple[str, Path]]:
        """Yield the location of each path in the definition of a unique index, with the path."""
        yield from ((f"fields.{i}", s.path) for i, s in enumerate(self.sorts))
        yield from ((f"where.{'.'.join(leaf.path)}", leaf.path) for leaf in leaves(self.where))

    @property
    def keys(self) -> tuple[Sort, ...]:
        """The order of the index: as of a list that is sorted by its paths."""
        return total(self.sorts)


def _ordered(where: Filter) -> Filter:
    """Return a conjunction of conditions in a fixed form: MongoDB refuses two indexes that differ in the order of
    conditions and values only."""
    parts = {filter_text(part): part for part in map(_simple, conjuncts(where))}
    return And(tuple(parts[text] for text in sorted(parts)))


def _simple(leaf: Filter) -> Filter:
    if not isinstance(leaf, In):
        return leaf
    values = {filter_text(Equal((), value)): value for value in leaf.values}
    if len(values) == 1:
        return Equal(leaf.path, *values.values())
    return In(leaf.path, tuple(values[text] for text in sorted(values)))


def _name(sorts: Sequence[Sort], unique: bool, where: Filter) -> str:
    name = canonical_text([("-" if s.descending else "") + ".".join(s.path) for s in sorts])
    name += "!" if unique else ""
    return name if where == EVERYTHING else f"{name}?{hashlib.sha256(filter_text(where).encode()).hexdigest()[:16]}"


def stored_index(name: str, condition: str) -> CompoundIndex:
    """Return the index with this name. `condition` is the JSON text of its `condition_document`."""
    terms, rest = _terms_in(name)
    sorts = [Sort(tuple(term.removeprefix("-").split(".")), term.startswith("-")) for term in terms]
    document = orjson.loads(condition)
    return CompoundIndex.of(sorts, rest.startswith("!"), parse_filter(document) if document else EVERYTHING)


def paths_in(name: str) -> list[str]:
    """Return the paths in the name of an index."""
    return [term.removeprefix("-") for term in _terms_in(name)[0]]


def _terms_in(name: str) -> tuple[list[str], str]:
    """Return the paths in the name of an index with their directions, and the rest of the name."""
    terms, end = JSONDecoder().raw_decode(name)
    return terms, name[end:]


def condition_document(where: Filter) -> dict[str, Any]:
    """Return the condition of an index as a filter document."""
    parts = [*map(_as_document, conjuncts(where))]
    return {"$and": parts} if parts else {}


def _as_document(leaf: Filter) -> dict[str, Any]:
    match leaf:
        case Equal(path=path, value=value):
            condition: dict[str, Any] = {"$eq": value}
        case In(path=path, values=values):
            condition = {"$in": [*values]}
        case Compare(path=path, op=op, value=value):
            condition = {f"${op}": value}
        case Exists(path=path):
            condition = {"$exists": True}
        case _:
            raise TypeError(f"not a condition of an index: {leaf!r}")
    return {".".join(path): condition}


def conjuncts(where: Filter) -> Iterator[Filter]:
    """Yield the conditions that must all hold."""
    if isinstance(where, And):
        for part in where.parts:
            yield from conjuncts(part)
    else:
        yield where


# Which queries an index serves.


def implies(where: Filter, condition: Filter) -> bool:
    """Return whether every entity that meets `where` meets `condition` of an index too, judged by single
    conditions."""
    parts = [part for part in conjuncts(where) if isinstance(part, Leaf)]
    return all(
        any(part.path == wanted.path and _implies(part, wanted) for part in parts)
        for wanted in conjuncts(condition)
        if isinstance(wanted, Leaf)
    )


def _implies(have: Leaf, want: Leaf) -> bool:
    """Return whether each value of the path that meets `have` meets `want`."""
    match have:
        case Equal(value=value):
            return _meets(value, want)
        case In(values=values):
            return bool(values) and all(_meets(value, want) for value in values)
        case Compare(op=op, value=bound) if isinstance(want, Compare):
            return type_of(bound) == type_of(want.value) and _is_within(op, bound, want)
        case Compare(value=bound):
            return isinstance(want, Exists) and bound is not None
        case Exists():
            return isinstance(want, Exists)
    return False


def _meets(value: Json, want: Leaf) -> bool:
    if isinstance(value, list | dict):
        return False  # a list equals the whole value, or one element of it
    if isinstance(want, Exists):
        return value is not None
    return value_test(replace(want, path=()))(value)


def type_of(value: Json) -> str:
    """Return the name of the type within which values compare."""
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _is_within(op: str, bound: Any, want: Compare) -> bool:
    """Return whether the values of a range are among those of another one."""
    if isinstance(bound, bool) or bound is None or op[0] != want.op[0]:
        return False
    if ordering.equal(bound, want.value):
        return want.op in (op, f"{op[:2]}e")
    return bool(bound > want.value) if op[0] == "g" else bool(bound < want.value)


def fixed_paths(where: Filter) -> frozenset[Path]:
    """Return the paths that `where` compares with one scalar."""
    equal = (part for part in conjuncts(where) if isinstance(part, Equal))
    return frozenset(part.path for part in equal if not isinstance(part.value, list | dict))


def sought(index: CompoundIndex, where: Filter) -> int:
    """Return how many of the first paths of the index `where` bounds: each to one value, but for the last."""
    fixed = fixed_paths(where)
    ranged = {p.path for p in conjuncts(where) if isinstance(p, query.In | query.Compare | query.StartsWith)}
    count = 0
    for s in index.sorts:
        if s.path not in fixed:
            return count + (s.path in ranged)
        count += 1
    return count


def ordered(index: CompoundIndex, where: Filter, sort: Sequence[Sort]) -> int:
    """Return how many of the first fields of `sort` are in the order of the index, among the entities that meet
    `where`. Fields that `where` compares with one value are in any order."""
    fixed = fixed_paths(where)
    keys = iter([key for key in index.keys if key.path not in fixed])
    count = 0
    turned: bool | None = None
    for wanted in sort:
        if wanted.path not in fixed:
            key = next(keys, None)
            if key is None or key.path != wanted.path:
                break
            turns = key.descending is not wanted.descending
            if turned is not None and turns is not turned:
                break
            turned = turns
        count += 1
    return count


def orders(index: CompoundIndex, wanted: Query) -> bool:
    """Return whether the index has all entities that the query may find, in the order of its sort."""
    return ordered(index, wanted.where, wanted.sort) == len(wanted.sort) and implies(wanted.where, index.where)


# Which entities an index takes.


class ArrayCheck:
    """The check that the compound indexes of a store can hold an entity."""

    def __init__(self, indexes: Iterable[CompoundIndex]) -> None:
        self._indexes: list[tuple[list[Path], Predicate]] = [
            ([s.path for s in index.sorts], compile_filter(index.where)) for index in indexes if len(index.sorts) > 1
        ]

    def check(self, entity: Entity) -> None:
        """Raise ParallelArrays for an entity with different lists at two paths of one index."""
        for paths, covers in self._indexes:
            found = parallel_arrays(entity, paths)
            if found is not None and covers(entity):
                later, earlier = map(".".join, found)
                raise ParallelArrays(later, earlier)

    def takes_long(self, entity: Entity) -> bool:
        """Return whether the check of a large entity takes long: it enters a list."""
        return any(sum(traverses_array(entity, path) for path in paths) > 1 for paths, _ in self._indexes)

    def refuses(self, entity: Entity) -> bool:
        try:
            self.check(entity)
        except ParallelArrays:
            return True
        return False


def named_by(indexes: Iterable[CompoundIndex], later: str, earlier: str) -> tuple[str, str]:
    """Return the paths of the index that has lists at these names, which are single segments of paths. Without such an
    index, return the names."""
    for index in indexes:
        first = next((path for path in index.paths if earlier in path.split(".")), None)
        second = next((path for path in index.paths if later in path.split(".") and path != first), None)
        if first is not None and second is not None:
            return second, first
    return later, earlier


def scalar_paths(indexes: Iterable[CompoundIndex]) -> tuple[str, ...]:
    """Return the paths of the unique indexes, which take no lists, objects or booleans."""
    return tuple(dict.fromkeys(path for index in indexes if index.unique for path in index.paths))
