"""Operators in callers' changes: checked for the caller's View, and made into what the engine computes."""

from __future__ import annotations

from collections.abc import Sequence

from auth.view import View
from hub.services.violations import raise_violations
from stores.computing import OperatorChange, placed, prepared
from stores.errors import Violation
from stores.limits import MOST_VIOLATIONS, EntityLimits
from stores.operators import NO_OPERATORS, Operators
from stores.records import Entity
from stores.turns import Turn


def computing(view: View, operators: Operators, limits: EntityLimits) -> OperatorChange | None:
    """Return what the engine computes for the operators, None without operators. Raises InvalidEntity for operators
    that the caller or the store does not allow, whatever the entity."""
    if not operators:
        return None
    allowed, violations = prepared(operators, view.definition, view.hidden, limits)
    raise_violations(violations)
    return OperatorChange(allowed, view.definition, limits)


async def computing_all(
    view: View, operators: Sequence[Operators], limits: EntityLimits, count: int, indexed: bool
) -> list[OperatorChange | None]:
    """Return the same for each of `count` bodies; `operators` may be empty. With `indexed`, errors contain the position
    of the body, also those that the engine raises."""
    changes: list[OperatorChange | None] = []
    violations: list[Violation] = []
    turn = Turn()
    for index, each in enumerate(operators or [NO_OPERATORS] * count):
        if not each:
            changes.append(None)
            continue
        prefix = f"{index}." if indexed else ""
        allowed, found = prepared(each, view.definition, view.hidden, limits)
        violations += placed(found, prefix)
        if len(violations) >= MOST_VIOLATIONS:
            break
        changes.append(OperatorChange(allowed, view.definition, limits, prefix))
        if turn.is_over:
            await turn.pass_on()
    raise_violations(violations)
    return changes


def as_fields(compute: OperatorChange | None, before: Entity, fields: Entity) -> Entity:
    """Return the fields that the operators set in an entity, with null for those that they remove. `fields` are the
    plain fields of the same change."""
    if compute is None:
        return {}
    computed = compute(before | fields)
    return {**computed.fields, **dict.fromkeys(computed.removed)}
