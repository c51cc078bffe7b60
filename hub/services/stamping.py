"""System fields: the hub assigns them, and drops or refuses those in callers' bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from auth.principal import Principal
from stores.errors import Violation
from stores.limits import MOST_VIOLATIONS, EntityLimits, check_document
from stores.protocol import Serial, Stamp
from stores.records import SYSTEM_FIELDS, Entity, new_id, now_ms
from stores.schema import StoreDefinition

DROPPED: Final = frozenset({*SYSTEM_FIELDS, "success"})
"""Fields that a body may contain because the caller sends back an answer; ``success`` is part of every answer."""


def clean(body: Entity, limits: EntityLimits, own_id: str | None = None) -> tuple[Entity, list[Violation]]:
    """Return the caller's fields of `body`, and its violations of the rules for every store.

    `own_id` is the entity's id; any other `_id` is refused. Other system fields are dropped.
    """
    violations = check_document(body, limits)
    if "_id" in body and (own_id is None or body["_id"] != own_id):
        violations.append(Violation("_id", "system"))
    if body.get("success", True) is not True:
        violations.append(Violation("success", "system"))
    if reserved := [n for n in body if n[:1] == "_" and n not in SYSTEM_FIELDS]:
        violations += (Violation(n, "reserved") for n in reserved[:MOST_VIOLATIONS])
    if DROPPED.isdisjoint(body):
        return body.copy(), violations
    return {name: value for name, value in body.items() if name not in DROPPED}, violations


def stamp_new(fields: Entity, principal: Principal, branch: Sequence[str], now: int | None = None) -> Entity:
    """Return a complete new entity that belongs to the principal. `branch` is the chain of its group."""
    time = now_ms() if now is None else now
    return {
        "_id": new_id(),
        **fields,
        "owner": principal.user_id,
        "group": principal.group,
        "access": [],
        "branch": list(branch),
        "time": time,
        "_at": time,
        "_rev": 1,
    }


def own_entity(fields: Entity, owner: str | None = None) -> Entity:
    """Return a complete new entity of the hub's own, which belongs to no group."""
    time = now_ms()
    system: Entity = {"owner": owner, "group": None, "access": [], "branch": [], "time": time, "_at": time, "_rev": 1}
    return {"_id": new_id(), **fields, **system}


def serials_of(definition: StoreDefinition) -> tuple[Serial, ...]:
    """Return the serial numbers that a new entity of the store gets. A counter belongs to the definition, so a
    renamed store continues its numbers, and a new store under an old name starts again. The names of system stores are
    fixed, and no id of a definition."""
    if not definition.serials:
        return ()
    counter = f"{definition.id or definition.name}.{{}}"
    return tuple(
        Serial(each.id, counter.format(each.id), 1 if each.start is None else each.start) for each in definition.serials
    )


def stamps_of(definition: StoreDefinition) -> tuple[Stamp, ...]:
    """Return the stamps that a write to the store sets in each entity that it inserts or alters."""
    if not definition.stamp_names:
        return ()
    counter = stamp_counter(definition)
    return tuple(Stamp(name, counter) for name in sorted(definition.stamp_names))


def stamp_counter(definition: StoreDefinition) -> str:
    """Return the counter of a store's stamps. It belongs to the definition, so the stamps of a renamed store, or field,
    go on rising. What another store records in the same order takes its stamps from it, too."""
    return definition.id or definition.name


def stamp_change(fields: Entity) -> Entity:
    return {**fields, "_at": now_ms()}
