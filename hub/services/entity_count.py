"""Counts of entities, with the first of them, for the texts of refusals."""

from __future__ import annotations

from dataclasses import dataclass

from stores.records import Entity


@dataclass(slots=True)
class EntityCount:
    """The number of some entities, and the least of their ids (`first`, empty if it is not known)."""

    count: int = 0
    first: str = ""

    def add(self, entity: Entity) -> None:
        self.count += 1
        id: str = entity["_id"]
        if not self.first or id < self.first:
            self.first = id

    def having(self, text: str) -> str:
        """Return a text about the entities: ``3 entities have …``."""
        return self.saying("has" if self.count == 1 else "have", text)

    def saying(self, verb: str, text: str) -> str:
        """Return a text about the entities, with another verb."""
        number = "1 entity" if self.count == 1 else f"{self.count} entities"
        first = f" The first is {self.first}." if self.first else ""
        return f"{number} {verb} {text}{first}"
