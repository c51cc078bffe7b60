"""The rules of one commit: those of the stores to which it writes, and to which deletions lead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from auth.purposes import IMAGES, PROPERTIES, is_reference
from hub.services.store_rules.base import StoreRule, Surroundings, stamps_of_listings
from hub.services.store_rules.images import ImageRule
from hub.services.store_rules.properties import PropertyRule
from hub.services.store_rules.reference_data import ReferenceDataRule
from stores.errors import NotFound
from stores.protocol import DeleteMany, Stamp, UpdateMany, Write
from stores.reference_checks import Substeps

_RULES: Final[Mapping[str, type[StoreRule]]] = {PROPERTIES: PropertyRule, IMAGES: ImageRule}


def rule_for(purpose: str) -> type[StoreRule] | None:
    """Return the class of the rule of stores with this purpose; None if they have none."""
    return ReferenceDataRule if is_reference(purpose) else _RULES.get(purpose)


def rule_of(surroundings: Surroundings, store: str) -> StoreRule | None:
    """Return a new rule for writes to a store; None if it has none."""
    try:
        definition = surroundings.registry.get(store)
    except NotFound:
        return None
    made = rule_for(definition.purpose)
    return None if made is None else made(surroundings, definition)


class CommitRules:
    """The rules of a commit, in the order in which its writes meet their stores. `own` are its writes as it does
    them."""

    def __init__(self, surroundings: Surroundings, writes: Sequence[Write]) -> None:
        self._surroundings = surroundings
        self._of_stores: dict[str, StoreRule | None] = {}
        """The rules of the stores to which the writes go; None for a store without one."""
        self._following: dict[str, StoreRule] = {}
        """Those of stores to which only consequences of deletions go, in this attempt of the commit."""
        self.own: Sequence[Write] = [self._own(write) for write in writes]

    def __bool__(self) -> bool:
        """Whether a rule must look at a write; otherwise `own` is all."""
        return any(rule.is_concerned for rule in self._of_stores.values() if rule is not None)

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """The stamps that may be taken for what follows from the writes: those of listings."""
        return stamps_of_listings(self._surroundings.registry) if self else ()

    @property
    def take_long(self) -> bool:
        return any(rule.takes_long for rule in self._of_stores.values() if rule is not None)

    def before(self, consequences: Iterable[UpdateMany | DeleteMany]) -> Substeps:
        """Look at the writes, and at what follows from deletions."""
        further: dict[str, list[Write]] = {}
        for write in consequences:
            further.setdefault(write.store, []).append(write)
        found = {store: self._rule(store) for store in sorted(further.keys() - self._of_stores.keys())}
        self._following = {store: rule for store, rule in found.items() if rule is not None}
        for store, rule in self._all():
            yield from rule.before(further.get(store, ()))

    def after(self) -> Substeps:
        """Do what follows from the writes."""
        for _, rule in self._all():
            yield from rule.after()

    def _all(self) -> list[tuple[str, StoreRule]]:
        own = [(store, rule) for store, rule in self._of_stores.items() if rule is not None]
        return [*own, *self._following.items()]

    def _own(self, write: Write) -> Write:
        if write.store not in self._of_stores:
            self._of_stores[write.store] = self._rule(write.store)
        rule = self._of_stores[write.store]
        return write if rule is None else rule.add(write)

    def _rule(self, store: str) -> StoreRule | None:
        return rule_of(self._surroundings, store)
