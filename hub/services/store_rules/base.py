"""The interface of a rule: what a commit keeps true in a store with a purpose, whatever API its writes come by.

A rule is made for one commit and one store. It may alter the writes to its store when the commit is prepared (`own`),
looks at what they will do when the commit begins (`before`), and does what follows from them at its end (`after`). A
commit that is repeated begins again with `before`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from auth.principal import Principal
from auth.purposes import PROPERTIES
from hub.services.registry import StoreRegistry
from hub.services.stamping import stamps_of
from hub.services.store_rules.effects import Effects, effects_of
from stores.protocol import Stamp, Write
from stores.reference_checks import Substeps
from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rule may ask: who writes, the definitions of all stores, and how many entities may change because of the
    writes (`most`). With `indexed`, errors contain the position of the write."""

    principal: Principal
    registry: StoreRegistry
    most: int
    indexed: bool = False

    def prefix(self, index: int) -> str:
        """Return what comes before the fields of a write in errors."""
        return f"{index}." if self.indexed else ""

    def stores_of(self, purpose: str) -> list[StoreDefinition]:
        return [each for each in self.registry.all() if each.purpose == purpose]


def stamps_of_listings(registry: StoreRegistry) -> tuple[Stamp, ...]:
    """Return the stamps that follow from writes to any store with a rule."""
    return tuple(stamp for each in registry.all() if each.purpose == PROPERTIES for stamp in stamps_of(each))


class StoreRule(ABC):
    """The rule of the store `definition` in one commit."""

    def __init__(self, surroundings: Surroundings, definition: StoreDefinition) -> None:
        self.surroundings = surroundings
        self.definition = definition
        self.sent: list[Write] = []
        """The writes to the store as they were sent."""
        self.made: list[Write] = []
        """The same as the commit does them."""

    @property
    def fields(self) -> Sequence[str]:
        """The fields that it looks at."""
        return ()

    @property
    def takes_long(self) -> bool:
        """Whether what follows from the writes may take long."""
        return False

    def add(self, write: Write) -> Write:
        """Add a write to the commit. Return it as the commit does it."""
        self.sent.append(write)
        self.made.append(self.own(write))
        return self.made[-1]

    def own(self, write: Write) -> Write:
        return write

    def concerns(self, write: Write) -> bool:
        """Return whether the rule must look at what a write does."""
        return True

    @property
    def is_concerned(self) -> bool:
        return any(map(self.concerns, self.sent))

    def effects(self, further: Sequence[Write]) -> Effects:
        """Return the effects of the writes that concern the rule, and of the consequences of deletions after them."""
        placed = [(index, write) for index, write in enumerate([*self.sent, *further]) if self.concerns(write)]
        return effects_of(placed, self.fields)

    @abstractmethod
    def before(self, further: Sequence[Write]) -> Substeps:
        """Look at the writes, and at the consequences of deletions (`further`), before they are done. Raises
        StoreError: engines take any other error for a defect."""

    @abstractmethod
    def after(self) -> Substeps:
        """Do what follows from them."""
