"""Checks callers' bodies against the bounds of entities and a store's definition, and makes new entities of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from itertools import compress
from math import inf

from auth.principal import Principal
from hub.services.group_paths import GroupPathKeeper
from hub.services.stamping import clean, stamp_change, stamp_new
from hub.services.violations import raise_violations
from stores.errors import Violation
from stores.limits import MOST_VIOLATIONS, EntityLimits, nodes_of
from stores.records import Entity, now_ms
from stores.schema import StoreDefinition
from stores.threads import in_thread
from stores.turns import Turn

Check = Callable[[Entity], tuple[Entity, list[Violation]]]
"""Returns the values in canonical form, and the violations: `StoreDefinition.check_new` and others."""


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
        for body in bodies:
            cleaned, found = clean(body, self._limits)
            fields, more = await checked(definition, definition.check_new, cleaned)
            if found or more:
                here = _placed(found + more, len(entities) if indexed else None)
                absent = [v.rule == "required" and v.field.split(".", 1)[0] not in body for v in found + more]
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
        changes: list[Entity] = []
        turn = Turn()
        for body in bodies:
            fields, _ = await checked(definition, definition.check_values, clean(body, self._limits)[0])
            changes.append(stamp_change(fields))
            if turn.is_over:
                await turn.pass_on()
        return changes

    def check_of_parts(self, check: Check, unknown: Container[str] = ()) -> Callable[[Entity], list[Violation]]:
        """Return a function that returns the violations of a part of a body, except in fields unknown to the caller."""

        def violations_of(part: Entity) -> list[Violation]:
            _, found = clean(part, self._limits)
            return found + [v for v in check(part)[1] if v.field not in unknown]

        return violations_of

    async def bulk_changes(self, definition: StoreDefinition, body: Entity) -> Entity:
        """Return the changes that `body` makes to each entity. Raises InvalidEntity."""
        cleaned, violations = clean(body, self._limits)
        fields, more = await checked(definition, definition.check_changes, cleaned)
        raise_violations(violations + more)
        return fields


async def checked(definition: StoreDefinition, check: Check, values: Entity) -> tuple[Entity, list[Violation]]:
    """Run a check of the definition: in a thread if the values are so many that it may take long."""
    most = definition.checked_at_once
    if most < inf and nodes_of(values) > most:
        return await in_thread(check, values)
    return check(values)


def _placed(violations: list[Violation], index: int | None) -> list[Violation]:
    """Return the violations with their places in an array of bodies, or unaltered if `index` is None."""
    if index is None:
        return violations
    return [Violation(f"{index}.{v.field}", v.rule, v.detail) for v in violations]
