"""Operators in callers' changes: checked for the caller's View, and made into what the engine computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from auth.view import View
from hub.services.violations import raise_violations
from stores.computing import OperatorChange, placed, prepared
from stores.errors import InvalidEntity, Violation
from stores.limits import MOST_VIOLATIONS, EntityLimits, nodes_of
from stores.operators import NO_OPERATORS, Operators
from stores.records import Entity
from stores.threads import in_thread
from stores.turns import Turn

_LONG: Final = 16_384
"""Bytes of operators' arguments from which checking them takes a thread."""


def change_of(view: View, operators: Operators, limits: EntityLimits, prefix: str = "") -> OperatorChange:
    """Return what the engine computes for the operators. `prefix` is put before the fields of errors, also of those
    that the engine raises. Raises InvalidEntity for operators that the caller or the store does not allow, whatever the
    entity."""
    allowed, violations = prepared(operators, view.definition, view.hidden, limits)
    raise_violations(placed(violations, prefix))
    return OperatorChange(allowed, view.definition, limits, prefix)


async def computing(view: View, operators: Operators, limits: EntityLimits, prefix: str = "") -> OperatorChange | None:
    """Return what the engine computes for the operators, as `change_of` does, in a thread if there is much to check;
    None without operators."""
    if not operators:
        return None
    arguments = view, operators, limits, prefix
    takes_long = operators.size > _LONG or checks_of(operators) > view.definition.checked_at_once
    return await in_thread(change_of, *arguments) if takes_long else change_of(*arguments)


def checks_of(operators: Operators) -> int:
    """Return how many values `change_of` checks, about."""
    return sum(nodes_of(operation.value) for operation in operators.operations)


async def computing_all(
    view: View, operators: Sequence[Operators], limits: EntityLimits, count: int, indexed: bool
) -> list[OperatorChange | None]:
    """Return what the engine computes for each of `count` bodies; `operators` may be empty. With `indexed`, errors
    contain the position of the body."""
    changes: list[OperatorChange | None] = []
    violations: list[Violation] = []
    turn = Turn()
    for index, each in enumerate(operators or [NO_OPERATORS] * count):
        try:
            changes.append(await computing(view, each, limits, f"{index}." if indexed else ""))
        except InvalidEntity as error:
            violations += error.violations
            if len(violations) >= MOST_VIOLATIONS:
                break
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
