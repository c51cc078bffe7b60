"""The reference answer to a query: match every entity, then sort the matches by their keys."""

from __future__ import annotations

from collections.abc import Sequence

from stores.matcher import compile_filter
from stores.ordering import encode, sort_key
from stores.paths import sort_values
from stores.query import Filter, Query, Sort
from stores.records import Entity


def matching(entities: Sequence[Entity], where: Filter) -> list[Entity]:
    return list(filter(compile_filter(where), entities))


def in_order(entities: Sequence[Entity], sort: tuple[Sort, ...]) -> list[Entity]:
    """Return the entities in the order of a sort. Raises InvalidQuery if one of them cannot be sorted."""
    return sorted(entities, key=lambda entity: place(entity, sort))


def place(entity: Entity, sort: tuple[Sort, ...]) -> bytes:
    offered = sort_values(entity, [s.path for s in sort])
    return min(sort_key([(encode(v), s.descending) for v, s in zip(row, sort, strict=True)]) for row in offered)


def answer(entities: Sequence[Entity], query: Query) -> list[Entity]:
    """Return the whole list, ignoring the query's offset and limit."""
    return in_order(matching(entities, query.where), query.sort)
