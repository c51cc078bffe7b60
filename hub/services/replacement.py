"""What a PUT puts in place of an entity."""

from __future__ import annotations

from dataclasses import dataclass

from auth.principal import Principal
from stores.query import Filter
from stores.records import Entity
from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class Replacement:
    """`fields` came out of the checks of `body`. `unknown` are hidden fields that it does not mention: they stay as
    they are."""

    principal: Principal
    definition: StoreDefinition
    id: str
    where: Filter
    body: Entity
    fields: Entity
    unknown: frozenset[str]
