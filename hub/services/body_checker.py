"""Checks callers' bodies against the bounds of entities and a store's definition, and makes new entities of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import compress
from math import inf

from auth.principal import Principal
from hub.services.group_paths import GroupPathKeeper
from hub.services.preparing import BodyCheck, Check, Preparation, checked, prepare
from hub.services.stamping import clean, stamp_change, stamp_new
from hub.services.violations import raise_violations
from stores.errors import Violation
from stores.limits import MOST_VIOLATIONS, EntityLimits
from stores.records import Entity, now_ms
from stores.schema import StoreDefinition
from stores.turns import Turn


@dataclass(frozen=True, slots=True)
class NewBody:
    """The body of a new entity, checked. `absent`: for each violation, whether a required field is missing."""

    fields: Entity
    violations: list[Violation]
    absent: list[bool]

    @classmethod
    def of(cls, body: Entity, fields: Entity, violations: list[Violation]) -> NewBody:
        """Return a body with the fields that were made of it."""
        absent = [v.rule == "required" and v.field.split(".", 1)[0] not in body for v in violations]
        return cls(fields, violations, absent)

    @property
    def missing(self) -> tuple[Violation, ...]:
        """The required fields that are missing."""
        return tuple(compress(self.violations, self.absent))

    @property
    def mistakes(self) -> list[Violation]:
        """The other violations."""
        return [v for v, is_absent in zip(self.violations, self.absent, strict=True) if not is_absent]


class BodyChecker:
    """The checks of bodies for all stores. `limits` are the bounds of each entity."""

    def __init__(self, limits: EntityLimits, group_paths: GroupPathKeeper) -> None:
        self._limits = limits
        self._group_paths = group_paths

    async def new_entities(
        self,
        principal: Principal,
        definition: StoreDefinition,
        bodies: Sequence[Entity],
        indexed: bool,
        missing: list[tuple[Violation, ...]] | None = None,
    ) -> list[Entity]:
        """Check and stamp the bodies. Raises InvalidEntity; if `missing` is given, missing required fields are
        collected there for each body instead: beyond MOST_VIOLATIONS in all, one of each body."""
        now, branch = now_ms(), await self._group_paths.branch_of(principal)
        violations: list[Violation] = []
        entities: list[Entity] = []
        listed = 0
        turn = Turn()
        limits, is_quick = self.limits_of(definition), definition.checked_at_once == inf
        for body in bodies:
            if is_quick:  # without a preparation, which most bodies do not need
                fields, broken = _check_at_once(definition, body, limits)
            else:
                made = await prepare(self.new_body(definition, body))
                fields, broken = made.fields, made.violations
            if broken:
                new = _placed(NewBody.of(body, fields, broken), len(entities) if indexed else None)
                here = new.violations
                if missing is not None:
                    missing.append(new.missing[: max(1, MOST_VIOLATIONS - listed)])
                    listed += len(missing[-1])
                    here = new.mistakes
                violations += here
                if len(violations) >= MOST_VIOLATIONS:
                    break
            elif missing is not None:
                missing.append(())
            entities.append(stamp_new(fields, principal, branch, now))
            if turn.is_over:
                await turn.pass_on()
        raise_violations(violations)
        return entities

    async def upsert_changes(self, definition: StoreDefinition, bodies: Sequence[Entity]) -> list[Entity]:
        """Return each body's changes to an existing entity: the fields sent, without the defaults of others."""
        changes: list[Entity] = []
        turn = Turn()
        for body in bodies:
            changes.append(await prepare(self.upsert_change(definition, body)))
            if turn.is_over:
                await turn.pass_on()
        return changes

    def limits_of(self, definition: StoreDefinition) -> EntityLimits:
        """Return the limits of the store's entities."""
        return self._limits.with_filters(definition.filter_fields)

    def new_body(self, definition: StoreDefinition, body: Entity) -> Preparation[NewBody]:
        """Check the body of a new entity."""
        cleaned, found = clean(body, self.limits_of(definition))
        fields, more = yield BodyCheck(definition, definition.check_new, cleaned)
        return NewBody.of(body, fields, found + more)

    def upsert_change(self, definition: StoreDefinition, body: Entity) -> Preparation[Entity]:
        """Return the changes that an upsert makes to an existing entity."""
        cleaned, _ = clean(body, self.limits_of(definition))
        fields, _ = yield BodyCheck(definition, definition.check_values, cleaned)
        return stamp_change(fields)

    def check_of_parts(
        self, definition: StoreDefinition, check: Check, unknown: Container[str] = ()
    ) -> Callable[[Entity], list[Violation]]:
        """Return a function that returns the violations of a part of a body, except in fields unknown to the caller."""
        limits = self.limits_of(definition)

        def violations_of(part: Entity) -> list[Violation]:
            _, found = clean(part, limits)
            return found + [v for v in check(part)[1] if v.field not in unknown]

        return violations_of

    async def bulk_changes(self, definition: StoreDefinition, body: Entity) -> Entity:
        """Return the changes that `body` makes to each entity. Raises InvalidEntity."""
        cleaned, violations = clean(body, self.limits_of(definition))
        fields, more = await checked(BodyCheck(definition, definition.check_changes, cleaned))
        raise_violations(violations + more)
        return fields


def _check_at_once(definition: StoreDefinition, body: Entity, limits: EntityLimits) -> tuple[Entity, list[Violation]]:
    """Return the fields of a new entity's body, and its violations, for a definition whose checks never take long."""
    cleaned, found = clean(body, limits)
    fields, more = definition.check_new(cleaned)
    return fields, found + more


def _placed(new: NewBody, index: int | None) -> NewBody:
    """Return the body with the locations of its violations in an array of bodies, or as it is if `index` is None."""
    if index is None:
        return new
    violations = [Violation(f"{index}.{v.field}", v.rule, v.detail) for v in new.violations]
    return NewBody(new.fields, violations, new.absent)
