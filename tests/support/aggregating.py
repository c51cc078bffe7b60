"""Aggregations for tests, as a caller asks for them."""

from __future__ import annotations

from typing import Any

from stores.aggregation import MOST_GROUPS, Aggregation
from stores.parse_aggregation import parse_dimensions, parse_group_sort, parse_measures
from stores.protocol import Engine
from stores.query import EVERYTHING, Filter
from tests.support.entities import STORE

ROW = tuple[Any, ...]


def asked(aggregate: str, by: str = "", sort: str = "", limit: int = MOST_GROUPS, decimals: str = "") -> Aggregation:
    measures = parse_measures(aggregate, is_decimal=lambda path: path == decimals)
    dimensions = parse_dimensions(by) if by else ()
    return Aggregation(measures, dimensions, parse_group_sort(sort, measures, dimensions) if sort else (), limit)


async def groups(engine: Engine, aggregation: Aggregation, where: Filter = EVERYTHING, store: str = STORE) -> list[ROW]:
    """Return (*by, *values) of each group."""
    found = await engine.aggregate(store, where, aggregation)
    return [(*group.by, *group.values) for group in found.groups]
