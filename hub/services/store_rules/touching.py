"""Changes that follow from a change elsewhere: listings that show something else now count as changed."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from hub.services.stamping import stamp_change, stamps_of
from stores.paths import Path
from stores.procedures import Step, do
from stores.protocol import UNBOUNDED, UpdateMany
from stores.query import In
from stores.records import Entity
from stores.reference_checks import pieces
from stores.relation import Value
from stores.schema import StoreDefinition

_ID = ("_id",)


def touch(
    definition: StoreDefinition,
    path: Path,
    values: Iterable[Value],
    changes: Entity | None = None,
    most: int = UNBOUNDED,
) -> Generator[Step, Any, int]:
    """Change the entities with one of these values at the path: the fields in `changes`, and in any case their stamps
    and revisions. Return how many they are. Raises TooManyMatches for more than `most`."""
    count = 0
    for piece in pieces(values):
        limit = len(piece) if path == _ID else most - count
        fields, stamps = stamp_change(changes or {}), stamps_of(definition)
        written = yield from do(UpdateMany(definition.name, In(path, piece), fields, limit, forced=True, stamps=stamps))
        count += written.count
    return count
