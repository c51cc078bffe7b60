"""How a commit is carried out, as far as its writes tell: its guards, its room, and the runs that go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from stores.mongo.computing import PART_BYTES
from stores.mongo.sizes import LARGE_DOCUMENT
from stores.paths import value_at
from stores.protocol import DeleteMany, Expect, Insert, Procedure, Update, UpdateMany, Upsert, Write


def is_bulk(writes: Sequence[Write]) -> bool:
    """Return whether a commit may search or write for long. A batch, whose size is known, does not."""
    return any(
        isinstance(write, UpdateMany | DeleteMany) or (isinstance(write, Procedure) and write.bulk and not write.size)
        for write in writes
    )


def with_long_procedures(writes: Sequence[Write]) -> Sequence[Write]:
    """Return the writes of a commit. If they compute much, its procedures are bulk ones: they check what the writes
    lead to, so they compute the same."""
    computes = [write.compute for write in writes if isinstance(write, Update | Upsert) and write.compute is not None]
    if sum(compute.size for compute in computes) <= LARGE_DOCUMENT:
        return writes
    return [replace(write, bulk=True) if isinstance(write, Procedure) else write for write in writes]


def is_large(writes: Sequence[Write]) -> bool:
    """Return whether what is written takes room in the server's cache, as far as it is known before."""
    size = sum(write.size for write in writes if isinstance(write, Procedure))
    if size > PART_BYTES:
        return True
    for write in writes:
        if isinstance(write, Insert | Upsert):
            size += len(orjson.dumps(write.entity))
            if size > PART_BYTES:
                return len(writes) > 1
    return False


def guards_of(writes: Sequence[Write]) -> list[str]:
    """Return the guards of a commit, in the same order for all commits."""
    return sorted({write.guard or write.store for write in writes if isinstance(write, Expect)})


def guard_id(guard: str) -> str:
    return f"guard:{guard}"


def runs_of(writes: Sequence[Write]) -> list[list[Write]]:
    """Return the writes in their order, split into runs that can be done together."""
    runs: list[list[Write]] = []
    values: set[Any] = set()
    for write in writes:
        value = value_at(write.entity, write.key) if isinstance(write, Upsert) else None
        joins = runs and _alike(runs[-1][0], write) and (value is None or value not in values)
        if joins:
            runs[-1].append(write)
        else:
            runs.append([write])
            values = set()
        values.add(value)
    return runs


def _alike(a: Write, b: Write) -> bool:
    if isinstance(a, Insert) and isinstance(b, Insert):
        return a.goes_with(b)
    if isinstance(a, Upsert) and isinstance(b, Upsert):
        return (a.store, a.key, a.where, a.serials, a.stamps) == (b.store, b.key, b.where, b.serials, b.stamps)
    return False
