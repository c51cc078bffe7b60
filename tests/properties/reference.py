"""The answer to a query by the definition: match every entity, sort by what each offers, cut the stretch."""

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
    """Raises InvalidQuery when one of them cannot be placed."""
    return sorted(entities, key=lambda entity: place(entity, sort))


def place(entity: Entity, sort: tuple[Sort, ...]) -> bytes:
    offered = sort_values(entity, [s.path for s in sort])
    return min(sort_key([(encode(v), s.descending) for v, s in zip(row, sort, strict=True)]) for row in offered)


def answer(entities: Sequence[Entity], query: Query) -> list[Entity]:
    """The list without its page: what all pages together are."""
    return in_order(matching(entities, query.where), query.sort)
