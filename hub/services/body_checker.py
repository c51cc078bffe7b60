"""Checks callers' bodies against the bounds of entities and a store's definition, and makes new entities of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from itertools import compress

from auth.principal import Principal
from hub.services.group_paths import GroupPathKeeper
from hub.services.stamping import clean, stamp_change, stamp_new
from hub.services.violations import raise_violations
from stores.errors import Violation
from stores.limits import MOST_VIOLATIONS, EntityLimits
from stores.records import Entity, now_ms
from stores.schema import StoreDefinition
from stores.turns import Turn


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
        limits = self._limits.with_filters(definition.filter_fields)
        now, branch = now_ms(), await self._group_paths.branch_of(principal)
        violations: list[Violation] = []
        entities: list[Entity] = []
        listed = 0
        turn = Turn()
        for body in bodies:
            cleaned, found = clean(body, limits)
            fields, more = definition.check_new(cleaned)
            if found or more:
                here = _placed(found + more, len(entities) if indexed else None)
                absent = [v.rule == "required" and v.field not in body for v in found + more]
                if missing is not None:
                    named = tuple(compress(here, absent))
                    missing.append(named[: max(1, MOST_VIOLATIONS - listed)])
                    listed += len(missing[-1])
                    here = [v for v, is_absent in zip(here, absent, strict=True) if not is_absent]
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
        limits = self._limits.with_filters(definition.filter_fields)
        changes: list[Entity] = []
        turn = Turn()
        for body in bodies:
            changes.append(stamp_change(definition.check_values(clean(body, limits)[0])[0]))
            if turn.is_over:
                await turn.pass_on()
        return changes

    def check_of_parts(
        self,
        definition: StoreDefinition,
        check: Callable[[Entity], tuple[Entity, list[Violation]]],
        unknown: Container[str] = (),
    ) -> Callable[[Entity], list[Violation]]:
        """Return a function that returns the violations of a part of a body, except in fields unknown to the caller."""
        limits = self._limits.with_filters(definition.filter_fields)

        def violations_of(part: Entity) -> list[Violation]:
            _, found = clean(part, limits)
            return found + [v for v in check(part)[1] if v.field not in unknown]

        return violations_of

    def bulk_changes(self, definition: StoreDefinition, body: Entity) -> Entity:
        """Return the changes that `body` makes to each entity. Raises InvalidEntity."""
        cleaned, violations = clean(body, self._limits.with_filters(definition.filter_fields))
        fields, more = definition.check_changes(cleaned)
        raise_violations(violations + more)
        return fields


def _placed(violations: list[Violation], index: int | None) -> list[Violation]:
    """Return the violations with their places in an array of bodies, or unaltered if `index` is None."""
    if index is None:
        return violations
    return [Violation(f"{index}.{v.field}", v.rule, v.detail) for v in violations]
