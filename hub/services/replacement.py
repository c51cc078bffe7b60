"""What a PUT puts in place of an entity."""

from __future__ import annotations

from dataclasses import dataclass

from auth.principal import Principal
from auth.view import View
from stores.records import Entity

ASSIGNED = frozenset({"user", "prefix", "digest", "last_used", "address", "agent"})
"""Fields of system stores that the hub fills in: a replacement leaves them."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """`fields` came out of the checks of `body`. `unknown` are hidden fields that it does not mention: they stay as
    they are."""

    principal: Principal
    view: View
    id: str
    body: Entity
    fields: Entity
    unknown: frozenset[str]
