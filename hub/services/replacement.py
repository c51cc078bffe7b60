"""The replacement of an entity by PUT."""

from __future__ import annotations

from dataclasses import dataclass

from auth.principal import Principal
from auth.view import View
from stores.records import Entity

ASSIGNED = frozenset({"user", "prefix", "digest", "last_used", "address", "agent"})
"""Fields of system stores that the hub assigns. A replacement keeps them."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """A checked replacement. `fields` are the checked fields of `body`. `unknown` are hidden fields that the body does
    not mention, and serial numbers; they keep their values."""

    principal: Principal
    view: View
    id: str
    body: Entity
    fields: Entity
    unknown: frozenset[str]
