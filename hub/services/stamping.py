"""System fields: what the hub assigns, and what it drops or refuses of them in what callers send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from auth.principal import Principal
from stores.errors import Violation
from stores.limits import EntityLimits, check_document
from stores.records import SYSTEM_FIELDS, Entity, new_id, now_ms

DROPPED: Final = frozenset({*SYSTEM_FIELDS, "success"})
"""Fields that come back when a caller sends what it has got; ``success`` is part of every answer."""


def clean(body: Entity, limits: EntityLimits, own_id: str | None = None) -> tuple[Entity, list[Violation]]:
    """The caller's fields of `body`, and what is wrong with it as an entity of any store.

    Of the system fields only `_id` can be wrong: it is refused unless it is the entity's own (`own_id`).
    """
    violations = check_document(body, limits)
    if "_id" in body and (own_id is None or body["_id"] != own_id):
        violations.append(Violation("_id", "system"))
    if body.get("success", True) is not True:
        violations.append(Violation("success", "system"))
    violations += [Violation(n, "reserved") for n in body if n.startswith("_") and n not in SYSTEM_FIELDS]
    if DROPPED.isdisjoint(body):
        return body.copy(), violations
    return {name: value for name, value in body.items() if name not in DROPPED}, violations


def stamp_new(fields: Entity, principal: Principal, branch: Sequence[str], now: int | None = None) -> Entity:
    """A whole new entity that belongs to the principal; `branch` is the chain of its group."""
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


def stamp_change(fields: Entity) -> Entity:
    return {**fields, "_at": now_ms()}
