"""Changes that follow from a change elsewhere: listings that show something else now count as changed."""

from __future__ import annotations

from collections.abc import Iterable

from hub.services.stamping import stamp_change
from stores.paths import Path
from stores.procedures import do
from stores.protocol import UNBOUNDED, UpdateMany
from stores.query import In
from stores.records import Entity
from stores.reference_checks import Substeps, pieces
from stores.relation import Value
from stores.schema import StoreDefinition

_ID = ("_id",)


def touch(definition: StoreDefinition, path: Path, values: Iterable[Value], changes: Entity | None = None) -> Substeps:
    """Change the entities with one of these values at the path: the fields in `changes`, and in any case their stamps
    and revisions."""
    for piece in pieces(values):
        # A bound on those that share a value would tell an administrator of listings, not of what it renames.
        limit = len(piece) if path == _ID else UNBOUNDED
        fields = stamp_change(changes or {})
        yield from do(UpdateMany(definition.name, In(path, piece), fields, limit, forced=True))
