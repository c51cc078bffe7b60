"""A registry of stores without a database behind it."""

from __future__ import annotations

from collections.abc import Iterable

from auth.policy import authorize
from auth.principal import Principal
from auth.view import View
from stores.errors import NotFound
from stores.schema import StoreDefinition


class FixedRegistry:
    """Definitions that never change, for code that takes a `hub.services.registry.StoreRegistry`."""

    generation = 1

    def __init__(self, definitions: Iterable[StoreDefinition]) -> None:
        self._definitions = {definition.name: definition for definition in definitions}

    def get(self, name: str) -> StoreDefinition:
        if name not in self._definitions:
            raise NotFound(name)
        return self._definitions[name]

    def authorized(self, principal: Principal, name: str, method: str = "GET") -> View:
        return authorize(principal, self.get(name), method)
