"""The command that reads a list: condition, order and fields of a query, compiled for one collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from stores.compound import CompoundIndex, orders
from stores.cursor import Key
from stores.mongo import keyset
from stores.mongo.codec import Document
from stores.mongo.compile import Match, compile_filter, compile_projection, compile_sort, conjunction
from stores.query import Filter, In, Projection, Query, Sort, leaves

KEY: Final = "_key"
"""The field of a document with its sort key, where the condition of the cursor is not exact."""

_MOST_REPEATED: Final = 200
"""Conditions and values of a filter up to which it is repeated for each field of the sort."""


@dataclass(frozen=True)
class Selection:
    """A query compiled for one collection: the condition, the order and the fields."""

    store: str
    match: Match
    sort: tuple[Sort, ...]
    fields: dict[str, int]
    inexact_after: Key | None = None

    @classmethod
    def of(cls, store: str, query: Query, projection: Projection, indexes: Sequence[CompoundIndex] = ()) -> Selection:
        """Return the compiled query. `indexes` are the compound indexes of the store, if they are known."""
        match = compile_filter(query.where)
        inexact = None
        if query.after is not None:
            exact = keyset.is_exact(query.sort)
            if exact and _is_small(query.where) and any(orders(index, query) for index in indexes):
                match = keyset.each_beyond(match, query.sort, query.after)
            else:
                match = conjunction(match, keyset.beyond(query.sort, query.after))
            inexact = None if exact else query.after
        needed = (*(s.path for s in query.sort), ("_rev",))
        return cls(store, match, query.sort, compile_projection(projection, needed), inexact)

    def keys_only(self) -> Selection:
        """Return the same selection with only the fields of the sort key."""
        return replace(self, fields=compile_projection(Projection(()), tuple(s.path for s in self.sort)))

    def command(self, skip: int, limit: int, batch: int | None = None) -> Document:
        """Return the command for `limit` documents after the first `skip`, with as many as possible, or `batch`, in one
        reply."""
        # One more, so that the server closes the cursor at once.
        batch = batch or limit + 1
        if self.inexact_after is not None:
            return self._aggregation(self.inexact_after, skip, limit, batch)
        return {
            "find": self.store,
            "filter": self.match,
            "sort": compile_sort(self.sort),
            "projection": self.fields,
            "skip": skip,
            "limit": limit,
            "batchSize": batch,
            "allowDiskUse": True,
        }

    def _aggregation(self, after: Key, skip: int, limit: int, batch: int) -> Document:
        pipeline: list[Document] = [
            {"$match": self.match},
            {"$sort": compile_sort(self.sort)},
            {"$set": {KEY: {"$meta": "sortKey"}}},
            {"$match": keyset.beyond_key(self.sort, after, KEY)},
            *([{"$skip": skip}] if skip else []),
            {"$limit": limit},
            {"$unset": KEY},
            {"$project": self.fields},
        ]
        return {"aggregate": self.store, "pipeline": pipeline, "cursor": {"batchSize": batch}, "allowDiskUse": True}


def _is_small(where: Filter) -> bool:
    """Return whether a filter may be repeated in a command."""
    return sum(len(leaf.values) if isinstance(leaf, In) else 1 for leaf in leaves(where)) <= _MOST_REPEATED
