"""Checks that defaults of references have a target when a definition is written. Without one no entity could be created
without the field, and the error would name a field that was not sent."""

from __future__ import annotations

from collections.abc import Iterator

from hub.services.existing_references import current_key_field
from hub.services.registry import StoreRegistry
from stores.data_changes import DataOperations
from stores.errors import InvalidEntity, NotFound, Violation
from stores.protocol import Engine
from stores.query import In, Query
from stores.reference_checks import PIECE, pieces
from stores.relation import Relation, Value, default_references
from stores.schema import StoreDefinition


async def check_defaults(
    engine: Engine,
    registry: StoreRegistry,
    old: StoreDefinition | None,
    new: StoreDefinition,
    operations: DataOperations,
) -> None:
    """Raise InvalidEntity for a default that refers to no entity, unless `old` has it too. Whether a writer will see
    the entity, and whether it stays, is not asked."""
    violations = [
        Violation(location, "reference", relation.target)
        for relation, location, values in _new_defaults(registry, old, new, operations)
        if await _is_any_missing(engine, registry, relation, values, operations)
    ]
    if violations:
        raise InvalidEntity(violations)


def _new_defaults(
    registry: StoreRegistry, old: StoreDefinition | None, new: StoreDefinition, operations: DataOperations
) -> Iterator[tuple[Relation, str, frozenset[Value]]]:
    """Yield (relation, location in the definition, values) of the defaults that refer to something new."""
    before = () if old is None else registry.with_keys(old).relations
    known = {(each.path, each.target, each.by): each.defaults for each in before}
    typed = registry.with_keys(new)
    for relation in typed.relations:
        source = operations.source_of(relation.field), *relation.path[1:]
        had = known.get((source, relation.target, current_key_field(relation, operations)), frozenset())
        for location, values in default_references(typed.fields, relation.path):
            if fresh := values - had:
                yield relation, location, fresh


async def _is_any_missing(
    engine: Engine, registry: StoreRegistry, relation: Relation, values: frozenset[Value], operations: DataOperations
) -> bool:
    by = current_key_field(relation, operations)
    try:
        registry.get(relation.target)
    except NotFound:  # it is created by the same request, and empty
        return True
    for piece in pieces(values):
        if len(await engine.entities(relation.target, Query(In((by,), piece), limit=PIECE))) < len(piece):
            return True
    return False
