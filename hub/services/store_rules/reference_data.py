"""The rule of reference data: listings show names of it, so a changed name is a change of these listings. A district
that moves to another region takes its listings along."""

from __future__ import annotations

from collections.abc import Sequence

from auth.purposes import PROPERTIES
from hub.services.listings.stores import DISTRICTS
from hub.services.store_rules.base import StoreRule
from hub.services.store_rules.effects import Effect, altered_fields
from hub.services.store_rules.touching import touch
from stores.consequences import bounded
from stores.errors import TooManyConsequences, TooManyMatches
from stores.procedures import Lock
from stores.protocol import Delete, DeleteMany, Insert, Write
from stores.records import Entity
from stores.reference_checks import Substeps, keys
from stores.relation import Relation, Value

REGION = "region"


class ReferenceDataRule(StoreRule):
    @property
    def fields(self) -> Sequence[str]:
        return [*{relation.by for relation in self._relations()}, REGION]

    @property
    def takes_long(self) -> bool:
        return self.is_concerned

    def concerns(self, write: Write) -> bool:
        return not isinstance(write, Insert | Delete | DeleteMany)  # no listing refers to what is new, or goes

    def before(self, further: Sequence[Write]) -> Substeps:
        self._shown: list[tuple[Relation, dict[Value, Entity]]] = []
        relations = self._relations()
        altered = [*filter(_is_altered, (yield from self.effects(further)))] if relations else []
        for relation in relations:
            if values := self._values(relation, altered):
                # Who refers to one of these values anew has seen the change, or is seen by it.
                yield Lock(keys(relation, values), exclusive=True)
                self._shown.append((relation, values))

    def after(self) -> Substeps:
        most = self.surroundings.most
        try:
            with bounded("body"):
                yield from self._touch(most)
        except TooManyMatches as error:
            raise TooManyConsequences(f"{most} entities", "body").at("max_matches") from error

    def _touch(self, most: int) -> Substeps:
        for relation, values in self._shown:
            listings = self.surroundings.registry.get(relation.store)
            renamed = [value for value, changes in values.items() if not changes]
            most -= yield from touch(listings, relation.path, renamed, most=most)
            for value, changes in values.items():
                if changes:
                    most -= yield from touch(listings, relation.path, [value], changes, most)

    def _relations(self) -> list[Relation]:
        """Return the references of listings to this store."""
        listings = {each.name for each in self.surroundings.stores_of(PROPERTIES)}
        return [each for each in self.surroundings.registry.referring(self.definition.name) if each.store in listings]

    def _values(self, relation: Relation, altered: Sequence[Effect]) -> dict[Value, Entity]:
        """Return the values by which listings refer to what is altered, with the changes of these listings."""
        found: dict[Value, Entity] = {}
        for effect in altered:
            before, after = effect.before or {}, effect.after or {}
            if (value := before.get(relation.by)) is not None:
                changes = found.setdefault(value, {})
                if self.definition.purpose == DISTRICTS and before.get(REGION) != after.get(REGION):
                    changes[REGION] = after.get(REGION)
        return found


def _is_altered(effect: Effect) -> bool:
    return effect.before is not None and effect.after is not None and any(altered_fields(effect))
